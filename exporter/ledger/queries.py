"""Queries of the ledger: usage points, facts, series and readings."""

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from exporter.ledger.database import from_ms, to_ms
from exporter.models import Commodity, Direction, Fact, Nature


def select_zones(db: sqlite3.Connection) -> dict[str, str]:
    """Return account -> name of its time zone."""
    return dict(db.execute("SELECT name, zone FROM account ORDER BY name"))


def select_series_version(db: sqlite3.Connection) -> tuple[int, ...]:
    """Return numbers that change whenever the list of series does."""
    return tuple(db.execute("SELECT count(*), max(id), total(nature = 'counter') FROM series").fetchone())


class UsagePointRow(NamedTuple):
    """A usage point as the account's portal last described it."""

    usage_point: str
    commodity: Commodity
    meter: str
    site: str
    name: str
    address: str
    place_id: str


class SeriesRow(NamedTuple):
    """One series of readings; `form` is `index`, `interval` or `peak`, `resolution` ISO 8601 (empty for an index)."""

    id: int
    account: str
    usage_point: str
    commodity: Commodity
    register: str
    direction: Direction
    unit: str
    form: str
    resolution: str
    nature: Nature
    kind: str
    portal_unit: str
    description: str
    part_of: str
    value_type: str
    type_id: str
    is_derived: bool
    """Whether its days were calculated from an index."""


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A reading of a series: an index at `at`; an amount of [at, at + span); a peak at `at + span` of the period from `at` on."""

    at: datetime
    value: float
    span: timedelta = timedelta(0)
    has_span: bool = True
    """Whether `span` is known: it is not of an index, nor of a peak whose instant the portal does not tell."""

    @property
    def end(self) -> datetime:
        """Return the end of an interval, or the instant of a peak or an index."""
        return self.at + self.span


def select_usage_points(
    db: sqlite3.Connection, account: str, usage_points: Collection[str] | None = None
) -> Iterator[UsagePointRow]:
    """Return the usage points in the account's inventory, or those of them in `usage_points`."""
    condition, values = _filter_usage_points(usage_points)
    rows = db.execute(
        "SELECT usage_point, commodity, meter, site, point.name, address, place_id"
        " FROM point JOIN account ON account.id = point.account"
        f" WHERE account.name = ? AND shown{condition} ORDER BY point.id",
        (account, *values),
    )
    return (UsagePointRow(usage_point, _COMMODITIES[commodity], *rest) for usage_point, commodity, *rest in rows)


def select_usage_points_with_days(db: sqlite3.Connection, account: str) -> frozenset[str]:
    """Return the usage points of which days are known, stated or derived."""
    rows = db.execute(
        "SELECT DISTINCT usage_point FROM series JOIN point ON point.id = series.point JOIN account ON account.id = point.account"
        " WHERE account.name = ? AND form = 'interval' AND resolution = 'P1D'",
        (account,),
    )
    return frozenset(usage_point for (usage_point,) in rows)


def select_facts(
    db: sqlite3.Connection, account: str, usage_points: Collection[str] | None = None
) -> Iterator[tuple[str, Fact, float]]:
    """Return usage point, fact and value of all current facts."""
    condition, values = _filter_usage_points(usage_points)
    rows = db.execute(
        "SELECT usage_point, fact, value FROM fact JOIN point ON point.id = fact.point JOIN account ON account.id = point.account"
        f" WHERE account.name = ? AND shown{condition} ORDER BY point.id, fact",
        (account, *values),
    )
    return ((usage_point, Fact(fact), value) for usage_point, fact, value in rows)


def select_series(db: sqlite3.Connection, account: str | None = None, *, shown_only: bool = False) -> list[SeriesRow]:
    """Return the series of an account, or of all; `shown_only` leaves out what the inventory does not have."""
    rows = db.execute(
        f"SELECT {_SERIES_COLUMNS} FROM series JOIN point ON point.id = series.point JOIN account ON account.id = point.account"
        " WHERE (:account IS NULL OR account.name = :account) AND (NOT :shown OR (series.shown AND point.shown))"
        " ORDER BY account.name, point.id, series.id",
        {"account": account, "shown": shown_only},
    )
    return [_build_series_row(*row) for row in rows]


def select_shown_series(
    db: sqlite3.Connection, account: str, usage_points: Collection[str] | None = None
) -> Iterator[tuple[SeriesRow, tuple[int, float] | None]]:
    """Return the series in the account's inventory, by usage point; an index with its newest milliseconds and value."""
    condition, values = _filter_usage_points(usage_points)
    rows = db.execute(
        f"SELECT {_SERIES_COLUMNS}, reading.at, value FROM account JOIN point ON point.account = account.id"
        " JOIN series ON series.point = point.id LEFT JOIN reading ON form = 'index' AND reading.series = series.id"
        " AND reading.at = (SELECT max(at) FROM reading AS any WHERE any.series = series.id)"
        f" WHERE account.name = ? AND series.shown AND point.shown{condition}"
        " ORDER BY point.id, series.id",
        (account, *values),
    )
    return ((_build_series_row(*row), None if at is None else (at, value)) for *row, at, value in rows)


class NewestIndex(NamedTuple):
    """The newest reading of an index series; `at` in milliseconds."""

    usage_point: str
    register: str
    direction: Direction
    unit: str
    nature: Nature
    at: int
    value: float


def select_newest_indexes(db: sqlite3.Connection, account: str, usage_points: Collection[str]) -> Iterator[NewestIndex]:
    """Return the newest readings of the index series in the account's inventory, by usage point."""
    condition, values = _filter_usage_points(usage_points)
    rows = db.execute(
        "SELECT usage_point, register, direction, unit, nature, reading.at, value FROM account"
        " JOIN point ON point.account = account.id JOIN series ON series.point = point.id"
        " JOIN reading ON reading.series = series.id"
        " AND reading.at = (SELECT max(at) FROM reading AS any WHERE any.series = series.id)"
        f" WHERE account.name = ? AND series.shown AND point.shown{condition} AND form = 'index' ORDER BY point.id, series.id",
        (account, *values),
    )
    return (
        NewestIndex(usage_point, register, _DIRECTIONS[direction], unit, _NATURES[nature], at, value)
        for usage_point, register, direction, unit, nature, at, value in rows
    )


def select_newest(db: sqlite3.Connection, series_id: int, count: int = 1) -> list[StoredReading]:
    """Return a series' newest readings, newest first."""
    rows = db.execute("SELECT at, value, span FROM reading WHERE series = ? ORDER BY at DESC LIMIT ?", (series_id, count))
    return [_build_stored_reading(*row) for row in rows]


def select_readings(db: sqlite3.Connection, series_id: int, start: datetime, end: datetime) -> Iterator[StoredReading]:
    """Return a series' readings with `at` in [start, end), in time order."""
    rows = db.execute(
        "SELECT at, value, span FROM reading WHERE series = ? AND at >= ? AND at < ? ORDER BY at",
        (series_id, to_ms(start), to_ms(end)),
    )
    return (_build_stored_reading(*row) for row in rows)


def select_first(db: sqlite3.Connection, series_id: int) -> StoredReading | None:
    """Return a series' oldest reading."""
    row = db.execute("SELECT at, value, span FROM reading WHERE series = ? ORDER BY at LIMIT 1", (series_id,)).fetchone()
    return _build_stored_reading(*row) if row else None


def select_starts(db: sqlite3.Connection, series_ids: Collection[int], end: datetime) -> list[datetime]:
    """Return the distinct `at` of the readings of these series before `end`."""
    rows = db.execute(
        "SELECT DISTINCT at FROM json_each(?) JOIN reading ON series = json_each.value WHERE at < ?",
        (json.dumps(list(series_ids)), to_ms(end)),
    )
    return [from_ms(at) for (at,) in rows]


class DaySums(NamedTuple):
    """Counts and sums of the days of a series up to its newest; sums in millionths, None without days."""

    series: int
    newest: int
    first: int
    known_count: int
    day_sum: int
    month_count: int
    month_sum: int | None
    year_count: int
    year_sum: int | None
    previous_month_count: int
    previous_month_sum: int | None
    previous_year_count: int
    previous_year_sum: int | None
    window_count: int


def select_newest_starts(db: sqlite3.Connection, series_ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return these series, as far as they have readings, each with its newest `at`."""
    return db.execute(
        "SELECT value, (SELECT max(at) FROM reading WHERE series = json_each.value) AS newest FROM json_each(?)"
        " WHERE newest IS NOT NULL",
        (json.dumps(series_ids),),
    ).fetchall()


def select_day_sums(db: sqlite3.Connection, series_ids: Sequence[int], newest: int, bounds: Sequence[int]) -> Iterator[DaySums]:
    """Yield counts and sums of series of days whose newest `at` this is.

    `bounds` are the starts of month, year, the month and year before, and the window of gaps.
    """
    names = ("month", "year", "previous_month", "previous_year", "window")
    values = dict(zip(names, bounds, strict=True)) | {"ids": json.dumps(series_ids), "newest": newest}
    return map(DaySums._make, db.execute(_SELECT_DAY_SUMS, values))


_MILLIONTHS = "CAST(round(reading.value * 1000000) AS INTEGER)"


def _count_and_sum(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition}), sum({_MILLIONTHS}) FILTER (WHERE {condition})"


_SELECT_DAY_SUMS = (
    f"SELECT series, :newest, min(at), count(*), sum({_MILLIONTHS}) FILTER (WHERE at = :newest),"
    f" {_count_and_sum('at >= :month')}, {_count_and_sum('at >= :year')},"
    f" {_count_and_sum('at >= :previous_month AND at < :month')}, {_count_and_sum('at >= :previous_year AND at < :year')},"
    " count(*) FILTER (WHERE at >= :window)"
    " FROM json_each(:ids) JOIN reading ON series = json_each.value GROUP BY series"
)


def _filter_usage_points(usage_points: Collection[str] | None) -> tuple[str, tuple[str, ...]]:
    """Return the SQL condition that selects these usage points, and its values."""
    if usage_points is None:
        return "", ()
    return " AND usage_point IN (SELECT value FROM json_each(?))", (json.dumps(list(usage_points)),)


def _build_series_row(
    series_id: int, account: str, usage_point: str, commodity: str, register: str, direction: str, *rest: Any
) -> SeriesRow:
    unit, form, resolution, nature, kind, portal_unit, description, part_of, value_type, type_id, derived_from = rest
    return SeriesRow(
        series_id, account, usage_point, _COMMODITIES[commodity], register, _DIRECTIONS[direction], unit, form, resolution,
        _NATURES[nature], kind, portal_unit, description, part_of, value_type, type_id, derived_from is not None,
    )  # fmt: skip


def _build_stored_reading(at: int, value: float, span: int | None) -> StoredReading:
    return StoredReading(from_ms(at), value, timedelta(seconds=span or 0), span is not None)


_SERIES_COLUMNS = (
    "series.id, account.name, usage_point, commodity, register, direction, unit, form, resolution, nature, kind,"
    " portal_unit, description, part_of, value_type, type_id, derived_from"
)
# A dictionary is five times as fast as a call of the enumeration.
_COMMODITIES = {str(member): member for member in Commodity}
_DIRECTIONS = {str(member): member for member in Direction}
_NATURES = {str(member): member for member in Nature}
