"""The declared shapes of measure answers: the form of 2026, and the one before (v5)."""

from typing import Annotated, Any

from pydantic import Field

from exporter.portals.base import AnswerShape, Listed

Number = Annotated[float, Field(allow_inf_nan=False)]
"""Numbers come as text ("540"); pydantic reads both."""


class Point(AnswerShape):
    """A value of 2026: `{"v": "412", "d": "2026-11-01 00:30:00", "p": "PT30M"}`; `v` can be null."""

    value: Annotated[Number | None, Field(alias="v")]
    stamp: Annotated[str, Field(alias="d")]
    length: Annotated[str | None, Field(alias="p")] = None


class TariffClass(AnswerShape):
    """Readings of one tariff class of a calendar."""

    id: Annotated[str, Field(alias="idClasseTemporelle", min_length=1)]
    label: Annotated[str | None, Field(alias="libelleClasseTemporelle")] = None
    values: Annotated[Listed[Point] | None, Field(alias="valeur")] = None


class Calendar(AnswerShape):
    """The tariff classes of one calendar; together they are the total."""

    classes: Annotated[Listed[TariffClass] | None, Field(alias="classeTemporelle")] = None


class TotalDial(AnswerShape):
    """Readings of the dial that sums all classes."""

    values: Annotated[Listed[Point] | None, Field(alias="valeur")] = None


class Quantity(AnswerShape):
    """A series (`grandeur`): `points`, or for registers calendars and a total."""

    flow: Annotated[str, Field(alias="grandeurMetier")]
    physical: Annotated[str, Field(alias="grandeurPhysique")]
    unit: Annotated[str, Field(alias="unite")]
    points: Listed[Point] | None = None
    calendars: Annotated[Listed[Calendar] | None, Field(alias="calendrier")] = None
    total: Annotated[TotalDial | None, Field(alias="cadranTotalisateur")] = None


class Context(AnswerShape):
    """Registers read on one occasion: `COL` is the ordinary collection, others surround events of the contract."""

    occasion: Annotated[str | None, Field(alias="contexteReleve")] = None
    quantities: Annotated[Listed[Quantity] | None, Field(alias="grandeur")] = None


class Answer2026(AnswerShape):
    """An answer of 2026; `grandeur` can be empty or absent."""

    prm: Annotated[str, Field(alias="idPrm")]
    quantities: Annotated[Listed[Quantity] | None, Field(alias="grandeur")] = None
    contexts: Annotated[Listed[Context] | None, Field(alias="contexte")] = None


class OldValue(AnswerShape):
    """A value of v5."""

    value: Number | None
    stamp: Annotated[str, Field(alias="date")]
    length: Annotated[str | None, Field(alias="interval_length")] = None


class ReadingType(AnswerShape):
    """What the values of v5 are."""

    unit: str


class AnswerV5(AnswerShape):
    """An answer of v5, without its outer `meter_reading`."""

    prm: Annotated[str, Field(alias="usage_point_id")]
    reading_type: ReadingType
    values: Annotated[Listed[OldValue] | None, Field(alias="interval_reading")]


def is_v5(answer: Any) -> bool:
    """Tell the two forms apart."""
    return isinstance(answer, dict) and bool(answer.keys() & {"meter_reading", "reading_type", "interval_reading"})
