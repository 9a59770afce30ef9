"""What `discover` finds: per usage point which series there are, since when, in what intervals, with what holes."""

from collections.abc import Sequence
from datetime import date, timedelta

from exporter.errors import LoginError, NoDataError, PortalError, RateLimitError
from exporter.model import Discovery, Finding, Index, Interval, Reading, resolution
from exporter.portals.enedis.measures import Kind
from exporter.portals.enedis.progress import DAY, Progress, recall
from exporter.portals.enedis.reader import read_days
from exporter.portals.enedis.refusals import ConsentError
from exporter.portals.enedis.stamps import local_day
from exporter.portals.enedis.terms import Terms, terms_of
from exporter.portals.enedis.way import Point, Way
from exporter.portals.enedis.week import HOURLY_OFF, WEEK

MOST_HOLES = 20


async def look(way: Way, points: Sequence[Point]) -> Discovery:
    """Ask every series of every usage point once; one that is refused says so in the tree.

    Raises LoginError when the login is refused as such, and RateLimitError.
    """
    notes: list[str] = []
    tree = [await _point(way, point, notes) for point in points]
    chosen = "\n".join(
        f'  - {{prm: "{point.prm}", production: {str(point.production).lower()}, load_curve: {str(point.load_curve).lower()}}}'
        for point in points
    )
    return Discovery(tuple(tree), f"usage_points:\n{chosen}", tuple(notes))


async def _point(way: Way, point: Point, notes: list[str]) -> Finding:
    facts: dict[str, object] = {"prm": point.prm}
    try:
        if ends := await way.admission(point):
            facts["access_expires"] = ends.isoformat()
        terms = await terms_of(way, point)
        facts |= {"subscribed_power_kva": terms.power} if terms.power is not None else {}
        facts |= {"contract_since": str(terms.activation)} if terms.activation else {}
        found = [await _series(way, point, await recall(way.session, point.prm, measure), terms) for measure in point.measures]
    except ConsentError as refusal:
        return Finding(f"usage point {point.prm}: {refusal}", facts)
    missing = {str(finding.facts["series"]) for finding in found if not finding.facts["there"]}
    notes += [
        f"{direction}_curve of {point.called}: {HOURLY_OFF}"
        for direction in ("consumption", "production")
        if f"{direction}_curve" in missing and f"{direction}_days" not in missing
    ]
    return Finding(f"usage point {point.prm}", facts, tuple(found))


async def _series(way: Way, point: Point, progress: Progress, terms: Terms) -> Finding:
    series = progress.measure.key
    if not way.offers(progress.measure):
        return Finding(f"{series}: not given by this access", {"series": series, "there": False})
    yesterday = local_day(way.session.now) - DAY
    days = progress.longest if progress.measure.kind in {Kind.DAYS, Kind.MAX} else min(WEEK, progress.longest)
    try:
        stretch = await read_days(way, point, progress, yesterday - (days - 1) * DAY, yesterday, terms.activation)
    except (LoginError, RateLimitError):
        raise
    except NoDataError as reason:
        return Finding(f"{series}: {reason}", {"series": series, "there": False})
    except PortalError as failure:
        return Finding(f"{series}: failed: {failure}", {"series": series, "there": False})
    if not stretch.readings:
        return Finding(f"{series}: nothing in the last {days} days", {"series": series, "there": False})
    return _found(progress, stretch.readings, yesterday, terms)


def _found(progress: Progress, readings: Sequence[Reading], yesterday: date, terms: Terms) -> Finding:
    """Say what came; `reaches_back_to` is what the source keeps, not earlier than the contract."""
    days = sorted({_day(reading) for reading in readings})
    holes = sorted(set(_all(days[0], days[-1])) - set(days))
    kept = yesterday + DAY - progress.measure.limits.history
    back = max(day for day in (kept, terms.activation, progress.floor) if day)
    facts: dict[str, object] = {"series": progress.measure.key, "there": True, "newest_day": str(days[-1])}
    facts |= {"reaches_back_to": str(back), "holes": [str(day) for day in holes[-MOST_HOLES:]]}
    facts |= {"intervals": lengths} if (lengths := _lengths(readings)) else {}
    said = f"{progress.measure.key}: up to {days[-1]}, back to {back}"
    said += f", in {' and '.join(lengths)}" if lengths else ""
    return Finding(said + (f", {len(holes)} days missing since {days[0]}" if holes else ""), facts)


def _lengths(readings: Sequence[Reading]) -> list[str]:
    return sorted({resolution(reading.end - reading.start) for reading in readings if isinstance(reading, Interval)})


def _day(reading: Reading) -> date:
    return local_day(reading.at if isinstance(reading, Index) else reading.start)


def _all(first: date, last: date) -> list[date]:
    return [first + timedelta(days=days) for days in range((last - first).days + 1)]
