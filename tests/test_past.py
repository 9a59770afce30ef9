"""Bringing home the past: each piece once, within the budget, and what goes wrong costs no more than it must."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from exporter.cli import main
from exporter.client.session import Session
from exporter.commands import open_account
from exporter.config import loader
from exporter.errors import (
    HistoryExhaustedError,
    LoginError,
    NoDataError,
    PortalError,
    RateLimitError,
    ResponseError,
    UnreachableError,
)
from exporter.importer import MAX_CONSECUTIVE_ERRORS, HistoryImport
from exporter.ledger.ledger import Ledger
from exporter.models import Reading
from exporter.portals.base import BackfillChunk
from tests.scripted_portal import ScriptedPortal, build_day

FIRST = date(2026, 8, 3)
WEEK = timedelta(days=7)


class Creek(ScriptedPortal):
    """A portal with a past of weeks, each one line after the other; `answers` are what single weeks do instead."""

    portal: str = "creek"
    asked: ClassVar[list[str]] = []
    answers: ClassVar[dict[str, list[Any]]] = {}

    async def list_backfill_chunks(self, session: Session, first: date | None, last: date | None) -> list[BackfillChunk]:
        begin, end = first or FIRST, last or session.now.date()
        weeks = [begin + WEEK * number for number in range((end - begin).days // 7 + 1)]
        return [
            BackfillChunk(f"{line}:{week}", line, week, week + WEEK - timedelta(days=1))
            for line in "ab"
            for week in reversed(weeks)
        ]

    async def fetch_backfill_chunk(self, session: Session, chunk: BackfillChunk) -> list[Reading]:
        self.asked.append(chunk.key)
        waiting = self.answers.get(chunk.key, [])
        if waiting and isinstance(answer := waiting.pop(0), Exception):
            raise answer
        return [build_day(str(chunk.first), 0.25)]


CREEK = Creek(name="home")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Creek.asked.clear()
    Creek.answers.clear()


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(tmp_path / "data") as kept:
        open_account(kept, CREEK)
        yield kept


@pytest.fixture
def bring(ledger, visit):
    """Run an import; gives it, with the waits it took."""

    async def run(
        first: date | None = None, last: date | None = None
    ) -> tuple[HistoryImport, list[timedelta], PortalError | None]:
        waits: list[timedelta] = []

        async def sleep(length: timedelta) -> None:
            waits.append(length)

        async with visit() as session:
            one = HistoryImport(CREEK, ledger, session, sleep)
            try:
                await one.run(first, last)
            except PortalError as error:
                return one, waits, error
        return one, waits, None

    return run


async def test_every_piece_comes_home(bring, ledger):
    """
    Every piece is asked once, the readings are kept, and an import does not pass for a visit.
    """
    one, _, error = await bring()

    assert error is None
    assert str(one.progress) == "32 of 32 chunks imported, 16 readings new, 0 corrected"
    assert len(Creek.asked) == len(set(Creek.asked)) == 32
    assert ledger.get_state("home").last_visit is None


async def test_a_second_import_asks_what_may_have_changed(bring, clock):
    """
    Continued on the same day nothing is asked twice; another day asks again for the days that were young, and for no others.
    """
    await bring()
    Creek.asked.clear()
    again, _, _ = await bring()
    assert (Creek.asked, again.progress.chunks_done) == ([], 32)

    clock.advance(days=1)
    await bring()
    assert sorted(Creek.asked) == ["a:2026-11-02", "a:2026-11-09", "a:2026-11-16", "b:2026-11-02", "b:2026-11-09", "b:2026-11-16"]


async def test_bounds_are_the_portals_to_keep(bring):
    """
    `--from` and `--to` reach the portal.
    """
    await bring(date(2026, 9, 7), date(2026, 9, 20))

    assert Creek.asked == ["a:2026-09-14", "a:2026-09-07", "b:2026-09-14", "b:2026-09-07"]


async def test_the_end_of_a_line(bring):
    """
    Where a line has ended nothing older of it is asked; the other line goes on, and the next import looks there once again.
    """
    Creek.answers["a:2026-10-05"] = [HistoryExhaustedError("nothing older"), HistoryExhaustedError("nothing older")]
    one, _, error = await bring()
    assert (error, [key for key in Creek.asked if key.startswith("a")][-1]) == (None, "a:2026-10-05")
    assert one.progress.chunks_done == one.progress.chunks == 22

    Creek.asked.clear()
    await bring()
    assert Creek.asked == ["a:2026-10-05"]


async def test_a_piece_without_data(bring):
    """
    A piece of which the portal has nothing is done.
    """
    Creek.answers["a:2026-10-05"] = [NoDataError("nothing")]
    one, _, error = await bring()
    Creek.asked.clear()
    await bring()

    assert (error, one.progress.chunks_done, Creek.asked) == (None, 32, [])


async def test_a_short_rest_is_waited_for(bring):
    """
    A portal that wants a moment's rest gets it.
    """
    Creek.answers["b:2026-10-05"] = [RateLimitError("slow down", timedelta(minutes=2)), RateLimitError("slow down", timedelta(0))]
    one, waits, error = await bring()

    assert (error, one.progress.chunks_done) == (None, 32)
    assert waits == [timedelta(minutes=2), timedelta(seconds=1)]


@pytest.mark.parametrize(
    ("wait", "message"), [(timedelta(hours=5), "after 2026-11-20 14:30 UTC"), (None, "run the same command later")]
)
async def test_a_spent_budget_stops_it(bring, wait, message):
    """
    A budget that is spent for long stops the import with a word about when to go on; the next one starts where it stopped.
    """
    Creek.answers["b:2026-10-05"] = [RateLimitError("the budget is spent", wait)]
    one, waits, error = await bring()
    asked = len(Creek.asked)
    again, _, none = await bring()

    assert isinstance(error, RateLimitError)
    assert message in str(error)
    assert (waits, one.progress.chunks_done, none, again.progress.chunks_done) == ([], asked - 1, None, 32)
    assert len(Creek.asked) == 33


async def test_a_portal_that_is_not_reached(bring):
    """
    What is not reached is tried again, with longer and longer waits, and given up in the end.
    """
    Creek.answers["a:2026-10-05"] = [UnreachableError("no connection")] * 3
    Creek.answers["b:2026-10-05"] = [UnreachableError("no connection")] * 4
    one, waits, error = await bring()

    assert isinstance(error, UnreachableError)
    assert waits == sorted(waits[:3]) * 2
    assert one.progress.chunks_done == 22


async def test_answers_nobody_understands(bring):
    """
    A piece whose answer is strange is left for the next time; too many in a row end the import.
    """
    for week in ("2026-08-03", "2026-08-17", "2026-09-07"):
        Creek.answers[f"a:{week}"] = [ResponseError(f"strange {week}")]
    one, _, error = await bring()
    assert (str(error), one.progress.chunks_done, len(Creek.asked)) == ("strange 2026-09-07", 29, 32)

    Creek.asked.clear()
    await bring()
    assert Creek.asked == ["a:2026-09-07", "a:2026-08-17", "a:2026-08-03"]

    Creek.asked.clear()
    Creek.answers.update({f"b:{date(2026, 7, 6) - WEEK * number}": [ResponseError("strange")] for number in range(9)})
    await bring(date(2026, 3, 2), date(2026, 7, 6))
    assert len([key for key in Creek.asked if key.startswith("b")]) == MAX_CONSECUTIVE_ERRORS


async def test_interrupted(bring, ledger):
    """
    What was home before an interruption stays, and the next import asks for the rest.
    """
    Creek.answers["b:2026-10-05"] = [asyncio.CancelledError()]
    original = Creek.fetch_backfill_chunk

    async def past(self, session, piece):
        if piece.key == "b:2026-10-05" and Creek.answers.pop(piece.key, None):
            raise asyncio.CancelledError
        return await original(self, session, piece)

    Creek.fetch_backfill_chunk = past
    try:
        with pytest.raises(asyncio.CancelledError):
            await bring()
        home = len(Creek.asked)
        await bring()
    finally:
        Creek.fetch_backfill_chunk = original

    assert (home, len(Creek.asked)) == (22, 32)


def test_the_command(tmp_path: Path, capsys, monkeypatch):
    """
    A refused login ends the import and suspends the account; while it is suspended the command refuses, and offers no way round.
    """
    monkeypatch.setattr(loader, "load_portals", lambda *_: {"creek": Creek})
    file = tmp_path / "config.yaml"
    file.write_text("accounts:\n- {name: home, portal: creek}\n")
    flags = ["home", f"--config.file={file}", f"--storage.path={tmp_path / 'data'}", "--from=2026-08-03", "--to=2026-08-30"]
    assert main(["history", "import", *flags]) == 0
    whole = capsys.readouterr().err
    Creek.answers["b:2026-08-31"] = [LoginError("the password is refused")]
    assert main(["history", "import", *flags[:-1], "--to=2026-09-02"]) == 1
    refused = capsys.readouterr().err
    asked = len(Creek.asked)
    assert main(["history", "import", *flags]) == 1
    suspended = capsys.readouterr().err
    with Ledger(tmp_path / "data") as ledger:
        until = ledger.get_state("home").suspended_until

    assert "home: 8 of 8 chunks imported, 4 readings new, 0 corrected" in whole
    assert "importing: 8 chunks\n" in whole
    assert "login: the password is refused" in refused
    assert "9 of 10 chunks imported" in refused
    assert "the portal has refused the login of home" in suspended
    assert "--force" not in suspended
    assert len(Creek.asked) == asked
    assert until
    assert until - datetime.now(UTC) > timedelta(hours=23)
