"""Responses of the data API: amounts and monthly peaks, as the API of 2025 and that of 2024 send them.

2025: records of `d`, `de`, and in `v` one value for each register. 2024: one object for each meter, its registers as fields.
"""

from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field, RootModel

from exporter.errors import ResponseError
from exporter.models import Commodity
from exporter.portals.base import Detail, ResponseModel, TolerantList, parse_tolerantly
from exporter.portals.fluvius.readings import (
    ALL_TARIFFS,
    CONSUMPTION_CODE,
    DAY_TARIFF,
    INJECTION_CODE,
    KW_CODE,
    KWH_CODE,
    M3_CODE,
    NIGHT_TARIFF,
    VALIDATION_STATES,
    MonthlyPeaks,
    ParsedAmounts,
    PeakRecord,
    Record,
    RecordValue,
    build_amounts,
    build_monthly_peaks,
    merge_amounts,
    merge_monthly_peaks,
)


def _parse_state(value: object) -> object:
    return VALIDATION_STATES.get(value, value) if isinstance(value, str) else value


ValidationState = Annotated[Detail[int], BeforeValidator(_parse_state)]
"""A number, or its official name; the value of an unknown state is kept."""
AmountValue = Annotated[float, Field(ge=0)]
PROVISIONAL_FACTOR = "P"
"""A gas factor that is set for good months later."""


class _ValueResponse(ResponseModel):
    dc: int
    t: int | None = None
    u: int
    v: AmountValue | None
    vs: ValidationState = None
    gcuv: Detail[str] = None


class _RecordResponse(ResponseModel):
    d: AwareDatetime
    de: AwareDatetime | None = None
    v: TolerantList[_ValueResponse] | None = None


class _PeakValueResponse(ResponseModel):
    t: int | None = None
    u: int | None = None
    v: AmountValue | None
    vs: ValidationState = None
    sst: Detail[AwareDatetime] = None


class _PeakRecordResponse(ResponseModel):
    d: AwareDatetime
    de: AwareDatetime | None = None
    v: TolerantList[_PeakValueResponse] | None = None


class _RecordList(RootModel[TolerantList[_RecordResponse]]):
    pass


class _PeakRecordList(RootModel[TolerantList[_PeakRecordResponse]]):
    pass


def parse_amounts(body: Any, where: str, commodity: Commodity) -> ParsedAmounts:
    """Parse `[{"d": ..., "de": ..., "v": [{"dc": 1, "t": 1, "v": 9.133, "vs": 2, "u": 3}, ...]}, ...]`.

    A missing `t` means consumption. Raise ResponseError that names the field when nothing can be understood.
    """
    response, skipped = parse_tolerantly(_RecordList, body, where)
    records = response.root
    _check_values_present(records, where)
    return build_amounts((_build_record(record) for record in records), commodity, skipped)


def parse_peaks(body: Any, where: str) -> MonthlyPeaks:
    """Parse `[{"d": ..., "de": ..., "v": [{"t": 1, "v": 5.098, "vs": 2, "u": 4, "sst": ..., "set": ...}]}, ...]`.

    Raise ResponseError that names the field when nothing can be understood.
    """
    response, skipped = parse_tolerantly(_PeakRecordList, body, where)
    records = response.root
    _check_values_present(records, where)
    peaks = (
        PeakRecord(record.d, record.de, _normalize_direction(value.t), value.u, value.v, value.vs, value.sst)
        for record in records
        for value in record.v or ()
    )
    return build_monthly_peaks(peaks, skipped)


def _build_record(record: _RecordResponse) -> Record:
    values = (
        RecordValue(_normalize_direction(one.t), one.dc, one.u, one.v, one.vs, one.gcuv == PROVISIONAL_FACTOR)
        for one in record.v or ()
    )
    return Record(record.d, record.de, tuple(values))


def _normalize_direction(t: int | None) -> int:
    return CONSUMPTION_CODE if t is None else t


def _check_values_present(records: list[_RecordResponse] | list[_PeakRecordResponse], where: str) -> None:
    """Raise ResponseError when none of several records has the field of values: then its name has changed."""
    if len(records) > 1 and not any("v" in record.model_fields_set for record in records):
        raise ResponseError(f"{where} has changed: 0.v: field required")


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


def parse_amounts_2024(body: Any, where: str, commodity: Commodity) -> ParsedAmounts:
    """Parse `[{"sn": ..., "mdf": ..., "mdu": ..., "val": [{"d": ..., "oh": 0.0, "ohvs": 2, ...}, ...]}, ...]`.

    Each meter of the EAN is parsed by itself, then they are merged.
    Raise ResponseError that names the field when nothing can be understood.
    """
    response, skipped = parse_tolerantly(_MeterList2024, body, where)
    meters = ([_build_record_2024(day, commodity) for day in meter.val or ()] for meter in response.root)
    return merge_amounts((build_amounts(records, commodity) for records in meters), skipped)


def parse_peaks_2024(body: Any, where: str) -> MonthlyPeaks:
    """Parse `[{"sn": ..., "val": [{"d": ..., "de": ..., "o": 5.098, "ovs": 2, "tscs": ..., "tecs": ...}]}, ...]`.

    Raise ResponseError that names the field when nothing can be understood.
    """
    response, skipped = parse_tolerantly(_PeakMeterList2024, body, where)
    meters = (
        build_monthly_peaks(
            PeakRecord(record.d, record.de, CONSUMPTION_CODE, KW_CODE, record.o, record.ovs, record.tscs)
            for record in meter.val or ()
        )
        for meter in response.root
    )
    return merge_monthly_peaks(meters, skipped)


def _build_record_2024(day: _DayResponse2024, commodity: Commodity) -> Record:
    gas = (
        RecordValue(CONSUMPTION_CODE, ALL_TARIFFS, KWH_CODE, day.ok, day.okvs, day.okgcf == PROVISIONAL_FACTOR),
        RecordValue(CONSUMPTION_CODE, ALL_TARIFFS, M3_CODE, day.om, day.omvs),
    )
    electricity = (
        RecordValue(CONSUMPTION_CODE, DAY_TARIFF, KWH_CODE, day.oh, day.ohvs),
        RecordValue(CONSUMPTION_CODE, NIGHT_TARIFF, KWH_CODE, day.ol, day.olvs),
        RecordValue(INJECTION_CODE, DAY_TARIFF, KWH_CODE, day.ih, day.ihvs),
        RecordValue(INJECTION_CODE, NIGHT_TARIFF, KWH_CODE, day.il, day.ilvs),
    )
    return Record(day.d, day.de, gas if commodity is Commodity.GAS else electricity)
