"""The three lines of a meter: days, intervals and monthly peaks, over all the meters once mounted at a usage point.

An older meter is only asked where the time it was in place can matter.
"""

import hashlib
from datetime import date

from exporter.model import Commodity, Note
from exporter.portals.fluvius import answers, answers_2024
from exporter.portals.fluvius.days import Window, month_edge, months_before
from exporter.portals.fluvius.desk import Desk
from exporter.portals.fluvius.keys import Meter
from exporter.portals.fluvius.peaks import MonthlyPeaks, joined_peaks
from exporter.portals.fluvius.sheet import Sheet, joined, understood
from exporter.portals.fluvius.tenure import Tenure


def digest(*parts: object) -> str:
    """Name a meter, or a line of it, in what is kept: the same for ever, and no personal number."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


async def days(desk: Desk, meter: Meter, window: Window) -> Sheet:
    """Read whole days.

    With replaced meters one day more is asked: when the present meter has it, all of the window is its own, and an older
    one adds nothing. Else the day it was mounted may lie in the window, and needs both halves.
    """
    code, where = desk.keys.day_code(), f"{desk.place(meter)}, days"
    if desk.keys.api == 2024:
        return answers_2024.sheet(await desk.history(meter, None, window, code), where, meter.commodity)
    asked = window.with_day_before() if len(meter.serial) > 1 else window
    sheets = []
    for serial in reversed(meter.serial):
        answer = await desk.history(meter, serial, asked, code)
        sheets.append(understood(answers.periods(answer, where), meter.commodity))
        if any(start < window.start for start, _ in sheets[-1].amounts):
            break
    return joined(sheets).without_before(window.start)


async def intervals(desk: Desk, meter: Meter, day: date) -> Sheet:
    """Read one metering day in quarter-hours (gas: hours); an older meter is asked when the present one lacks a part of it."""
    window, where = Window(day, day, meter.commodity), f"{desk.place(meter)}, intervals"
    key, count = f"tenure:{digest(meter.ean, meter.serial)}", len(meter.serial)
    tenure = await Tenure.recall(desk.session, key)
    sheets = []
    for number in filter(lambda one: tenure.may_have(one, day), reversed(range(count))):
        answer = await desk.history(meter, meter.serial[number], window, desk.keys.interval_code(meter))
        sheets.append(understood(answers.periods(answer, where), meter.commodity))
        if whole := sheets[-1].short_time() >= window.end - window.start:
            await tenure.learn(desk.session, key, number, count, day)
        if whole or tenure.is_alone(number, day):
            break
    return joined(sheets)


async def peaks(desk: Desk, meter: Meter, first: date, last: date) -> MonthlyPeaks:
    """Read the monthly peaks from the month of `first` to `last`; as with days, one month more tells whose they are."""
    where = f"{desk.place(meter)}, peaks"
    several = desk.keys.api == 2025 and len(meter.serial) > 1
    window = Window(months_before(first, 1 if several else 0), last, Commodity.ELECTRICITY)
    if desk.keys.api == 2024:
        return answers_2024.spikes(await desk.spikes(meter, None, window), where)
    found = []
    for serial in reversed(meter.serial):
        found.append(answers.spikes(await desk.spikes(meter, serial, window), where))
        if any(start < month_edge(first) for start, _ in found[-1].months):
            break
    return joined_peaks(found).without_before(month_edge(first))


def notes(desk: Desk, meter: Meter, sheet: Sheet | MonthlyPeaks) -> list[Note]:
    """Tell what had to be left out of an answer."""
    if not sheet.left_out:
        return []
    counted = ", ".join(f"{count} {what}" for what, count in sorted(sheet.left_out.items()))
    return [Note(f"{desk.place(meter)}: the portal sent what is not understood, and it was left out: {counted}")]
