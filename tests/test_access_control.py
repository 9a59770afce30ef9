"""Who is admitted by the web configuration's access control, over real connections."""

import asyncio
import base64
import os
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from typing import NamedTuple

import aiohttp
import bcrypt
import pytest
import trustme
from aiohttp import web

from exporter.errors import BusyError, ConfigError
from exporter.web.access_control import (
    MAX_WAITING_CHECKS,
    MAX_WAITING_CHECKS_PER_PEER,
    NICENESS,
    AccessControl,
    BasicAuthUsers,
    PasswordQueue,
    TokenBucket,
    load_access_control,
    parse_basic_authorization,
)
from exporter.web.app import add_access_control
from exporter.web.connections import find_peer
from exporter.web.listen import ListenAddress, listen, open_inherited_sockets
from exporter.web.tls import read_alternative_names
from tests.certificates import CertificateFolder, write_web_config
from tests.web_configs import CLIENT_CERTIFICATE, DIGEST, PASSWORD_HASH, TLS, build_pem_block, build_tls, build_user


class Served(NamedTuple):
    """A served application with access control."""

    access_control: AccessControl
    url: str
    port: int


async def come_in(_: web.Request) -> web.Response:
    return web.Response(text="in")


async def fail(_: web.Request) -> web.Response:
    raise RuntimeError("broken")


Serve = Callable[[str], Awaitable[Served]]


@pytest.fixture
async def serve(certificates: CertificateFolder) -> AsyncIterator[Serve]:
    async with AsyncExitStack() as stack:

        async def make(text: str) -> Served:
            access_control = load_access_control(write_web_config(certificates, text))
            stack.callback(access_control.close)
            app = web.Application()
            app.router.add_get("/", come_in)
            app.router.add_get("/broken", fail)
            add_access_control(app, access_control)
            (address,) = await listen(app, [ListenAddress("127.0.0.1", 0)], stack, get_tls_context=access_control.get_tls_context)
            scheme = "https" if access_control.config.tls.enabled else "http"
            return Served(access_control, f"{scheme}://{address}", address.port)

        yield make


def client_context(certificates: CertificateFolder, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificates.ca.cert_pem.bytes().decode())
    if certificate:
        certificate.configure_cert(context)
    return context


async def get(url: str, context: ssl.SSLContext | None = None, **headers: str) -> tuple[int, aiohttp.ClientResponse]:
    async with aiohttp.ClientSession() as client, client.get(url, ssl=context or True, headers=headers) as answer:
        await answer.read()
        return answer.status, answer


async def spoken(served: Served, context: ssl.SSLContext) -> tuple[str, str] | None:
    """Return version and cipher, None if it fails: in TLS 1.3 a refused client learns it only from the response."""

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


async def test_tls(serve, certificates):
    """
    A certificate of the file is shown, and plain HTTP gets nowhere.
    """
    served = await serve(TLS)

    assert (await get(served.url, client_context(certificates)))[0] == 200
    with pytest.raises(aiohttp.ClientError):
        await get(served.url.replace("https", "http"))


async def test_inline_tls(serve, certificates):
    """
    Certificate and key may stand in the file itself.
    """
    served = await serve("tls_server_config:\n" + build_pem_block("cert", "server.crt") + build_pem_block("key", "server.key"))

    assert (await get(served.url, client_context(certificates)))[0] == 200


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
async def test_versions(serve, certificates, keys, old, new):
    """
    Only the versions between the two are spoken, never one below TLS 1.2.
    """
    served = await serve(build_tls(keys))
    found = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(certificates)
        context.minimum_version = context.maximum_version = version
        found.append((await spoken(served, context) or (None,))[0])

    assert found == [old, new]


@pytest.mark.parametrize(
    ("prefer", "chosen"), [("true", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("false", "ECDHE-ECDSA-AES128-GCM-SHA256")]
)
async def test_ciphers(serve, certificates, prefer, chosen):
    """
    Of TLS 1.2 only the named suites are spoken, in the server's order unless the client's is preferred.
    """
    suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    served = await serve(build_tls(f"max_version: TLS12\nprefer_server_cipher_suites: {prefer}\ncipher_suites: [{suites}]"))
    context, other = client_context(certificates), client_context(certificates)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    other.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")

    assert await spoken(served, context) == ("TLSv1.2", chosen)
    assert await spoken(served, other) is None


async def test_curves(serve, certificates):
    """
    A client that has none of the named curves is refused.
    """
    served = await serve(build_tls("curve_preferences: [CurveP384]"))
    context, other = client_context(certificates), client_context(certificates)
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
async def test_client_certificates(serve, certificates, kind, none, ours, foreign):
    """
    Who is admitted without a certificate, with one that our authority signed, and with another.
    """
    asks = "" if kind == "NoClientCert" else "client_ca_file: ca.crt\n"
    served = await serve(build_tls(f"{asks}client_auth_type: {kind}"))
    issued = (None, certificates.ca.issue_cert("scraper.example"), trustme.CA().issue_cert("scraper.example"))

    assert [bool(await spoken(served, client_context(certificates, certificate))) for certificate in issued] == [
        none,
        ours,
        foreign,
    ]


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
async def test_client_names(serve, certificates, allowed, status):
    """
    A certificate is admitted by any of its alternative names, spelled exactly.
    """
    served = await serve(build_tls(CLIENT_CERTIFICATE + f"client_allowed_sans: ['{allowed}', nobody.example]"))
    certificate = certificates.ca.issue_cert("scraper.example", "10.1.2.3", "2001:db8::1", "me@mail.example")

    assert (await get(served.url, client_context(certificates, certificate)))[0] == status


def test_names_of_a_certificate():
    """
    Addresses are written as Go writes them; a certificate without names has none.
    """
    names = (("DNS", "a.example"), ("IP Address", "2001:DB8:0:0:0:0:0:1"), ("URI", "spiffe://x/y"), ("DirName", "CN=x"))

    assert read_alternative_names({"subjectAltName": names}) == {"a.example", "2001:db8::1", "spiffe://x/y"}
    assert read_alternative_names(None) == read_alternative_names({}) == set()


async def test_a_new_certificate_is_loaded(serve, certificates, caplog):
    """
    New connections get the new certificate and rules; what is broken leaves the old ones, and is logged once.
    """
    served = await serve(TLS)
    old = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port))
    certificates.issue_server_certificate()
    await served.access_control.reload_if_changed()
    new = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port))
    (certificates.folder / "server.key").write_text("broken")
    for _ in range(3):
        await served.access_control.reload_if_changed()

    assert old != new == await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port))
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "web configuration reload failed, keeping the previous configuration: "
        f"{certificates.folder}/web.yml: tls_server_config.key: there is no PEM key in it"
    ]

    certificates.issue_server_certificate()
    await served.access_control.reload_if_changed()

    assert await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", served.port)) != new


async def test_open_connections_stay(serve, certificates):
    """
    A connection that is open outlives a change of the certificate.
    """
    served = await serve(TLS)
    async with aiohttp.ClientSession() as client:
        for _ in range(2):
            async with client.get(served.url, ssl=client_context(certificates)) as answer:
                assert answer.status == 200
            certificates.issue_server_certificate()
            await served.access_control.reload_if_changed()


async def test_new_rules_are_loaded(serve, certificates):
    """
    Users, headers and who needs a certificate follow the file; TLS itself does not.
    """
    served = await serve(TLS)
    write_web_config(certificates, build_tls(CLIENT_CERTIFICATE) + build_user(PASSWORD_HASH))
    await served.access_control.reload_if_changed()
    certified = client_context(certificates, certificates.ca.issue_cert("scraper.example"))

    assert await spoken(served, client_context(certificates)) is None
    assert (await get(served.url, certified))[0] == 401

    write_web_config(certificates, build_user(PASSWORD_HASH))
    with pytest.raises(ConfigError, match="TLS can be switched on or off only by a restart"):
        served.access_control.apply(await served.access_control.load())

    assert (await get(served.url, certified))[0] == 401


async def test_a_file_that_comes_later(serve, certificates):
    """
    A configuration that names a file not there yet comes into force when the file is there.
    """
    served = await serve(TLS)
    write_web_config(certificates, TLS.replace("server.", "later.") + build_user(PASSWORD_HASH))
    await served.access_control.reload_if_changed()
    certificates.issue_server_certificate("later")
    await served.access_control.reload_if_changed()

    assert (await get(served.url, client_context(certificates)))[0] == 401


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
    A known user with the right password is admitted, whatever the path; nobody else is.
    """
    served = await serve(build_user(PASSWORD_HASH))

    assert (await get(served.url, **headers))[0] == status
    assert (await get(f"{served.url}/-/healthy", **headers))[0] == (404 if status == 200 else 401)


async def test_who_is_asked_for_a_password(serve):
    """
    The refusal tells a browser to ask.
    """
    served = await serve(build_user(PASSWORD_HASH))

    assert (await get(served.url))[1].headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("kind", ["$2$", "$2a$", "$2b$", "$2x$", "$2y$"])
async def test_all_prefixes_mean_the_same(serve, kind):
    """
    Whichever tool has made the hash, the password opens.
    """
    served = await serve(build_user(f"{kind}04${DIGEST}"))

    assert (await get(served.url, **basic("bob:secret")))[0] == 200


async def test_long_passwords(serve):
    """
    Of a long password bcrypt looks at 72 bytes, as Go's does.
    """
    served = await serve(build_user(bcrypt.hashpw(b"p" * 72, bcrypt.gensalt(4)).decode()))

    assert (await get(served.url, **basic("bob:" + "p" * 90)))[0] == 200


async def test_a_verified_pair_is_remembered(monkeypatch):
    """
    The right pair is checked once, a wrong one each time; parts that join alike do not share a memory.
    """
    checked = []
    plain = bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *pair: checked.append(pair) or plain(*pair))
    users = BasicAuthUsers({"bob": PASSWORD_HASH, "bobsecret": PASSWORD_HASH})
    with closing(PasswordQueue()) as queue:
        good = [await users.verify(b"bob", b"secret", queue) for _ in range(3)]
        bad = [await users.verify(b"bob", b"wrong", queue) for _ in range(3)]
        concatenated = await users.verify(b"bobsecret", b"", queue)

    assert (good, bad, concatenated) == ([True] * 3, [False] * 3, False)
    assert len(checked) == 5


async def test_an_unknown_user_costs_the_same(monkeypatch):
    """
    A name that is not known is checked as the costliest one that is, and is never admitted, whatever the password.
    """
    costs = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, expected: costs.append(expected[:7]) or True)
    users = BasicAuthUsers({"cheap": PASSWORD_HASH, "bob": PASSWORD_HASH.replace("$04$", "$11$")})
    with closing(PasswordQueue()) as queue:
        good = [await users.verify(name, b"secret", queue) for name in (b"bob", b"eve", b"")]

    assert (good, costs) == ([True, False, False], [b"$2b$11$"] * 3)


async def test_bcrypt_leaves_the_loop_free(serve, monkeypatch):
    """
    While passwords are checked everybody else is answered; above a bound the next ones are turned away at once.
    """
    served = await serve(build_user(PASSWORD_HASH))
    assert (await get(served.url, **basic("bob:secret")))[0] == 200
    busy, done = threading.Event(), threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: busy.set() or not done.wait(30))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def ask(pair: str) -> int:
            async with client.get(served.url, headers=basic(pair)) as answer:
                return answer.status

        asking = [asyncio.ensure_future(ask(f"bob:{number}")) for number in range(MAX_WAITING_CHECKS_PER_PEER + 5)]
        await asyncio.to_thread(busy.wait, 30)
        turned_away, _ = await asyncio.wait(asking, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        others = [await ask("bob:secret"), (await get(served.url))[0]]
        done.set()
        answers = await asyncio.gather(*asking)

    assert {task.result() for task in turned_away} == {503}
    assert others == [200, 401]
    assert (answers.count(401), answers.count(503)) == (MAX_WAITING_CHECKS_PER_PEER, 5)


async def test_who_sends_many_passwords_delays_nobody_else(monkeypatch):
    """
    Addresses that wait are served in turn: a restarted Prometheus has its turn after one check of whoever sends sixty.
    """
    checked = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, _: checked.append(password) or password == b"secret")
    users = BasicAuthUsers({"bob": PASSWORD_HASH})
    with closing(PasswordQueue()) as queue:
        attack = [asyncio.ensure_future(users.verify(b"bob", f"{n}".encode(), queue, "10.0.0.9")) for n in range(60)]
        await asyncio.sleep(0)
        good = await users.verify(b"bob", b"secret", queue, "10.0.0.2")
        position = checked.index(b"secret")
        refused = [found for found in await asyncio.gather(*attack, return_exceptions=True) if isinstance(found, BusyError)]

    assert (good, position <= 2) == (True, True)
    assert len(refused) == 60 - MAX_WAITING_CHECKS_PER_PEER


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
@pytest.mark.parametrize(("platform", "step"), [("linux", NICENESS), ("darwin", 0)])
async def test_only_the_thread_that_verifies_has_a_lower_priority(monkeypatch, platform, step):
    """
    A scrape is answered at the priority of before; where only the whole process has a priority, it stays as it is.
    """
    monkeypatch.setattr(sys, "platform", platform)
    before, found = os.getpriority(os.PRIO_PROCESS, 0), []
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: found.append(os.getpriority(os.PRIO_PROCESS, 0)) or True)
    with closing(PasswordQueue()) as queue:
        assert await queue.check("", b"secret", b"")

    assert found == [min(before + step, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


async def test_a_password_that_bcrypt_cannot_verify_holds_up_nobody(caplog):
    """
    Where bcrypt fails at a hash the password is refused, and whoever waits next has their turn.
    """
    users = BasicAuthUsers({"eve": "$2b$04$" + "9" * 53, "bob": PASSWORD_HASH})
    with closing(PasswordQueue()) as queue:
        async with asyncio.timeout(10):
            found = await asyncio.gather(users.verify(b"eve", b"x", queue), users.verify(b"bob", b"secret", queue))

    assert found == [False, True]
    assert "failed to verify a password" in caplog.text


async def test_a_password_that_waits_is_verified_once(monkeypatch):
    """
    Of many requests with one password, all before the first is answered, it is not verified for each.
    """
    checked = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda *pair: checked.append(pair) or True)
    users = BasicAuthUsers({"bob": PASSWORD_HASH})
    with closing(PasswordQueue()) as queue:
        found = await asyncio.gather(*(users.verify(b"bob", b"secret", queue, f"10.0.0.{n % 2}") for n in range(20)))

    assert found == [True] * 20
    assert len(checked) <= 2


async def test_many_addresses_leave_room_for_one_more(monkeypatch):
    """
    Where all places are taken, the address of which the most wait gives one up: eight attackers do not keep out a ninth client.
    """
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, _: password == b"secret")
    users = BasicAuthUsers({"bob": PASSWORD_HASH})
    with closing(PasswordQueue()) as queue:
        attack = [
            asyncio.ensure_future(users.verify(b"bob", f"{n}".encode(), queue, f"10.0.0.{n % 8}"))
            for n in range(MAX_WAITING_CHECKS)
        ]
        await asyncio.sleep(0)
        assert await users.verify(b"bob", b"secret", queue, "10.0.0.9")
        results = await asyncio.gather(*attack, return_exceptions=True)

    assert [isinstance(found, BusyError) for found in results].count(True) == 1


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1:2", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_whose_an_address_is(address, peer):
    """
    A machine has many addresses of IPv6, and counts as one.
    """
    assert find_peer(address) == peer


async def test_headers(serve):
    """
    Every answer has the headers of the file: pages, refusals, errors, what is not found.
    """
    served = await serve("http_server_config: {headers: {X-Frame-Options: deny, X-XSS-Protection: ''}}\n")
    refusing = await serve("http_server_config: {headers: {X-Frame-Options: deny}}\n" + build_user(PASSWORD_HASH))
    answers = [await get(url) for url in (served.url, served.url + "/none", served.url + "/broken", refusing.url)]

    assert [status for status, _ in answers] == [200, 404, 500, 401]
    assert {answer.headers["X-Frame-Options"] for _, answer in answers} == {"deny"}
    assert "X-XSS-Protection" not in answers[0][1].headers


async def test_rate_limit(serve):
    """
    Above the burst comes 429, before anybody's password is looked at.
    """
    served = await serve("rate_limit: {interval: 1h, burst: 3}\n" + build_user(PASSWORD_HASH))
    answers = [await get(served.url, **basic("bob:secret")) for _ in range(5)]

    assert [status for status, _ in answers] == [200, 200, 200, 429, 429]
    assert answers[4][1].headers["Retry-After"] == "3601"


def test_the_bucket():
    """
    One request comes back every interval, never more than the burst.
    """
    bucket = TokenBucket(timedelta(seconds=2), 2)

    assert [bucket.try_acquire(at) for at in (100, 100, 100, 101, 102, 102.1, 500, 500, 500)] == [
        True, True, False, False, True, False, True, True, False
    ]  # fmt: skip


async def test_the_bucket_outlives_a_reload(serve, certificates):
    """
    Reading the file again gives nobody a new burst, unless the limit is another one.
    """
    served = await serve("rate_limit: {interval: 1h, burst: 1}\n")
    first = (await get(served.url))[0]
    write_web_config(certificates, "rate_limit: {interval: 1h, burst: 1}\nhttp_server_config: {http2: false}\n")
    await served.access_control.reload_if_changed()
    second = (await get(served.url))[0]
    write_web_config(certificates, "rate_limit: {interval: 1h, burst: 2}\n")
    await served.access_control.reload_if_changed()

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

    assert parse_basic_authorization(header) == pair


async def test_systemd_sockets(serve, certificates):
    """
    Sockets that systemd has opened are served, over TLS too, and only those meant for this process.
    """
    opened = socket.create_server(("127.0.0.1", 0))
    number = os.dup(opened.fileno())
    port = opened.getsockname()[1]
    opened.close()
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "http"}
    access_control = load_access_control(write_web_config(certificates, TLS))
    app = web.Application()
    async with AsyncExitStack() as stack:
        stack.callback(access_control.close)
        inherited = open_inherited_sockets(environment, number)
        bound = await listen(app, [], stack, get_tls_context=access_control.get_tls_context, sockets=inherited)

        assert (environment, bound) == ({}, [ListenAddress("127.0.0.1", port)])
        assert (await get(f"https://127.0.0.1:{port}", client_context(certificates)))[0] == 404

    with pytest.raises(OSError, match="no socket"):
        open_inherited_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "1"})
