"""A visit: the last days of every meter, the monthly peaks, then missing intervals; one part's failure spares the rest."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial

from exporter.errors import LoginError, PortalError, RateLimitError, UnreachableError
from exporter.model import Commodity, Inventory, Note, Shortfall, Told
from exporter.portals.base import Wanted
from exporter.portals.fluvius import readings
from exporter.portals.fluvius.days import ZONE, Window, last_whole_day, months_before
from exporter.portals.fluvius.desk import Desk
from exporter.portals.fluvius.due import Due, asked, due
from exporter.portals.fluvius.keys import Keys, Meter
from exporter.portals.fluvius.sheet import Sheet
from exporter.session import Session

MONTHS_BACK = 13
LATEST = timedelta(days=5)
"""A day older than this would be there if the portal had any intervals of the meter."""


async def visit(keys: Keys, session: Session, wanted: Wanted) -> AsyncIterator[Told]:
    """Tell all that is new; raises what the sign-in raises, and the first error when no part worked."""
    desk, parts = Desk(keys, session), _Parts()
    await desk.open()
    yield Inventory(tuple(meter.point for meter in keys.meters))
    for meter in keys.meters:
        for ask in (_days, _peaks) if meter.commodity is Commodity.ELECTRICITY else (_days,):
            for told in await parts.ask(meter, partial(ask, desk, meter)):
                yield told
    for missing in await due(keys, session, wanted.known):
        for told in await parts.ask(missing.meter, partial(_intervals, desk, missing)):
            yield told
    for told in parts.ended():
        yield told


class _Parts:
    """What became of a visit's parts.

    When the portal cannot be reached for a meter, that meter is left for the next visit; when it asks us to slow down,
    or refuses the login, so are all.
    """

    def __init__(self) -> None:
        self._worked = False
        self._failed: list[PortalError] = []
        self._left: set[str] = set()
        self._slow = False

    async def ask(self, meter: Meter, part: Callable[[], Awaitable[list[Told]]]) -> list[Told]:
        """Give what a part tells; nothing when it failed or was left."""
        if self._slow or meter.ean in self._left:
            return []
        try:
            told = await part()
        except LoginError:
            raise
        except PortalError as error:
            self._failed.append(error)
            self._slow = isinstance(error, RateLimitError)
            self._left |= {meter.ean} if isinstance(error, UnreachableError) else set()
            return []
        self._worked = True
        return told

    def ended(self) -> Iterator[Shortfall]:
        """Tell what failed; raises it when that was everything."""
        if self._failed and not self._worked:
            raise self._failed[0]
        return map(Shortfall, self._failed)


async def _days(desk: Desk, meter: Meter) -> list[Told]:
    last = last_whole_day(desk.session.now, meter.commodity)
    sheet = await readings.days(desk, meter, Window(last - timedelta(days=desk.keys.days - 1), last, meter.commodity))
    told = _all(desk, meter, sheet)
    if sheet.amounts and not sheet.has_days():
        told.append(_other_length(desk, meter, "day", desk.keys.day_code()))
    return told


async def _peaks(desk: Desk, meter: Meter) -> list[Told]:
    today = desk.session.now.astimezone(ZONE).date()
    peaks = await readings.peaks(desk, meter, months_before(today, MONTHS_BACK), today)
    return [*peaks.readings(meter.point), *readings.notes(desk, meter, peaks)]


async def _intervals(desk: Desk, missing: Due) -> list[Told]:
    meter = missing.meter
    sheet = await readings.intervals(desk, meter, missing.day)
    await asked(desk.keys, desk.session, meter, missing.day)
    told = _all(desk, meter, sheet)
    if sheet.amounts and not sheet.short_time():
        told.append(_other_length(desk, meter, "interval", desk.keys.interval_code(meter)))
    day = Window(missing.day, missing.day, meter.commodity)
    if not sheet.amounts and missing.nothing_kept and desk.session.now - day.end > LATEST:
        told.append(Note(f"{desk.place(meter)}: no intervals come; quarter-hours (gas: hours) are switched on in the portal"))
    return told


def _all(desk: Desk, meter: Meter, sheet: Sheet) -> list[Told]:
    return [*sheet.readings(meter.point, desk.session.now), *readings.notes(desk, meter, sheet)]


def _other_length(desk: Desk, meter: Meter, what: str, code: int) -> Note:
    return Note(f"{desk.place(meter)}: code {code} brought records of another length than a {what}: see the key `granularity`")
