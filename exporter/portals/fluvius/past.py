"""The past: three years of days and peaks, and intervals as far back as they were switched on."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from exporter.errors import EndOfPastError, RateLimitError, ResponseError
from exporter.model import DAY, Commodity, Reading
from exporter.portals.base import Piece
from exporter.portals.fluvius import readings
from exporter.portals.fluvius.days import ZONE, Window, last_whole_day, months_before
from exporter.portals.fluvius.desk import Desk
from exporter.portals.fluvius.keys import Keys, Meter
from exporter.session import Session

THREE_YEARS = timedelta(days=3 * 365 + 1)
"""The portal keeps no more."""
SETTLED = timedelta(days=14)
"""When a day is no longer expected to come late or to change."""
BUDGET, HOUR = "history", timedelta(hours=1)


def pieces(keys: Keys, now: datetime, first: date | None, last: date | None) -> list[Piece]:
    """List the requests, the newest days first; each piece keeps its key from day to day once its days are settled."""
    found: list[Piece] = []
    for meter in keys.meters:
        newest = last_whole_day(now, meter.commodity)
        oldest = newest - THREE_YEARS
        begin, end = max(first or oldest, oldest), min(last or newest, newest)
        for what, code in _lines(keys, meter).items():
            line = f"{what}:{readings.digest(meter.ean, meter.serial, keys.api, code)}"
            for start, until in _blocks(what, keys.past_days, begin, end):
                fresh = f"@{newest}" if until > newest - SETTLED else ""
                ask = {"what": what, "meter": readings.digest(meter.ean, meter.serial)}
                found.append(Piece(f"{line}:{start}..{until}{fresh}", line, start, until, ask))
    return sorted(found, key=lambda piece: piece.last, reverse=True)


async def past(keys: Keys, session: Session, piece: Piece) -> list[Reading]:
    """Make the requests of one piece.

    Raises RateLimitError when the budget is spent, and EndOfPastError when intervals stay away for `past_empty_days`.
    """
    desk = Desk(keys, session, before=lambda: _take(keys, session))
    meter = _meter(keys, piece)
    await desk.open()
    if piece.ask["what"] == "peaks":
        today = session.now.astimezone(ZONE).date()
        month_end = months_before(piece.last, -1) - DAY
        return [*(await readings.peaks(desk, meter, piece.first, min(month_end, today))).readings(meter.point)]
    if piece.ask["what"] == "days":
        sheet = await readings.days(desk, meter, Window(piece.first, piece.last, meter.commodity))
    else:
        sheet = await readings.intervals(desk, meter, piece.first)
        if not sheet.amounts and piece.last <= last_whole_day(session.now, meter.commodity) - SETTLED:
            await _empty(keys, session, piece)
    return [*sheet.readings(meter.point, session.now)]


def _lines(keys: Keys, meter: Meter) -> dict[str, int]:
    """Name the lines of a meter, each with the code it is asked by."""
    lines = {"days": keys.day_code()}
    if meter.commodity is Commodity.ELECTRICITY:
        lines["peaks"] = 0
    if meter.intervals:
        lines["intervals"] = keys.interval_code(meter)
    return lines


def _blocks(what: str, size: int, begin: date, end: date) -> Iterator[tuple[date, date]]:
    """Cut [begin, end] where it is always cut: intervals by the day, peaks by the year, days by their count."""
    day = begin
    while day <= end:
        if what == "peaks":
            cut = date(day.year, 12, 31)
        else:
            length = 1 if what == "intervals" else size
            cut = date.fromordinal((day.toordinal() // length + 1) * length - 1)
        yield day, min(cut, end)
        day = cut + DAY


def _meter(keys: Keys, piece: Piece) -> Meter:
    for meter in keys.meters:
        if readings.digest(meter.ean, meter.serial) == piece.ask["meter"]:
            return meter
    raise ResponseError("this piece of the past is of a meter that is no longer in the configuration")


async def _empty(keys: Keys, session: Session, piece: Piece) -> None:
    """Keep the run of days without intervals, and end the line when it is long enough; an import may stop in between."""
    key = f"empty:{piece.line}"
    kept = await session.memory.get(key, session.now)
    oldest, newest = (date.fromisoformat(one) for one in kept) if kept else (piece.first, piece.last)
    if oldest - DAY == piece.last:
        oldest = piece.first
    elif not oldest <= piece.first <= newest:
        oldest, newest = piece.first, piece.last
    await session.memory.put(key, [oldest.isoformat(), newest.isoformat()])
    if (newest - oldest).days + 1 >= keys.past_empty_days:
        raise EndOfPastError(f"no intervals for {keys.past_empty_days} days: the portal has none that are older")


async def _take(keys: Keys, session: Session) -> None:
    """Take one request out of the budget; raises RateLimitError with the wait until there is one again."""
    now, memory = session.now, session.memory
    if await memory.spent(BUDGET, now - HOUR) < keys.past_requests:
        await memory.spend(BUDGET, now)
        return
    for minutes in range(1, 61):
        wait = timedelta(minutes=minutes)
        if await memory.spent(BUDGET, now - HOUR + wait) < keys.past_requests:
            break
    raise RateLimitError(f"the import has made its {keys.past_requests} requests of this hour", wait)
