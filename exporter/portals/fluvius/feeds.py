"""The feeds of a usage point: days, monthly peaks and intervals, over all the meters ever mounted there.

The engine (`exporter/sync`) decides what is asked, and when. An older meter is asked only for days on which it may have been
mounted.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from enum import StrEnum

from exporter.errors import ResponseError
from exporter.models import Commodity
from exporter.portals.base import build_skip_notes
from exporter.portals.fluvius import parser
from exporter.portals.fluvius.client import FluviusApiClient
from exporter.portals.fluvius.config import FluviusConfig, MeterConfig
from exporter.portals.fluvius.days import ZONE, DayRange, month_start, subtract_months
from exporter.portals.fluvius.readings import MonthlyPeaks, ParsedAmounts, merge_amounts, merge_monthly_peaks
from exporter.sync.feeds import CalendarYear, Days, Feed, FeedResult, Form

REACH = timedelta(days=3 * 365 + 1)
"""The portal keeps no more."""
GAS_DELAY, GAS_DAY_START = timedelta(days=3), time(6)
GAS_FACTOR_AGE = timedelta(days=100)
"""By then the factor that makes kWh of m³ is set for good; until then it is a prediction."""


class FeedKind(StrEnum):
    """What a feed brings."""

    DAYS = "days"
    PEAKS = "peaks"
    INTERVALS = "intervals"


@dataclass(frozen=True, slots=True)
class MeterFeed:
    """A feed, and the entry of the configuration that it belongs to."""

    feed: Feed
    meter: MeterConfig
    kind: FeedKind


def build_feeds(config: FluviusConfig) -> Mapping[str, MeterFeed]:
    """Return the feeds of an account by key. The key changes with what decides whether anything comes."""
    found: dict[str, MeterFeed] = {}
    for meter in config.meters:
        feeds = {
            FeedKind.DAYS: _build_day_feed(config, meter),
            FeedKind.PEAKS: _build_peak_feed(config, meter),
            FeedKind.INTERVALS: _build_interval_feed(config, meter),
        }
        found |= {feed.key: MeterFeed(feed, meter, kind) for kind, feed in feeds.items() if feed}
    return found


async def read_feed(client: FluviusApiClient, entry: MeterFeed, first: date, last: date) -> FeedResult:
    """Return the readings of days [first, last], over all meters.

    Raise ResponseError when nothing in a response can be understood.
    """
    meter, before = entry.meter, client.request_count
    where = entry.feed.label
    if entry.kind is FeedKind.PEAKS:
        peaks = await fetch_peaks(client, meter, first, last)
        _require_any(where, peaks.skipped, has_any=bool(peaks.months))
        found, notes = [*peaks.build_readings(meter.usage_point)], build_skip_notes(where, peaks.skipped)
        return FeedResult(found, notes, peaks.skipped.total(), client.request_count - before)
    if entry.kind is FeedKind.DAYS:
        parsed = await fetch_days(client, meter, DayRange(first, last, meter.commodity))
        code, has_length = client.config.get_day_granularity(), parsed.has_whole_days()
    else:
        parsed = await fetch_intervals(client, meter, first)
        code, has_length = client.config.get_interval_granularity(meter), bool(parsed.sum_interval_time())
    _require_any(where, parsed.skipped, has_any=bool(parsed.amounts))
    notes = build_skip_notes(where, parsed.skipped)
    if parsed.amounts and not has_length:
        notes += (f"{where}: code {code} brought records of another length: see the key `granularity`",)
    readings = [*parsed.build_readings(meter.usage_point, client.session.now)]
    return FeedResult(readings, notes, parsed.skipped.total(), client.request_count - before)


async def fetch_days(client: FluviusApiClient, meter: MeterConfig, days: DayRange) -> ParsedAmounts:
    """Return the amounts of whole days.

    If the meter was replaced, the day before the range is requested too. A meter with a value for that day was in place for
    the whole range, so older meters are not asked.
    """
    code, where = client.config.get_day_granularity(), f"{client.config.describe_meter(meter)}, days"
    if client.config.api == 2024:
        return parser.parse_amounts_2024(await client.fetch_history(meter, None, days, code), where, meter.commodity)
    extended = days.extend_one_day_back() if len(meter.serial) > 1 else days
    parts = []
    for serial in reversed(meter.serial):
        body = await client.fetch_history(meter, serial, extended, code)
        parts.append(parser.parse_amounts(body, where, meter.commodity))
        if any(start < days.start for start, _ in parts[-1].amounts):
            break
    return merge_amounts(parts).drop_before(days.start)


async def fetch_intervals(client: FluviusApiClient, meter: MeterConfig, day: date) -> ParsedAmounts:
    """Return one metering day in quarter-hours (gas: hours); an older meter is requested where the current one has gaps."""
    days, where = DayRange(day, day, meter.commodity), f"{client.config.describe_meter(meter)}, intervals"
    code = client.config.get_interval_granularity(meter)
    cache, key = client.session.store.cache, f"mounted:{build_digest(meter.ean, meter.serial)}"
    mounted: MountedMeters = cache.get(key, MountedMeters())
    parts = []
    for position in reversed(range(len(meter.serial))):
        if not mounted.can_have_measured(position, day):
            continue
        body = await client.fetch_history(meter, meter.serial[position], days, code)
        parts.append(parser.parse_amounts(body, where, meter.commodity))
        if parts[-1].sum_interval_time() >= days.end - days.start:
            cache[key] = mounted = mounted.with_whole_day(position, day)
        if mounted.was_alone(position, day):
            break
    return merge_amounts(parts)


async def fetch_peaks(client: FluviusApiClient, meter: MeterConfig, first: date, last: date) -> MonthlyPeaks:
    """Return the monthly peaks from the month of `first` to `last`; as with days, one month more is requested."""
    where = f"{client.config.describe_meter(meter)}, peaks"
    several = client.config.api == 2025 and len(meter.serial) > 1
    days = DayRange(subtract_months(first, 1 if several else 0), last, Commodity.ELECTRICITY)
    if client.config.api == 2024:
        return parser.parse_peaks_2024(await client.fetch_peaks(meter, None, days), where)
    found = []
    for serial in reversed(meter.serial):
        found.append(parser.parse_peaks(await client.fetch_peaks(meter, serial, days), where))
        if any(start < month_start(first) for start, _ in found[-1].months):
            break
    return merge_monthly_peaks(found).drop_before(month_start(first))


@dataclass(frozen=True, slots=True)
class MountedMeters:
    """For each meter, by its position in the list, the first and last day it is known to have measured completely.

    Learned from responses, and held in this process only.
    """

    first: Mapping[int, date] = field(default_factory=dict)
    last: Mapping[int, date] = field(default_factory=dict)

    def with_whole_day(self, position: int, day: date) -> "MountedMeters":
        """Return what is known after a meter measured a whole day."""
        first, last = self.first.get(position, day), self.last.get(position, day)
        return MountedMeters({**self.first, position: min(day, first)}, {**self.last, position: max(day, last)})

    def can_have_measured(self, position: int, day: date) -> bool:
        """Return whether a meter can have been in place on a day: no older one measured a later day completely."""
        return all(self.last.get(older, date.min) < day for older in range(position))

    def was_alone(self, position: int, day: date) -> bool:
        """Return whether nothing older than a meter can have been in place on a day."""
        return self.first.get(position, date.max) <= day


def build_digest(*parts: object) -> str:
    """Return a name of a meter or a feed for stored state: constant, and without a personal number."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _build_day_feed(config: FluviusConfig, meter: MeterConfig) -> Feed:
    is_gas = meter.commodity is Commodity.GAS
    return Feed(
        key=f"{FeedKind.DAYS}:{build_digest(meter.ean, meter.serial, config.api, config.get_day_granularity())}",
        zone=ZONE,
        chunk=Days(config.past_days),
        usage_points=(meter.ean,),
        resolution="P1D",
        reach=REACH,
        delay=GAS_DELAY if is_gas else timedelta(days=1),
        settles=timedelta(days=config.days),
        recheck=GAS_FACTOR_AGE if is_gas else None,
        day_start=GAS_DAY_START if is_gas else time(0),
        label=_describe_feed(config, meter, FeedKind.DAYS),
        if_empty="nothing comes: check `serial` and `commodity`",
        if_stopped="nothing comes any more: add the new serial number to `serial` if the meter was replaced",
    )


def _build_peak_feed(config: FluviusConfig, meter: MeterConfig) -> Feed | None:
    """Return the feed of monthly peaks; None for gas, which has none."""
    if meter.commodity is Commodity.GAS:
        return None
    return Feed(
        key=f"{FeedKind.PEAKS}:{build_digest(meter.ean, meter.serial, config.api)}",
        zone=ZONE,
        chunk=CalendarYear(),
        usage_points=(meter.ean,),
        form=Form.PEAK,
        resolution="P1M",
        reach=REACH,
        delay=timedelta(0),
        label=_describe_feed(config, meter, FeedKind.PEAKS),
    )


def _build_interval_feed(config: FluviusConfig, meter: MeterConfig) -> Feed | None:
    """Return the feed of quarter-hours, or hours of gas; None where they are not configured."""
    if not meter.intervals:
        return None
    is_gas = meter.commodity is Commodity.GAS
    return Feed(
        key=f"{FeedKind.INTERVALS}:{build_digest(meter.ean, meter.serial, config.get_interval_granularity(meter))}",
        zone=ZONE,
        chunk=Days(1),
        usage_points=(meter.ean,),
        resolution="PT1H" if is_gas else "PT15M",
        reach=REACH,
        # A request for each day of gas: three days in a row would be asked in vain at each visit.
        delay=timedelta(0) if is_gas else timedelta(days=1),
        settles=timedelta(days=config.interval_days),
        recheck=GAS_FACTOR_AGE if is_gas else None,
        day_start=GAS_DAY_START if is_gas else time(0),
        gap=timedelta(days=config.past_empty_days),
        priority=1,
        label=_describe_feed(config, meter, FeedKind.INTERVALS),
        if_empty="nothing comes: switch on quarter-hours (gas: hours) in the portal",
    )


def _describe_feed(config: FluviusConfig, meter: MeterConfig, kind: FeedKind) -> str:
    return f"{config.describe_meter(meter)}, {kind}"


def _require_any(where: str, skipped: Counter[str], *, has_any: bool) -> None:
    if skipped and not has_any:
        raise ResponseError(f"{where}: no usable value in the response ({', '.join(sorted(skipped))})")
