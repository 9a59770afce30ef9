"""The history by itself: `serve` reads it between the visits, step by step, over restarts, each failure by itself."""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest

from exporter.cli import main
from exporter.client.session import Session
from exporter.commands.history import ImportOptions, import_feeds
from exporter.config import loader
from exporter.errors import (
    FeedRefusedError,
    LedgerError,
    LoginError,
    NoDataError,
    PortalError,
    RateLimitError,
    ResponseError,
    UnreachableError,
)
from exporter.ledger.account_state import AccountState
from exporter.ledger.database import to_ms
from exporter.ledger.ledger import Ledger
from exporter.ledger.migrations import APPLICATION_ID, MIGRATIONS
from exporter.metrics.cache import MetricsPage
from exporter.models import Direction, Peak, Register, Unit
from exporter.poller import AccountPoller
from exporter.poller_group import WATCH_INTERVAL, PollerGroup
from exporter.sync.coverage import Coverage
from exporter.sync.feeds import CalendarMonth, Feed, FeedResult, Form, Pace
from exporter.visit import BacklogSettings, open_account, open_session
from tests.conftest import NOW, FakeClock
from tests.pollers import render_page, running, until
from tests.scripted_portal import POINT, SCRIPTS, ZONE, ScriptedConfig, ScriptedPortal, VisitScript, build_day, build_index
from tests.visit_parts import build_result

TODAY = NOW.astimezone(ZONE).date()
DAY = timedelta(days=1)


@dataclass
class PortalHistory:
    """What the portal has, and what it was asked."""

    first: date = TODAY - 400 * DAY
    missing: set[date] = field(default_factory=set)
    errors: dict[str, PortalError] = field(default_factory=dict)
    """By feed: what is raised."""
    requests: list[tuple[str, date, date]] = field(default_factory=list)
    last_request: datetime = NOW
    limit: int | None = None
    """After so many requests the portal asks to wait for an hour."""

    def days(self, first: date, last: date) -> list[date]:
        days = [first + number * DAY for number in range((last - first).days + 1)]
        return [day for day in days if day >= self.first and day not in self.missing]


HISTORIES: dict[str, PortalHistory] = {}


class HistoryPortal(ScriptedPortal):
    """A portal with two feeds of days."""

    feed_keys: ClassVar[tuple[str, ...]] = ("days",)

    def list_feeds(self) -> Sequence[Feed]:
        return [
            Feed(key=key, zone=ZONE, chunk=CalendarMonth(), usage_points=("B-1",), resolution="P1D", reach=timedelta(days=800))
            for key in self.feed_keys
        ]

    @property
    def pace(self) -> Pace:
        return Pace(requests=3, pause=timedelta(minutes=1), visit=5)

    async def read(self, session: Session, feed: Feed, first: date, last: date) -> FeedResult:
        history = HISTORIES[self.name]
        if history.limit is not None and len(history.requests) >= history.limit:
            raise RateLimitError("slow down", timedelta(hours=1))
        history.requests.append((feed.key, first, last))
        if last >= history.first:
            history.last_request = session.now
        if error := history.errors.get(feed.key):
            raise error
        if not (days := history.days(first, last)):
            raise NoDataError("nothing")
        return FeedResult([build_day(str(day), day.day / 1000) for day in days])


class TwoFeedsPortal(HistoryPortal):
    feed_keys = ("days", "others")


@pytest.fixture
def watch() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path) as made:
        yield made


@pytest.fixture
def history() -> Iterator[PortalHistory]:
    SCRIPTS["home"], HISTORIES["home"] = VisitScript(), PortalHistory()
    yield HISTORIES["home"]
    SCRIPTS.clear()
    HISTORIES.clear()


@pytest.fixture
def start(ledger: Ledger, watch: FakeClock) -> Callable[..., AccountPoller]:
    async def make(portal: type[HistoryPortal] = HistoryPortal, **settings: object) -> AccountPoller:
        page = MetricsPage(ledger, watch.now, "0")
        backlog = BacklogSettings(**settings)
        poller = AccountPoller(portal(ScriptedConfig(name="home")), ledger, page, watch, lambda: 0.5, backlog)
        await poller.open()
        return poller

    return make


@pytest.fixture
def start_later(watch: FakeClock) -> Callable[[Ledger], Awaitable[AccountPoller]]:
    async def make(ledger: Ledger) -> AccountPoller:
        poller = AccountPoller(
            HistoryPortal(ScriptedConfig(name="home")), ledger, MetricsPage(ledger, watch.now, "0"), watch, lambda: 0.5
        )
        await poller.open()
        return poller

    return make


def stored_days(ledger: Ledger) -> set[date]:
    with ledger.snapshot() as snapshot:
        line = next((line for line in snapshot.select_series("home") if line.resolution == "P1D"), None)
        readings = snapshot.select_readings(line.id, datetime(2000, 1, 1, tzinfo=ZONE), NOW + 1000 * DAY) if line else ()
        return {reading.at.astimezone(ZONE).date() for reading in readings}


def shown(poller: AccountPoller, family: str) -> float:
    (line,) = (line for line in render_page(poller).splitlines() if line.startswith(family))
    return float(line.rpartition(" ")[2])


async def test_the_history_comes_by_itself(start, history, ledger, watch):
    """
    The first visit shows what is latest, then the running month; the steps that follow bring all that the portal has, within
    a few minutes, and no month is asked for twice.
    """
    SCRIPTS["home"].steps.append([build_index(104.25, NOW - timedelta(hours=1))])
    poller = await start()
    async with running(poller):
        await until(lambda: stored_days(ledger) >= set(history.days(history.first, TODAY - DAY)))
        await until(lambda: shown(poller, "utility_ledger_readings") == 401)

    assert history.requests[0][2] == TODAY - DAY
    assert history.last_request - NOW < timedelta(minutes=10)
    months = [first for _, first, _ in history.requests if first >= history.first]
    assert len(months) == len(set(months))
    assert "utility_consumption_index_m3" in render_page(poller)


async def test_a_restart_in_the_middle_goes_on(start, history, ledger, watch):
    """
    A restart while the backlog is read asks for nothing that was asked before, and goes on without waiting for a visit.
    """
    poller = await start()
    await poller.visit()
    await poller.step()
    asked = list(history.requests)
    poller = await start()
    async with running(poller):
        await until(lambda: stored_days(ledger) >= set(history.days(history.first, TODAY - DAY)))

    assert history.last_request - NOW < timedelta(minutes=10)
    assert not set(asked) & set(history.requests[len(asked) :])
    assert len(SCRIPTS["home"].visits) == 1


async def test_a_rate_limit_pauses_the_backlog_and_fails_no_visit(start, history, ledger, watch):
    """
    Where the portal wants us to wait the steps wait, over a restart too; the account is up.
    """
    history.limit = 7
    poller = await start()
    await poller.visit()
    await poller.step()
    assert poller.state.up
    poller = await start()
    async with running(poller):
        await until(lambda: watch.at - NOW > timedelta(minutes=50))
        assert len(history.requests) == 7
        history.limit = None
        await until(lambda: len(history.requests) > 10)
    assert watch.at - NOW >= timedelta(hours=1)


async def test_a_refused_login_during_a_step_suspends(start, history, watch):
    """
    A login that is refused while the history is read is not tried again, as in a visit.
    """
    poller = await start()
    await poller.visit()
    history.errors["days"] = LoginError("refused")
    await poller.step()

    assert poller.state.suspended_until == watch.at + DAY
    assert poller.state.reason == "login"
    assert (poller.health.visits, poller.health.failures) == (2, {"login": 1})
    async with running(poller):
        asked = len(history.requests)
        await until(lambda: watch.at - NOW > timedelta(hours=12))
    assert len(history.requests) == asked


@pytest.mark.parametrize("error", [LedgerError("disk full"), ZeroDivisionError()])
@pytest.mark.parametrize("in_step", [False, True])
async def test_a_refused_login_suspends_though_the_page_fails(start, history, watch, monkeypatch, in_step, error):
    """
    A login that is refused while feeds are read is not tried again, also where what was stored cannot be shown.
    """
    poller = await start()
    if in_step:
        await poller.visit()
    history.errors["days"] = LoginError("refused")
    refresh, calls = poller._page.refresh, count(int(in_step))

    def fail_after_latest(*arguments: object) -> None:
        if next(calls):
            raise error
        refresh(*arguments)

    monkeypatch.setattr(poller._page, "refresh", fail_after_latest)
    await (poller.step() if in_step else poller.visit())

    assert next(calls) == 2
    assert (poller.state.reason, poller.state.suspended_until) == ("login", watch.at + DAY)


@pytest.mark.parametrize("error", [LedgerError("disk full"), UnreachableError("no certificates"), ZeroDivisionError()])
async def test_a_step_that_fails_is_tried_again_later(start, history, monkeypatch, error):
    """
    A step that cannot begin, or meets a bug, counts as no visit and is tried again: after minutes, or after the interval.
    """
    poller = await start()
    await poller.visit()

    def fail(_: object) -> Session:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(AccountPoller, "_open_session", fail)
        await poller.step()
    wait = timedelta(hours=1) if isinstance(error, ZeroDivisionError) else timedelta(minutes=5)
    assert poller._feeds.next_step_time(NOW) == NOW + wait
    assert (poller.state.up, poller.health.visits) == (True, 1)
    asked = len(history.requests)
    await poller.step()

    assert len(history.requests) > asked


async def test_one_failing_feed_leaves_the_others_whole(start, history, ledger):
    """
    A feed that fails is told, counted once a visit, and asked less and less; the other one is read to its beginning, and visits
    keep their rhythm.
    """
    history.errors["others"] = ResponseError("days have changed")
    poller = await start(TwoFeedsPortal)
    await poller.visit()
    assert (poller.state.up, poller.state.reason, poller.state.message) == (False, "response", "days have changed")
    assert poller.state.next_visit >= NOW + timedelta(minutes=55)
    for _ in range(20):
        await poller.step()

    assert stored_days(ledger) == set(history.days(history.first, TODAY - DAY))
    assert len([key for key, *_ in history.requests if key == "others"]) < 3


async def test_a_feed_that_is_not_given_is_a_note(start, history):
    """
    What the portal does not give is no failure: a note says why, until the feed is answered.
    """
    history.errors["others"] = FeedRefusedError("the load curve is switched off", NOW + DAY)
    poller = await start(TwoFeedsPortal)
    await poller.visit()
    assert poller.state.up
    assert poller.state.notes == ("the load curve is switched off",)

    poller._clock.at += DAY
    del history.errors["others"]
    await poller.visit()
    assert poller.state.notes == ()


async def test_backlog_off_asks_only_what_is_new(start, history, ledger, watch):
    """
    With `backfill: false` the past is left to the command.
    """
    poller = await start(enabled=False)
    async with running(poller):
        await until(lambda: watch.at - NOW > timedelta(hours=5))
    assert min(stored_days(ledger), default=TODAY) >= TODAY - 62 * DAY


async def test_nothing_is_asked_before_the_oldest_day(start, history, ledger, watch):
    """
    With `from` nothing older is asked for.
    """
    poller = await start(oldest=TODAY - 100 * DAY)
    async with running(poller):
        await until(lambda: stored_days(ledger) >= set(history.days(TODAY - 100 * DAY, TODAY - DAY)))
        await until(lambda: watch.at - NOW > timedelta(hours=5))
    assert min(first for _, first, _ in history.requests) == TODAY - 100 * DAY


async def test_late_days_come_by_themselves(start, history, ledger, watch):
    """
    Days that are missing on the first visit, and come within weeks, are asked for again and stored.
    """
    late = {TODAY - number * DAY for number in range(3, 12)}
    history.missing |= late
    poller = await start()
    async with running(poller):
        await until(lambda: watch.at - NOW > timedelta(days=5))
        assert not late & stored_days(ledger)
        history.missing.clear()
        await until(lambda: watch.at - NOW > timedelta(days=9))
    assert late <= stored_days(ledger)


async def run_import(
    portal: HistoryPortal, ledger: Ledger, clock: Callable[[], datetime], *options: object, **keys: object
) -> None:
    open_account(ledger, portal)
    async with open_session(portal, ledger, clock) as session:
        await import_feeds(portal, ledger, session, ImportOptions(*options, **keys), oldest=None)


async def test_an_import_reads_all_and_a_later_one_what_was_missing(history, ledger, watch, capsys):
    """
    An import brings all that the portal has; days that were missing then, and are there ten days later, come with the same
    command, also where it names just these days.
    """
    missing = {TODAY - number * DAY for number in (40, 41, 200)}
    history.missing |= missing
    portal = HistoryPortal(ScriptedConfig(name="home"))
    await run_import(portal, ledger, watch.now)
    assert stored_days(ledger) == set(history.days(history.first, TODAY - DAY))
    assert "home: 16 of 16 requests, 397 readings new, 0 corrected" in capsys.readouterr().err

    history.missing.clear()
    watch.at += 10 * DAY
    history.requests.clear()
    await run_import(portal, ledger, watch.now, TODAY - 200 * DAY, TODAY - 200 * DAY)
    assert min(stored_days(ledger) ^ set(history.days(history.first, TODAY - DAY))) == TODAY - 41 * DAY
    await run_import(portal, ledger, watch.now)
    assert missing <= stored_days(ledger)


async def test_an_import_pauses_at_a_limit_and_serve_goes_on(start, history, ledger, watch, capsys):
    """
    Where the portal's limit ends an import for long it says how far it is, and is no failure; `serve` continues by itself and
    asks nothing twice.
    """
    history.limit = 4
    await run_import(HistoryPortal(ScriptedConfig(name="home")), ledger, watch.now)
    printed = capsys.readouterr().err
    assert re.search(r"home: paused: 4 of \d+ requests, continues by itself( at 2026-11-\d\d \d\d:\d\d UTC)? ", printed), printed
    asked, history.limit = list(history.requests), None

    poller = await start()
    async with running(poller):
        await until(lambda: stored_days(ledger) >= set(history.days(history.first, TODAY - DAY)))
    assert not set(asked) & set(history.requests[len(asked) :])


async def test_again_asks_for_whole_days_too(history, ledger, watch):
    """
    A correction of a settled day comes with `--again`.
    """
    portal = HistoryPortal(ScriptedConfig(name="home"))
    await run_import(portal, ledger, watch.now)
    watch.at += 60 * DAY
    await run_import(portal, ledger, watch.now)
    history.requests.clear()
    first = TODAY - 100 * DAY
    await run_import(portal, ledger, watch.now, first, first)
    assert history.requests == []
    await run_import(portal, ledger, watch.now, first, first, again=True)
    assert [(key, first <= TODAY - 100 * DAY <= last) for key, first, last in history.requests] == [("days", True)]


async def test_an_import_beside_serve_shows_within_a_minute(history, ledger, watch, tmp_path):
    """
    What an import in another process brings is on the page within a minute, and counted.
    """
    page = MetricsPage(ledger, watch.now, "0")
    group = PollerGroup(ledger, page, watch)
    await group.reconcile((HistoryPortal(ScriptedConfig(name="home")),), BacklogSettings(enabled=False))
    task = asyncio.create_task(group.watch_ledger())
    await until(lambda: page.accounts["home"].health.state.up is True)
    before = page.accounts["home"].health.state.readings
    with Ledger(tmp_path) as other:
        await run_import(HistoryPortal(ScriptedConfig(name="home")), other, watch.now)
    await until(lambda: page.accounts["home"].health.state.readings == 400)

    assert before < 100
    assert timedelta(minutes=1) > WATCH_INTERVAL
    assert page.render().decode().count('utility_ledger_readings{account="home"} 400.0') == 1
    task.cancel()
    await group.stop()


def test_the_command(history, tmp_path, capsys, monkeypatch):
    """
    A refused login ends the import and suspends the account; while it is suspended the command refuses, and offers no way round.
    What one feed was answered that cannot be parsed makes the command fail once all else is read.
    """
    monkeypatch.setattr(loader, "load_portals", lambda *_: {"brook": TwoFeedsPortal})
    file = tmp_path / "config.yaml"
    file.write_text("accounts:\n- {name: home, portal: brook, password: x}\nhistory: {from: 2026-10-01}\n")
    file.chmod(0o600)
    flags = ["home", f"--config.file={file}", f"--storage.path={tmp_path / 'data'}"]
    history.errors["others"] = ResponseError("days have changed")
    assert main(["history", "import", *flags, "--to=2026-10-31"]) == 1
    failed = capsys.readouterr().err
    history.errors["days"] = LoginError("the password is refused")
    assert main(["history", "import", *flags]) == 1
    refused = capsys.readouterr().err
    asked = len(history.requests)
    assert main(["history", "import", *flags]) == 1
    suspended = capsys.readouterr().err
    with Ledger(tmp_path / "data") as stored:
        until = stored.get_state("home").suspended_until
        days = stored_days(stored)

    assert days == {date(2026, 10, 1) + number * DAY for number in range(31)}
    assert "31 readings new" in failed
    assert "response: days have changed" in failed
    assert "login: the password is refused" in refused
    assert "the portal has refused the login of home" in suspended
    assert "--force" not in suspended
    assert len(history.requests) == asked
    assert until
    assert until - datetime.now(UTC) > timedelta(hours=23)


def test_a_login_refused_in_the_middle_of_a_visit(history, tmp_path, capsys, monkeypatch):
    """
    What `visit` read is printed, and the account is suspended all the same; a forced visit that ends so lifts nothing.
    """
    monkeypatch.setattr(loader, "load_portals", lambda *_: {"brook": HistoryPortal})
    file = tmp_path / "config.yaml"
    file.write_text("accounts: [{name: home, portal: brook, password: x}]")
    file.chmod(0o600)
    SCRIPTS["home"].steps += [[build_index(1, NOW)]] * 3
    suspended = []
    for error, *flags in ((LoginError("refused"),), (LoginError("refused"), "--force"), (None, "--force")):
        history.errors = {"days": error} if error else {}
        code = main(["visit", "home", f"--config.file={file}", f"--storage.path={tmp_path / 'data'}", *flags])
        printed = capsys.readouterr()
        assert ("usage point" in printed.out, code, "login: refused" in printed.err) == (True, int(bool(error)), bool(error))
        with Ledger(tmp_path / "data") as stored:
            suspended.append(stored.get_state("home").suspended_until is not None)

    assert suspended == [True, True, False]


async def test_notes_of_a_feed_stay_until_it_is_answered_without(history, ledger):
    """
    A feed's note is in the account's state from the transaction that stored it, and goes when a later response is without it;
    another login, which may be given more, is asked at once.
    """
    open_account(ledger, HistoryPortal(ScriptedConfig(name="home")))
    store, text = ledger.get_feed_store("home"), Coverage(failures=3, retry_at=2_000_000_000).encode()

    assert (await store.save({"days": text}, FeedResult(notes=("2 rows left out",)), NOW)).notes == ("2 rows left out",)
    assert (await store.save({"days": text}, FeedResult(notes=("2 rows left out",)), NOW + DAY)).notes == ()
    await store.save({"days": text}, FeedResult(), NOW + DAY)
    assert ledger.get_state("home").notes == ("2 rows left out",)
    await store.save({"days": text}, FeedResult(), NOW + 3 * DAY)
    await store.save({"others": text}, None, NOW, refusal="switched off")
    assert ledger.get_state("home").notes == ("switched off",)

    open_account(ledger, HistoryPortal(ScriptedConfig(name="home", password="another")))
    assert ledger.get_state("home").notes == ()
    coverage = Coverage.decode((await store.load_coverage())["days"])
    assert (coverage.failures, coverage.retry_at) == (0, 0)


async def test_periods_are_those_of_the_feed(history, ledger):
    """
    The periods by which days are judged are those of the feed's usage points, form, resolution and direction; a month's peak
    lasts its month, across a change of the clocks too.
    """
    injected = Register(POINT, Unit.M3, direction=Direction.INJECTION)
    month = (datetime(2026, 10, 1, tzinfo=ZONE).astimezone(UTC), datetime(2026, 11, 1, tzinfo=ZONE).astimezone(UTC))
    parts = [
        build_day("2026-10-24", 0.2), build_day("2026-10-25", 0.3), build_day("2026-10-25", 0.1, injected),
        build_index(104.25, NOW - timedelta(hours=1)), Peak(POINT, Unit.KW, *month, 4.1, month[0] + 9 * DAY),
    ]  # fmt: skip
    open_account(ledger, HistoryPortal(ScriptedConfig(name="home")))
    ledger.record_visit("home", build_result(parts), AccountState(), at=NOW)
    feed = HistoryPortal(ScriptedConfig(name="home")).list_feeds()[0]

    async def read(**changes: object) -> list[tuple[datetime, datetime]]:
        periods = await ledger.get_feed_store("home").read_periods([replace(feed, **changes)], NOW - 400 * DAY, NOW + DAY)
        return [(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)) for start, end in periods[feed.key]]

    assert [end - start for start, end in await read()] == [DAY, timedelta(hours=25)]
    assert len(await read(direction=Direction.INJECTION)) == 1
    assert await read(form=Form.PEAK, resolution="P1M") == [month]
    assert await read(form=Form.INDEX, resolution=None) == [(NOW - timedelta(hours=1),) * 2]
    assert await read(usage_points=("B-2",)) == []


async def test_an_older_ledger_is_complete_again(start_later, history, tmp_path, watch):
    """
    A ledger of an older version keeps every reading; what its imports believed to be done is forgotten. Months that are whole are
    seen from the readings and not asked for again; the rest comes by itself.
    """
    months = history.days(date(2026, 4, 1), date(2026, 8, 31))
    holes = {date(2026, 5, 9), date(2026, 5, 10)}
    days = [build_day(str(day), day.day / 1000) for day in months if day not in holes]
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as older:
        older.executescript(";".join(MIGRATIONS[:3]) + f"; PRAGMA user_version = 3; PRAGMA application_id = {APPLICATION_ID}")
        older.execute(
            "INSERT INTO account (name, portal, zone, login, last_visit, last_success, up) VALUES (?, 'brook', ?, ?, ?, ?, 1)",
            ("home", ZONE.key, HistoryPortal(ScriptedConfig(name="home")).config.build_login_digest(), to_ms(NOW), to_ms(NOW)),
        )
        older.executescript(
            "INSERT INTO visit VALUES (1, 1, 0); INSERT INTO point VALUES (1, 1, 'B-1', 'water', '', '', '', '', 1);"
            "INSERT INTO series VALUES (1, 1, 'total', 'consumption', 'm³', 'interval', 'P1D', 'counter', '', '', '', 1, 0);"
            "INSERT INTO imported VALUES (1, 'days:2026-05');"
            "INSERT INTO memory VALUES (1, 'intervals-asked', '{}', NULL), (1, 'token', '7', NULL)"
        )
        rows = [(to_ms(one.start), one.amount, round((one.end - one.start).total_seconds())) for one in days]
        older.executemany("INSERT INTO reading VALUES (1, ?, ?, ?, 1)", rows)
        older.commit()

    with Ledger(tmp_path) as ledger:
        poller = await start_later(ledger)
        async with running(poller):
            await until(lambda: stored_days(ledger) >= set(history.days(history.first, TODAY - DAY)))
        assert await ledger.get_account_store("home").get("intervals-asked", NOW) is None
        assert await ledger.get_account_store("home").get("token", NOW) == 7
    assert not [first for _, first, last in history.requests if first >= date(2026, 6, 1) and last <= date(2026, 8, 31)]


async def test_a_reload_that_changes_the_history_is_applied(ledger, watch, history):
    """
    Accounts whose history is to be read otherwise than before begin again; unchanged ones go on.
    """
    portals = (HistoryPortal(ScriptedConfig(name="home")),)
    group = PollerGroup(ledger, MetricsPage(ledger, watch.now, "0"), watch)
    pollers = []
    for enabled in (False, False, True):
        await group.reconcile(portals, BacklogSettings(enabled))
        pollers.append(group.get("home"))
    await group.stop()

    assert pollers[0] is pollers[1] is not pollers[2]
    assert pollers[2].backlog.enabled


async def test_a_reload_may_remove_an_account_while_changes_are_looked_for(start):
    """
    An account that is no longer on the page has nothing to show, and is no fault.
    """
    poller = await start()
    poller._page.remove_account("home")
    await poller.adopt_changes((5, 0))

    assert poller._page.accounts == {}
