"""A receiver of the true-time series as the configuration describes it."""

import hashlib
import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema, model_validator

from exporter.duration import Duration, parse_duration
from exporter.history.series import OURS

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OUR_HEADERS = {"content-encoding", "content-length", "content-type", "host", "x-prometheus-remote-write-version"}


class Block(BaseModel):
    """A block whose keys are all known."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _is_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.fragment and (parts.port or True)
    except ValueError:
        usable = False
    if not usable or any(letter.isspace() for letter in text):
        raise ValueError("must be an address like https://metrics.example.com/api/v1/write")
    if parts.username or parts.password:
        raise ValueError("must hold no user and password; basic_auth is for them")
    return text


def _are_labels(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not _LABEL.fullmatch(name) or name.startswith("__"):
            raise ValueError("a label is made of letters, digits and _, and begins with neither a digit nor __")
        if name in OURS:
            raise ValueError("account, register, resolution and usage_point are labels of ours already")
        if not value:
            raise ValueError("a label must not be empty")
    return labels


def _are_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not value.get_secret_value().isprintable():
            raise ValueError("a header has a name of letters, digits and -, and a value of one line")
        if name.lower() in _OUR_HEADERS:
            raise ValueError("the headers that describe the body are ours already")
    return headers


def _day_or_age(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError("is no day of the calendar") from None
    try:
        return value if isinstance(value, date) else parse_duration(value)
    except ValueError:
        raise ValueError("must be a day like 2026-01-31, or an age like 30d") from None


NotBefore = Annotated[
    date | timedelta, BeforeValidator(_day_or_age), WithJsonSchema({"type": "string", "pattern": r"^[0-9]+([a-z]|-[0-9-]+$)"})
]


class BasicAuth(Block):
    """A user of the receiver."""

    username: Annotated[str, Field(description="The user.")]
    password: Annotated[SecretStr, Field(description="Its password.")]


class Settle(Block):
    """How old what a sample describes must be before it is sent: until then portals correct it most."""

    index: Annotated[Duration, Field(description="Registers, from the instant they were read.")] = timedelta(0)
    interval: Annotated[Duration, Field(description="Amounts of less than a day, from their end.")] = timedelta(days=1)
    day: Annotated[Duration, Field(description="Amounts of a day, from its end.")] = timedelta(days=2)
    peak: Annotated[Duration, Field(description="Peaks, from the end of their day or month.")] = timedelta(days=2)


class Receiver(Block):
    """One that takes the true-time series by remote write."""

    url: Annotated[str, AfterValidator(_is_address), Field(description="Where its remote write is; without user and password.")]
    name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            description="Its label `target`. With a name its address may change and nothing is sent again.",
        ),
    ] = None
    basic_auth: Annotated[BasicAuth | None, Field(description="A user and password.")] = None
    bearer_token: Annotated[SecretStr | None, Field(description="A token, instead of user and password.")] = None
    headers: Annotated[
        dict[str, SecretStr],
        AfterValidator(_are_headers),
        Field(description="Further headers, such as X-Scope-OrgID for a tenant of Mimir."),
    ] = {}
    extra_labels: Annotated[dict[str, str], AfterValidator(_are_labels), Field(description="Labels added to all series.")] = {}
    not_before: Annotated[NotBefore | None, Field(description="Nothing older is sent: a day, or an age.")] = None
    settle: Annotated[Settle, Field(description="How old a value must be to be sent.")] = Settle()
    corrections: Annotated[Literal["resend", "ignore"], Field(description="What becomes of values corrected after delivery.")] = (
        "ignore"
    )
    samples_per_request: Annotated[int, Field(ge=1, le=100_000, description="The most samples of one request.")] = 10_000
    timeout: Annotated[Duration, Field(description="Longest wait for one answer.")] = timedelta(seconds=30)
    ca_file: Annotated[Path | None, Field(description="The authority that signed its certificate, where it is its own.")] = None

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.basic_auth and self.bearer_token:
            raise ValueError("has basic_auth and bearer_token; one of the two is enough")
        if (self.basic_auth or self.bearer_token) and "authorization" in {name.lower() for name in self.headers}:
            raise ValueError("has a login and a header Authorization; one of the two is enough")
        return self

    @property
    def target(self) -> str:
        """The label that stands for it on the page."""
        return self.name or urlsplit(self.url).netloc

    @property
    def key(self) -> str:
        """What its books are found by: its name, or else where it is and what it is sent. Holds no secret."""
        if self.name:
            return f"name {self.name}"
        return "address " + hashlib.sha256(json.dumps([self.url, sorted(self.extra_labels.items())]).encode()).hexdigest()
