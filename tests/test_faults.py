"""Faults of the machine: disk, lock, clock, names, and two days without rest; what is kept, and what comes back by itself."""

import asyncio
import socket
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.soak import soak
from exporter.config import portals
from exporter.poller import AccountPoller
from tests.between import kinds, living, standing
from tests.conftest import Clock

PORTALS = sorted(kinds())
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for portal in portals().values():
        monkeypatch.setattr(portal, "pace", timedelta(0))


def full(poller: AccountPoller) -> Callable[[], object]:
    """Fill the disk: the ledger can take no further page."""
    db = poller._ledger.store._connection
    before = db.execute("PRAGMA max_page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
    return lambda: db.execute(f"PRAGMA max_page_count = {before}")


def read_only(poller: AccountPoller) -> Callable[[], object]:
    """Remount the disk read-only, as a machine does that finds it failing."""
    db = poller._ledger.store._connection
    db.execute("PRAGMA query_only = ON")
    return lambda: db.execute("PRAGMA query_only = OFF")


def locked(poller: AccountPoller) -> Callable[[], object]:
    """Let another program hold the ledger's lock, and have less patience than usual."""
    poller._ledger.store._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(poller._ledger.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other.close


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize(("break_it", "said"), [(full, "full"), (read_only, "readonly"), (locked, "locked")])
async def test_a_disk_that_takes_nothing(tmp_path, kind, break_it, said):
    """
    Disk full, read-only or locked: the visit fails by that name, the page goes on with what is kept, and all comes in later.
    """
    clock = Clock()
    async with standing(kind, clock) as (between, url), living(tmp_path, between.portal(url), clock) as (poller, look):
        await poller.visit()
        mend = break_it(poller)
        for _ in range(20):  # what little fits into pages begun already may still be kept
            before = look()
            clock.move(days=3)
            await poller.visit()
            if (broken := look()).state.reason == "ledger":
                break
        asked = len(between.asked)
        mend()
        clock.move(minutes=10)
        await poller.visit()
        after = look()

    assert (broken.state.reason, said in broken.state.message) == ("ledger", True)
    assert broken.readings == before.readings
    assert broken.text.count("\nutility_") >= before.text.count("\nutility_")
    assert (after.state.up, len(after.readings) > len(before.readings)) == (True, True)
    assert len(between.asked) > asked


@pytest.mark.parametrize("kind", PORTALS)
async def test_a_locked_or_full_ledger_asks_no_portal(tmp_path, kind):
    """
    Where the beginning of a visit cannot be kept, the portal hears nothing: no login that nobody would remember.
    """
    clock = Clock()
    async with standing(kind, clock) as (between, url), living(tmp_path, between.portal(url), clock) as (poller, _):
        read_only(poller)
        await poller.visit()

    assert poller.state.reason == "ledger"
    assert between.asked == []


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("jump", [HOUR, -HOUR, timedelta(days=366), timedelta(days=-366)], ids=str)
async def test_our_clock_jumps(tmp_path, kind, jump):
    """
    Our clock jumps by an hour or a year, either way, while the portal's does not: nothing kept is lost, no visit is a bug,
    and when the clock is right again so is everything.
    """
    true, ours = Clock(), Clock()
    async with standing(kind, true) as (between, url):
        async with living(tmp_path, between.portal(url), ours) as (poller, look):
            await poller.visit()
            before = look()
            for clock in (true, ours):
                clock.move(hours=1)
            ours.at += jump
            for _ in range(3):
                await poller.visit()
                away = look()
                assert away.state.reason in {"", "response", "rate_limit"}, away.state.message
                assert before.readings.keys() <= away.readings.keys()
            ours.at -= jump
            for clock in (true, ours):
                clock.move(days=2)
        async with living(tmp_path, between.portal(url), ours) as (poller, look):
            await poller.visit()
            after = look()

    assert after.state.up, after.state.message
    assert before.readings.keys() <= after.readings.keys()
    assert after.state.next_visit - ours() <= timedelta(days=1)
    assert all(key[-1] <= ours() for key in after.readings)


@pytest.mark.parametrize("kind", PORTALS)
async def test_names_are_gone(tmp_path, monkeypatch, kind):
    """
    Without name resolution a visit fails as unreachable and says why; with it, all is well again.
    """
    loop, clock, gone = asyncio.get_running_loop(), Clock(), []
    ask = loop.getaddrinfo

    async def getaddrinfo(*what: Any, **more: Any) -> Any:
        if gone:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return await ask(*what, **more)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with standing(kind, clock) as (between, url):
        named = between.portal(url.replace("127.0.0.1", "localhost"))
        async with living(tmp_path, named, clock) as (poller, _):
            gone.append(True)
            await poller.visit()
            assert (poller.state.reason, between.asked) == ("unreachable", [])
            assert "the host name is not known" in poller.state.message
            assert poller.state.next_visit - clock() < timedelta(minutes=2) or kind == "enedis"
            gone.clear()
            clock.move(minutes=5)
            await poller.visit()

    assert poller.state.up, poller.state.message


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files where the system lists them")
async def test_two_days_without_rest(tmp_path):
    """
    48 hours of all portals, with faults and scrapes: no task, file, socket or thread is left, and memory stays where it was.
    """
    async with asyncio.timeout(240):
        done = await soak(tmp_path)
    early, late = done.figures[-2:]  # by then the simulations, too, have made up all that they keep in mind

    assert min(done.visits.values()) >= 4
    assert (done.failures > 8, done.bugs) == (True, 0)
    assert (late.tasks, late.threads) <= (early.tasks + 4, early.threads + 4)
    assert late.files <= early.files + 8
    assert late.objects < early.objects * 1.05
