"""Connections under attack: silent ones, too many of them, requests that are no HTTP, and calls from another site's page."""

import asyncio
import logging
import resource
import socket
import ssl
from collections import Counter
from contextlib import AsyncExitStack, suppress

import aiohttp
import pytest
from aiohttp import web

from exporter.web import connections
from exporter.web.connections import ConnectionLimiter, LimitedRunner, track_request
from tests.test_process import environment, home, launched  # noqa: F401  # a fixture

ATTACKERS = 1100


class WatchedLimiter(ConnectionLimiter):
    """A limiter that counts what happens, and lets a test wait for it."""

    def __init__(self, max_connections: int) -> None:
        super().__init__(max_connections)
        self.counts = Counter[str]()
        self._changed = asyncio.Event()

    def count(self, what: str) -> None:
        self.counts[what] += 1
        self._changed.set()

    async def until(self, what: str, count: int) -> None:
        """Wait until something has happened so often since the start."""
        async with asyncio.timeout(20):
            while self.counts[what] < count:
                self._changed.clear()
                await self._changed.wait()

    def admit(self, connection):
        admitted = super().admit(connection)
        self.count("connections")
        return admitted

    def begin_stall(self, connection):
        self.count("stalls")
        super().begin_stall(connection)

    def _close(self, connection):
        self.count("closed")
        super()._close(connection)


@pytest.fixture
async def serve(authority):
    """A function that serves an application with a limit of connections, over TLS if asked; it returns its port and limiter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with AsyncExitStack() as stack:

        async def start(max_connections: int, tls: bool = False) -> tuple[int, WatchedLimiter]:
            limiter = WatchedLimiter(max_connections)
            app = web.Application(middlewares=[track_request])
            waiting = asyncio.Event()

            async def answer(request: web.Request) -> web.Response:
                limiter.count("requests")
                if request.path == "/wait":
                    await waiting.wait()
                if request.path == "/large":
                    response = web.StreamResponse()
                    await response.prepare(request)
                    for _ in range(30):
                        await response.write(bytes(1 << 20))
                    return response
                return web.Response(text="here")

            app.router.add_get("/{path:.*}", answer)
            get_context = (lambda: context) if tls else lambda: None
            runner = LimitedRunner(app, limiter, get_context, handler_cancellation=True)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback(waiting.set)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return site._server.sockets[0].getsockname()[1], limiter

        yield start


@pytest.fixture
async def connect():
    """A function that opens a connection and returns its reader; all are closed in the end."""
    writers: list[asyncio.StreamWriter] = []

    async def start(port: int, text: bytes = b"", address: str = "127.0.0.1") -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0), limit=1000)
        writers.append(writer)
        writer.write(text)
        return reader

    yield start
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            return not await reader.read(1)
    return True


async def get(port: int, path: str = "/", scheme: str = "http") -> str:
    async with aiohttp.ClientSession() as client, client.get(f"{scheme}://127.0.0.1:{port}{path}", ssl=False) as answer:
        return await answer.text()


@pytest.mark.parametrize(
    ("text", "scheme"),
    [(b"", "http"), (b"GET / HTTP/1.1\r\nHost: a\r\n", "http"), (b"", "https"), (b"\x16\x03\x01\x02\x00\x01", "https")],
    ids=["silent", "half a request", "silent, TLS", "half a handshake"],
)
async def test_who_sends_no_request_is_disconnected(serve, connect, monkeypatch, text, scheme):
    """
    A connection on which no whole request comes is closed; one with a request stays open for the next.
    """
    monkeypatch.setattr(connections, "FIRST_REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.05)
    port, _ = await serve(10, tls=scheme == "https")
    silent = await connect(port, text)
    async with aiohttp.ClientSession() as client:
        for _ in range(2):
            async with client.get(f"{scheme}://127.0.0.1:{port}/", ssl=False) as answer:
                assert await answer.text() == "here"
        assert await is_closed(silent)
        async with client.get(f"{scheme}://127.0.0.1:{port}/", ssl=False) as answer:
            assert await answer.text() == "here"


async def test_who_does_not_agree_to_the_end_of_tls_is_disconnected(serve, monkeypatch, authority):
    """
    A client that reads the answer and then no more keeps no place: the end of the connection does not wait for it.
    """
    monkeypatch.setattr(connections, "TLS_SHUTDOWN_SECONDS", 0.2)
    port, _ = await serve(10, tls=True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode()).wrap_bio(
        incoming, outgoing, server_hostname="127.0.0.1"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with asyncio.timeout(20):
        while not received.endswith(b"here"):
            try:
                if request:
                    tls.do_handshake()
                    tls.write(request)
                    request = b""
                received += tls.read(1000)
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(10_000))
        with suppress(ConnectionError):
            while await reader.read(1000):
                pass
    writer.close()


async def test_who_reads_no_answer_keeps_no_place(serve, connect, monkeypatch):
    """
    Clients that ask for a large page and do not read it make room for others, and are disconnected in the end.
    """
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.05)
    port, limiter = await serve(4)
    stalled = [await connect(port, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(3)]
    for reader in stalled:
        await reader.read(100)
    await limiter.until("stalls", 3)

    monkeypatch.setattr(connections, "MAX_STALLED", 3)
    stalled.append(await connect(port, b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"))
    await limiter.until("stalls", 4)
    async with asyncio.timeout(20):  # it would stay open, were it not the first of too many
        with suppress(ConnectionError):
            while await stalled[0].read(1 << 20):
                pass
    assert await get(port) == "here"
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.1)
    await limiter.until("closed", 4)
    received = []
    async with asyncio.timeout(20):
        for reader in stalled:
            received.append(0)
            with suppress(ConnectionError):
                while part := await reader.read(1 << 20):
                    received[-1] += len(part)
    assert max(received) < 20 << 20


async def test_an_address_with_many_requests_leaves_room_for_others(serve, connect):
    """
    Where every place has a request under way, the address that has the most gives one to another address.
    """
    port, limiter = await serve(4)
    greedy = [await connect(port, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n", "127.0.0.2") for _ in range(4)]
    await limiter.until("requests", 4)
    others = [await connect(port, b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n") for _ in range(2)]
    await limiter.until("requests", 6)
    refused = await connect(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "127.0.0.2")

    assert await is_closed(refused)
    assert [reader.at_eof() or reader.exception() is not None for reader in (*greedy, *others)] == [True] * 2 + [False] * 4


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_longest_silent_one_makes_room(serve, connect, scheme):
    """
    Where all places are taken, a new connection has the place of the one that has been silent for longest; requests under way
    keep theirs, and where all are under way the new connection is refused.
    """
    port, limiter = await serve(3, tls=scheme == "https")
    waiting = asyncio.ensure_future(get(port, "/wait", scheme))
    await limiter.until("requests", 1)
    first = await connect(port)
    await limiter.until("connections", 2)
    second = await connect(port)
    await limiter.until("connections", 3)

    assert await get(port, "/", scheme) == "here"
    assert await is_closed(first)
    assert not second.at_eof()
    others = [asyncio.ensure_future(get(port, "/wait", scheme)) for _ in range(2)]
    await limiter.until("requests", 4)
    with pytest.raises(aiohttp.ClientError):
        await get(port, "/", scheme)
    assert not waiting.done()
    for task in (waiting, *others):
        task.cancel()
    await asyncio.gather(waiting, *others, return_exceptions=True)


async def test_many_silent_ones_push_out_each_other(serve):
    """
    An address that opens one silent connection after the other loses its own; another one's, silent for longer, stays.
    """
    (port, limiter), connections = await serve(3), []
    for address in ("127.0.0.2", *["127.0.0.3"] * 4):
        connections.append(await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))
        await limiter.until("connections", len(connections))
    assert [await is_closed(reader) for reader, _ in connections[1:3]] == [True, True]
    closed = [reader.at_eof() or reader.exception() is not None for reader, _ in connections]
    for _, writer in connections:
        writer.transport.abort()

    assert closed == [False, True, True, False, False]


async def test_a_thousand_silent_sockets_do_not_stop_a_scrape(home):  # noqa: F811
    """
    With 1,024 descriptors, as a unit sets them, 1,100 silent sockets leave room for scrapes, and the log stays short.
    """
    home.write()
    lower = f'ulimit -n 1024; exec {" ".join(("python", "-m", "exporter"))} "$@"'
    program = ("bash", "-c", lower, "bash")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    sockets: list[socket.socket] = []
    try:
        async with launched("serve", env=environment(), folder=home.folder, program=program) as served:
            host, port = served.url.removeprefix("http://").split(":")
            sockets.extend(socket.create_connection((host, int(port)), timeout=10) for _ in range(ATTACKERS))
            async with aiohttp.ClientSession() as client, asyncio.timeout(10):
                for _ in range(3):
                    async with client.get(f"{served.url}/-/healthy") as answer:
                        assert answer.status == 200
            assert len("".join(served.lines)) < 10_000
    finally:
        for one in sockets:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_what_is_no_request_leaves_no_traceback(home):  # noqa: F811
    """
    Anybody can send what is no HTTP: it is answered or cut off, and the log has one line of it, for debugging only.
    """
    home.write()
    async with launched("serve", "--log.level=debug", env=environment(), folder=home.folder) as served:
        host, port = served.url.removeprefix("http://").split(":")
        for text in (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\x16\x03\x01\x00\xff", b"GET /\x00 HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(text)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 10)
            writer.close()
        async with aiohttp.ClientSession() as client, client.get(f"{served.url}/-/healthy") as answer:
            assert answer.status == 200

    assert not [line for line in served.lines if "Traceback" in line or "level=error" in line or "File " in line]
    invalid = [line for line in served.lines if "invalid request or client disconnected" in line]
    assert 2 <= len(invalid) <= 3
    assert all("level=debug" in line for line in invalid)


def test_only_clients_faults_are_left_out():
    """
    A bug in a handler is logged with its traceback.
    """
    record = logging.LogRecord("aiohttp.server", logging.ERROR, "", 0, "Error handling request", (), None)
    record.exc_info = (ValueError, ValueError("a bug"), None)

    assert connections.is_worth_logging(record)
    record.exc_info = (ConnectionResetError, ConnectionResetError(), None)
    assert not connections.is_worth_logging(record)
