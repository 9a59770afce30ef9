"""What each configured meter has at the portal, for `discover`; a list of an account's meters does not exist there."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta

from exporter.errors import LoginError, PortalError
from exporter.model import DAY, Commodity, Discovery, Finding, resolution
from exporter.portals.fluvius import readings
from exporter.portals.fluvius.days import ZONE, Window, last_whole_day, months_before
from exporter.portals.fluvius.desk import Desk
from exporter.portals.fluvius.keys import Keys, Meter
from exporter.portals.fluvius.past import THREE_YEARS
from exporter.portals.fluvius.sheet import Sheet
from exporter.session import Session

BLOCK = timedelta(days=31)
LATE = timedelta(days=5), timedelta(days=8)
"""How far back to look whether there are intervals at all: gas comes after three days, others now and then late."""
NOTE = (
    "Fluvius tells nobody which meters an account has: EAN and serial number stand on each meter's page in the portal.",
    "Quarter-hours (gas: hours) are switched on per meter in the portal, and begin on the day after.",
)


async def discover(keys: Keys, session: Session) -> Discovery:
    """Look at every configured meter; one that is refused says so in its place."""
    desk = Desk(keys, session)
    await desk.open()
    tree, lines = [], ["meters:"]
    for meter in keys.meters:
        under = await _meter(desk, meter)
        text = f"{meter.commodity} {meter.ean}, meter {meter.serial[-1]}"
        tree.append(Finding(text, {"ean": meter.ean, "serial": [*meter.serial], "commodity": str(meter.commodity)}, under))
        lines.append(_line(meter, any(finding.facts.get("line") == "intervals" for finding in under)))
    return Discovery(tuple(tree), "\n".join(lines), NOTE)


async def _meter(desk: Desk, meter: Meter) -> tuple[Finding, ...]:
    try:
        found = [await _days(desk, meter), await _intervals(desk, meter), await _peaks(desk, meter)]
    except LoginError:
        raise
    except PortalError as error:
        return (Finding(str(error), {"line": "failed", "reason": error.reason}),)
    return tuple(one for one in found if one)


async def _days(desk: Desk, meter: Meter) -> Finding | None:
    last = last_whole_day(desk.session.now, meter.commodity)
    blocks = [last - BLOCK * n + DAY for n in range(THREE_YEARS // BLOCK, 0, -1)]
    newest = await readings.days(desk, meter, Window(blocks[-1], last, meter.commodity))

    async def ask(first: date) -> Sheet:
        return await readings.days(desk, meter, Window(first, first + BLOCK - DAY, meter.commodity))

    return _found("days", newest, await _oldest(blocks[:-1], ask, newest)) if newest.amounts else None


async def _intervals(desk: Desk, meter: Meter) -> Finding | None:
    if desk.keys.api == 2024:
        return None
    last = last_whole_day(desk.session.now, meter.commodity)

    async def ask(day: date) -> Sheet:
        return await readings.intervals(desk, meter, day)

    for late in LATE:
        newest = await ask(last - late)
        if newest.short_time():
            days = [last - late - timedelta(days=n) for n in range(THREE_YEARS.days, 0, -1)]
            return _found("intervals", newest, await _oldest(days, ask, newest))
    return None


async def _peaks(desk: Desk, meter: Meter) -> Finding | None:
    if meter.commodity is not Commodity.ELECTRICITY:
        return None
    today = desk.session.now.astimezone(ZONE).date()
    months = (await readings.peaks(desk, meter, months_before(today, 36), today)).months
    if not months:
        return None
    since = min(months)[0].astimezone(ZONE).date()
    return Finding(f"monthly peaks in kW, since {since:%Y-%m}", {"line": "peaks", "since": since.isoformat(), "unit": "kW"})


async def _oldest(steps: Sequence[date], ask: Callable[[date], Awaitable[Sheet]], found: Sheet) -> Sheet:
    """Find the oldest answer that holds anything, by halves: what the portal has begins once and does not end."""
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        sheet = await ask(steps[middle])
        if sheet.amounts:
            high, found = middle, sheet
        else:
            low = middle + 1
    return found


def _found(line: str, newest: Sheet, oldest: Sheet) -> Finding:
    since = min(start for start, _ in oldest.amounts).astimezone(ZONE).date()
    lengths = sorted({resolution(end - start) for start, end in newest.amounts})
    registers = sorted({one for amounts in newest.amounts.values() for one in amounts})
    under = tuple(
        Finding(
            f"register {one.name}: {one.direction} in {one.unit}",
            {"register": one.name, "direction": str(one.direction), "unit": str(one.unit)},
        )
        for one in registers
    )
    return Finding(
        f"{line} ({', '.join(lengths)}), since {since}", {"line": line, "since": since.isoformat(), "resolutions": lengths}, under
    )


def _line(meter: Meter, intervals: bool) -> str:
    quoted = [f'"{one}"' for one in meter.serial]
    serial = quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"
    more = ", intervals: true" if intervals else ""
    return f'  - {{ean: "{meter.ean}", serial: {serial}, commodity: {meter.commodity}{more}}}'
