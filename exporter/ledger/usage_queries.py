"""Queries for people: usage points by site; what was used there, by day and within a day, all registers together."""

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from exporter.ledger.database import to_ms
from exporter.ledger.queries import UsagePointRow, select_usage_points
from exporter.models import Fact


class Amount(NamedTuple):
    """What passed in a period, all registers of a direction and unit together."""

    usage_point: str
    direction: str
    unit: str
    start_ms: int
    end_ms: int
    value: float


class RegisterReading(NamedTuple):
    """The newest index of a register."""

    register: str
    kind: str
    description: str
    direction: str
    unit: str
    nature: str
    at_ms: int
    value: float


def count_usage_points_by_site(db: sqlite3.Connection, account: str) -> dict[str, int]:
    """Return site -> how many usage points of the account's inventory it has."""
    rows = db.execute(
        "SELECT site, count(*) FROM point JOIN account ON account.id = point.account WHERE account.name = ? AND shown"
        " GROUP BY site",
        (account,),
    )
    return dict(rows.fetchall())


def select_usage_points_of_sites(db: sqlite3.Connection, account: str, sites: Collection[str]) -> Iterator[UsagePointRow]:
    """Return the usage points of a few sites in the account's inventory."""
    rows = db.execute(
        "SELECT usage_point FROM point JOIN account ON account.id = point.account"
        f" WHERE account.name = ? AND shown AND site IN ({','.join('?' * len(sites))})",  # JSON cannot have NUL
        (account, *sites),
    )
    return select_usage_points(db, account, [usage_point for (usage_point,) in rows])


def select_usage_points_with_facts(db: sqlite3.Connection, account: str, facts: Mapping[Fact, float]) -> frozenset[str]:
    """Return the usage points in the account's inventory of which a fact has the value that is given for it."""
    rows = db.execute(
        "SELECT DISTINCT usage_point FROM json_each(?) AS given JOIN fact ON fact = given.key AND fact.value = given.value"
        " JOIN point ON point.id = fact.point JOIN account ON account.id = point.account WHERE account.name = ? AND shown",
        (json.dumps(dict(facts)), account),
    )
    return frozenset(usage_point for (usage_point,) in rows)


def select_day_amounts(
    db: sqlite3.Connection, account: str, usage_points: Collection[str] | None, start: datetime | None, end: datetime | None
) -> list[Amount]:
    """Return the amounts of days that begin in [start, end), in order; None is all usage points, or no bound."""
    first, last = to_ms(start) if start else 0, to_ms(end) if end else 1 << 53
    return _select_amounts(db, account, usage_points, "resolution = 'P1D'", first, last)


def select_curve_amounts(db: sqlite3.Connection, account: str, usage_point: str, start: datetime, end: datetime) -> list[Amount]:
    """Return the amounts of less than a day in [start, end), in order."""
    return _select_amounts(db, account, [usage_point], "resolution LIKE 'PT%'", to_ms(start), to_ms(end))


def select_newest_curve_start(db: sqlite3.Connection, account: str, usage_point: str) -> int | None:
    """Return when the newest amount of less than a day begins, in milliseconds."""
    (found,) = db.execute(
        "SELECT max(newest) FROM (SELECT (SELECT max(at) FROM reading WHERE series = series_.id) AS newest FROM series AS series_"
        " JOIN point ON point.id = series_.point JOIN account ON account.id = point.account"
        " WHERE account.name = ? AND usage_point = ? AND form = 'interval' AND resolution LIKE 'PT%')",
        (account, usage_point),
    ).fetchone()
    return None if found is None else int(found)


def select_register_readings(db: sqlite3.Connection, account: str, usage_point: str) -> list[RegisterReading]:
    """Return the newest index of each register."""
    rows = db.execute(
        "SELECT register, kind, description, direction, unit, nature, at, value FROM series JOIN point ON point.id = series.point"
        " JOIN account ON account.id = point.account JOIN reading ON reading.series = series.id"
        " WHERE account.name = ? AND usage_point = ? AND form = 'index' AND series.shown"
        " AND at = (SELECT max(at) FROM reading AS newest WHERE newest.series = series.id) ORDER BY series.id",
        (account, usage_point),
    )
    return [RegisterReading(*row) for row in rows]


def count_corrections(db: sqlite3.Connection, account: str, usage_point: str) -> int:
    """Return how many values of a usage point its portal has changed."""
    (count,) = db.execute(
        "SELECT count(*) FROM correction JOIN series ON series.id = correction.series JOIN point ON point.id = series.point"
        " JOIN account ON account.id = point.account WHERE account.name = ? AND usage_point = ?",
        (account, usage_point),
    ).fetchone()
    return int(count)


def _select_amounts(
    db: sqlite3.Connection, account: str, usage_points: Collection[str] | None, resolution: str, first: int, end: int
) -> list[Amount]:
    chosen = "" if usage_points is None else " AND usage_point IN (SELECT value FROM json_each(?))"
    values = [account, *([json.dumps(list(usage_points))] if usage_points is not None else []), first, end]
    rows = db.execute(
        "SELECT usage_point, direction, unit, at, max(at + span * 1000), sum(value)"
        " FROM account JOIN point ON point.account = account.id JOIN series ON series.point = point.id"
        " JOIN reading ON reading.series = series.id"
        f" WHERE account.name = ?{chosen} AND form = 'interval' AND {resolution} AND part_of = '' AND at >= ? AND at < ?"
        " GROUP BY usage_point, direction, unit, at ORDER BY usage_point, direction, unit, at",
        values,
    )
    return [Amount(*row) for row in rows]
