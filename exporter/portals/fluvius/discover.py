"""What `discover` finds at Fluvius: the feeds of each configured meter; the portal does not list an account's meters."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta

from exporter.client.session import Session
from exporter.errors import LoginError, PortalError
from exporter.models import DAY, Commodity, Discovery, Finding, format_resolution, name_resolutions
from exporter.portals.fluvius.client import FluviusApiClient
from exporter.portals.fluvius.config import FluviusConfig, MeterConfig
from exporter.portals.fluvius.days import ZONE, DayRange, last_complete_day, subtract_months
from exporter.portals.fluvius.feeds import REACH, fetch_days, fetch_intervals, fetch_peaks
from exporter.portals.fluvius.readings import ParsedAmounts

BLOCK_LENGTH = timedelta(days=31)
INTERVAL_DELAYS = timedelta(days=5), timedelta(days=8)
"""How old the days are at which intervals are tried: gas comes after three days, electricity is late now and then."""
NOTES = (
    "Fluvius does not list an account's meters: EAN and serial number are on each meter's page in the portal.",
    "Quarter-hours (gas: hours) are switched on per meter in the portal, and begin on the day after.",
)


async def discover_meters(config: FluviusConfig, session: Session) -> Discovery:
    """Return the feeds of every configured meter; a refused one is a finding with the reason."""
    client = FluviusApiClient(config, session)
    await client.log_in()
    tree, lines = [], ["meters:"]
    for meter in config.meters:
        feeds = await _discover_meter(client, meter)
        facts = {"ean": meter.ean, "serial": [*meter.serial], "commodity": str(meter.commodity)}
        # Peaks come by the EAN alone, whatever the serial is.
        is_missing = not any(feed.facts.get("line") in ("days", "intervals") for feed in feeds)
        text = f"{meter.commodity} {meter.ean}, meter {meter.serial[-1]}"
        if is_missing:
            text += " (not found: check serial and commodity)"
        tree.append(Finding(text, facts, feeds, is_missing, printed=()))
        lines.append(_format_config_line(meter, any(finding.facts.get("line") == "intervals" for finding in feeds)))
    return Discovery(tuple(tree), "\n".join(lines), NOTES)


async def _discover_meter(client: FluviusApiClient, meter: MeterConfig) -> tuple[Finding, ...]:
    try:
        found = [
            await _discover_days(client, meter),
            await _discover_intervals(client, meter),
            await _discover_peaks(client, meter),
        ]
    except LoginError:
        raise
    except PortalError as error:
        return (Finding(str(error), {"line": "failed", "reason": error.reason}, printed=()),)
    return tuple(one for one in found if one)


async def _discover_days(client: FluviusApiClient, meter: MeterConfig) -> Finding | None:
    last = last_complete_day(client.session.now, meter.commodity)
    blocks = [last - BLOCK_LENGTH * n + DAY for n in range(REACH // BLOCK_LENGTH, 0, -1)]
    newest = await fetch_days(client, meter, DayRange(blocks[-1], last, meter.commodity))

    async def fetch_block(first: date) -> ParsedAmounts:
        return await fetch_days(client, meter, DayRange(first, first + BLOCK_LENGTH - DAY, meter.commodity))

    return _build_finding("days", newest, await _find_oldest(blocks[:-1], fetch_block, newest)) if newest.amounts else None


async def _discover_intervals(client: FluviusApiClient, meter: MeterConfig) -> Finding | None:
    if client.config.api == 2024:
        return None
    last = last_complete_day(client.session.now, meter.commodity)

    async def fetch_day(day: date) -> ParsedAmounts:
        return await fetch_intervals(client, meter, day)

    for late in INTERVAL_DELAYS:
        newest = await fetch_day(last - late)
        if newest.sum_interval_time():
            days = [last - late - timedelta(days=n) for n in range(REACH.days, 0, -1)]
            return _build_finding("intervals", newest, await _find_oldest(days, fetch_day, newest))
    return None


async def _discover_peaks(client: FluviusApiClient, meter: MeterConfig) -> Finding | None:
    if meter.commodity is not Commodity.ELECTRICITY:
        return None
    today = client.session.now.astimezone(ZONE).date()
    months = (await fetch_peaks(client, meter, subtract_months(today, 36), today)).months
    if not months:
        return None
    since = min(months)[0].astimezone(ZONE).date()
    return Finding(
        f"monthly peaks in kW, since {since:%Y-%m}", {"line": "peaks", "since": since.isoformat(), "unit": "kW"}, printed=()
    )


async def _find_oldest(
    days: Sequence[date], fetch: Callable[[date], Awaitable[ParsedAmounts]], found: ParsedAmounts
) -> ParsedAmounts:
    """Return the oldest response that is not empty, by bisection: a feed begins once and does not end."""
    low, high = 0, len(days)
    while low < high:
        middle = (low + high) // 2
        parsed = await fetch(days[middle])
        if parsed.amounts:
            high, found = middle, parsed
        else:
            low = middle + 1
    return found


def _build_finding(feed: str, newest: ParsedAmounts, oldest: ParsedAmounts) -> Finding:
    since = min(start for start, _ in oldest.amounts).astimezone(ZONE).date()
    lengths = sorted({format_resolution(end - start) for start, end in newest.amounts})
    registers = sorted({one for amounts in newest.amounts.values() for one in amounts})
    children = tuple(
        Finding(
            f"register {one.name}: {one.direction} in {one.unit}",
            {"register": one.name, "direction": str(one.direction), "unit": str(one.unit)},
            printed=(),
        )
        for one in registers
    )
    return Finding(
        f"{feed}{name_resolutions(lengths)}, since {since}",
        {"line": feed, "since": since.isoformat(), "resolutions": lengths},
        children,
        printed=(),
    )


def _format_config_line(meter: MeterConfig, has_intervals: bool) -> str:
    quoted = [f'"{one}"' for one in meter.serial]
    serial = quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"
    intervals = ", intervals: true" if has_intervals else ""
    return f'  - {{ean: "{meter.ean}", serial: {serial}, commodity: {meter.commodity}{intervals}}}'
