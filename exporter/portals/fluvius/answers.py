"""The record form of the API of 2025: `d`, `de`, and in `v` one value for each register."""

from typing import Any

from pydantic import AwareDatetime, RootModel

from exporter.errors import ResponseError
from exporter.portals.base import AnswerShape, Listed, understand
from exporter.portals.fluvius.peaks import MonthlyPeaks, Spike, understood_spikes
from exporter.portals.fluvius.sheet import Entry, Period


class _Value(AnswerShape):
    dc: int
    t: int | None = None
    u: int
    v: float | None
    vs: int | None = None


class _Record(AnswerShape):
    d: AwareDatetime
    de: AwareDatetime | None = None
    v: Listed[_Value] | None = None


class _SpikeValue(AnswerShape):
    t: int | None = None
    u: int | None = None
    v: float | None
    vs: int | None = None
    sst: AwareDatetime | None = None


class _SpikeRecord(AnswerShape):
    d: AwareDatetime
    de: AwareDatetime | None = None
    v: Listed[_SpikeValue] | None = None


class _Records(RootModel[Listed[_Record]]):
    pass


class _SpikeRecords(RootModel[Listed[_SpikeRecord]]):
    pass


def periods(answer: Any, where: str) -> list[Period]:
    """Read `[{"d": ..., "de": ..., "v": [{"dc": 1, "t": 1, "v": 9.133, "vs": 2, "u": 3}, ...]}, ...]`.

    A missing `t` means taken from the grid. Raises ResponseError that names the field.
    """
    records = understand(_Records, answer, where).root
    _some_values(records, where)
    return [
        Period(one.d, one.de, tuple(Entry(_taken(value.t), value.dc, value.u, value.v, value.vs) for value in one.v or ()))
        for one in records
    ]


def spikes(answer: Any, where: str) -> MonthlyPeaks:
    """Read `[{"d": ..., "de": ..., "v": [{"t": 1, "v": 5.098, "vs": 2, "u": 4, "sst": ..., "set": ...}]}, ...]`.

    Raises ResponseError that names the field.
    """
    records = understand(_SpikeRecords, answer, where).root
    _some_values(records, where)
    return understood_spikes(
        Spike(one.d, one.de, _taken(value.t), value.u, value.v, value.vs, value.sst) for one in records for value in one.v or ()
    )


def _taken(t: int | None) -> int:
    return 1 if t is None else t


def _some_values(records: list[_Record] | list[_SpikeRecord], where: str) -> None:
    """A record may come without values; that none of several has the field at all means that its name changed."""
    if len(records) > 1 and not any("v" in one.model_fields_set for one in records):
        raise ResponseError(f"{where} has changed: 0.v: field required")
