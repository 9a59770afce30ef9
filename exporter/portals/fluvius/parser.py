"""Responses of the API of 2025: records of `d`, `de`, and in `v` one value for each register."""

from collections import Counter
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field, RootModel

from exporter.errors import ResponseError
from exporter.models import Commodity
from exporter.portals.base import Detail, ResponseModel, TolerantList, parse_response
from exporter.portals.fluvius.amounts import VALIDATION_STATES, ParsedAmounts, Record, RecordValue, build_amounts
from exporter.portals.fluvius.peaks import MonthlyPeaks, PeakRecord, build_monthly_peaks


def _name_to_state(value: object) -> object:
    return VALIDATION_STATES.get(value, value) if isinstance(value, str) else value


ValidationState = Annotated[Detail[int], BeforeValidator(_name_to_state)]
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


def parse_records(body: Any, where: str, commodity: Commodity) -> ParsedAmounts:
    """Parse `[{"d": ..., "de": ..., "v": [{"dc": 1, "t": 1, "v": 9.133, "vs": 2, "u": 3}, ...]}, ...]`.

    A missing `t` means consumption. Raise ResponseError that names the field when nothing can be understood.
    """
    skipped = Counter[str]()
    records = parse_response(_RecordList, body, where, skipped).root
    _check_values_present(records, where)
    parsed = build_amounts((_build_record(record) for record in records), commodity)
    parsed.skipped += skipped
    return parsed


def parse_peaks(body: Any, where: str) -> MonthlyPeaks:
    """Parse `[{"d": ..., "de": ..., "v": [{"t": 1, "v": 5.098, "vs": 2, "u": 4, "sst": ..., "set": ...}]}, ...]`.

    Raise ResponseError that names the field when nothing can be understood.
    """
    skipped = Counter[str]()
    records = parse_response(_PeakRecordList, body, where, skipped).root
    _check_values_present(records, where)
    peaks = build_monthly_peaks(
        PeakRecord(record.d, record.de, _normalize_direction(value.t), value.u, value.v, value.vs, value.sst)
        for record in records
        for value in record.v or ()
    )
    peaks.skipped += skipped
    return peaks


def _build_record(record: _RecordResponse) -> Record:
    values = (
        RecordValue(_normalize_direction(one.t), one.dc, one.u, one.v, one.vs, one.gcuv == PROVISIONAL_FACTOR)
        for one in record.v or ()
    )
    return Record(record.d, record.de, tuple(values))


def _normalize_direction(t: int | None) -> int:
    return 1 if t is None else t


def _check_values_present(records: list[_RecordResponse] | list[_PeakRecordResponse], where: str) -> None:
    """Raise ResponseError when none of several records has the field of values: then its name has changed."""
    if len(records) > 1 and not any("v" in record.model_fields_set for record in records):
        raise ResponseError(f"{where} has changed: 0.v: field required")
