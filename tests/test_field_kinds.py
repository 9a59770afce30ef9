"""What portals send in the field, each kind on all portals it applies to: one odd value costs one value, one login."""

import itertools
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from exporter.account_status import earliest_visit_time
from exporter.poller import AccountPoller
from exporter.simulators.cem.simulation import CemSimulation
from tests.conftest import FakeClock
from tests.fault_proxy import AccountSnapshot, Attack, FaultProxy, open_account, run_fault_proxy
from tests.test_faults import defined, table

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class LoginProtocol:
    """Which requests of a portal send the password, which ones need the session, and one that others can do without."""

    is_login: Callable[[web.Request], bool]
    needs_session: Callable[[web.Request], bool]
    is_one_of_many: Callable[[web.Request], bool]


LOGIN_PROTOCOLS = {
    "cem": LoginProtocol(
        lambda request: request.query.get("id") == "4",
        lambda request: request.query.get("id") != "4",
        lambda request: request.query.get("id") == "9",
    ),
    "fluvius": LoginProtocol(
        lambda request: "SelfAsserted" in request.path,
        lambda request: "/verbruik/api/" in request.path,
        lambda request: request.path.endswith("58"),
    ),
    "water-link": LoginProtocol(
        lambda request: request.path.endswith("/authorize") and request.method == "POST",
        lambda request: "/api/" in request.path,
        lambda request: request.path.endswith("/meters/204418"),
    ),
}
"""The portals that are sent a password. Enedis has tokens only, and one login with a secret of its own kind."""


def respond(status: int, text: str = "", **headers: str) -> Callable[[], web.Response]:
    """Return what makes a response; a page is HTML, all else JSON."""
    content_type = "text/html" if text.startswith("<") else "application/json"
    return lambda: web.Response(status=status, text=text, headers=headers, content_type=content_type)


@dataclass
class Live:
    """An account that is visited, and the portal between which and it somebody stands."""

    between: FaultProxy
    poller: AccountPoller
    read: Callable[[], AccountSnapshot]
    clock: FakeClock
    logins: int = 0

    async def visit(self, attack: Attack | None = None) -> AccountSnapshot:
        """Visit once, and count the passwords sent."""
        protocol = LOGIN_PROTOCOLS.get(self.between.simulation.portal)

        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.logins += protocol is not None and protocol.is_login(request)
            return await (attack(request, handler) if attack else handler(request))

        self.between.attack = count
        await self.poller.visit()
        return self.read()


def choose_few(between: FaultProxy) -> dict[str, Any]:
    """Return the keys that choose a few of CEM's counters, whose history is long."""
    if not isinstance(between.simulation, CemSimulation):
        return {}
    return {"counters": {"include": list(between.simulation.named_counters.values())[:3]}}


@pytest.fixture
def live(tmp_path: Path, clock: FakeClock) -> Callable[[str], Any]:
    @asynccontextmanager
    async def open_live(portal: str) -> AsyncIterator[Live]:
        async with (
            run_fault_proxy(portal, clock) as (between, url),
            open_account(
                tmp_path, between.build_small_account(url, **choose_few(between)), clock, reads_backlog=portal != "cem"
            ) as (
                poller,
                read,
            ),
        ):
            yield Live(between, poller, read, clock)

    return open_live


# A session that ended before its date

SESSION_ENDS = {
    "401": respond(401, "{}"),
    "403": respond(403, "{}"),
    "a redirect to the login": respond(302, Location="/login"),
    "its page with 200": respond(200, "<!DOCTYPE html><title>Login</title>"),
}


@pytest.mark.parametrize("portal", LOGIN_PROTOCOLS)
@pytest.mark.parametrize("end", SESSION_ENDS)
async def test_a_session_that_ended_costs_one_login(live, clock, portal, end):
    """
    However it shows, there is one new login and the visit is a good one.
    """
    protocol, alive = LOGIN_PROTOCOLS[portal], False

    async def end_session(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal alive
        alive = alive or protocol.is_login(request)
        return await handler(request) if alive or not protocol.needs_session(request) else SESSION_ENDS[end]()

    async with live(portal) as account:
        before = await account.visit()
        clock.advance(minutes=20)
        after = await account.visit(end_session)

    assert (before.state.up, after.state.up, after.state.message) == (True, True, "")
    assert account.logins == 2
    assert before.readings.keys() <= after.readings.keys()


@pytest.mark.parametrize("portal", LOGIN_PROTOCOLS)
@pytest.mark.parametrize("end", [end for end in SESSION_ENDS if end != "401"])
async def test_what_is_refused_to_everybody_costs_no_login_at_each_visit(live, clock, portal, end):
    """
    One meter or one list that is refused whatever the login: it is not tried again at each visit, and the others go on.
    """
    protocol = LOGIN_PROTOCOLS[portal]

    async def refuse_one(request: web.Request, handler: Handler) -> web.StreamResponse:
        return SESSION_ENDS[end]() if protocol.is_one_of_many(request) else await handler(request)

    async with live(portal) as account:
        await account.visit()
        for _ in range(3):
            clock.advance(minutes=9)  # all visits are within the life of one token
            after = await account.visit(refuse_one)

    assert account.logins <= 2
    assert len(after.readings) > 1


# A login that is neither accepted nor refused

ODD_LOGINS = {
    "400": respond(400, "{}"),
    "404": respond(404),
    "422": respond(422, '{"error": "?"}'),
    "423": respond(423),
    "302": respond(302, Location="/elsewhere"),
    "HTML": respond(200, "<!DOCTYPE html><title>Hello</title>"),
    "an empty object": respond(200, "{}"),
}


@pytest.mark.parametrize("portal", LOGIN_PROTOCOLS)
@pytest.mark.parametrize("name", ODD_LOGINS)
async def test_an_odd_login_is_tried_four_times_a_day(live, clock, portal, name):
    """
    At most, in growing steps and over restarts; the account says what came, at every visit.
    """

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        return ODD_LOGINS[name]() if LOGIN_PROTOCOLS[portal].is_login(request) else await handler(request)

    messages = set()
    async with live(portal) as account:
        for _ in range(48):
            due = earliest_visit_time(account.poller.state)
            if due is None or clock() >= due:
                after = await account.visit(answer)
                messages.add(after.state.message)
            clock.advance(minutes=30)

    assert 1 <= account.logins <= 4
    assert (after.state.up, after.readings) == (False, {})
    if after.state.reason == "response":
        cause, _, wait = after.state.message.partition("; next login not before ")
        assert re.fullmatch(r"2026-11-2\d \d\d:\d\d UTC", wait)
        assert cause in messages
        assert account.logins == 4
    else:
        assert (after.state.reason, account.logins) == ("login", 1)


FAILED_LOGINS = {"503": respond(503), "429": respond(429), "no response": None}


@pytest.mark.parametrize("portal", LOGIN_PROTOCOLS)
@pytest.mark.parametrize("name", FAILED_LOGINS)
async def test_a_password_that_the_server_fails_at_is_sent_a_few_times_a_day(live, clock, portal, name):
    """
    A quarter of an hour, an hour and six hours apart, however often is visited; once the server works, all is well at the next.
    """
    sent: list[datetime] = []

    async def fail(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not LOGIN_PROTOCOLS[portal].is_login(request):
            return await handler(request)
        sent.append(clock())
        if (make := FAILED_LOGINS[name]) is None:
            assert request.transport
            request.transport.abort()
            return web.Response()
        return make()

    async with live(portal) as account:
        begun = clock()
        while clock() < begun + DAY:
            failed = await account.visit(fail)
            clock.at = max(account.poller.state.next_visit, clock() + timedelta(minutes=5))
        clock.advance(hours=6)
        good = await account.visit()

    waits = [later - earlier for earlier, later in itertools.pairwise(sent)]
    minimums = [timedelta(minutes=15), HOUR, *[6 * HOUR] * 3][: len(waits)]
    assert all(wait >= minimum for wait, minimum in zip(waits, minimums, strict=True))
    assert 4 <= len(sent) <= 6
    assert (failed.state.up, good.state.up) == (False, True)
    assert failed.state.reason in ("unreachable", "rate_limit")


# A login page that asks for more than user and password


def insert_before(mark: str, more: str) -> Callable[[str], str]:
    """Return what inserts something into a page."""
    return lambda page: page.replace(mark, f"{more}{mark}", 1)


WIDGET = "<div class='g-recaptcha'></div>"
MORE_ON_THE_PAGE = {
    "fluvius": {
        "captcha": insert_before("</body>", WIDGET),
        "further field": insert_before("]};var SETTINGS", ', {"ID": "c", "UX_INPUT_TYPE": "TextBox", "DN": "Typ de tekens"}'),
    },
    "water-link": {
        "captcha": insert_before("</form><a", WIDGET),
        "further field": insert_before("</form><a", "<label>Typ de tekens<input name=c></label>"),
    },
}


@pytest.mark.parametrize(("portal", "name"), [(portal, name) for portal, changes in MORE_ON_THE_PAGE.items() for name in changes])
async def test_a_login_page_that_asks_for_more_gets_no_password(live, portal, name):
    """
    The login counts as refused, and the message says what a person must do.
    """
    changed = 0

    async def change_page(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal changed
        response = await handler(request)
        if isinstance(response, web.Response) and response.content_type == "text/html" and response.text:
            page = MORE_ON_THE_PAGE[portal][name](response.text)
            changed += page != response.text
            response.text = page
        return response

    async with live(portal) as account:
        after = await account.visit(change_page)

    assert (account.logins, after.state.reason) == (0, "login")
    assert "captcha" in after.state.message
    assert changed == 1


# One row that cannot be understood


def spoil_month(body: Any) -> None:
    """Spoil one measured day of a month."""
    measured = [bar for bar in body["actualConsumption"] if bar["isActualConsumption"]]
    measured[len(measured) // 2]["isZeroConsumption"] = None


def spoil_days(body: Any) -> None:
    """Spoil one value of one day."""
    if days := [day for day in body if day["v"]]:
        days[len(days) // 2]["v"][0]["v"] = "NaN"


def spoil_points(body: Any) -> None:
    """Spoil one value of a series."""
    for quantity in body.get("grandeur", ()):
        points = quantity["points"]
        points[len(points) // 2]["v"] = "NaN"


def spoil_counter(body: Any) -> None:
    """Spoil one counter of a list."""
    rows = body["data"] if isinstance(body, dict) else body
    rows[len(rows) // 2]["pot_id"] = None


ODD_ROWS: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "cem": ("id=107", spoil_counter, "pot_id"),
    "enedis": ("/api/", spoil_points, "v"),
    "fluvius": ("/meter-measurement-history/", spoil_days, "v"),
    "water-link": ("/measurements/day", spoil_month, "actualConsumption.isZeroConsumption"),
}
"""By portal: which responses have an odd row, what makes it odd, and the field that is noted."""


@pytest.mark.parametrize("portal", ODD_ROWS)
async def test_an_odd_row_costs_one_row(live, portal):
    """
    The visit is a good one, the other rows are stored, and the row is counted and noted by its field.
    """
    path, spoil, field = ODD_ROWS[portal]
    spoiled = 0

    async def spoil_row(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal spoiled
        response = await handler(request)
        if path in request.path_qs and isinstance(response, web.Response) and response.text:
            body = json.loads(response.text)
            before = json.dumps(body)
            spoil(body)
            spoiled += json.dumps(body) != before
            response.text = json.dumps(body)
        return response

    async with live(portal) as account:
        after = await account.visit(spoil_row)

    assert (after.state.up, after.state.message) == (True, "")
    (skipped,) = re.findall(r"^utility_skipped_values_total{[^}]+} (\S+)$", after.text, re.MULTILINE)
    assert 1 <= float(skipped) <= spoiled  # a row that is asked for twice may be left out once
    assert any(field in note for note in after.state.notes)
    assert len(after.readings) > 30


# Stamps ahead of our clock


async def test_stamps_ahead_of_our_clock_do_not_stop_an_index_in_silence(tmp_path, clock):
    """
    A portal whose clock is an hour ahead: its readings are left out, counted and noted at each visit, until the clocks agree.
    """
    theirs = FakeClock(clock() + HOUR)
    async with (
        run_fault_proxy("cem", theirs) as (between, url),
        open_account(tmp_path, between.build_small_account(url, **choose_few(between)), clock) as (poller, read),
    ):
        await poller.visit()
        ahead = read()
        clock.advance(hours=2)
        theirs.at = clock()
        await poller.visit()
        after = read()

    first, both = (
        float(re.findall(r"^utility_skipped_values_total{[^}]+} (\S+)$", seen.text, re.MULTILINE)[0]) for seen in (ahead, after)
    )
    assert first > both - first
    assert any(re.search("future|impossible time", note) for note in ahead.state.notes)
    assert len(after.readings) > len(ahead.readings)


# The table in docs/faults.md


def test_each_row_of_the_docs_has_its_test():
    """
    The rows name tests that there are, and the tests of this file have rows.
    """
    rows = table("What portals send in the field")
    tests = [row[-1].strip("`") for row in rows]
    own = {f"test_field_kinds.py::{name}" for name in defined("test_field_kinds.py")}

    assert len(rows) > 15
    assert [name for name in tests if name.partition("::")[2] not in defined(name.partition("::")[0])] == []
    assert own - set(tests) == {"test_field_kinds.py::test_each_row_of_the_docs_has_its_test"}
