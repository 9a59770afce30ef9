"""Models of responses about measures, of 2026 and v5."""

from typing import Annotated, Any

from pydantic import Field

from exporter.portals.base import FailFastList, ResponseModel, TolerantList

FiniteNumber = Annotated[float, Field(allow_inf_nan=False)]
"""Numbers come as text ("540"); pydantic reads both."""


class ValueRow(ResponseModel):
    """A value of 2026: `{"v": "412", "d": "2026-11-01 00:30:00", "p": "PT30M"}`; `v` can be null."""

    value: Annotated[FiniteNumber | None, Field(alias="v")]
    stamp: Annotated[str, Field(alias="d")]
    length: Annotated[str | None, Field(alias="p")] = None


class RegisterRow(ResponseModel):
    """A reading of a register: `{"d": "2026-11-01 00:00:00", "v": 7340112}`; the parser looks at each by itself."""

    value: Annotated[object, Field(alias="v")] = ""
    stamp: Annotated[object, Field(alias="d")] = ""


class TariffClassResponse(ResponseModel):
    """Readings of one tariff class of a calendar."""

    id: Annotated[str, Field(alias="idClasseTemporelle", min_length=1)]
    label: Annotated[str | None, Field(alias="libelleClasseTemporelle")] = None
    values: Annotated[TolerantList[RegisterRow] | None, Field(alias="valeur")] = None


class CalendarResponse(ResponseModel):
    """The tariff classes of one calendar; together they are the total."""

    id: Annotated[str | None, Field(alias="idCalendrier")] = None
    classes: Annotated[FailFastList[TariffClassResponse] | None, Field(alias="classeTemporelle")] = None


class TotalRegisterResponse(ResponseModel):
    """Readings of the register of all classes."""

    values: Annotated[TolerantList[RegisterRow] | None, Field(alias="valeur")] = None


class QuantityResponse(ResponseModel):
    """A series (`grandeur`): `points`, or for registers calendars and a total."""

    flow: Annotated[str, Field(alias="grandeurMetier")]
    physical: Annotated[str, Field(alias="grandeurPhysique")]
    unit: Annotated[str, Field(alias="unite")]
    points: TolerantList[ValueRow] | None = None
    calendars: Annotated[FailFastList[CalendarResponse] | None, Field(alias="calendrier")] = None
    total: Annotated[TotalRegisterResponse | None, Field(alias="cadranTotalisateur")] = None


class ReadingContextResponse(ResponseModel):
    """Registers read on one occasion: `COL` is the ordinary collection, others surround events of the contract."""

    occasion: Annotated[str | None, Field(alias="contexteReleve")] = None
    quantities: Annotated[TolerantList[QuantityResponse] | None, Field(alias="grandeur")] = None


class MeasureResponse2026(ResponseModel):
    """A response of 2026; `grandeur` can be empty or absent."""

    prm: Annotated[str, Field(alias="idPrm")]
    quantities: Annotated[TolerantList[QuantityResponse] | None, Field(alias="grandeur")] = None
    contexts: Annotated[FailFastList[ReadingContextResponse] | None, Field(alias="contexte")] = None


class ValueRowV5(ResponseModel):
    """A value of v5."""

    value: FiniteNumber | None
    stamp: Annotated[str, Field(alias="date")]
    length: Annotated[str | None, Field(alias="interval_length")] = None


class ReadingTypeV5(ResponseModel):
    """What the values of v5 are."""

    unit: str


class MeasureResponseV5(ResponseModel):
    """A response of v5, without its outer `meter_reading`."""

    prm: Annotated[str, Field(alias="usage_point_id")]
    reading_type: ReadingTypeV5
    values: Annotated[TolerantList[ValueRowV5] | None, Field(alias="interval_reading")]


def is_v5(body: Any) -> bool:
    """Whether a body is of v5, not of 2026."""
    return isinstance(body, dict) and bool(body.keys() & {"meter_reading", "reading_type", "interval_reading"})
