"""The configuration of an Enedis account: its keys, and which of them go together."""

import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from exporter.duration import Duration
from exporter.portals.base import AccountConfig, BaseUrl, ConfigBlock
from exporter.portals.enedis.auth import is_complete_token, parse_token_claims
from exporter.portals.enedis.measures import ConfiguredPoint
from exporter.portals.enedis.visit_hours import VisitWindow

DEFAULT_VISIT_INTERVAL = timedelta(hours=1)
ApiVersion = Literal["2026", "v5", "v1", "v2"]


class AccessMethod(StrEnum):
    """The three kinds of access."""

    CONSO = "conso"
    DATACONNECT = "dataconnect"
    MYELECTRICALDATA = "myelectricaldata"


API_VERSIONS: Mapping[AccessMethod, tuple[ApiVersion, ApiVersion]] = {
    AccessMethod.CONSO: ("2026", "v5"),
    AccessMethod.DATACONNECT: ("2026", "v5"),
    AccessMethod.MYELECTRICALDATA: ("v2", "v1"),
}
"""The API versions of an access, the default first."""
BASE_URLS: Mapping[tuple[AccessMethod, str], str] = {
    (AccessMethod.CONSO, "2026"): "https://conso.boris.sh/api",
    (AccessMethod.CONSO, "v5"): "https://conso.boris.sh/api",
    (AccessMethod.DATACONNECT, "2026"): "https://gw.ext.prod.api.enedis.fr",
    (AccessMethod.DATACONNECT, "v5"): "https://gw.ext.prod.api.enedis.fr",
    (AccessMethod.MYELECTRICALDATA, "v2"): "https://www.v2.myelectricaldata.fr/api",
    (AccessMethod.MYELECTRICALDATA, "v1"): "https://myelectricaldata.fr",
}


def _check_prm(prm: object) -> object:
    """Accept a number only while it still has its 14 digits: YAML drops leading zeros, or reads them as octal."""
    text = str(prm) if isinstance(prm, int) and not isinstance(prm, bool) else prm
    if isinstance(prm, int) and len(str(text)) != 14:
        raise ValueError('was read as a number and may have lost its zeros; write it in quotes: "01234567890123"')
    if isinstance(text, str) and not re.fullmatch(r"[0-9]{14}", text):
        raise ValueError("is not a PRM: 14 digits")
    return text


def _to_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _check_window(text: str) -> str:
    VisitWindow.parse(text)
    return text


def _check_header_text(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        raise ValueError("goes into a header: plain letters, digits and signs only")
    return text


Prm = Annotated[str, BeforeValidator(_check_prm), Field(description="The number of the point of delivery, 14 digits, in quotes.")]
OptionalApiVersion = Annotated[ApiVersion | None, BeforeValidator(_to_text)]
WindowText = Annotated[str, AfterValidator(_check_window)]
HeaderText = Annotated[str, Field(max_length=200), AfterValidator(_check_header_text)]


class UsagePointConfig(ConfigBlock):
    """One of `usage_points`."""

    example: ClassVar[str] = '{prm: "..."}'

    prm: Prm
    consumption: Annotated[bool, Field(description="Read the consumption; false for a usage point that only injects.")] = True
    production: Annotated[bool, Field(description="Read the injection, too.")] = False
    load_curve: Annotated[bool, Field(description="Read the load curve, too.")] = True
    token: Annotated[SecretStr | None, Field(description="myelectricaldata v1: the token of this usage point.")] = None

    @model_validator(mode="after")
    def _check_directions(self) -> Self:
        if not (self.consumption or self.production):
            raise ValueError("consumption: nothing is read of a point without consumption and production")
        return self


def find_conflict(configured: Mapping[str, bool], access: AccessMethod, api: ApiVersion, point_tokens: list[bool]) -> str | None:
    """Return what is wrong with a combination of keys, None if nothing; `configured`: which keys have a value."""
    if api not in API_VERSIONS[access]:
        return f"api: with access {access} it is {' or '.join(API_VERSIONS[access])}"
    required = {
        AccessMethod.CONSO: {"token"},
        AccessMethod.DATACONNECT: {"client_id", "client_secret", "usage_points"},
        AccessMethod.MYELECTRICALDATA: {"usage_points"} if api == "v1" else {"token", "usage_points"},
    }[access]
    context = f"access {access}" + (" and api v1" if api == "v1" else "")
    for key, is_set in configured.items():
        if key in required and not is_set:
            return f"{key}: is needed with {context}"
        if key not in required and is_set and key != "usage_points":
            return f"{key}: is of no use with {context}; leave it out"
    if api == "v1" and not all(point_tokens):
        return f"usage_points[{point_tokens.index(False)}].token: is needed with {context}"
    if api != "v1" and any(point_tokens):
        return f"usage_points[{point_tokens.index(True)}].token: is of use only with access myelectricaldata and api v1"
    return None


class EnedisConfig(AccountConfig):
    """The keys of an account at Enedis."""

    login_keys: ClassVar[tuple[str, ...]] = ("access", "token", "client_id", "client_secret", "base_url")
    min_every: ClassVar[timedelta] = timedelta(minutes=30)

    every: Annotated[Duration, Field(description="Distance between visits while yesterday is awaited.")] = DEFAULT_VISIT_INTERVAL
    access: Annotated[AccessMethod, Field(description="The access to the measures: a gateway, or an application of your own.")]
    api: Annotated[
        OptionalApiVersion,
        Field(description="The form of the API: 2026 or v5; with myelectricaldata v2 or v1; the first of each when left out."),
    ] = None
    token: Annotated[SecretStr | None, Field(description="conso, myelectricaldata v2: the gateway's token.")] = None
    client_id: Annotated[str | None, Field(description="dataconnect: the application.")] = None
    client_secret: Annotated[SecretStr | None, Field(description="dataconnect: its secret.")] = None
    usage_points: Annotated[
        tuple[UsagePointConfig, ...], Field(description="What is read; with conso, all that the token names when left out.")
    ] = ()
    base_url: Annotated[
        BaseUrl | None, Field(description="The address to which the documented paths are added, when it is not the usual one.")
    ] = None
    window: Annotated[WindowText, Field(description="Local hours in which visits happen.")] = "05:00-20:00"
    minute: Annotated[int | None, Field(ge=0, le=59, description="Minute of the hour; chosen at random when left out.")] = None
    calls_per_second: Annotated[
        float, Field(ge=0.1, le=5, description="Maximum calls in a second; a whole gateway is allowed 5, so leave it at 1.")
    ] = 1
    contact: Annotated[HeaderText, Field(description="Named to the gateway: an address or a page to reach you by.")] = ""

    @model_validator(mode="after")
    def _check_combination(self) -> Self:
        configured = {key: bool(getattr(self, key)) for key in ("token", "client_id", "client_secret", "usage_points")}
        if reason := find_conflict(configured, self.access, self.api_version, [bool(point.token) for point in self.usage_points]):
            raise ValueError(reason)
        prms = [point.prm for point in self.usage_points]
        if len(set(prms)) < len(prms):
            raise ValueError("usage_points: contains the same prm twice")
        if not self.points and self.token and not is_complete_token(self.token):
            raise ValueError("token: this is no complete Conso API token; copy it again")
        if not self.points:
            raise ValueError("usage_points: is needed, the token names none")
        return self

    @property
    def api_base_url(self) -> str:
        """The address to which the documented paths are added."""
        return self.base_url or BASE_URLS[self.access, self.api_version]

    @property
    def visit_window(self) -> VisitWindow:
        """The local hours of visits."""
        return VisitWindow.parse(self.window)

    @property
    def min_request_gap(self) -> timedelta:
        """The minimum time between two requests."""
        return timedelta(seconds=1 / self.calls_per_second)

    def build_user_agent(self) -> str:
        """Return the User-Agent, with the contact that the gateways ask for."""
        return f"{super().build_user_agent()} ({self.contact})" if self.contact else super().build_user_agent()

    def configured_usage_points(self) -> frozenset[str]:
        """Return the PRMs that are configured or named by the token."""
        return frozenset(point.prm for point in self.points)

    def build_login_digest(self) -> str:
        """Return the digest of the login, including the tokens of usage points."""
        tokens = [point.token.get_secret_value() if point.token else "" for point in self.usage_points]
        return hashlib.sha256("\n".join([super().build_login_digest(), *tokens]).encode()).hexdigest()

    @property
    def api_version(self) -> ApiVersion:
        """The version of the API that is used."""
        return self.api or API_VERSIONS[self.access][0]

    @property
    def points(self) -> list[ConfiguredPoint]:
        """The usage points that are read, each named by its alias or its position in the configuration."""
        listed = self.usage_points
        if not listed and self.token:
            listed = tuple(UsagePointConfig(prm=prm) for prm in parse_token_claims(self.token).prms)
        return [
            ConfiguredPoint(
                each.prm,
                self.aliases.get(each.prm, f"usage_points[{position}]"),
                production=each.production,
                load_curve=each.load_curve,
                token=each.token,
                consumption=each.consumption,
                registers=self.api_version == "2026",
            )
            for position, each in enumerate(listed)
        ]
