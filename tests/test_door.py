"""Who comes in through the web configuration's door, over real connections."""

import asyncio
import base64
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import NamedTuple

import aiohttp
import bcrypt
import pytest
import trustme
from aiohttp import web

from exporter.errors import ConfigError
from exporter.serve import read_web_config
from exporter.server import Address, inherited_sockets, listen
from exporter.server.guard import guard
from exporter.webconfig import Door, open_door
from exporter.webconfig.rate import Bucket
from exporter.webconfig.tls import names_of
from exporter.webconfig.users import MOST_WAITING, Users, read_basic
from tests.pem import Pem, written
from tests.web_configs import CLIENT, DIGEST, HASH, TLS, block, tls, user


class Served(NamedTuple):
    """A served application behind a door."""

    door: Door
    url: str
    port: int


async def come_in(_: web.Request) -> web.Response:
    return web.Response(text="in")


async def fail(_: web.Request) -> web.Response:
    raise RuntimeError("broken")


Serve = Callable[[str], Awaitable[Served]]


@pytest.fixture
async def serve(pem: Pem) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def make(text: str) -> Served:
            door = open_door(written(pem, text), read_web_config)
            stack.callback(door.close)
            app = web.Application()
            app.router.add_get("/", come_in)
            app.router.add_get("/broken", fail)
            guard(app, door)
            (taken,) = await listen(app, [Address("127.0.0.1", 0)], stack, tls=door.tls)
            return Served(door, f"http{'s' if door.tls else ''}://{taken}", taken.port)

        yield make


def client_context(pem: Pem, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=pem.ca.cert_pem.bytes().decode())
    if certificate:
        certificate.configure_cert(context)
    return context


async def get(url: str, context: ssl.SSLContext | None = None, **headers: str) -> tuple[int, aiohttp.ClientResponse]:
    async with aiohttp.ClientSession() as client, client.get(url, ssl=context or True, headers=headers) as answer:
        await answer.read()
        return answer.status, answer


async def spoken(served: Served, context: ssl.SSLContext) -> tuple[str, str] | None:
    """Give version and cipher, None where it fails: in TLS 1.3 a refused client learns it only from the answer."""

    def ask() -> tuple[str, str] | None:
        address = ("127.0.0.1", served.port)
        try:
            with socket.create_connection(address, 5) as plain, context.wrap_socket(plain, server_hostname=address[0]) as wrapped:
                wrapped.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return (wrapped.version(), wrapped.cipher()[0]) if wrapped.recv(1) else None
        except OSError:
            return None

    return await asyncio.to_thread(ask)


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


async def test_tls(serve, pem):
    """
    A certificate of the file is shown, and plain HTTP gets nowhere.
    """
    served = await serve(TLS)

    assert (await get(served.url, client_context(pem)))[0] == 200
    with pytest.raises(aiohttp.ClientError):
        await get(served.url.replace("https", "http"))


async def test_inline_tls(serve, pem):
    """
    Certificate and key may stand in the file itself.
    """
    served = await serve("tls_server_config:\n" + block("cert", "server.crt") + block("key", "server.key"))

    assert (await get(served.url, client_context(pem)))[0] == 200


@pytest.mark.parametrize(
    ("keys", "old", "new"),
    [
        ("", "TLSv1.2", "TLSv1.3"),
        ("min_version: TLS10", "TLSv1.2", "TLSv1.3"),
        ("min_version: TLS13", None, "TLSv1.3"),
        ("max_version: TLS12", "TLSv1.2", None),
        ("cipher_suites: [TLS_AES_128_GCM_SHA256]", None, "TLSv1.3"),
    ],
)
async def test_versions(serve, pem, keys, old, new):
    """
    Only the versions between the two are spoken, never one below TLS 1.2.
    """
    served = await serve(tls(keys))
    found = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(pem)
        context.minimum_version = context.maximum_version = version
        found.append((await spoken(served, context) or (None,))[0])

    assert found == [old, new]


@pytest.mark.parametrize(
    ("prefer", "chosen"), [("true", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("false", "ECDHE-ECDSA-AES128-GCM-SHA256")]
)
async def test_ciphers(serve, pem, prefer, chosen):
    """
    Of TLS 1.2 only the named suites are spoken, in the server's order unless the client's is preferred.
    """
    suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    served = await serve(tls(f"max_version: TLS12\nprefer_server_cipher_suites: {prefer}\ncipher_suites: [{suites}]"))
    context, other = client_context(pem), client_context(pem)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    other.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")

    assert await spoken(served, context) == ("TLSv1.2", chosen)
    assert await spoken(served, other) is None


async def test_curves(serve, pem):
    """
    A client that has none of the named curves does not come in.
    """
    served = await serve(tls("curve_preferences: [CurveP384]"))
    context, other = client_context(pem), client_context(pem)
    context.set_ecdh_curve("secp384r1")
    other.set_ecdh_curve("secp521r1")

    assert await spoken(served, context)
    assert await spoken(served, other) is None


@pytest.mark.parametrize(
    ("kind", "none", "ours", "foreign"),
    [
        ("NoClientCert", True, True, True),
        ("RequestClientCert", True, True, True),
        ("VerifyClientCertIfGiven", True, True, False),
        ("RequireAndVerifyClientCert", False, True, False),
        ("RequireAnyClientCert", False, True, False),
        ("RequireClientCert", False, True, False),
    ],
)
async def test_client_certificates(serve, pem, kind, none, ours, foreign):
    """
    Who comes in without a certificate, with one that our authority signed, and with somebody else's.
    """
    asks = "" if kind == "NoClientCert" else "client_ca_file: ca.crt\n"
    served = await serve(tls(f"{asks}client_auth_type: {kind}"))
    certificates = (None, pem.ca.issue_cert("scraper.example"), trustme.CA().issue_cert("scraper.example"))

    assert [bool(await spoken(served, client_context(pem, one))) for one in certificates] == [none, ours, foreign]


@pytest.mark.parametrize(
    ("allowed", "status"),
    [
        ("scraper.example", 200),
        ("10.1.2.3", 200),
        ("2001:db8::1", 200),
        ("me@mail.example", 200),
        ("example", 403),
        ("Scraper", 403),
    ],
)
async def test_client_names(serve, pem, allowed, status):
    """
    A certificate comes in by any of its alternative names, spelled exactly.
    """
    served = await serve(tls(CLIENT + f"client_allowed_sans: ['{allowed}', nobody.example]"))
    certificate = pem.ca.issue_cert("scraper.example", "10.1.2.3", "2001:db8::1", "me@mail.example")

    assert (await get(served.url, client_context(pem, certificate)))[0] == status


def test_names_of_a_certificate():
    """
    Addresses are written as Go writes them; a certificate without names has none.
    """
    names = (("DNS", "a.example"), ("IP Address", "2001:DB8:0:0:0:0:0:1"), ("URI", "spiffe://x/y"), ("DirName", "CN=x"))

    assert names_of({"subjectAltName": names}) == {"a.example", "2001:db8::1", "spiffe://x/y"}
    assert names_of(None) == names_of({}) == set()


async def test_a_new_certificate_is_taken_up(serve, pem, caplog):
    """
    New connections get the new certificate and rules; what is broken leaves the old ones, and is logged once.
    """
    served = await serve(TLS)
    old = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port))
    pem.server()
    await served.door.look()
    new = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port))
    (pem.folder / "server.key").write_text("broken")
    for _ in range(3):
        await served.door.look()

    assert old != new == await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port))
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        f"the web configuration before stays in force: {pem.folder}/web.yml: tls_server_config.key: there is no PEM key in it"
    ]

    pem.server()
    await served.door.look()

    assert await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port)) != new


async def test_open_connections_stay(serve, pem):
    """
    A connection that is open outlives a change of the certificate.
    """
    served = await serve(TLS)
    async with aiohttp.ClientSession() as client:
        for _ in range(2):
            async with client.get(served.url, ssl=client_context(pem)) as answer:
                assert answer.status == 200
            pem.server()
            await served.door.look()


async def test_new_rules_are_taken_up(serve, pem):
    """
    Users, headers and who needs a certificate follow the file; TLS itself does not.
    """
    served = await serve(TLS)
    written(pem, tls(CLIENT) + user(HASH))
    await served.door.look()
    certified = client_context(pem, pem.ca.issue_cert("scraper.example"))

    assert await spoken(served, client_context(pem)) is None
    assert (await get(served.url, certified))[0] == 401

    written(pem, user(HASH))
    with pytest.raises(ConfigError, match="TLS is switched on or off by a restart only"):
        served.door.take(await served.door.read())

    assert (await get(served.url, certified))[0] == 401


async def test_a_file_that_comes_later(serve, pem):
    """
    A configuration that names a file not there yet comes into force when the file is there.
    """
    served = await serve(TLS)
    written(pem, TLS.replace("server.", "later.") + user(HASH))
    await served.door.look()
    pem.server("later")
    await served.door.look()

    assert (await get(served.url, client_context(pem)))[0] == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        (basic("bob:secret"), 200),
        (basic("bob:wrong"), 401),
        (basic("bob:"), 401),
        (basic("eve:secret"), 401),
        (basic("bob:secret\0"), 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Bearer abc"}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"bob").decode()}, 401),
        ({"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()}, 401),
    ],
)
async def test_users(serve, headers, status):
    """
    A known user with the right password comes in, whatever the path; nobody else does.
    """
    served = await serve(user(HASH))

    assert (await get(served.url, **headers))[0] == status
    assert (await get(f"{served.url}/-/healthy", **headers))[0] == (404 if status == 200 else 401)


async def test_who_is_asked_for_a_password(serve):
    """
    The refusal tells a browser to ask.
    """
    served = await serve(user(HASH))

    assert (await get(served.url))[1].headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("kind", ["$2$", "$2a$", "$2b$", "$2x$", "$2y$"])
async def test_all_prefixes_mean_the_same(serve, kind):
    """
    Whichever tool has made the hash, the password opens.
    """
    served = await serve(user(f"{kind}04${DIGEST}"))

    assert (await get(served.url, **basic("bob:secret")))[0] == 200


async def test_long_passwords(serve):
    """
    Of a long password bcrypt looks at 72 bytes, as Go's does.
    """
    served = await serve(user(bcrypt.hashpw(b"p" * 72, bcrypt.gensalt(4)).decode()))

    assert (await get(served.url, **basic("bob:" + "p" * 90)))[0] == 200


async def test_a_verified_pair_is_remembered(monkeypatch):
    """
    The right pair is checked once, a wrong one each time; parts that join alike do not share a memory.
    """
    checked = []
    plain = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *pair: checked.append(pair) or plain(*pair))
    users = Users({"bob": HASH, "bobsecret": HASH})
    with ThreadPoolExecutor(1) as thread:
        good = [await users.allow(b"bob", b"secret", thread) for _ in range(3)]
        bad = [await users.allow(b"bob", b"wrong", thread) for _ in range(3)]
        joined = await users.allow(b"bobsecret", b"", thread)

    assert (good, bad, joined) == ([True] * 3, [False] * 3, False)
    assert len(checked) == 5


async def test_an_unknown_user_costs_the_same(monkeypatch):
    """
    A name that is not known is checked as the costliest one that is, and never comes in, whatever the password.
    """
    costs = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, expected: costs.append(expected[:7]) or True)
    users = Users({"cheap": HASH, "bob": HASH.replace("$04$", "$11$")})
    with ThreadPoolExecutor(1) as thread:
        good = [await users.allow(name, b"secret", thread) for name in (b"bob", b"eve", b"")]

    assert (good, costs) == ([True, False, False], [b"$2b$11$"] * 3)


async def test_bcrypt_leaves_the_loop_free(serve, monkeypatch):
    """
    While passwords are checked everybody else is answered; above a bound the next ones are turned away at once.
    """
    served = await serve(user(HASH))
    assert (await get(served.url, **basic("bob:secret")))[0] == 200
    busy, done = threading.Event(), threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: busy.set() or not done.wait(30))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def ask(pair: str) -> int:
            async with client.get(served.url, headers=basic(pair)) as answer:
                return answer.status

        asking = [asyncio.ensure_future(ask(f"bob:{number}")) for number in range(MOST_WAITING + 5)]
        await asyncio.to_thread(busy.wait, 30)
        turned_away, _ = await asyncio.wait(asking, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        others = [await ask("bob:secret"), (await get(served.url))[0]]
        done.set()
        answers = await asyncio.gather(*asking)

    assert {task.result() for task in turned_away} == {503}
    assert others == [200, 401]
    assert (answers.count(401), answers.count(503)) == (MOST_WAITING, 5)


async def test_headers(serve):
    """
    Every answer has the headers of the file: pages, refusals, errors, what is not found.
    """
    served = await serve("http_server_config: {headers: {X-Frame-Options: deny, X-XSS-Protection: ''}}\n")
    refusing = await serve("http_server_config: {headers: {X-Frame-Options: deny}}\n" + user(HASH))
    answers = [await get(url) for url in (served.url, served.url + "/none", served.url + "/broken", refusing.url)]

    assert [status for status, _ in answers] == [200, 404, 500, 401]
    assert {answer.headers["X-Frame-Options"] for _, answer in answers} == {"deny"}
    assert "X-XSS-Protection" not in answers[0][1].headers


async def test_rate_limit(serve):
    """
    Above the burst comes 429, before anybody's password is looked at.
    """
    served = await serve("rate_limit: {interval: 1h, burst: 3}\n" + user(HASH))
    answers = [await get(served.url, **basic("bob:secret")) for _ in range(5)]

    assert [status for status, _ in answers] == [200, 200, 200, 429, 429]
    assert answers[4][1].headers["Retry-After"] == "3601"


def test_the_bucket():
    """
    One request comes back every interval, never more than the burst.
    """
    bucket = Bucket(timedelta(seconds=2), 2)

    assert [bucket.take(at) for at in (100, 100, 100, 101, 102, 102.1, 500, 500, 500)] == [
        True, True, False, False, True, False, True, True, False
    ]  # fmt: skip


async def test_the_bucket_outlives_a_reload(serve, pem):
    """
    Reading the file again gives nobody a new burst, unless the limit is another one.
    """
    served = await serve("rate_limit: {interval: 1h, burst: 1}\n")
    first = (await get(served.url))[0]
    written(pem, "rate_limit: {interval: 1h, burst: 1}\nhttp_server_config: {http2: false}\n")
    await served.door.look()
    second = (await get(served.url))[0]
    written(pem, "rate_limit: {interval: 1h, burst: 2}\n")
    await served.door.look()

    assert (first, second, (await get(served.url))[0]) == (200, 429, 200)


@pytest.mark.parametrize(
    ("header", "pair"),
    [
        (None, None),
        ("Basic Ym9iOnNlY3JldA==", (b"bob", b"secret")),
        ("basic Ym9iOnNlY3JldA==", (b"bob", b"secret")),
        ("Basic Ym9iOmE6Yg==", (b"bob", b"a:b")),
        ("Basic Ym9i", None),
        ("Basic Ym9iOnNlY3JldA", None),
        ("Basic", None),
        ("Digest Ym9iOnNlY3JldA==", None),
    ],
)
def test_reading_basic(header, pair):
    """
    The name ends at the first colon; what is no Basic header is nothing.
    """

    assert read_basic(header) == pair


async def test_systemd_sockets(serve, pem):
    """
    Sockets that systemd has opened are served, over TLS too, and only those meant for this process.
    """
    opened = socket.create_server(("127.0.0.1", 0))
    number = os.dup(opened.fileno())
    port = opened.getsockname()[1]
    opened.close()
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "http"}
    door = open_door(written(pem, TLS), read_web_config)
    app = web.Application()
    async with AsyncExitStack() as stack:
        stack.callback(door.close)
        given = inherited_sockets(environment, number)
        taken = await listen(app, [], stack, tls=door.tls, sockets=given)

        assert (environment, taken) == ({}, [Address("127.0.0.1", port)])
        assert (await get(f"https://127.0.0.1:{port}", client_context(pem)))[0] == 404

    with pytest.raises(OSError, match="no socket"):
        inherited_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "1"})
