"""Responses of the API of 2024: one object for each meter of the EAN, its registers as fields."""

from collections import Counter
from typing import Any

from pydantic import AwareDatetime, RootModel

from exporter.models import Commodity
from exporter.portals.base import Detail, ResponseModel, TolerantList, parse_response
from exporter.portals.fluvius.amounts import (
    CONSUMPTION_CODE,
    DAY_REGISTER,
    INJECTION_CODE,
    KW_CODE,
    KWH_CODE,
    M3_CODE,
    NIGHT_REGISTER,
    TOTAL_REGISTER,
    ParsedAmounts,
    Record,
    RecordValue,
    build_amounts,
    merge_amounts,
)
from exporter.portals.fluvius.parser import PROVISIONAL_FACTOR, AmountValue, ValidationState
from exporter.portals.fluvius.peaks import MonthlyPeaks, PeakRecord, build_monthly_peaks, merge_monthly_peaks


class _DayResponse2024(ResponseModel):
    """Consumption (`o`) and injection (`i`), high (`h`) and low (`l`) tariff in kWh; gas in kWh (`ok`) and m³ (`om`)."""

    d: AwareDatetime
    de: AwareDatetime | None = None
    oh: AmountValue | None
    ohvs: ValidationState = None
    ol: AmountValue | None
    olvs: ValidationState = None
    ih: AmountValue | None
    ihvs: ValidationState = None
    il: AmountValue | None
    ilvs: ValidationState = None
    ok: AmountValue | None = None
    okvs: ValidationState = None
    om: AmountValue | None = None
    omvs: ValidationState = None
    okgcf: Detail[str] = None


class _PeakResponse2024(ResponseModel):
    d: AwareDatetime
    de: AwareDatetime | None = None
    o: AmountValue | None
    ovs: ValidationState = None
    tscs: Detail[AwareDatetime] = None


class _MeterResponse2024(ResponseModel):
    val: TolerantList[_DayResponse2024] | None


class _PeakMeterResponse2024(ResponseModel):
    val: TolerantList[_PeakResponse2024] | None


class _MeterList2024(RootModel[TolerantList[_MeterResponse2024]]):
    pass


class _PeakMeterList2024(RootModel[TolerantList[_PeakMeterResponse2024]]):
    pass


def parse_amounts(body: Any, where: str, commodity: Commodity) -> ParsedAmounts:
    """Parse `[{"sn": ..., "mdf": ..., "mdu": ..., "val": [{"d": ..., "oh": 0.0, "ohvs": 2, ...}, ...]}, ...]`.

    Each meter of the EAN is parsed by itself, then they are merged.
    Raise ResponseError that names the field when nothing can be understood.
    """
    skipped = Counter[str]()
    meters = parse_response(_MeterList2024, body, where, skipped).root
    parsed = merge_amounts(
        build_amounts((_build_record(day, commodity) for day in meter.val or ()), commodity) for meter in meters
    )
    parsed.skipped += skipped
    return parsed


def parse_peaks(body: Any, where: str) -> MonthlyPeaks:
    """Parse `[{"sn": ..., "val": [{"d": ..., "de": ..., "o": 5.098, "ovs": 2, "tscs": ..., "tecs": ...}]}, ...]`.

    Raise ResponseError that names the field when nothing can be understood.
    """
    skipped = Counter[str]()
    meters = parse_response(_PeakMeterList2024, body, where, skipped).root
    peaks = merge_monthly_peaks(
        build_monthly_peaks(
            PeakRecord(record.d, record.de, CONSUMPTION_CODE, KW_CODE, record.o, record.ovs, record.tscs)
            for record in meter.val or ()
        )
        for meter in meters
    )
    peaks.skipped += skipped
    return peaks


def _build_record(day: _DayResponse2024, commodity: Commodity) -> Record:
    gas = (
        RecordValue(CONSUMPTION_CODE, TOTAL_REGISTER, KWH_CODE, day.ok, day.okvs, day.okgcf == PROVISIONAL_FACTOR),
        RecordValue(CONSUMPTION_CODE, TOTAL_REGISTER, M3_CODE, day.om, day.omvs),
    )
    electricity = (
        RecordValue(CONSUMPTION_CODE, DAY_REGISTER, KWH_CODE, day.oh, day.ohvs),
        RecordValue(CONSUMPTION_CODE, NIGHT_REGISTER, KWH_CODE, day.ol, day.olvs),
        RecordValue(INJECTION_CODE, DAY_REGISTER, KWH_CODE, day.ih, day.ihvs),
        RecordValue(INJECTION_CODE, NIGHT_REGISTER, KWH_CODE, day.il, day.ilvs),
    )
    return Record(day.d, day.de, gas if commodity is Commodity.GAS else electricity)
