"""Where the web face listens: addresses of our own, or sockets that systemd has opened."""

import asyncio
import os
import socket
import ssl
from collections.abc import MutableMapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from aiohttp import web

FIRST_FD = 3
"""The first of the sockets that systemd hands over."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every interface."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `HOST:PORT`, `:PORT` or `[::1]:PORT`; raises ValueError that says the form."""
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and bare == host):
            raise ValueError(f"{text!r} is not HOST:PORT, :PORT or [IPV6]:PORT")
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def listen(
    app: web.Application,
    addresses: list[Address],
    stack: AsyncExitStack,
    *,
    tls: ssl.SSLContext | None = None,
    sockets: Sequence[socket.socket] = (),
) -> list[Address]:
    """Serve on all addresses and sockets until the stack is left; gives where, with the ports that were taken.

    Raises OSError that names the address.
    """
    # No body that comes here is gzip: left to aiohttp, a broken one would end as a traceback.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2, handler_cancellation=True, auto_decompress=False)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    taken = []
    for address in addresses:
        try:
            site = web.TCPSite(runner, address.host or None, address.port, ssl_context=tls)
            await site.start()
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {error.strerror or error}") from None
        taken.append(_taken(site, address))
    for given in sockets:
        await web.SockSite(runner, given, ssl_context=tls).start()
        taken.append(_of_socket(given))
    return taken


def inherited_sockets(environment: MutableMapping[str, str], first: int = FIRST_FD) -> list[socket.socket]:
    """Take over the listening sockets that systemd has opened for this process (sd_listen_fds(3)).

    Raises OSError when there are none.
    """
    count, process = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal() or not int(count):
        raise OSError("systemd has given this process no socket (LISTEN_FDS)")
    taken = []
    for number in range(first, first + int(count)):
        os.set_inheritable(number, False)
        taken.append(socket.socket(fileno=number))
    return taken


def _taken(site: web.TCPSite, address: Address) -> Address:
    server = site._server  # aiohttp gives the port that the system chose nowhere else
    assert isinstance(server, asyncio.Server)
    found: socket.socket = server.sockets[0]
    return Address(address.host, found.getsockname()[1])


def _of_socket(given: socket.socket) -> Address:
    name = given.getsockname()
    return Address(name[0], name[1]) if isinstance(name, tuple) else Address(str(name), 0)
