"""What `discover` finds at Enedis: the series of each usage point, since when, in what intervals, with what holes."""

from collections.abc import Sequence
from datetime import date, timedelta

from exporter.errors import LoginError, NoDataError, PortalError, RateLimitError
from exporter.models import DAY, Discovery, Finding, Index, Interval, Reading, format_resolution
from exporter.portals.enedis.client import ConfiguredPoint, EnedisApiClient
from exporter.portals.enedis.contract import ContractTerms, load_terms
from exporter.portals.enedis.feeds import CURVE_OFF_NOTE, NEWEST_DAYS, fetch_days
from exporter.portals.enedis.measures import MeasureKind
from exporter.portals.enedis.progress import SeriesProgress, load_progress
from exporter.portals.enedis.refusals import ConsentError
from exporter.portals.enedis.timestamps import local_day

MAX_LISTED_HOLES = 20


async def discover_points(client: EnedisApiClient, points: Sequence[ConfiguredPoint]) -> Discovery:
    """Return the series of every usage point; a refused one is a finding with the reason.

    Raise LoginError when the login itself is refused, and RateLimitError.
    """
    found = [await _discover_point(client, point) for point in points]
    lines = "\n".join(
        f'  - {{prm: "{point.prm}", production: {str(point.production).lower()}, load_curve: {str(point.load_curve).lower()}}}'
        for point in points
    )
    notes = tuple(note for _, notes in found for note in notes)
    return Discovery(tuple(finding for finding, _ in found), f"usage_points:\n{lines}", notes)


async def _discover_point(client: EnedisApiClient, point: ConfiguredPoint) -> tuple[Finding, list[str]]:
    facts: dict[str, object] = {"prm": point.prm}
    try:
        if expires_at := await client.check_access(point):
            facts["access_expires"] = expires_at.isoformat()
        terms = await load_terms(client, point)
        facts |= {"subscribed_power_kva": terms.power_kva} if terms.power_kva is not None else {}
        facts |= {"contract_since": str(terms.activation_day)} if terms.activation_day else {}
        found = [
            await _discover_series(client, point, await load_progress(client.session, point.prm, measure), terms)
            for measure in point.measures
        ]
    except ConsentError as refusal:
        return Finding(f"usage point {point.prm}: {refusal}", facts), []
    missing = {str(finding.facts["series"]) for finding in found if not finding.facts["there"]}
    notes = [
        f"{direction}_curve of {point.display_name}: {CURVE_OFF_NOTE}"
        for direction in ("consumption", "production")
        if f"{direction}_curve" in missing and f"{direction}_days" not in missing
    ]
    return Finding(f"usage point {point.prm}", facts, tuple(found)), notes


async def _discover_series(
    client: EnedisApiClient, point: ConfiguredPoint, progress: SeriesProgress, terms: ContractTerms
) -> Finding:
    series = progress.measure.key
    if not client.offers(progress.measure):
        return Finding(f"{series}: not offered by this access", {"series": series, "there": False})
    yesterday = local_day(client.session.now) - DAY
    days = (
        progress.max_days if progress.measure.kind in {MeasureKind.DAYS, MeasureKind.MAX} else min(NEWEST_DAYS, progress.max_days)
    )
    try:
        fetched = await fetch_days(client, point, progress, yesterday - (days - 1) * DAY, yesterday, terms.activation_day)
    except (LoginError, RateLimitError):
        raise
    except NoDataError as reason:
        return Finding(f"{series}: {reason}", {"series": series, "there": False})
    except PortalError as failure:
        return Finding(f"{series}: failed: {failure}", {"series": series, "there": False})
    if not fetched.readings:
        return Finding(f"{series}: nothing in the last {days} days", {"series": series, "there": False})
    return _build_finding(progress, fetched.readings, yesterday, terms)


def _build_finding(progress: SeriesProgress, readings: Sequence[Reading], yesterday: date, terms: ContractTerms) -> Finding:
    """Return the finding of a series; `reaches_back_to` is what the source keeps, not earlier than the contract."""
    days = sorted({_reading_day(reading) for reading in readings})
    holes = sorted(set(_list_days(days[0], days[-1])) - set(days))
    oldest = yesterday + DAY - progress.measure.limits.history
    back = max(day for day in (oldest, terms.activation_day, progress.floor) if day)
    facts: dict[str, object] = {"series": progress.measure.key, "there": True, "newest_day": str(days[-1])}
    facts |= {"reaches_back_to": str(back), "holes": [str(day) for day in holes[-MAX_LISTED_HOLES:]]}
    facts |= {"intervals": lengths} if (lengths := _list_resolutions(readings)) else {}
    text = f"{progress.measure.key}: up to {days[-1]}, back to {back}"
    text += f", in {' and '.join(lengths)}" if lengths else ""
    return Finding(text + (f", {len(holes)} days missing since {days[0]}" if holes else ""), facts)


def _list_resolutions(readings: Sequence[Reading]) -> list[str]:
    return sorted({format_resolution(reading.end - reading.start) for reading in readings if isinstance(reading, Interval)})


def _reading_day(reading: Reading) -> date:
    return local_day(reading.at if isinstance(reading, Index) else reading.start)


def _list_days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=days) for days in range((last - first).days + 1)]
