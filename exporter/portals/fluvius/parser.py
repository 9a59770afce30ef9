"""Responses of the API of 2025: records of `d`, `de`, and in `v` one value for each register."""

from typing import Any

from pydantic import AwareDatetime, RootModel

from exporter.errors import ResponseError
from exporter.portals.base import FailFastList, ResponseModel, parse_response
from exporter.portals.fluvius.amounts import Record, RecordValue
from exporter.portals.fluvius.peaks import MonthlyPeaks, PeakRecord, build_monthly_peaks


class _ValueResponse(ResponseModel):
    dc: int
    t: int | None = None
    u: int
    v: float | None
    vs: int | None = None


class _RecordResponse(ResponseModel):
    d: AwareDatetime
    de: AwareDatetime | None = None
    v: FailFastList[_ValueResponse] | None = None


class _PeakValueResponse(ResponseModel):
    t: int | None = None
    u: int | None = None
    v: float | None
    vs: int | None = None
    sst: AwareDatetime | None = None


class _PeakRecordResponse(ResponseModel):
    d: AwareDatetime
    de: AwareDatetime | None = None
    v: FailFastList[_PeakValueResponse] | None = None


class _RecordList(RootModel[FailFastList[_RecordResponse]]):
    pass


class _PeakRecordList(RootModel[FailFastList[_PeakRecordResponse]]):
    pass


def parse_records(body: Any, where: str) -> list[Record]:
    """Parse `[{"d": ..., "de": ..., "v": [{"dc": 1, "t": 1, "v": 9.133, "vs": 2, "u": 3}, ...]}, ...]`.

    A missing `t` means consumption. Raises ResponseError that names the field.
    """
    records = parse_response(_RecordList, body, where).root
    _check_values_present(records, where)
    return [
        Record(
            record.d,
            record.de,
            tuple(RecordValue(_normalize_direction(value.t), value.dc, value.u, value.v, value.vs) for value in record.v or ()),
        )
        for record in records
    ]


def parse_peaks(body: Any, where: str) -> MonthlyPeaks:
    """Parse `[{"d": ..., "de": ..., "v": [{"t": 1, "v": 5.098, "vs": 2, "u": 4, "sst": ..., "set": ...}]}, ...]`.

    Raises ResponseError that names the field.
    """
    records = parse_response(_PeakRecordList, body, where).root
    _check_values_present(records, where)
    return build_monthly_peaks(
        PeakRecord(record.d, record.de, _normalize_direction(value.t), value.u, value.v, value.vs, value.sst)
        for record in records
        for value in record.v or ()
    )


def _normalize_direction(t: int | None) -> int:
    return 1 if t is None else t


def _check_values_present(records: list[_RecordResponse] | list[_PeakRecordResponse], where: str) -> None:
    """Raise ResponseError when none of several records has the field of values: then its name has changed."""
    if len(records) > 1 and not any("v" in record.model_fields_set for record in records):
        raise ResponseError(f"{where} has changed: 0.v: field required")
