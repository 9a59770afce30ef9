"""The poller: when to come back after what, what a restart keeps, what a failure leaves."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from exporter.account_status import shift_to_clock
from exporter.commands.context import CommandContext
from exporter.commands.visit import visit_once
from exporter.config import loader
from exporter.errors import (
    LedgerError,
    LoginError,
    NoDataError,
    PortalError,
    RateLimitError,
    ResponseError,
    UnreachableError,
)
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.poller_group import PollerGroup
from exporter.visit import open_account
from tests.conftest import NOW, FakeClock
from tests.pollers import render_page, running, until
from tests.scripted_portal import SCRIPTS, ScriptedPortal, VisitScript, build_index, build_portal, hang_forever
from tests.visit_parts import NextVisit, Note, PartialFailure, VisitPart

HOUR = timedelta(hours=1)


@pytest.fixture
def watch() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path) as made:
        yield made


@pytest.fixture
def script() -> Iterator[VisitScript]:
    SCRIPTS["home"] = VisitScript()
    yield SCRIPTS["home"]
    SCRIPTS.clear()


@pytest.fixture
def start(ledger: Ledger, watch: FakeClock) -> Callable[..., AccountPoller]:
    """Make pollers as restarts do: each with a page of its own, on one ledger."""

    async def make(**keys: object) -> AccountPoller:
        poller = AccountPoller(build_portal(name="home", **keys), ledger, MetricsPage(ledger, watch.now, "0"), watch, lambda: 0.5)
        await poller.open()
        return poller

    return make


async def test_first_visit_at_once_then_by_the_interval(start, script, watch):
    """
    A new account is visited at once, whatever the hour, and then each interval.
    """
    poller = await start()
    async with running(poller):
        await until(lambda: len(script.visits) >= 4)

    distances = [later - earlier for earlier, later in zip(script.visits, script.visits[1:], strict=False)]
    assert script.visits[0] == NOW
    assert all(HOUR <= distance <= HOUR + timedelta(seconds=30) for distance in distances)


async def test_a_restart_asks_nothing_before_it_is_due_and_shows_everything(start, script, watch):
    """
    After a restart the page is full at once, and the portal is asked when it was due before.
    """
    script.steps.append([build_index(104.25, NOW - HOUR)])
    await (await start()).visit()
    watch.at += timedelta(minutes=20)
    again = await start()

    assert "utility_consumption_index_m3" in render_page(again)
    assert 'utility_up{account="home",portal="brook"} 1.0' in render_page(again)
    async with running(again):
        await until(lambda: len(script.visits) == 2)
    assert script.visits[1] >= NOW + HOUR


async def test_a_crash_loop_is_no_login_loop(start, script, watch):
    """
    A process that dies in every visit comes back to the portal after five minutes, not at once.
    """
    script.steps += [hang_forever] * 100
    watch.stands = True
    due = (0, 301, 603)
    for seconds in (0, 30, 60, 299, 301, 330, 599, 603):
        watch.at = NOW + timedelta(seconds=seconds)
        async with running(await start()):
            await until(lambda now=watch.at, is_due=seconds in due: not is_due or now in script.visits)
            await asyncio.sleep(0.02)

    assert script.visits == [NOW + timedelta(seconds=seconds) for seconds in due]


@pytest.mark.parametrize(
    ("error", "reason", "wait"),
    [
        (UnreachableError("x"), "unreachable", timedelta(minutes=1) * 1.125),
        (RateLimitError("x", timedelta(minutes=7)), "rate_limit", timedelta(minutes=7)),
        (RateLimitError("x"), "rate_limit", HOUR),
        (RateLimitError("x", timedelta(0)), "rate_limit", timedelta(minutes=1)),
        (LoginError("x"), "login", timedelta(days=1)),
        (ResponseError("x"), "response", HOUR),
        (NoDataError("x"), "response", HOUR),
        (LedgerError("x"), "ledger", timedelta(minutes=1) * 1.125),
        (ZeroDivisionError("secret 12"), "bug", HOUR),
    ],
)
async def test_each_failure_has_its_reason_and_its_wait(start, script, error, reason, wait):
    """
    A failed visit is counted under its reason, and the next one planned by it.
    """
    poller = await start()
    script.steps.append(error)
    await poller.visit()

    assert poller.state.next_visit == NOW + wait
    assert f'utility_visit_failures_total{{account="home",portal="brook",reason="{reason}"}} 1.0' in render_page(poller)
    assert 'utility_up{account="home",portal="brook"} 0.0' in render_page(poller)
    assert "secret" not in poller.state.message


async def test_backoff_grows_to_the_interval(start, script):
    """
    Of a dead network the waits double from a minute up to the interval, and a good visit ends that.
    """
    poller = await start()
    script.steps += [UnreachableError("x")] * 9 + [[]]
    waits = []
    for _ in range(10):
        await poller.visit()
        waits.append((poller.state.next_visit - NOW) / timedelta(minutes=1.125))

    assert waits[:9] == [1, 2, 4, 8, 16, 32, *[pytest.approx(60)] * 3]
    assert poller.state.next_visit == NOW + HOUR


async def test_results_stay_when_a_visit_fails(start, script):
    """
    A failed visit changes health, never readings.
    """
    poller = await start()
    script.steps += [[build_index(104.25, NOW)], UnreachableError("gone")]
    await poller.visit()
    await poller.visit()

    assert 'register="total",usage_point="B-1"} 104.25' in render_page(poller)
    assert poller.state.last_success == NOW
    assert (poller.state.reason, poller.state.message) == ("unreachable", "gone")


async def test_a_shortfall_keeps_the_rest_and_counts_as_failed(start, script):
    """
    When a part of the visit fails the rest is kept, and the visit counts as failed.
    """
    poller = await start()
    script.steps.append([build_index(1.0, NOW), PartialFailure(ResponseError("days have changed"))])
    await poller.visit()

    assert "} 1.0\n" in render_page(poller).partition("utility_consumption_index_m3{")[2]
    assert (poller.state.up, poller.state.reason) == (False, "response")


async def test_a_refused_login_is_tried_once_over_ten_restarts(start, script, watch):
    """
    A refused login costs one attempt in 24 hours, restarts included; then one more.
    """
    script.steps += [LoginError("wrong password")] * 5
    watch.stands = True
    for hours in range(0, 24, 2):
        watch.at = NOW + hours * HOUR
        poller = await start()
        async with running(poller):
            await until(lambda poller=poller: poller.state.reason == "login")
            await asyncio.sleep(0.02)
        assert 'utility_login_suspended{account="home",portal="brook"} 1.0' in render_page(poller)

    assert script.visits == [NOW]
    watch.stands = False
    async with running(poller):
        await until(lambda: len(script.visits) == 2)
    assert script.visits[1] >= NOW + timedelta(days=1)


async def test_a_changed_password_lifts_the_suspension(start, script):
    """
    With another password the account is visited at once.
    """
    script.steps.append(LoginError("wrong password"))
    await (await start()).visit()
    same, changed = await start(), await start(password=SecretStr("other"))

    assert same.state.suspended_until == NOW + timedelta(days=1)
    assert (changed.state.suspended_until, changed.state.next_visit) == (None, None)


async def test_a_login_refused_after_another_failure_suspends_too(start, script):
    """
    Of a visit's failures the refused login counts, wherever it stands.
    """
    poller = await start()
    script.steps.append([PartialFailure(ResponseError("odd")), PartialFailure(LoginError("wrong password"))])
    await poller.visit()

    assert (poller.state.reason, poller.state.suspended_until) == ("login", NOW + timedelta(days=1))


async def test_the_portals_own_rhythm_counts_after_success(start, script):
    """
    A portal that names its next visit is visited then; never within a minute.
    """
    poller = await start()
    script.steps += [[NextVisit(NOW + 20 * HOUR)], [NextVisit(NOW - HOUR)]]
    await poller.visit()
    assert poller.state.next_visit == NOW + 20 * HOUR
    await poller.visit()
    assert poller.state.next_visit == NOW + timedelta(minutes=1)


async def test_a_disk_that_cannot_be_written_asks_no_portal(start, script, ledger, monkeypatch):
    """
    Where the beginning of a visit cannot be kept the portal is not asked: no login that nobody would remember.
    """
    poller = await start()

    def full(*_: object, **__: object) -> None:
        raise LedgerError("ledger.sqlite: database or disk is full")

    monkeypatch.setattr(ledger, "record_visit_start", full)
    await poller.visit()

    assert script.visits == []
    assert poller.state.reason == "ledger"
    assert poller.state.next_visit == NOW + timedelta(minutes=1) * 1.125


async def test_a_disk_full_at_the_end_is_a_failed_visit(start, script, ledger, monkeypatch):
    """
    A visit that cannot be kept is a failed one, with its reason, and the next one is tried.
    """
    poller = await start()
    script.steps += [[build_index(1.0, NOW)], [build_index(2.0, NOW)]]

    def full(*_: object, **__: object) -> None:
        raise LedgerError("ledger.sqlite: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record_visit", full)
        await poller.visit()
    assert (poller.state.reason, poller.state.up) == ("ledger", False)
    await poller.visit()

    assert (poller.state.reason, poller.state.up, poller.state.readings) == ("", True, 1)


async def test_results_that_cannot_be_shown_are_stored(start, script, monkeypatch):
    """
    Where only the page fails, the message says so, what was stored is logged, and the next visit shows it.
    """
    poller, logged = await start(), []
    script.steps += [[build_index(1.0, NOW)], []]

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(poller._page, "refresh", fail)
        patch.setattr(poller, "_log_changes", logged.append)
        await poller.visit()
    assert (poller.state.reason, poller.state.message) == ("bug", "failed to show visit results; see the log")
    assert (poller.state.readings, [changes.new for changes in logged]) == (1, [1])
    await poller.visit()

    assert poller.state.up
    assert "utility_consumption_index_m3{" in render_page(poller)


async def test_one_account_that_hangs_delays_no_other(ledger, watch):
    """
    While one account's portal hangs and another's code fails, the third is visited and the page is served.
    """
    SCRIPTS.update(
        hung=VisitScript([hang_forever]),
        bad=VisitScript([ZeroDivisionError()] * 99),
        good=VisitScript([[build_index(n, NOW)] for n in range(99)]),
    )
    page = MetricsPage(ledger, watch.now, "0")
    pollers = PollerGroup(ledger, page, watch)
    await pollers.reconcile(tuple(build_portal(name=name) for name in ("hung", "bad", "good")))
    await until(lambda: len(SCRIPTS["good"].visits) > 3 and len(SCRIPTS["bad"].visits) > 3)
    text = page.render().decode()
    await pollers.stop()

    assert 'utility_up{account="good",portal="brook"} 1.0' in text
    assert 'utility_up{account="bad",portal="brook"} 0.0' in text
    assert 'utility_up{account="hung"' not in text
    assert len(SCRIPTS["hung"].visits) == 1
    SCRIPTS.clear()


async def test_health_is_logged_when_it_changes_once(start, script, caplog):
    """
    The same failure again is silent; its end is said; a note is said once.
    """
    caplog.set_level(logging.INFO, "exporter.poller")
    poller = await start()
    script.steps += [*[UnreachableError("no connection")] * 3, [Note("curve off")], [Note("curve off")]]
    for _ in range(5):
        await poller.visit()

    assert [record.getMessage() for record in caplog.records] == [
        "account home: visit failed (unreachable): no connection",
        "account home: visits recovered",
        "account home: curve off",
    ]


async def test_a_person_may_ask_for_a_visit(start, script, watch):
    """
    A visit asked for comes soon; within a minute of the last one, or while suspended, it is refused.
    """
    poller = await start()
    await poller.visit()
    assert poller.request_visit() == timedelta(minutes=1)
    watch.at += timedelta(minutes=2)
    assert poller.request_visit() is None
    async with running(poller):
        await until(lambda: len(script.visits) == 2)
        assert script.visits[1] == NOW + timedelta(minutes=2)

    script.steps.append(LoginError("wrong password"))
    await poller.visit()
    with pytest.raises(LoginError, match="home"):
        poller.request_visit()


async def test_who_asks_during_a_visit_is_served_by_it(start, script, watch):
    """
    A visit asked for while one is under way is that one: when it is refused the login, nobody tries again.
    """
    watch.stands = True
    poller = await start()

    async def refused(_: object) -> list[VisitPart]:
        assert poller.request_visit() is None
        raise LoginError("wrong password")

    script.steps.append(refused)
    async with running(poller):
        await until(lambda: poller.state.reason == "login")
        await asyncio.sleep(0.02)

    assert script.visits == [NOW]


@pytest.mark.parametrize("restart", [False, True])
async def test_a_suspension_by_an_import_beside_us(start, script, watch, ledger, restart):
    """
    When an import was refused the login, the account is not visited before a day has passed, restarts included.
    """
    poller = await start()
    await poller.visit()
    ledger.suspend("home", "wrong password", until=NOW + timedelta(days=1))
    poller = await start() if restart else poller
    script.visits.clear()
    async with running(poller):
        await until(lambda: len(script.visits) == 1)

    assert NOW + timedelta(days=1) <= script.visits[0] < NOW + timedelta(days=1, minutes=1)


async def test_a_suspension_by_a_wrong_clock(start, script, watch, ledger):
    """
    An import that was refused while the clock was a year ahead costs a day, not a year.
    """
    await start()
    ledger.suspend("home", "wrong password", until=NOW + timedelta(days=366))
    async with running(await start()):
        await until(lambda: len(script.visits) == 1)

    assert NOW + timedelta(days=1) <= script.visits[0] < NOW + timedelta(days=1, minutes=1)


async def test_killed_in_a_visit_by_a_wrong_clock(start, script, watch):
    """
    A visit that was begun and not ended while the clock was a year ahead costs minutes at the next start, not a year.
    """
    watch.at = NOW + timedelta(days=365)
    script.steps.append(hang_forever)
    async with running(await start()):
        await until(lambda: len(script.visits) == 1)
    watch.at = NOW
    async with running(await start()):
        await until(lambda: len(script.visits) == 2)

    assert timedelta(0) < script.visits[1] - NOW <= timedelta(minutes=6)


async def test_a_command_that_knew_the_new_login_first(start, script, ledger):
    """
    A login refused after a command beside us came with the new one is the old one: at a reload the new one is tried at once.
    """
    poller, new = await start(), build_portal(name="home", password=SecretStr("other"))
    open_account(ledger, new)
    script.steps.append(LoginError("wrong password"))
    await poller.visit()
    changed = await start(password=SecretStr("other"))

    assert (changed.state.suspended_until, changed.state.next_visit) == (None, None)


async def test_a_login_that_only_a_command_was_refused(start, script, ledger):
    """
    An import with a mistyped password does not stop the visits of a `serve` with the right one.
    """
    poller = await start()
    await poller.visit()
    open_account(ledger, build_portal(name="home", password=SecretStr("mistyped")))
    ledger.suspend("home", "wrong password", until=NOW + timedelta(days=1))
    async with running(poller):
        await until(lambda: len(script.visits) == 3)

    assert script.visits[1] < NOW + 2 * HOUR


async def test_a_refused_login_that_cannot_be_kept(start, script, watch, ledger, monkeypatch):
    """
    A full disk at the end of a visit that was refused the login does not make the next one come sooner.
    """
    poller = await start()

    def full(*_: object) -> None:
        monkeypatch.undo()
        raise LedgerError("ledger.sqlite: database or disk is full")

    monkeypatch.setattr(ledger, "save_state", full)
    script.steps.append(LoginError("wrong password"))
    async with running(poller):
        await until(lambda: len(script.visits) == 2)

    assert script.visits[1] >= NOW + timedelta(days=1)


async def test_a_wait_counts_from_the_end_of_a_visit(start, script, watch):
    """
    A portal that wants ten minutes of rest at the end of a visit of twenty has them.
    """
    poller = await start()

    async def slow(_: object) -> list[VisitPart]:
        watch.at += timedelta(minutes=20)
        raise RateLimitError("slow down", timedelta(minutes=10))

    script.steps.append(slow)
    await poller.visit()

    assert poller.state.next_visit == NOW + timedelta(minutes=30)


async def test_a_reload_during_the_start(ledger, watch):
    """
    An account that two callers want at the same moment is opened and visited once.
    """
    SCRIPTS["home"] = VisitScript([hang_forever] * 9)
    pollers = PollerGroup(ledger, MetricsPage(ledger, watch.now, "0"), watch)
    await asyncio.gather(*(pollers.reconcile((build_portal(name="home"),)) for _ in range(2)))
    await until(lambda: bool(SCRIPTS["home"].visits))
    await asyncio.sleep(0.02)
    visits = len(SCRIPTS["home"].visits)
    await pollers.stop()
    SCRIPTS.clear()

    assert visits == 1


async def test_a_clock_set_back_keeps_the_length_of_waits(start, script, watch):
    """
    After the clock was set back by a year the planned wait counts from now; a suspension lasts as long as before.
    """
    poller = await start()
    script.steps.append(LoginError("no"))
    await poller.visit()
    year = timedelta(days=365)
    moved = shift_to_clock(poller.state, NOW - year)

    assert (moved.next_visit, moved.suspended_until) == (NOW - year + timedelta(days=1),) * 2
    assert shift_to_clock(poller.state, NOW) is poller.state


async def test_follow_touches_only_what_changed(ledger, watch):
    """
    At a reload unchanged accounts run on, new ones start, removed ones end, changed ones start anew.
    """
    for name in "abcd":
        SCRIPTS[name] = VisitScript([hang_forever] * 9)
    page = MetricsPage(ledger, watch.now, "0")
    pollers = PollerGroup(ledger, page, watch)
    await pollers.reconcile(tuple(build_portal(name=name) for name in "abc"))
    await until(lambda: all(SCRIPTS[name].visits for name in "abc"))
    before = {name: pollers.get(name) for name in "abc"}
    await pollers.reconcile(
        (
            build_portal(name="a"),
            build_portal(name="b", every=2 * HOUR),
            build_portal(name="d"),
        )
    )

    assert pollers.get("a") is before["a"]
    assert pollers.get("b") is not before["b"]
    assert (pollers.get("c"), sorted(page.accounts)) == (None, ["a", "b", "d"])
    await pollers.stop()
    SCRIPTS.clear()


@pytest.mark.parametrize("what", ["open_account", "snapshot"])
async def test_a_reload_that_the_ledger_refuses(ledger, watch, monkeypatch, what):
    """
    When the ledger cannot be written or read at a reload, changed and removed accounts are visited on as before.
    """
    for name in "ab":
        SCRIPTS[name] = VisitScript()
    page = MetricsPage(ledger, watch.now, "0")
    pollers = PollerGroup(ledger, page, watch)
    await pollers.reconcile(tuple(build_portal(name=name) for name in "ab"))

    def full(*_: object, **__: object) -> None:
        raise LedgerError("ledger.sqlite: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, what, full)
        with pytest.raises(LedgerError):
            await pollers.reconcile((build_portal(name="a", every=2 * HOUR),))
    before = {name: len(SCRIPTS[name].visits) for name in "ab"}
    await until(lambda: all(len(SCRIPTS[name].visits) > before[name] for name in "ab"))
    shown = {name: page.accounts[name].health.state.last_visit for name in page.accounts}
    kept = {name: poller.state.last_visit for name in "ab" if (poller := pollers.get(name))}
    await pollers.stop()
    SCRIPTS.clear()

    assert shown == kept


async def test_reasons_are_those_of_the_contract():
    """
    Every error a portal can raise has a reason that the page knows.
    """
    from exporter.metrics.families import FAILURE_REASONS

    def below(kind: type[PortalError]) -> set[str]:
        return {kind.reason}.union(*(below(one) for one in kind.__subclasses__()))

    assert below(PortalError) <= set(FAILURE_REASONS)


async def test_a_login_refused_to_a_command_is_not_tried_again(tmp_path, script, monkeypatch):
    """
    A command that met a wrong password suspends the account, as a visit of `serve` does; `--force` tries once more.
    """
    monkeypatch.setattr(loader, "load_portals", lambda *_: {"brook": ScriptedPortal})
    (tmp_path / "config.yaml").write_text("accounts: [{name: home, portal: brook}]")
    context = CommandContext(tmp_path / "config.yaml", tmp_path / "data", "home")
    script.steps += [LoginError("the portal refused the password")] * 2

    for tried, message in (
        (context, "^the portal refused"),
        (context, "not asked before"),
        (replace(context, force=True), "^the"),
    ):
        with pytest.raises(LoginError, match=message):
            await visit_once(tried)
    assert len(script.visits) == 2


async def test_a_forced_login_that_is_accepted_lifts_the_suspension(tmp_path, script, monkeypatch):
    """
    Who was refused, has accepted new terms in a browser and has tried with `--force`, need not wait for a day.
    """
    monkeypatch.setattr(loader, "load_portals", lambda *_: {"brook": ScriptedPortal})
    (tmp_path / "config.yaml").write_text("accounts: [{name: home, portal: brook}]")
    context = CommandContext(tmp_path / "config.yaml", tmp_path / "data", "home")
    script.steps += [LoginError("new terms must be accepted"), [build_index(1, NOW)], [build_index(2, NOW)]]
    with pytest.raises(LoginError):
        await visit_once(context)
    await visit_once(replace(context, force=True))
    await visit_once(context)

    with Ledger(tmp_path / "data") as ledger:
        state = open_account(ledger, build_portal())
    assert (state.suspended_until, state.next_visit, state.reason) == (None, None, "")
