"""A visit's way to the network: foreign errors made ours, bounds, cookies, tokens that are kept."""

import asyncio
import gzip
from datetime import timedelta

import aiohttp
import pytest
from aiohttp import web as server
from hypothesis import given
from hypothesis import strategies as st

from exporter.client.login_attempts import LoginAttempts, allow_login, post_password
from exporter.client.pkce import PkcePair
from exporter.client.session import mask_path, parse_retry_after
from exporter.client.token_cache import Token, TokenCache
from exporter.errors import PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.portals.cem.metadata import CallNotes
from tests.conftest import NOW

SITE = "http://brook.example"


@pytest.fixture
async def local():
    """Serve handlers on the loopback: `await local({"/path": handler})` gives the address."""
    runners = []

    async def serve(handlers):
        app = server.Application()
        for path, handler in handlers.items():
            app.router.add_route("*", path, handler)
        runner = server.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = server.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"

    yield serve
    for runner in runners:
        await runner.cleanup()


def answering(**answer):
    async def handler(_):
        return server.Response(**answer)

    return handler


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ({"status": 503}, UnreachableError, "status 503"),
        ({"status": 500, "body": "<html>"}, UnreachableError, "status 500"),
        ({"status": 429}, RateLimitError, "too many requests"),
        ({"exception": aiohttp.ClientConnectionError()}, UnreachableError, "GET /data"),
        ({"exception": TimeoutError()}, UnreachableError, "timed out"),
        ({"exception": ConnectionResetError()}, UnreachableError, "reset"),
        ({"status": 404, "payload": {}}, ResponseError, "status 404"),
        ({"body": "<!DOCTYPE html><title>x"}, ResponseError, "returned HTML, expected JSON"),
        ({"body": ""}, ResponseError, "expected JSON"),
        ({"body": '{"a": NaN}'}, ResponseError, "expected JSON"),
        ({"body": '{"a": 1e999}'}, ResponseError, "expected JSON"),
        ({"body": "[" * 100_000}, ResponseError, "expected JSON"),
        ({"body": b'{"a": "\xff"}'}, ResponseError, "expected JSON"),
        ({"body": "9" * 5000}, ResponseError, "expected JSON"),
    ],
)
async def test_whatever_goes_wrong_is_one_of_our_errors(web, visit, answer, error, message):
    """
    Network trouble, statuses and bodies that are no JSON become our errors, in our words.
    """
    web.get(f"{SITE}/data?key=secret", **answer)

    async with visit() as session:
        with pytest.raises(error, match=message) as raised:
            (await session.get(f"{SITE}/data", params={"key": "secret"})).json()
    assert "secret" not in str(raised.value)


async def test_json_whatever_its_type_says(web, visit):
    """
    A body is parsed as JSON though its content type says something else.
    """
    web.get(f"{SITE}/data", body='{"a": 1.5}', content_type="application/octet-stream")

    async with visit() as session:
        assert (await session.get(f"{SITE}/data")).json() == {"a": 1.5}


@pytest.mark.parametrize("path", ["/water-meter/123456", "/meter-history/541448820000000000/x", "/of/me@example.com"])
async def test_messages_hold_no_number_of_a_meter(web, visit, path):
    """
    What in a path may be somebody's is left out of messages.
    """
    web.get(SITE + path, status=503)

    async with visit() as session:
        with pytest.raises(UnreachableError) as raised:
            await session.get(SITE + path)
    assert path.split("/")[2] not in str(raised.value)
    assert "…" in str(raised.value)


async def test_answers_are_counted_by_class(web, visit):
    """
    Each HTTP answer is errors by its class, and a call without one as `error`.
    """
    seen = []
    for status in (200, 302, 404, 503, 429):
        web.get(f"{SITE}/x", status=status)
    web.get(f"{SITE}/x", exception=aiohttp.ClientConnectionError())

    async with visit(on_response=seen.append) as session:
        for _ in range(6):
            try:
                await session.get(f"{SITE}/x")
            except PortalError:
                continue
    assert seen == ["2xx", "3xx", "4xx", "5xx", "4xx", "error"]


async def test_a_portal_that_hangs_is_left(local, visit):
    """
    An answer that does not come, or drips without end, ends with the timeout.
    """

    async def hang(_):
        await asyncio.sleep(60)

    async def drip(request):
        answer = server.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b" ")
            await asyncio.sleep(0.01)

    site = await local({"/hang": hang, "/drip": drip})
    for path in ("/hang", "/drip"):
        async with visit(timeout=timedelta(seconds=0.2)) as session:
            with pytest.raises(UnreachableError, match=r"timed out after 0\.2 s"):
                await session.get(site + path)


async def test_answers_are_bounded(local, visit):
    """
    An answer over the bound is refused, compressed ones by what they unpack to.
    """
    bomb = gzip.compress(b"\0" * 5_000_000)
    site = await local(
        {
            "/large": answering(body=b"x" * 2000),
            "/bomb": answering(body=bomb, headers={"Content-Encoding": "gzip"}),
        }
    )
    async with visit(max_response_bytes=1000) as session:
        for path in ("/large", "/bomb"):
            with pytest.raises(ResponseError, match="more than 1000 bytes"):
                await session.get(site + path)


def test_paths_in_messages():
    """
    What may be personal in a path is masked; a path as long as a page costs no time, and is cut.
    """
    assert mask_path("/api/meters/12345678/days") == "/api/meters/…/days"
    assert mask_path("/users/me%40example.com") == "/users/…"
    assert (mask_path(""), mask_path("/a\x1b[0m")) == ("/", "/a[0m")
    assert mask_path("/" + "a" * 16_000_000) == "/" + "a" * 199


async def test_redirects_stay_at_home(local, visit):
    """
    A redirect is followed only when asked for and only to the same host; never to another, and not for ever.
    """
    elsewhere = await local({"/stolen": answering(text="stolen")})

    def to(target):
        return answering(status=302, headers={"Location": target})

    home = await local(
        {
            "/away": to(f"{elsewhere}/stolen"),
            "/round": to("/round"),
            "/here": to("/there"),
            "/there": answering(text="there"),
        }
    )
    async with visit() as session:
        assert (await session.get(f"{home}/here")).location == f"{home}/there"
        assert (await session.get(f"{home}/here", follow_redirects=True)).text() == "there"
        with pytest.raises(ResponseError, match="another host"):
            await session.get(f"{home}/away", follow_redirects=True)
        with pytest.raises(ResponseError, match="without end"):
            await session.get(f"{home}/round", follow_redirects=True)


async def test_cookies_are_sent_unquoted_and_forgotten_when_asked(local, visit):
    """
    Cookie values with = and / go out as they came, until the jar is emptied.
    """
    got = []

    async def page(request):
        got.append(request.headers.get("Cookie"))
        answer = server.Response()
        answer.headers["Set-Cookie"] = "x-ms-cpim-csrf=a=b/c==; path=/; HttpOnly"
        return answer

    site = await local({"/": page})
    async with visit() as session:
        await session.get(site)
        await session.get(site)
        await session.clear_cookies()
        await session.get(site)
    assert got == [None, "x-ms-cpim-csrf=a=b/c==", None]


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("Fri, 20 Nov 2026 09:31:00 GMT", 60),
        ("Fri, 20 Nov 2020 09:31:00 GMT", 0),
        ("99999999999999999999", 7 * 86400),
        ("Fri, 20 Nov 2996 09:31:00 GMT", 7 * 86400),
        ("soon", None),
        ("", None),
        (None, None),
        ("-5", None),
        ("Fri, 99999999999999999999 Nov 2026 09:31:00 GMT", None),
        ("Fri, 20 Nov 2026 09:31:00 +99999999999999999999", None),
    ],
)
def test_retry_after(header, wait):
    """
    Seconds or a date, bounded to a week; anything else is no word at all.
    """
    assert parse_retry_after(header, NOW) == (None if wait is None else timedelta(seconds=wait))


@given(st.text())
def test_no_retry_after_breaks_a_visit(header):
    """
    Whatever stands there, it is a wait or none.
    """
    assert parse_retry_after(header, NOW) is None or parse_retry_after(header, NOW) >= timedelta(0)


class LoginCounter:
    """A login and a call that accepts the newest token only."""

    def __init__(self, clock, life=timedelta(hours=1)):
        self.clock, self.life = clock, life
        self.logins, self.good, self.old = 0, {"t0"}, []

    async def log_in(self, old):
        await asyncio.sleep(0)
        self.logins += 1
        self.old.append(old)
        self.good = {f"t{self.logins}"}
        return Token(f"t{self.logins}", self.clock() + self.life, {"cookie": "c"})

    def ask(self, session):
        async def call(token):
            return await session.get(f"{SITE}/{'good' if token.value in self.good else 'bad'}")

        return call


@pytest.fixture
def logins(clock, web):
    web.get(f"{SITE}/good", payload={}, repeat=True)
    web.get(f"{SITE}/bad", status=401, repeat=True)
    return LoginCounter(clock)


async def test_one_login_for_as_long_as_the_token_lives(logins, visit, clock):
    """
    The token is used by all visits, in parallel and over restarts, until it is about to end.
    """
    for minutes in (0, 20, 38.9):
        clock.advance(minutes=minutes)
        async with visit() as session:
            tokens = TokenCache(session, logins.log_in)
            await asyncio.gather(*(tokens.send(logins.ask(session)) for _ in range(20)))
    assert logins.logins == 1
    clock.advance(minutes=0.2)
    async with visit() as session:
        await TokenCache(session, logins.log_in).send(logins.ask(session))

    assert logins.logins == 2
    assert (logins.old[0], logins.old[1].value, logins.old[1].extra) == (None, "t1", {"cookie": "c"})


async def test_a_failed_login_is_tried_once_for_all(logins, visit, clock):
    """
    However many calls want a token whose login fails, one tries, and all are errors the same; a while later it is tried again.
    """
    away = True

    async def log_in(old):
        if away:
            logins.logins += 1
            raise UnreachableError("the portal is away")
        return await logins.log_in(old)

    async with visit() as session:
        tokens = TokenCache(session, log_in)
        errors = await asyncio.gather(*(tokens.send(logins.ask(session)) for _ in range(20)), return_exceptions=True)
        assert ({str(one) for one in errors}, logins.logins) == ({"the portal is away"}, 1)
        away = False
        clock.advance(minutes=5)
        answer = await tokens.send(logins.ask(session))

    assert (answer.status, logins.logins) == (200, 2)


async def test_a_refused_token_costs_one_login(logins, visit, clock):
    """
    However many calls meet a 401, there is one new login, and each call is repeated once.
    """
    async with visit() as session:
        await TokenCache(session, logins.log_in).get_token()
    clock.advance(minutes=10)
    logins.good = {"other"}
    async with visit() as session:
        tokens = TokenCache(session, logins.log_in)
        answers = await asyncio.gather(*(tokens.send(logins.ask(session)) for _ in range(20)))

    assert [answer.status for answer in answers] == [200] * 20
    assert logins.logins == 2


async def test_a_fresh_token_that_is_refused_ends_the_visit(visit, clock, logins):
    """
    When even a new token is refused there is no third login; nor is there one for a token made minutes ago.
    """

    async def refused(session):
        return await session.get(f"{SITE}/bad")

    for minutes in (0, 2, 4):
        clock.at = NOW + timedelta(minutes=minutes)
        async with visit() as session:
            with pytest.raises(ResponseError, match="refused"):
                await TokenCache(session, logins.log_in).send(lambda _, session=session: refused(session))
    assert logins.logins == 1


async def test_a_short_lived_token_is_not_renewed_before_its_minimum_age(logins, visit, clock):
    """
    A portal that gives tokens of a few seconds gets a login every five minutes, not one a call.
    """
    logins.life = timedelta(seconds=2)
    for _ in range(10):
        async with visit() as session:
            await TokenCache(session, logins.log_in).get_token()
        clock.advance(seconds=29)

    assert logins.logins == 1


SESSION_ENDS = {
    "forbidden": {"status": 403},
    "a redirect to the login": {"status": 302, "headers": {"Location": "/login"}},
    "a web page": {"status": 200, "body": " <!DOCTYPE html><title>Login</title>"},
}
"""How a session that died before its date looks, besides 401."""


@pytest.mark.parametrize("kind", SESSION_ENDS)
async def test_a_session_that_ended_before_its_date(logins, visit, clock, web, kind):
    """
    A token that is good by its date and is answered 403, a redirect or a page costs one new login, and the call is repeated.
    """
    web.get(f"{SITE}/dead", **SESSION_ENDS[kind], repeat=True)
    async with visit() as session:
        await TokenCache(session, logins.log_in).get_token()
    clock.advance(minutes=10)

    async with visit() as session:
        tokens = TokenCache(session, logins.log_in)
        path = {"t1": "dead", "t2": "good"}
        answers = [await tokens.send(lambda token: session.get(f"{SITE}/{path[token.value]}")) for _ in range(3)]

    assert [answer.status for answer in answers] == [200] * 3
    assert logins.logins == 2


@pytest.mark.parametrize(("kind", "days"), [("forbidden", 7), ("a redirect to the login", 0.5), ("a web page", 0.5)])
async def test_what_a_new_login_does_not_lift_is_remembered(logins, visit, clock, web, kind, days):
    """
    A meter that is refused to everybody costs one login, not one a visit, and is tried again later; the others are answered.
    """
    logins.life = timedelta(days=30)
    web.get(f"{SITE}/refused", **SESSION_ENDS[kind], repeat=True)

    async def visit_once():
        async with visit() as session:
            tokens = TokenCache(session, logins.log_in)
            refused = await tokens.send(lambda _: session.get(f"{SITE}/refused"), "meter 1")
            answered = await tokens.send(logins.ask(session), "meter 2")
        return refused.status, answered.status

    for _ in range(12):
        assert await visit_once() == (SESSION_ENDS[kind]["status"], 200)
        clock.advance(hours=1)
    assert logins.logins == 1
    clock.advance(days=days)
    await visit_once()
    await visit_once()

    assert logins.logins == 2


async def test_a_call_that_is_answered_again_is_no_longer_remembered(logins, visit, clock, web):
    """
    When a refused meter is answered again, its next refusal may be that of a dead session.
    """
    logins.life = timedelta(days=30)
    web.get(f"{SITE}/refused", status=403, repeat=True)
    for path in ("refused", "good", "refused"):
        async with visit() as session:
            await TokenCache(session, logins.log_in).send(lambda _, at=path, who=session: who.get(f"{SITE}/{at}"), "meter 1")
        clock.advance(hours=1)

    assert logins.logins == 2


async def test_a_login_that_is_not_understood_is_tried_four_times_a_day(visit, clock):
    """
    Neither accepted nor refused: the waits grow, over restarts, and meanwhile each visit says what came; a success ends that.
    """
    tried, broken = [], True

    async def log_in(_):
        tried.append(clock())
        if broken:
            raise ResponseError("the login answered with status 418")
        return Token("t", clock() + timedelta(minutes=1))

    async def get_token():
        async with visit() as session:
            await TokenCache(session, log_in).get_token()

    for _ in range(3 * 48):
        with pytest.raises(ResponseError, match="the login answered with status 418"):
            await get_token()
        clock.advance(minutes=30)
    assert [at - NOW for at in tried] == [timedelta(hours=hours) for hours in (0, 0.5, 3.5, 11.5, 35.5, 59.5)]
    with pytest.raises(ResponseError, match=r"418; next login not before 2026-11-23 21:00 UTC$"):
        await get_token()
    broken, clock.at = False, NOW + timedelta(days=4)
    await get_token()
    clock.advance(hours=1)
    broken = True
    for _ in range(2):
        with pytest.raises(ResponseError):
            await get_token()
        clock.advance(minutes=20)

    assert [at - NOW - timedelta(days=4) for at in tried[-3:]] == [timedelta(minutes=minutes) for minutes in (0, 60, 80)]


async def test_a_password_that_never_left_does_not_count(visit, clock, unused_tcp_port):
    """
    Where nobody answers at all, the next visit tries again at once; what was sent is counted, even if the process then dies.
    """

    async def log_in(_):
        return await post_password(session, f"http://127.0.0.1:{unused_tcp_port}/login", data={"password": "p"})

    for _ in range(3):
        async with visit() as session:
            with pytest.raises(UnreachableError, match=r"POST /login failed: could not connect$"):
                await TokenCache(session, log_in).get_token()
            assert await LoginAttempts(session).count() == 0
            clock.advance(minutes=5)
    async with visit() as session:
        await LoginAttempts(session).begin()
        with pytest.raises(UnreachableError, match=r"the login did not end; next login not before 2026-11-20 10:00 UTC$"):
            await TokenCache(session, log_in).get_token()


async def test_a_person_may_try_a_login_that_was_not_understood_at_once(visit, clock):
    """
    `visit --force` does not wait.
    """

    async def log_in(_):
        raise ResponseError("status 418")

    for forced, message in ((False, "^status 418$"), (False, "next login not before"), (True, "^status 418$")):
        async with visit() as session:
            if forced:
                await allow_login(session)
            with pytest.raises(ResponseError, match=message):
                await TokenCache(session, log_in).get_token()


async def test_a_note_on_a_call_lasts_a_week(visit, clock):
    """
    A call that readings do not need and that fails is a note: later visits keep it for a week, or until the call succeeds.
    """

    async def record(name, text):
        async with visit() as session:
            notes = CallNotes(session)
            await notes.record(name, text)
            return await notes.load()

    assert await record("contract", "the contract has changed") == ("the contract has changed",)
    clock.advance(days=6, hours=23)
    assert await record("names", "no answer") == ("the contract has changed", "no answer")
    clock.advance(hours=1)
    assert await record("types", "") == ("no answer",)
    assert await record("names", "") == ()


async def test_requests_keep_their_distance(web, visit, monkeypatch):
    """
    With a pace, calls made at once go out one after the other.
    """
    web.get(f"{SITE}/x", repeat=True)
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    async with visit(min_request_gap=timedelta(seconds=0.5)) as session:
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await asyncio.gather(*(session.get(f"{SITE}/x") for _ in range(3)))
        monkeypatch.undo()
    assert len(slept) == 2
    assert all(0.3 < seconds <= 0.5 for seconds in slept)


def test_pkce():
    """
    The challenge is the SHA-256 of the verifier, as in RFC 7636's own example; each proof is new.
    """
    assert PkcePair("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk").challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert len(PkcePair.generate().verifier) == 86
    assert PkcePair.generate() != PkcePair.generate()


async def test_every_exchange_is_observed(local, visit):
    """
    Whoever watches a session is given each request with its response, or with the error in the place of one.
    """
    seen = []
    url = await local({"/up": answering(text="told"), "/down": answering(status=503)})
    async with visit(on_exchange=seen.append) as session:
        await session.get(f"{url}/up", params={"day": "1"})
        for target in (f"{url}/down", "http://127.0.0.1:1/closed"):
            with pytest.raises(UnreachableError):
                await session.post(target, data={"user": "x"})

    statuses = [one.response.status if one.response else type(one.error) for one in seen]
    assert statuses == [200, 503, UnreachableError]
    assert (seen[0].request.params, seen[0].response.body, seen[1].request.data) == ({"day": "1"}, b"told", {"user": "x"})
