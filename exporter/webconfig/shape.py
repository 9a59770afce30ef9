"""The keys of a web configuration file, as exporter-toolkit names them, and what their values may be.

Numbers, booleans and durations are read as Go reads them, for the same file must mean the same to both. Names, defaults
and rules: exporter-toolkit's docs/web-configuration.md; what is stricter here is said at its place.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from exporter.webconfig.suites import CURVES, SUITES, ciphers_of

HEADERS: dict[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that may be set, each with the values it may have (none listed: any)."""
HIGHEST_COST = 18
"""Of bcrypt; each step doubles the work, and this one is about 20 seconds for every first request of a user."""
VERIFIED = ("RequireAnyClientCert", "RequireClientCert", "RequireAndVerifyClientCert")
_HASH = re.compile(r"\$2[abxy]?\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"\+?((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_PART = re.compile(r"([0-9.]+)([a-zµμ]+)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE = {word for text in ("y", "yes", "on", "true") for word in (text, text.capitalize(), text.upper())}
_FALSE = {word for text in ("n", "no", "off", "false") for word in (text, text.capitalize(), text.upper())}


def boolean(value: object) -> object:
    """Read the words that YAML 1.1 has for true and false."""
    if isinstance(value, str) and value not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return value in _TRUE if isinstance(value, str) else value


def whole(value: object) -> object:
    """Read a whole number as YAML 1.1 writes it: 20, 0x14, 0b10100, 024, 1_000, 2e1."""
    if not isinstance(value, str):
        return value
    text = re.sub(r"^([+-]?)0(?=[0-7]+$)", r"\g<1>0o", value.replace("_", ""))
    try:
        return int(text, 0) if not re.search(r"[.eE]", text) or text.lower().startswith("0x") else int(float(text))
    except (ValueError, OverflowError):
        raise ValueError("must be a whole number") from None


def duration(value: object) -> object:
    """Read a duration as Go writes it (1.5s, 1h30m), or a number of nanoseconds."""
    if not isinstance(value, str):
        return value
    if _DURATION.fullmatch(value):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))
    elif re.fullmatch(r"[0-9][0-9_]*(\.[0-9]*)?", value):
        seconds = float(value) * 1e-9
    else:
        raise ValueError("is not a duration of 0 or more; write it like 500ms, 1s or 1m30s")
    if seconds > 9e9:
        raise ValueError("is longer than 280 years")
    return timedelta(seconds=seconds)


def bcrypt_hash(secret: SecretStr) -> SecretStr:
    """Refuse what no password can match, and what nobody would wait for."""
    match = _HASH.fullmatch(secret.get_secret_value())
    if not match:
        raise ValueError("is no bcrypt hash; make one with: htpasswd -nBC 10 NAME")
    if not 4 <= int(match[1]) <= HIGHEST_COST:
        raise ValueError(f"has a bcrypt cost outside 4 to {HIGHEST_COST}")
    return secret


Boolean = Annotated[bool, BeforeValidator(boolean)]
Version = Literal["TLS10", "TLS11", "TLS12", "TLS13"]
Text = Annotated[str, Field(max_length=1 << 16)]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Tls(_Block):
    """`tls_server_config`: files of PEM text, or the text itself; nothing at all is plain HTTP."""

    cert: Annotated[Text | None, Field(description="The certificate as PEM text, with those that signed it.")] = None
    key: Annotated[SecretStr | None, Field(description="Its key as PEM text, without a passphrase.")] = None
    client_ca: Annotated[Text | None, Field(description="The authorities of clients as PEM text.")] = None
    cert_file: Annotated[Path | None, Field(description="The file of the certificate, with those that signed it.")] = None
    key_file: Annotated[Path | None, Field(description="The file of its key.")] = None
    client_ca_file: Annotated[Path | None, Field(description="The file of the authorities that sign clients' certificates.")] = (
        None
    )
    client_auth_type: Annotated[
        Literal[
            "",
            "NoClientCert",
            "RequestClientCert",
            "RequireAnyClientCert",
            "RequireClientCert",
            "VerifyClientCertIfGiven",
            "RequireAndVerifyClientCert",
        ]
        | None,
        Field(description="What is wanted of a client's certificate."),
    ] = None
    client_allowed_sans: Annotated[
        tuple[Text, ...] | None,
        Field(description="Names, addresses or mail addresses; a client's certificate must have one of them."),
    ] = None
    min_version: Annotated[Version | None, Field(description="The oldest TLS that is spoken; TLS12 if not given.")] = None
    max_version: Annotated[Version | None, Field(description="The newest TLS that is spoken.")] = None
    cipher_suites: Annotated[tuple[str, ...] | None, Field(description="The suites of TLS 1.2, by Go's names.")] = None
    curve_preferences: Annotated[tuple[str, ...] | None, Field(description="The curves, by Go's names.")] = None
    prefer_server_cipher_suites: Annotated[
        Boolean | None, Field(description="Take our order of suites rather than the client's.")
    ] = None

    @property
    def enabled(self) -> bool:
        """Whether TLS is spoken."""
        return bool(self.cert or self.cert_file)

    @property
    def asks_for_certificate(self) -> bool:
        """Whether a client's certificate is looked at."""
        return self.client_auth_type not in (None, "", "NoClientCert", "RequestClientCert")

    @field_validator("cipher_suites")
    @classmethod
    def _suites_known(cls, suites: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for suite in suites or ():
            if suite not in SUITES:
                raise ValueError(f"{suite} is no cipher suite known here")
        ciphers_of(suites or ())
        return suites

    @field_validator("curve_preferences")
    @classmethod
    def _curves_known(cls, curves: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for curve in curves or ():
            if curve not in CURVES:
                raise ValueError(f"{curve} is no curve known here; there are {', '.join(CURVES)}")
        return curves

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for fault in self._faults():
            raise ValueError(fault)
        return self

    def _faults(self) -> list[str]:
        key, ca, sans = self.key or self.key_file, self.client_ca or self.client_ca_file, self.client_allowed_sans
        checks = {
            "has no certificate: cert_file or cert is missing": (
                not self.enabled and (key or ca or self.client_auth_type or sans is not None)
            ),
            "has no key: key_file or key is missing": self.enabled and not key,
            "names authorities of clients (client_ca_file), and a client_auth_type that never asks them": (
                ca and self.client_auth_type in (None, "", "NoClientCert")
            ),
            "has client_allowed_sans, which need the client_auth_type RequireAndVerifyClientCert": (
                sans is not None and self.client_auth_type not in VERIFIED
            ),
            "has an empty client_allowed_sans: nobody could come in": sans == (),
            "has RequireAnyClientCert without client_ca_file: Python asks for no certificate that it cannot verify": (
                self.client_auth_type in VERIFIED[:2] and not ca
            ),
            "allows nothing newer than TLS 1.1, which is not spoken here": self.max_version in ("TLS10", "TLS11"),
            "has a min_version above its max_version": (self.min_version, self.max_version) == ("TLS13", "TLS12"),
            "has no cipher suite of TLS 1.2, and a max_version that allows nothing newer": (
                self.max_version == "TLS12" and self.cipher_suites and not ciphers_of(self.cipher_suites)
            ),
        }
        return [fault for fault, found in checks.items() if found]


class Http(_Block):
    """`http_server_config`: HTTP/2 is not spoken here, whatever `http2` says."""

    http2: Annotated[Boolean | None, Field(description="Known, and without effect: HTTP/1.1 is spoken.")] = None
    headers: Annotated[dict[str, Text | None] | None, Field(description="Headers of every answer.")] = None

    @field_validator("headers")
    @classmethod
    def _allowed(cls, headers: dict[str, str | None] | None) -> dict[str, str | None] | None:
        for name, value in (headers or {}).items():
            if name not in HEADERS:
                raise ValueError(f"can set {', '.join(HEADERS)} and nothing else")
            if HEADERS[name] and value not in HEADERS[name]:
                raise ValueError(f"{name} must be {' or '.join(HEADERS[name])}")
            if value and not (value.isascii() and value.isprintable()):
                raise ValueError(f"{name} has a line break or another character that no header holds")
        return headers


class Rate(_Block):
    """`rate_limit`: a bucket of `burst` requests that gets one back every `interval`; 0 is no limit."""

    interval: Annotated[
        Annotated[timedelta, BeforeValidator(duration)] | None,
        Field(description="How long until one more request is let in, as Go writes it: 500ms, 1s."),
    ] = None
    burst: Annotated[
        Annotated[int, BeforeValidator(whole), Field(le=1 << 62)] | None, Field(description="How many may come at once.")
    ] = None

    @model_validator(mode="after")
    def _lets_through(self) -> Self:
        if self.interval and (self.burst or 0) < 1:
            raise ValueError("has a burst below 1: it would refuse every request")
        return self


class WebConfig(_Block):
    """A web configuration file."""

    tls_server_config: Annotated[Tls | None, Field(description="TLS.")] = None
    http_server_config: Annotated[Http | None, Field(description="HTTP.")] = None
    basic_auth_users: Annotated[
        dict[str, Annotated[SecretStr, AfterValidator(bcrypt_hash)]] | None,
        Field(description="Users and the bcrypt hashes of their passwords."),
    ] = None
    rate_limit: Annotated[Rate | None, Field(description="How many requests are let in, of all clients together.")] = None

    @field_validator("basic_auth_users")
    @classmethod
    def _names(cls, users: dict[str, SecretStr] | None) -> dict[str, SecretStr] | None:
        if any(":" in name or not name.isprintable() for name in users or {}):
            raise ValueError("has a name with a colon or a control character, which no browser can send")
        return users

    @property
    def tls(self) -> Tls:
        """The TLS part; an empty one is plain HTTP."""
        return self.tls_server_config or Tls()

    @property
    def headers(self) -> dict[str, str]:
        """The headers to set."""
        headers = (self.http_server_config or Http()).headers or {}
        return {name: value for name, value in headers.items() if value}

    @property
    def users(self) -> dict[str, str]:
        """Names and bcrypt hashes."""
        return {name: secret.get_secret_value() for name, secret in (self.basic_auth_users or {}).items()}

    @property
    def limit(self) -> tuple[timedelta, int] | None:
        """Interval and burst."""
        rate = self.rate_limit or Rate()
        return (rate.interval, rate.burst) if rate.interval and rate.burst else None
