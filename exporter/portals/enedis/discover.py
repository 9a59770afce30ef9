"""What `discover` finds at Enedis: the series of each usage point, since when, in what intervals, with what holes."""

from collections.abc import Sequence
from datetime import date, timedelta

from exporter.errors import FeedRefusedError, LoginError, NoDataError, PortalError, RateLimitError, TooOldError
from exporter.models import DAY, Discovery, Finding, Index, Interval, Reading, format_resolution, name_resolutions
from exporter.portals.enedis.client import EnedisApiClient
from exporter.portals.enedis.contract import ContractTerms, load_terms
from exporter.portals.enedis.feeds import CURVE_OFF_NOTE
from exporter.portals.enedis.measures import ConfiguredPoint, Measure, MeasureKind
from exporter.portals.enedis.refusals import ConsentError
from exporter.portals.enedis.timestamps import local_day

MAX_LISTED_HOLES = 20
NEWEST_DAYS = 7


async def discover_points(client: EnedisApiClient, points: Sequence[ConfiguredPoint]) -> Discovery:
    """Return the series of every usage point; a refused one is a finding with the reason.

    Raise LoginError when the login itself is refused, and RateLimitError.
    """
    found = [await _discover_point(client, point) for point in points]
    lines = "\n".join(_build_config_line(point) for point in points)
    notes = tuple(note for _, notes in found for note in notes)
    return Discovery(tuple(finding for finding, _ in found), f"usage_points:\n{lines}", notes)


def _build_config_line(point: ConfiguredPoint) -> str:
    keys = {"production": point.production, "load_curve": point.load_curve} | (
        {} if point.consumption else {"consumption": False}
    )
    return f'  - {{prm: "{point.prm}", {", ".join(f"{key}: {str(value).lower()}" for key, value in keys.items())}}}'


async def _discover_point(client: EnedisApiClient, point: ConfiguredPoint) -> tuple[Finding, list[str]]:
    facts: dict[str, object] = {"prm": point.prm}
    try:
        if expires_at := await client.check_access(point):
            facts["access_expires"] = expires_at.isoformat()
        terms = await load_terms(client, point)
    except ConsentError as refusal:
        return Finding(f"usage point {point.prm}: {refusal}", facts, is_missing=True), []
    facts |= {"subscribed_power_kva": terms.power_kva} if terms.power_kva is not None else {}
    facts |= {"contract_since": str(terms.activation_day)} if terms.activation_day else {}
    found, refusals = [], list[ConsentError]()
    for measure in point.measures:
        try:
            found.append(await _discover_series(client, point, measure, terms))
        except ConsentError as refusal:
            refusals.append(refusal)
            found.append(_build_missing(measure, str(refusal)))
            if refusal.is_whole_point:
                break
    if len(refusals) == len(found):
        return Finding(f"usage point {point.prm}: {refusals[0]}", facts, is_missing=True), []
    missing = {str(finding.facts["series"]) for finding in found if not finding.facts["there"]}
    notes = [
        f"{direction}_curve of {point.display_name}: {CURVE_OFF_NOTE}"
        for direction in ("consumption", "production")
        if f"{direction}_curve" in missing and f"{direction}_days" not in missing
    ]
    if is_missing := all(finding.is_missing for finding in found):
        notes.append(f"Enedis has nothing of {point.display_name}: is its number right, and is the meter a communicating one?")
    return Finding(f"usage point {point.prm}", facts, tuple(found), is_missing), notes


def _build_missing(measure: Measure, reason: str) -> Finding:
    return Finding(f"{measure.key}: {reason}", {"series": measure.key, "there": False}, is_missing=True, printed=())


async def _discover_series(client: EnedisApiClient, point: ConfiguredPoint, measure: Measure, terms: ContractTerms) -> Finding:
    yesterday = local_day(client.session.now) - DAY
    is_long = measure.kind in {MeasureKind.DAYS, MeasureKind.MAX}
    oldest = yesterday + DAY - measure.history
    try:
        if measure.kind is MeasureKind.DAYS:
            oldest = await find_first_day(client, point, measure, oldest, terms.get_start(measure))
        # Only of the days is it known since when there are any.
        first = max(yesterday - (measure.max_days_per_call - 1 if is_long else NEWEST_DAYS - 1) * DAY, oldest)
        readings = await _fetch_newest(client, point, measure, first, yesterday)
    except (LoginError, RateLimitError):
        raise
    except (NoDataError, FeedRefusedError, TooOldError) as reason:
        return _build_missing(measure, str(reason))
    except PortalError as failure:
        return _build_missing(measure, f"failed: {failure}")
    return _build_finding(measure, readings, oldest, yesterday)


async def find_first_day(
    client: EnedisApiClient, point: ConfiguredPoint, measure: Measure, oldest: date, hint: date | None
) -> date:
    """Return the first day that is accepted, by bisection; the date of the contract is tried first."""
    refused, accepted = oldest - DAY, local_day(client.session.now) - 2 * DAY
    tries = [oldest, *([hint - DAY, hint] if hint and oldest < hint < accepted else [])]
    while accepted - refused > DAY:
        day = tries.pop(0) if tries else refused + (accepted - refused) // 2
        if not refused < day < accepted:
            continue
        try:
            await client.fetch_measure(point, measure, day, day + 2 * DAY)
        except TooOldError:
            refused = day
        except NoDataError:
            accepted = day
        else:
            accepted = day
    return accepted


async def _fetch_newest(
    client: EnedisApiClient, point: ConfiguredPoint, measure: Measure, first: date, last: date
) -> Sequence[Reading]:
    """Return the readings of [first, last], of fewer days where that is before the beginning."""
    while True:
        try:
            return (await client.fetch_measure(point, measure, first, last + DAY)).readings
        except TooOldError:
            if first == last:
                raise
            first += (last - first + DAY) // 2


def _build_finding(measure: Measure, readings: Sequence[Reading], oldest: date, yesterday: date) -> Finding:
    days = sorted({_reading_day(reading) for reading in readings})
    holes = sorted(set(_list_days(days[0], days[-1])) - set(days))
    facts: dict[str, object] = {"series": measure.key, "there": True, "newest_day": str(days[-1])}
    facts |= {"reaches_back_to": str(oldest)} if measure.kind is MeasureKind.DAYS else {}
    facts |= {"holes": [str(day) for day in holes[-MAX_LISTED_HOLES:]]}
    facts |= {"intervals": lengths} if (lengths := _list_resolutions(readings)) else {}
    text = f"{measure.key}: up to {days[-1]}" + (f", back to {oldest}" if measure.kind is MeasureKind.DAYS else "")
    text += name_resolutions(lengths)
    return Finding(text + (f", {len(holes)} days missing since {days[0]}" if holes else ""), facts, printed=())


def _list_resolutions(readings: Sequence[Reading]) -> list[str]:
    return sorted({format_resolution(reading.end - reading.start) for reading in readings if isinstance(reading, Interval)})


def _reading_day(reading: Reading) -> date:
    return local_day(reading.at if isinstance(reading, Index) else reading.start)


def _list_days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=days) for days in range((last - first).days + 1)]
