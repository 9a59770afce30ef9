"""The ledger: what is stored, what a correction leaves, what a crash loses, what a damaged file does."""

import math
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import LedgerError, ReadingError
from exporter.ledger.account_state import AccountState
from exporter.ledger.catalog import IdentityCache
from exporter.ledger.ledger import Ledger
from exporter.ledger.migrations import SCHEMA_VERSION
from exporter.ledger.writer import FUTURE_NOTE, ROWS_PER_INSERT
from exporter.models import (
    Commodity,
    Direction,
    Fact,
    Facts,
    Holder,
    Index,
    Interval,
    Inventory,
    Peak,
    Register,
    StateUpdate,
    Unit,
    UsagePoint,
)
from exporter.sync.feeds import FeedResult
from tests.visit_parts import Note, VisitPart, build_result

AT = datetime(2031, 3, 9, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
POINT = UsagePoint("P-1", Commodity.WATER, meter="B-17", address="Beekstraat 1")
WATER = Register(POINT, Unit.M3)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path) as opened:
        opened.open_account("home", portal="brook", zone="Europe/Brussels", login="a")
        yield opened


def day(number: int, amount: float, register: Register = WATER) -> Interval:
    start = datetime(2031, 3, number, tzinfo=UTC)
    return Interval(register, start, start + DAY, amount)


def record(ledger: Ledger, *parts: VisitPart, at: datetime = AT, personal: bool = False):
    return ledger.record_visit("home", build_result(parts), AccountState(last_visit=at), at=at, keep_personal=personal)[0]


def list_readings(ledger: Ledger, form: str = "interval") -> list[tuple[str, datetime, float]]:
    far = datetime(2100, 1, 1, tzinfo=UTC)
    with ledger.snapshot() as snapshot:
        lines = [line for line in snapshot.select_series() if line.form == form]
        return [
            (line.register, reading.at, reading.value)
            for line in lines
            for reading in snapshot.select_readings(line.id, datetime(1980, 1, 1, tzinfo=UTC), far)
        ]


def test_a_visit_is_stored(ledger):
    """
    An index, an interval and a peak are read back as they were recorded.
    """
    month = Peak(POINT, Unit.KW, AT - 8 * DAY, AT + 23 * DAY, 4.2, AT - DAY)
    record(ledger, Index(WATER, 104.25, AT), day(8, 0.22), month)

    with ledger.snapshot() as snapshot:
        found = {
            line.form: (line.unit, line.resolution, snapshot.select_newest(line.id)[0]) for line in snapshot.select_series("home")
        }
    assert (found["index"][0], found["index"][2].value, found["index"][2].at) == ("m³", 104.25, AT)
    assert (found["interval"][1], found["interval"][2].span) == ("P1D", DAY)
    assert (found["peak"][0], found["peak"][1], found["peak"][2].end) == ("kW", "P1M", AT - DAY)


def test_keeps_a_peak_whose_instant_is_not_known(ledger):
    """
    Its power is kept without an instant, and an instant that is told later is a correction.
    """
    month = Peak(POINT, Unit.KW, AT - 8 * DAY, AT + 23 * DAY, 4.2, None)
    record(ledger, month)
    with ledger.snapshot() as snapshot:
        [line] = snapshot.select_series("home")
        [kept] = snapshot.select_newest(line.id)
    later = record(ledger, replace(month, at=AT - DAY))

    assert (kept.value, kept.has_span) == (4.2, False)
    assert (later.new, later.corrected) == (0, 1)


def test_the_same_again_is_nothing_new(ledger):
    """
    A reading recorded twice is written once, and is no correction.
    """
    first = record(ledger, day(8, 0.22))
    second = record(ledger, day(8, 0.22), at=AT + DAY)

    assert (first.new, first.corrected, second.new, second.corrected) == (1, 0, 0, 0)
    assert ledger.get_state("home").last_new_data == AT


@pytest.mark.parametrize("hours", [1, ROWS_PER_INSERT - 1, ROWS_PER_INSERT, ROWS_PER_INSERT + 1, 3 * ROWS_PER_INSERT + 7])
def test_the_last_of_equal_readings_counts(ledger, hours):
    """
    Of several readings of one instant in a visit the last one counts: it may be new, a correction, or unchanged.
    """

    def build_hours(value: float) -> list[Interval]:
        starts = [AT - (number + 1) * HOUR for number in range(hours)]
        return [Interval(WATER, start, start + HOUR, value) for start in starts]

    done = [record(ledger, *build_hours(first), *build_hours(last)) for first, last in ((1, 2), (3, 2), (2, 4))]

    assert [(one.new, one.corrected) for one in done] == [(hours, 0), (0, 0), (0, hours)]
    assert [value for _, _, value in list_readings(ledger)] == [4.0] * hours


def test_a_correction_replaces_and_is_stored(ledger):
    """
    A corrected value replaces the old one, which is stored with the times at which each was learned.
    """
    record(ledger, day(8, 0.22))
    done = record(ledger, day(8, 0.25), at=AT + DAY)

    assert (done.new, done.corrected) == (0, 1)
    assert [value for _, _, value in list_readings(ledger)] == [0.25]
    assert (ledger.get_state("home").readings, ledger.get_state("home").corrections) == (1, 1)
    with sqlite3.connect(ledger.database.path) as db:
        rows = db.execute(
            "SELECT value, a.at, b.at FROM correction JOIN visit a ON a.id = learned_by JOIN visit b ON b.id = replaced_by"
        ).fetchall()
    db.close()
    assert rows == [(0.22, AT.timestamp() * 1000, (AT + DAY).timestamp() * 1000)]


def test_a_value_converted_otherwise_is_no_correction(ledger):
    """
    What differs in the sixteenth digit, as after an update that rounds otherwise, is the same value; in the twelfth it is not.
    """
    record(ledger, day(8, 1000.9999999999999))

    assert record(ledger, day(8, 1001.0), at=AT + DAY).corrected == 0
    assert record(ledger, day(8, 1001.00000001), at=AT + 2 * DAY).corrected == 1


def test_late_days_land_on_their_own_day(ledger):
    """
    Days recorded out of order are returned in order.
    """
    record(ledger, day(8, 8.0))
    record(ledger, day(5, 5.0), day(7, 7.0))

    assert [value for _, _, value in list_readings(ledger)] == [5.0, 7.0, 8.0]


def test_nothing_lies_in_the_future(ledger):
    """
    A reading in the future is left out and counted.
    """
    done = record(ledger, Index(WATER, 1.0, AT + timedelta(hours=1)), day(9, 1.0), Index(WATER, 2.0, AT + timedelta(minutes=4)))

    assert (done.new, done.future, done.notes) == (1, 2, (FUTURE_NOTE,))
    assert ledger.get_state("home").notes == (FUTURE_NOTE,)


@pytest.mark.parametrize("year", [1, 1900, 1971, 1999])
def test_no_reading_is_older_than_its_portals(year):
    """
    The dates that mean "never" in databases, and 1970 with them, are no time of a reading.
    """
    with pytest.raises(ReadingError, match="a reading must lie in our time"):
        Index(WATER, 1.0, AT.replace(year=year))
    assert Index(WATER, 1.0, AT.replace(year=2000))


def test_a_register_that_runs_backwards_is_counted(ledger):
    """
    A counter that decreases with the same meter is stored as it is, and counted; a late reading that fits is not counted.
    """
    record(ledger, Index(WATER, 10.0, AT - 2 * DAY), Index(WATER, 12.0, AT))

    assert record(ledger, Index(WATER, 11.0, AT - DAY)).backwards == 0
    assert record(ledger, Index(WATER, 3.0, AT + DAY), at=AT + DAY).backwards == 1


def test_directions_and_units_are_lines_of_their_own(ledger):
    """
    Consumption and injection of a register, or gas in kWh and in m³, are never one series.
    """
    power = UsagePoint("E", Commodity.ELECTRICITY)
    record(
        ledger,
        day(8, 1.0, Register(power, Unit.KWH, name="day")),
        day(8, 2.0, Register(power, Unit.KWH, Direction.INJECTION, name="day")),
        day(8, 3.0, Register(power, Unit.M3, name="day")),
    )

    assert sorted(value for _, _, value in list_readings(ledger)) == [1.0, 2.0, 3.0]


def test_what_the_account_no_longer_holds_is_kept_but_not_shown(ledger):
    """
    A usage point outside the inventory is no longer shown, but stays in the ledger; it can return.
    """
    other = Register(UsagePoint("P-2", Commodity.WATER), Unit.M3)
    record(ledger, day(8, 1.0), day(8, 2.0, other), Inventory((POINT,)))

    with ledger.snapshot() as snapshot:
        assert [point.usage_point for point in snapshot.select_usage_points("home")] == ["P-1"]
        assert [line.usage_point for line in snapshot.select_series(shown_only=True)] == ["P-1"]
        assert len(snapshot.select_series()) == 2
    record(ledger, Inventory((POINT, other.usage_point)))
    with ledger.snapshot() as snapshot:
        assert len(snapshot.select_series(shown_only=True)) == 2


def test_registers_of_the_inventory_decide(ledger):
    """
    If the inventory lists registers, others are not shown.
    """
    record(ledger, day(8, 1.0), day(8, 2.0, Register(POINT, Unit.M3, name="garden")), Inventory((POINT,), (WATER,)))

    with ledger.snapshot() as snapshot:
        assert [line.register for line in snapshot.select_series(shown_only=True)] == ["total"]


def test_facts_that_are_no_longer_stated_are_gone(ledger):
    """
    A fact that the portal leaves out is deleted.
    """
    record(ledger, Facts(POINT, {Fact.METER_ACTIVE: 1, Fact.DAY_OFFSET: 1}))
    record(ledger, Facts(POINT, {Fact.DAY_OFFSET: 2}))

    with ledger.snapshot() as snapshot:
        assert list(snapshot.select_facts("home")) == [("P-1", Fact.DAY_OFFSET, 2.0)]


@pytest.mark.parametrize("personal", [True, False])
def test_personal_data_is_kept_only_where_allowed(ledger, personal):
    """
    Address and holder are stored only with the account's permission; the end of access always is.
    """
    record(ledger, Facts(POINT, {}), Holder(name="N. Invented", access_expires=AT), personal=personal)

    with ledger.snapshot() as snapshot:
        assert next(snapshot.select_usage_points("home")).address == ("Beekstraat 1" if personal else "")
    assert ledger.get_state("home").holder == Holder(name="N. Invented" if personal else "", access_expires=AT)


def test_an_empty_description_forgets_nothing(ledger):
    """
    What a later description leaves out stays as it was; with the permission withdrawn the address is deleted.
    """
    record(ledger, Facts(POINT, {}), personal=True)
    record(ledger, Facts(UsagePoint("P-1", Commodity.WATER, site="Mill"), {}), personal=True)
    with ledger.snapshot() as snapshot:
        (point,) = snapshot.select_usage_points("home")
    assert (point.meter, point.site, point.address) == ("B-17", "Mill", "Beekstraat 1")
    record(ledger, Facts(POINT, {}))
    with ledger.snapshot() as snapshot:
        assert next(snapshot.select_usage_points("home")).address == ""


def test_a_note_is_new_once(ledger):
    """
    A note is new in the first visit that has it, and again after a visit without it.
    """
    new = [record(ledger, *notes).notes for notes in ([Note("curve off")], [Note("curve off")], [], [Note("curve off")])]

    assert new == [("curve off",), (), (), ("curve off",)]


async def test_a_stored_value_lasts_until_it_expires(ledger):
    """
    A stored value is there for the next process, until it expires or is deleted.
    """
    store = ledger.get_account_store("home")
    await store.put("token", {"value": "t"}, AT)
    await store.put("types", [1])
    await store.delete("types")

    assert await ledger.get_account_store("home").get("token", AT - DAY) == {"value": "t"}
    assert await store.get("token", AT) is None
    assert await store.get("types", AT - DAY) is None


async def test_a_state_update_is_stored_with_the_readings(ledger):
    """
    A state update is stored in the transaction of the readings.
    """
    record(ledger, day(8, 1.0), StateUpdate("far", "2031-03-08"))
    with (
        pytest.raises(ZeroDivisionError),
        ledger.dry_run("home", build_result([StateUpdate("far", "never")]), at=AT, keep_personal=False),
    ):
        raise ZeroDivisionError

    assert await ledger.get_account_store("home").get("far", AT) == "2031-03-08"


async def test_quotas_count_calls_since(ledger):
    """
    A quota counts the calls since an instant, by name.
    """
    store = ledger.get_account_store("home")
    for hours in (13, 3, 1):
        await store.record_calls("conso", AT - timedelta(hours=hours), 2)
    await store.record_calls("other", AT)

    assert await store.count_calls("conso", AT - timedelta(hours=12)) == 4


async def test_calls_of_a_wrong_clock_do_not_count(ledger):
    """
    Calls made while the clock was a year ahead do not use up a quota for a year.
    """
    store = ledger.get_account_store("home")
    await store.record_calls("conso", AT + 365 * DAY, 50)
    await store.record_calls("conso", AT + timedelta(hours=1), 2)

    assert await store.count_calls("conso", AT - timedelta(hours=12)) == 2


async def test_a_changed_login_lifts_the_suspension_and_empties_the_store(ledger):
    """
    With another password the account is visited at once and the old login's tokens are deleted; with the same it is not.
    """
    ledger.save_state("home", AccountState(suspended_until=AT + DAY, next_visit=AT + DAY, failures=1, reason="login"))
    await ledger.get_account_store("home").put("token", "t")
    same = ledger.open_account("home", portal="brook", zone="Europe/Brussels", login="a")
    changed = ledger.open_account("home", portal="brook", zone="Europe/Brussels", login="b")

    assert (same.suspended_until, same.reason) == (AT + DAY, "login")
    assert (changed.suspended_until, changed.next_visit, changed.reason, changed.failures) == (None, None, "", 0)
    assert await ledger.get_account_store("home").get("token", AT) is None


def test_history_is_no_new_data(ledger):
    """
    What a feed brings of a time long gone changes neither facts nor the time of new data; recent days do.
    """
    ledger.record_feed("home", {}, FeedResult([day(1, 1.0)]), at=AT + 20 * DAY)

    assert (ledger.get_state("home").readings, ledger.get_state("home").last_new_data) == (1, None)
    ledger.record_feed("home", {}, FeedResult([day(8, 1.0)]), at=AT)
    assert ledger.get_state("home").last_new_data == AT


@given(st.lists(st.tuples(st.integers(1, 28), st.floats(0, 1e15)), max_size=40))
def test_the_last_value_counts(tmp_path_factory, days):
    """
    Whatever is recorded in whatever order: each day has its last value, and corrections are counted.
    """
    with Ledger(tmp_path_factory.mktemp("l")) as ledger:
        ledger.open_account("home", portal="brook", zone="UTC", login="")
        expected: dict[int, float] = {}
        corrections = 0
        for number, amount in days:
            if not math.isclose(expected.get(number, -1), amount, rel_tol=1e-14):
                corrections += number in expected
                expected[number] = amount
            record(ledger, day(number, amount), at=AT + 60 * DAY)

        assert list_readings(ledger) == [("total", datetime(2031, 3, n, tzinfo=UTC), expected[n]) for n in sorted(expected)]
        assert ledger.get_state("home").corrections == corrections


def test_files_are_for_their_owner_only(ledger, tmp_path):
    """
    A folder we create is 0700, the files in it 0600.
    """
    with Ledger(tmp_path / "new" / "folder"):
        assert (tmp_path / "new" / "folder").stat().st_mode & 0o777 == 0o700
    record(ledger, day(8, 1.0))

    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("ledger*")} == {0o600}


def test_a_visit_is_stored_whole_or_not_at_all(ledger, monkeypatch):
    """
    If the disk fills up in the middle of a visit, nothing of it is stored, the error says so, and later visits succeed.
    """
    record(ledger, day(1, 1.0))
    with ledger.database.write() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    ledger.database._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    many = [Index(Register(POINT, Unit.M3, name=f"r{n}"), float(n), AT) for n in range(2000)]
    with pytest.raises(LedgerError, match="full"):
        record(ledger, *many)

    assert ledger.get_state("home").readings == 1
    ledger.database._connection.execute("PRAGMA max_page_count = 1000000")
    assert record(ledger, *many).new == 2000


@pytest.mark.parametrize("damage", [b"not a database at all", b"", None])
def test_a_damaged_file_is_moved_aside(tmp_path, caplog, damage):
    """
    A damaged ledger is moved aside with one error line that names both files; a new one is created.
    """
    with Ledger(tmp_path) as ledger:
        ledger.open_account("home", portal="brook", zone="UTC", login="")
        record(ledger, *(day(n, float(n)) for n in range(1, 9)))
    path = tmp_path / "ledger.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + b"\xa5" * (len(whole) - 5000) if damage is None else damage or b"x" * len(whole))
    with Ledger(tmp_path) as ledger:
        assert ledger.get_state("home").readings == 0

    (aside,) = tmp_path.glob("ledger.sqlite.damaged-*")
    (line,) = [r.getMessage() for r in caplog.records]
    assert str(path) in line
    assert str(aside) in line


def test_a_damaged_file_stays_where_serve_has_it(tmp_path):
    """
    A command beside a running `serve` leaves a damaged ledger in place: `serve` would continue to write to the moved one.
    """
    with Ledger(tmp_path) as serving:
        serving.lock_folder()
        serving.database._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        path = tmp_path / "ledger.sqlite"
        path.write_bytes(b"x" * path.stat().st_size)
        with pytest.raises(LedgerError, match="the next start of `serve` moves it aside"):
            Ledger(tmp_path)

        assert list(tmp_path.glob("*.damaged-*")) == []


def test_a_newer_schema_is_refused(tmp_path):
    """
    A file of a newer version is left unchanged, with an error that says what to do.
    """
    Ledger(tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = (tmp_path / "ledger.sqlite").read_bytes()
    with pytest.raises(LedgerError, match=rf"schema {SCHEMA_VERSION + 1}, this program supports {SCHEMA_VERSION}"):
        Ledger(tmp_path)

    assert (tmp_path / "ledger.sqlite").read_bytes() == before


def test_one_serve_a_folder(tmp_path):
    """
    A second `serve` on the same folder is refused; a one-off command beside it is not.
    """
    with Ledger(tmp_path) as one, Ledger(tmp_path) as two:
        one.lock_folder()
        with pytest.raises(LedgerError, match="in use by another"):
            two.lock_folder()

        assert two.open_account("home", portal="brook", zone="UTC", login="").readings == 0


def test_a_read_only_folder_is_a_clear_error():
    """
    If nothing can be written the error names the folder, without a traceback.
    """
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base, "storage")
        folder.mkdir()
        folder.chmod(0o555)
        Path(base).chmod(0o755)
        program = f"""
            import os, pathlib
            from exporter.errors import LedgerError
            from exporter.ledger.ledger import Ledger
            if os.geteuid() == 0:
                os.setgroups([]); os.setgid(65534); os.setuid(65534)
            try:
                Ledger(pathlib.Path({str(folder)!r}))
            except LedgerError as error:
                print(error)
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == f"{folder} is not writable", done.stderr


def test_killed_in_the_middle_of_a_visit(tmp_path):
    """
    kill -9 while a visit is written loses at most that visit: the ledger opens undamaged with all earlier ones.
    """
    program = f"""
        import os, pathlib, signal
        from tests.test_ledger import AT, AccountState, Ledger, day, record
        ledger = Ledger(pathlib.Path({str(tmp_path)!r}))
        ledger.open_account("home", portal="brook", zone="UTC", login="")
        record(ledger, day(1, 1.0))
        with ledger.database.write() as db:
            db.execute("INSERT INTO reading VALUES (1, 5, 5.0, 86400, 1)")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Ledger(tmp_path) as ledger:
        assert [value for _, _, value in list_readings(ledger)] == [1.0]


def test_two_processes_share_a_ledger(ledger):
    """
    What another process writes is visible here, and both can create series.
    """
    record(ledger, day(1, 1.0))
    with Ledger(ledger.database.path.parent) as other:
        other.record_feed("home", {}, FeedResult([day(2, 2.0), day(2, 3.0, Register(POINT, Unit.M3, name="garden"))]), at=AT)
    record(ledger, day(3, 3.0, Register(POINT, Unit.M3, name="garden")))

    assert sorted(value for _, _, value in list_readings(ledger)) == [1.0, 2.0, 3.0, 3.0]


def test_freeing_memory_keeps_what_is_stored(ledger, tmp_path):
    """
    What connections keep of the file is read again when it is needed; a ledger that is closed has nothing to free.
    """
    ledger.open_account("home", portal="cem", zone="Europe/Prague", login="")
    with ledger.snapshot() as held:
        ledger.free_memory()
        before = held.get_state("home")
    ledger.free_memory()

    assert ledger.get_state("home") == before
    ledger.close()
    ledger.free_memory()


@given(visits=st.lists(st.lists(st.integers(0, 7), max_size=12), max_size=6), feed=st.lists(st.integers(8, 11), max_size=4))
def test_objects_are_known_in_any_order(visits: list[list[int]], feed: list[int]) -> None:
    """
    In the order of the last visit, in another one, with gaps and repeats: what is known of an object is its own number.
    """
    objects, cache = [object() for _ in range(12)], IdentityCache()

    def visit(numbers: list[int]) -> int:
        known = 0
        for number in numbers:
            row_id = cache.get(objects[number])
            known += row_id is not None
            assert (cache.put(objects[number], number) if row_id is None else row_id) == number
        cache.end()
        return known

    for numbers in visits:
        cache.begin_visit()
        visit(numbers)
        cache.begin_feed()
        visit(feed)
        cache.begin_visit()
        visit(numbers)  # of another list than the last one's the cache begins anew, and the next visit knows it
        cache.begin_visit()
        assert visit(numbers) == len(numbers)
        assert [cache.get(objects[number]) for number in range(8, 12)] == [None] * 4
        cache.end()
