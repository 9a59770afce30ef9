"""What every portal is: keys in the configuration, a visit, what can be discovered, raw calls, and the past."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Annotated, Any, ClassVar, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from exporter.duration import Duration as Duration  # noqa: PLC0414  # the portals take it from here
from exporter.duration import say_duration
from exporter.errors import ResponseError
from exporter.model import Commodity, Discovery, Reading, Remember, Told
from exporter.session import Known, Session


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a visit is to bring: the newest, knowing what the ledger already holds."""

    known: Known


@dataclass(frozen=True, slots=True)
class Piece:
    """One call into the past: days [first, last] (local to the usage point), of one line that runs backwards.

    `key` names it for ever (an import that goes on asks no piece twice). When `past` raises EndOfPastError for a piece,
    the import drops the pieces of the same `line` that come after it.
    """

    key: str
    line: str
    first: date
    last: date
    ask: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A read-only call that `raw` offers: what it gives, and its keys with what they mean."""

    help: str
    keys: Mapping[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()


class Portal(BaseModel):
    """One account at a portal: its fields are its keys in the configuration, its methods a visit's steps.

    All methods raise the PortalErrors of `exporter.errors` and no others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    zone: ClassVar[ZoneInfo]
    """The local time of the portal's days."""
    largest: ClassVar[int] = 16 * 1024 * 1024
    """The most bytes that one answer may have."""
    least_every: ClassVar[timedelta] = timedelta(minutes=1)
    most_every: ClassVar[timedelta] = timedelta(days=1)
    login_keys: ClassVar[tuple[str, ...]] = ()
    """The keys whose change lifts a suspension: user, secret, client, address."""
    patience: ClassVar[Mapping[Commodity, timedelta]] = {}
    """How old the newest reading may be before the status page calls it late, where that is not four days."""
    calls: ClassVar[Mapping[str, Call]] = {}
    """What `raw` offers, by name."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=100, description="The account's name; its label `account`, and what commands are given."),
    ]
    portal: Annotated[str, Field(description="Which portal it is at.")]
    every: Annotated[Duration, Field(description="Distance between visits.")]
    timeout: Annotated[Duration, Field(description="Longest wait for one answer.")] = timedelta(seconds=30)
    aliases: Annotated[dict[str, str], Field(description="Names to show instead of the numbers of usage points.")] = {}
    personal_data: Annotated[bool, Field(description="Keep and show addresses, names and customer numbers.")] = False

    @field_validator("every")
    @classmethod
    def _bounded(cls, every: timedelta) -> timedelta:
        if not cls.least_every <= every <= cls.most_every:
            raise ValueError(f"must be {say_duration(cls.least_every)} to {say_duration(cls.most_every)}")
        return every

    async def fetch(self, session: Session, wanted: Wanted) -> AsyncIterator[Told]:
        """Log in if needed and tell what is new; everything told is kept in one transaction, or nothing."""
        raise NotImplementedError
        yield  # pragma: no cover  # makes this an async generator, as its overrides are

    async def discover(self, session: Session) -> Discovery:
        """Look at what the account holds."""
        raise NotImplementedError

    async def raw(self, session: Session, call: str, keys: Mapping[str, str]) -> Any:
        """Give the portal's own JSON answer to one of `calls`."""
        raise NotImplementedError

    async def pieces(self, session: Session, first: date | None, last: date | None) -> list[Piece]:
        """List the calls that fetch the past from `first` to `last`, newest first; None is as far as the portal gives."""
        raise NotImplementedError

    async def past(self, session: Session, piece: Piece) -> Sequence[Reading | Remember]:
        """Make the call of one piece."""
        raise NotImplementedError

    def visiting_time(self, at: datetime) -> datetime:
        """Move an instant to the nearest later one at which this portal may be visited."""
        return at

    @property
    def pace(self) -> timedelta:
        """The least distance between two requests."""
        return timedelta(0)

    def agent(self) -> str:
        """Name the program to the portal."""
        return "utility-exporter"

    def tls(self) -> tuple[str | None, bool]:
        """Give the file of certificate authorities to trust (None: the system's), and whether to verify at all."""
        return None, True

    def budgets(self) -> Mapping[str, tuple[int, timedelta]]:
        """Name the call budgets this account keeps to: how many calls, in how long. Shown beside what is spent."""
        return {}

    def named_points(self) -> frozenset[str]:
        """Give the ids of the usage points that the configuration names: no alias may be one of them."""
        return frozenset()

    def login_digest(self) -> str:
        """Tell whether the login is still the same one: a digest that changes with any of `login_keys`."""
        values = [_shown(getattr(self, key)) for key in self.login_keys]
        return hashlib.sha256(json.dumps([self.portal, *values]).encode()).hexdigest()


Shape = TypeVar("Shape", bound=BaseModel)


Item = TypeVar("Item")
Listed = Annotated[list[Item], Field(fail_fast=True)]
"""A list in an answer, given up at its first fault: of a million only the first is named anyway."""


class AnswerShape(BaseModel):
    """The declared shape of a part of an answer; fields it does not name are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)


def understand(shape: type[Shape], answer: Any, where: str = "the answer") -> Shape:
    """Read an answer by its declared shape.

    Raises ResponseError that names the field, and never its value.
    """
    try:
        return shape.model_validate(answer)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "itself"
        raise ResponseError(f"{where} has changed: {place}: {first['msg'].lower()}") from None


def decimal_comma(text: str) -> float:
    """Read a number written with a decimal comma: "104,250" is 104.25.

    Raises ValueError.
    """
    whole, comma, part = text.strip().partition(",")
    if not (whole.removeprefix("-").isdecimal() and (part.isdecimal() or not comma)):
        raise ValueError("not a number with a decimal comma")
    return float(f"{whole}.{part or 0}")


def _shown(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
