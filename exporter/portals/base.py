"""The base class of portals, and what their parsers share."""

import copy
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from exporter.client.session import Session
from exporter.duration import Duration, format_duration
from exporter.errors import PortalError, ResponseError
from exporter.models import Commodity, Discovery, VisitResult
from exporter.recording.rules import RedactionRules
from exporter.recording.shape import observe_shape
from exporter.sync.feeds import Feed, FeedResult, Pace


@dataclass(frozen=True, slots=True)
class RawCall:
    """A read-only call of the command `raw`: its description, and its parameters with their descriptions."""

    description: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()


class ConfigBlock(BaseModel):
    """A block of configuration keys: its fields are the keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    example: ClassVar[str] = ""
    """How the block is written, for the error where something else stands in its place."""

    @model_validator(mode="before")
    @classmethod
    def _check_form(cls, block: object) -> object:
        if cls.example and not isinstance(block, dict | cls):
            raise ValueError(f"must be a block: write {cls.example}")
        return block


class AccountConfig(ConfigBlock):
    """The configuration of one account: its fields are its configuration keys."""

    min_every: ClassVar[timedelta] = timedelta(minutes=1)
    max_every: ClassVar[timedelta] = timedelta(days=1)
    login_keys: ClassVar[tuple[str, ...]] = ()
    """The keys whose change lifts a suspension after a refused login."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=100, description="The account's name: its label `account`, and the argument of commands."),
    ]
    portal: Annotated[str, Field(description="Which portal it is at.")]
    every: Annotated[Duration, Field(description="Distance between visits.")]
    timeout: Annotated[Duration, Field(description="Maximum time to wait for a response.")] = timedelta(seconds=30)
    aliases: Annotated[dict[str, str], Field(description="Names to show instead of the numbers of usage points.")] = {}
    personal_data: Annotated[bool, Field(description="Keep and show addresses, names and customer numbers.")] = False

    @field_validator("every")
    @classmethod
    def _check_every(cls, every: timedelta) -> timedelta:
        if not cls.min_every <= every <= cls.max_every:
            raise ValueError(f"must be {format_duration(cls.min_every)} to {format_duration(cls.max_every)}")
        return every

    @property
    def min_request_gap(self) -> timedelta:
        """The minimum time between two requests."""
        return timedelta(0)

    def build_user_agent(self) -> str:
        """Return the header `User-Agent`."""
        return "utility-exporter"

    def get_tls_settings(self) -> tuple[str | None, bool]:
        """Return the file of certificate authorities to trust (None: the system's), and whether to verify at all."""
        return None, True

    def configured_usage_points(self) -> frozenset[str]:
        """Return the ids of the usage points in the configuration; no alias may be one of them."""
        return frozenset()

    def build_login_digest(self) -> str:
        """Return a digest that changes with any of `login_keys`."""
        values = [_to_digest_value(getattr(self, key)) for key in self.login_keys]
        return hashlib.sha256(json.dumps([self.portal, *values]).encode()).hexdigest()


class Portal:
    """What one account is asked at its portal, made from the account's configuration.

    All methods that make requests raise PortalError and its subclasses, and nothing else.
    """

    config_model: ClassVar[type[AccountConfig]]
    """The configuration that it is made from."""
    zone: ClassVar[ZoneInfo]
    """The time zone of the portal's days."""
    max_response_bytes: ClassVar[int] = 16 * 1024 * 1024
    """The maximum size of one response."""
    derives_days: ClassVar[bool] = False
    """Whether the portal states only what its counters show, every hour or so: amounts of days are then calculated from that."""
    stale_after: ClassVar[Mapping[Commodity, timedelta]] = {}
    """How old the newest reading may be before the status page calls it late; four days where nothing else is given."""
    raw_calls: ClassVar[Mapping[str, RawCall]] = {}
    """The calls of the command `raw`, by name."""
    redaction: ClassVar[RedactionRules] = RedactionRules()
    """What a recording may show of its requests and responses as it is."""

    def __init__(self, config: AccountConfig) -> None:
        self.config = config

    @property
    def name(self) -> str:
        """The account's name."""
        return self.config.name

    async def fetch_latest(self, session: Session) -> VisitResult:
        """Log in if needed and return what is asked at every visit whatever is known: indexes, flags, inventory, holder."""
        raise NotImplementedError

    def list_feeds(self) -> Sequence[Feed]:
        """Return the feeds: the series of questions whose days the engine asks for (`exporter/sync`)."""
        return ()

    async def read(self, session: Session, feed: Feed, first: date, last: date) -> FeedResult:
        """Make one request (or the few that make one) for local days [first, last] of a feed.

        Raise NoDataError for a good response with nothing, FeedRefusedError, TooOldError, TooLongError; and the general ones:
        RateLimitError, UnreachableError, LoginError, ResponseError.
        """
        raise NotImplementedError

    @property
    def pace(self) -> Pace:
        """How fast the engine may ask for feeds."""
        return Pace()

    async def discover(self, session: Session) -> Discovery:
        """Return what the account holds."""
        raise NotImplementedError

    async def fetch_raw(self, session: Session, call: str, parameters: Mapping[str, str]) -> Any:
        """Return the portal's own JSON for one of `raw_calls`."""
        raise NotImplementedError

    def adjust_visit_time(self, at: datetime) -> datetime:
        """Return the first instant from `at` on at which this portal may be visited."""
        return at

    def list_quotas(self) -> Mapping[str, tuple[int, timedelta]]:
        """Return the request quotas of this account, by name: how many requests, in how long."""
        return {}

    @classmethod
    def get_redaction_rules(cls) -> RedactionRules:
        """Return what a recording may show, by the source of the portal's own package where none is named."""
        rules, module = cls.redaction, cls.__module__
        return rules if rules.package else replace(rules, package=module.rpartition(".")[0] or module)


def _check_base_url(url: str) -> str:
    parts = urlsplit(url)
    is_plain = not (parts.username or parts.query or parts.fragment or any(map(str.isspace, url)))
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
        raise ValueError("must be an address like https://host/path, without user, query or fragment")
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_check_base_url)]
"""A configuration key: a host with its scheme, and maybe the start of a path; a final slash is dropped."""

ModelT = TypeVar("ModelT", bound=BaseModel)
ItemT = TypeVar("ItemT")
FailFastList = Annotated[list[ItemT], Field(fail_fast=True)]
"""A list whose validation stops at the first error: only one is reported anyway."""


def _skip_invalid_items(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> list[Any]:
    """Validate a list item by item when it does not validate as a whole, and count what is left out."""
    skipped: Counter[str] | None = (info.context or {}).get("skipped")
    before = Counter(skipped)
    try:
        return validate(value)  # type: ignore[no-any-return]
    except ValidationError as error:
        if skipped is None or not isinstance(value, list):
            raise
        whole = error
    skipped.clear()
    skipped.update(before)
    kept: list[Any] = []
    for item in value:
        found = Counter(skipped)
        try:
            kept += validate([item])
        except ValidationError as error:
            skipped.clear()
            skipped.update(found)
            skipped[describe_field(error, info.field_name if info.field_name != "root" else None)] += 1
    if kept or not value:
        return kept
    skipped.clear()
    skipped.update(before)
    raise whole


def describe_field(error: ValidationError, list_name: str | None) -> str:
    """Return the field of the first error in an item of a list, without places in lists: `v.vs`."""
    location = error.errors(include_input=False, include_url=False, include_context=False)[0]["loc"]
    return ".".join(str(part) for part in (list_name, *location) if part and not isinstance(part, int)) or "an entry"


TolerantList = Annotated[list[ItemT], Field(fail_fast=True), WrapValidator(_skip_invalid_items)]
"""A list whose items that cannot be understood are left out and counted by `parse_tolerantly`.

When none of its items can be understood the list itself is invalid."""


def _none_if_invalid(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


Detail = Annotated[ItemT | None, WrapValidator(_none_if_invalid)]
"""A field that is not needed: None where it cannot be understood. With the default None it may be missing, too."""


class ResponseModel(BaseModel):
    """A part of a response; fields that it does not declare are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)


def parse_response(model: type[ModelT], body: Any, where: str = "the response") -> ModelT:
    """Return a response validated by its model. Raise ResponseError that names the field, and never its value."""
    observe_shape(model, body, where)
    return validate_response(model, body, where)


def parse_tolerantly(model: type[ModelT], body: Any, where: str) -> tuple[ModelT, Counter[str]]:
    """Return a response validated by its model, and what its tolerant lists left out, counted by field.

    Raise ResponseError that names the field, and never its value.
    """
    observe_shape(model, body, where)
    skipped = Counter[str]()
    return validate_response(model, body, where, {"skipped": skipped}), skipped


def validate_response(model: type[ModelT], body: Any, where: str, context: Mapping[str, Any] | None = None) -> ModelT:
    """Return a part of a response validated by its model, without a note of its shape; raise ResponseError."""
    try:
        return model.model_validate(body, context=context)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        field_path = ".".join(str(part) for part in first["loc"]) or "itself"
        raise ResponseError(f"{where} has changed: {field_path}: {first['msg'].lower()}") from None


def build_skip_notes(where: str, skipped: Iterable[str]) -> tuple[str, ...]:
    """Return the note on the fields that were left out of a response, without counts, so that it stays the same; none if none."""
    fields = ", ".join(sorted(skipped))
    return (f"{where}: skipped invalid fields: {fields}",) if fields else ()


def parse_decimal_comma(text: str) -> float:
    """Return a number written with a decimal comma: "104,250" is 104.25.

    Raise ValueError if it is none.
    """
    integer, comma, fraction = text.strip().partition(",")
    if not (integer.removeprefix("-").isdecimal() and (fraction.isdecimal() or not comma)):
        raise ValueError("not a number with a decimal comma")
    return float(f"{integer}.{fraction or 0}")


def _to_digest_value(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


@contextmanager
def prefix_errors(prefix: str) -> Iterator[None]:
    """Put a prefix before the message of a PortalError raised inside."""
    try:
        yield
    except PortalError as error:
        prefixed = copy.copy(error)
        prefixed.args = (f"{prefix}: {error}",)
        raise prefixed from None
