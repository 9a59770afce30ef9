"""The record form of the API of 2024: one object for each meter of the EAN, its registers as fields."""

from typing import Any

from pydantic import AwareDatetime, RootModel

from exporter.model import Commodity
from exporter.portals.base import AnswerShape, Listed, understand
from exporter.portals.fluvius.peaks import KW, TAKEN, MonthlyPeaks, Spike, joined_peaks, understood_spikes
from exporter.portals.fluvius.sheet import Entry, Period, Sheet, joined, understood

NO_SPLIT, DAY, NIGHT, INJECTED, KWH, CUBIC_METRES = 0, 1, 2, 2, 3, 5


class _Day(AnswerShape):
    """Taken (`o`) and injected (`i`), high (`h`) and low (`l`) tariff in kWh; gas in kWh (`ok`) and m³ (`om`)."""

    d: AwareDatetime
    de: AwareDatetime | None = None
    oh: float | None
    ohvs: int | None = None
    ol: float | None
    olvs: int | None = None
    ih: float | None
    ihvs: int | None = None
    il: float | None
    ilvs: int | None = None
    ok: float | None = None
    okvs: int | None = None
    om: float | None = None
    omvs: int | None = None


class _Spike(AnswerShape):
    d: AwareDatetime
    de: AwareDatetime | None = None
    o: float | None
    ovs: int | None = None
    tscs: AwareDatetime | None = None


class _Meter(AnswerShape):
    val: Listed[_Day] | None


class _SpikeMeter(AnswerShape):
    val: Listed[_Spike] | None


class _Meters(RootModel[Listed[_Meter]]):
    pass


class _SpikeMeters(RootModel[Listed[_SpikeMeter]]):
    pass


def sheet(answer: Any, where: str, commodity: Commodity) -> Sheet:
    """Read `[{"sn": ..., "mdf": ..., "mdu": ..., "val": [{"d": ..., "oh": 0.0, "ohvs": 2, ...}, ...]}, ...]`.

    Each meter of the EAN is read by itself, then they are put together. Raises ResponseError that names the field.
    """
    meters = understand(_Meters, answer, where).root
    return joined(understood((_period(day, commodity) for day in meter.val or ()), commodity) for meter in meters)


def spikes(answer: Any, where: str) -> MonthlyPeaks:
    """Read `[{"sn": ..., "val": [{"d": ..., "de": ..., "o": 5.098, "ovs": 2, "tscs": ..., "tecs": ...}]}, ...]`.

    Raises ResponseError that names the field.
    """
    meters = understand(_SpikeMeters, answer, where).root
    return joined_peaks(
        understood_spikes(Spike(one.d, one.de, TAKEN, KW, one.o, one.ovs, one.tscs) for one in meter.val or ())
        for meter in meters
    )


def _period(day: _Day, commodity: Commodity) -> Period:
    gas = Entry(TAKEN, NO_SPLIT, KWH, day.ok, day.okvs), Entry(TAKEN, NO_SPLIT, CUBIC_METRES, day.om, day.omvs)
    electricity = (
        Entry(TAKEN, DAY, KWH, day.oh, day.ohvs),
        Entry(TAKEN, NIGHT, KWH, day.ol, day.olvs),
        Entry(INJECTED, DAY, KWH, day.ih, day.ihvs),
        Entry(INJECTED, NIGHT, KWH, day.il, day.ilvs),
    )
    return Period(day.d, day.de, gas if commodity is Commodity.GAS else electricity)
