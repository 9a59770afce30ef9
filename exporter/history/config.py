"""The `history` block of the configuration: remote read's limit, and the receivers of remote write."""

import hashlib
import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from exporter.duration import Duration, parse_duration
from exporter.history.series import RESERVED_LABELS

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_RESERVED_HEADERS = {"content-encoding", "content-length", "content-type", "host", "x-prometheus-remote-write-version"}
MAX_REQUEST_BYTES = 1 << 20
"""Maximum size of a remote read request in bytes, before and after decompression."""
MAX_QUERIES, MAX_MATCHERS = 64, 64
"""How many queries a remote read request may have, and how many matchers each."""


class HistoryModel(BaseModel):
    """A block of the configuration; unknown keys are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.fragment and (parts.port or True)
    except ValueError:
        usable = False
    if not usable or any(letter.isspace() for letter in url):
        raise ValueError("must be a URL like https://metrics.example.com/api/v1/write")
    if parts.username or parts.password:
        raise ValueError("must not contain a user and password; use basic_auth")
    return url


def _check_labels(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name) or name.startswith("__"):
            raise ValueError("a label is made of letters, digits and _, and begins with neither a digit nor __")
        if name in RESERVED_LABELS:
            raise ValueError("account, register, resolution and usage_point are reserved labels")
        if not value:
            raise ValueError("a label must not be empty")
    return labels


def _check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.get_secret_value().isprintable():
            raise ValueError("a header name has letters, digits and -, and its value is one line")
        if name.lower() in _RESERVED_HEADERS:
            raise ValueError("headers that describe the body are reserved")
    return headers


def _parse_day_or_age(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError("is not a calendar day") from None
    try:
        return value if isinstance(value, date) else parse_duration(value)
    except ValueError:
        raise ValueError("must be a day like 2026-01-31, or an age like 30d") from None


NotBefore = Annotated[
    date | timedelta,
    BeforeValidator(_parse_day_or_age),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+([a-z]|-[0-9-]+$)"}),
]


class BasicAuth(HistoryModel):
    """A user of the receiver."""

    username: Annotated[str, Field(description="The user.")]
    password: Annotated[SecretStr, Field(description="Its password.")]


class SettleDelays(HistoryModel):
    """How old a sample must be before it is sent: until then portals often correct it."""

    index: Annotated[Duration, Field(description="Registers, from the instant they were read.")] = timedelta(0)
    interval: Annotated[Duration, Field(description="Amounts of less than a day, from their end.")] = timedelta(days=1)
    day: Annotated[Duration, Field(description="Amounts of a day, from its end.")] = timedelta(days=2)
    peak: Annotated[Duration, Field(description="Peaks, from the end of their day or month.")] = timedelta(days=2)


class Receiver(HistoryModel):
    """A receiver of the history series by remote write."""

    url: Annotated[str, AfterValidator(_check_url), Field(description="Where its remote write is; without user and password.")]
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
        AfterValidator(_check_headers),
        Field(description="Further headers, such as X-Scope-OrgID for a tenant of Mimir."),
    ] = {}
    extra_labels: Annotated[dict[str, str], AfterValidator(_check_labels), Field(description="Labels added to all series.")] = {}
    not_before: Annotated[NotBefore | None, Field(description="Nothing older is sent: a day, or an age.")] = None
    settle: Annotated[SettleDelays, Field(description="How old a value must be to be sent.")] = SettleDelays()
    corrections: Annotated[Literal["resend", "ignore"], Field(description="What to do with values corrected after delivery.")] = (
        "ignore"
    )
    samples_per_request: Annotated[int, Field(ge=1, le=100_000, description="The most samples of one request.")] = 10_000
    timeout: Annotated[Duration, Field(description="Maximum time to wait for a response.")] = timedelta(seconds=30)
    ca_file: Annotated[Path | None, Field(description="The authority that signed its certificate, where it is its own.")] = None

    @model_validator(mode="after")
    def _check_single_login(self) -> Self:
        if self.basic_auth and self.bearer_token:
            raise ValueError("has both basic_auth and bearer_token; set only one")
        if (self.basic_auth or self.bearer_token) and "authorization" in {name.lower() for name in self.headers}:
            raise ValueError("has both a login and a header Authorization; set only one")
        return self

    @property
    def target(self) -> str:
        """The value of its label `target`."""
        return self.name or urlsplit(self.url).netloc

    @property
    def key(self) -> str:
        """The key of its delivery state: its name, or a digest of its URL and extra labels. Contains no secret."""
        if self.name:
            return f"name {self.name}"
        return "address " + hashlib.sha256(json.dumps([self.url, sorted(self.extra_labels.items())]).encode()).hexdigest()


class HistorySettings(HistoryModel):
    """How the history is read, where its series are sent, and the limit of one remote read."""

    max_samples: Annotated[int, Field(ge=1, le=200_000_000, description="The most samples that one remote read may ask for.")] = (
        50_000_000
    )
    backfill: Annotated[
        bool,
        Field(description="Read the history automatically, as far back as the portals go; false leaves it to `history import`."),
    ] = True
    from_: Annotated[
        date | None, Field(alias="from", description="The oldest day that is asked for. Default: as far as the portals go.")
    ] = None
    external_labels: Annotated[
        tuple[str, ...],
        Field(description="External labels of the Prometheus that reads, passed over in its selectors: [cluster, replica]."),
    ] = ()
    remote_write: Annotated[tuple[Receiver, ...], Field(description="Where the history series are sent.")] = ()

    @field_validator("external_labels")
    @classmethod
    def _check_external_labels(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if reserved := RESERVED_LABELS & set(names):
            raise ValueError(
                f"{', '.join(sorted(reserved))} belong to our own series; set filter_external_labels: false in Prometheus instead"
            )
        return names

    @model_validator(mode="after")
    def _check_unique_targets(self) -> Self:
        names = [receiver.target for receiver in self.remote_write]
        if duplicate := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two receivers have the name {duplicate}; names must be unique")
        return self
