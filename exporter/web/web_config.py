"""The model of a web configuration file, with exporter-toolkit's keys.

Names, defaults and rules: exporter-toolkit's docs/web-configuration.md. OpenSSL decides which cipher suites there are, and
PyYAML what a number or a boolean is.
"""

import re
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

import bcrypt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from exporter.config.yaml_document import parse_scalar
from exporter.duration import Duration

ALLOWED_HEADERS: dict[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""The headers that may be set, with their allowed values (empty: any)."""
MAX_BCRYPT_COST = 18
"""Maximum cost of a bcrypt hash; at this cost the first request of a user takes about 20 seconds."""
VERIFYING_AUTH_TYPES = ("RequireAnyClientCert", "RequireClientCert", "RequireAndVerifyClientCert")
_BCRYPT_HASH = re.compile(r"\$2[abxy]?\$([0-9]{2})\$([./A-Za-z0-9]{22})[./A-Za-z0-9]{31}")
TlsVersion = Literal["TLS10", "TLS11", "TLS12", "TLS13"]
Curve = Literal["CurveP256", "CurveP384", "CurveP521", "X25519"]
Boolean = Annotated[bool, BeforeValidator(parse_scalar), Field(strict=True)]
WholeNumber = Annotated[int, BeforeValidator(parse_scalar), Field(strict=True, le=1 << 62)]
LimitedText = Annotated[str, Field(max_length=1 << 16)]


def find_cipher(suite: str) -> str:
    """Return OpenSSL's name of a cipher suite; raise ValueError where OpenSSL does not offer it.

    The suites of TLS 1.3 have one name everywhere. A suite without encryption or authentication is never offered.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:!aNULL:!eNULL")
    exchange, _, cipher = suite.removeprefix("TLS_").rpartition("_WITH_")
    cipher = re.sub(r"AES_(?=\d)", "AES", cipher).replace("_CBC_", "_").replace("POLY1305_SHA256", "POLY1305")
    name = (cipher if exchange == "RSA" else f"{exchange}_{cipher}").replace("_", "-") if exchange else suite
    if not suite.startswith("TLS_") or name not in {cipher["name"] for cipher in context.get_ciphers()}:
        raise ValueError(f"{suite} is not a supported cipher suite")
    return name


def check_bcrypt_hash(secret: SecretStr) -> SecretStr:
    """Reject a hash that no password can match, or that takes too long to verify."""
    match = _BCRYPT_HASH.fullmatch(secret.get_secret_value())
    if not match:
        raise ValueError("is not a bcrypt hash; create one with: htpasswd -nBC 10 NAME")
    if not 4 <= int(match[1]) <= MAX_BCRYPT_COST:
        raise ValueError(f"has a bcrypt cost outside 4 to {MAX_BCRYPT_COST}")
    try:
        bcrypt.hashpw(b"", b"$2b$04$" + match[2].encode())  # the lowest cost: only whether it takes the salt
    except ValueError:
        raise ValueError("is not a bcrypt hash: bcrypt does not accept its salt") from None
    return secret


class _WebConfigModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class TlsConfig(_WebConfigModel):
    """`tls_server_config`: PEM files, or inline PEM text; plain HTTP without a certificate."""

    cert: Annotated[LimitedText | None, Field(description="The certificate chain as PEM text.")] = None
    key: Annotated[SecretStr | None, Field(description="Its key as PEM text, without a passphrase.")] = None
    client_ca: Annotated[LimitedText | None, Field(description="The certificate authorities of clients as PEM text.")] = None
    cert_file: Annotated[Path | None, Field(description="The file of the certificate chain.")] = None
    key_file: Annotated[Path | None, Field(description="The file of its key.")] = None
    client_ca_file: Annotated[Path | None, Field(description="The file of the certificate authorities of clients.")] = None
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
        Field(description="The policy for client certificates."),
    ] = None
    client_allowed_sans: Annotated[
        tuple[LimitedText, ...] | None,
        Field(description="Alternative names; a client's certificate must have one of them."),
    ] = None
    min_version: Annotated[TlsVersion | None, Field(description="The minimum TLS version; TLS12 if not set.")] = None
    max_version: Annotated[TlsVersion | None, Field(description="The maximum TLS version.")] = None
    cipher_suites: Annotated[tuple[str, ...] | None, Field(description="The suites of TLS 1.2, by their standard names.")] = None
    curve_preferences: Annotated[tuple[Curve, ...] | None, Field(description="The curves, by Go's names.")] = None
    prefer_server_cipher_suites: Annotated[
        Boolean | None, Field(description="Prefer the server's order of suites to the client's.")
    ] = None

    @property
    def enabled(self) -> bool:
        """Return whether TLS is enabled."""
        return bool(self.cert or self.cert_file)

    @property
    def verifies_client(self) -> bool:
        """Return whether client certificates are verified."""
        return self.client_auth_type not in (None, "", "NoClientCert", "RequestClientCert")

    @property
    def ciphers(self) -> list[str]:
        """OpenSSL's names of the suites of TLS 1.2; those of TLS 1.3 are always offered, in Go too."""
        return [cipher for cipher in map(find_cipher, self.cipher_suites or ()) if not cipher.startswith("TLS_")]

    @field_validator("cipher_suites")
    @classmethod
    def _check_suites(cls, suites: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for suite in suites or ():
            find_cipher(suite)
        return suites

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        key, ca, sans = self.key or self.key_file, self.client_ca or self.client_ca_file, self.client_allowed_sans
        checks = {
            "has no certificate: set cert_file or cert": (
                not self.enabled and (key or ca or self.client_auth_type or sans is not None)
            ),
            "has no key: set key_file or key": self.enabled and not key,
            "has client_ca_file, but a client_auth_type that requests no certificate": (
                ca and self.client_auth_type in (None, "", "NoClientCert")
            ),
            "has client_allowed_sans, which requires client_auth_type RequireAndVerifyClientCert": (
                sans is not None and self.client_auth_type not in VERIFYING_AUTH_TYPES
            ),
            "has an empty client_allowed_sans, which would refuse every client": sans == (),
            "has RequireAnyClientCert without client_ca_file: Python cannot request a certificate without verifying it": (
                self.client_auth_type in VERIFYING_AUTH_TYPES[:2] and not ca
            ),
            "allows nothing newer than TLS 1.1, which is not supported": self.max_version in ("TLS10", "TLS11"),
            "has a min_version above its max_version": (self.min_version, self.max_version) == ("TLS13", "TLS12"),
            "has no cipher suite of TLS 1.2, but a max_version of TLS12": (
                self.max_version == "TLS12" and self.cipher_suites and not self.ciphers
            ),
        }
        for fault, found in checks.items():
            if found:
                raise ValueError(fault)
        return self


class HttpConfig(_WebConfigModel):
    """`http_server_config`: HTTP/2 is not supported; `http2` has no effect."""

    http2: Annotated[Boolean | None, Field(description="Accepted, without effect: HTTP/1.1 is used.")] = None
    headers: Annotated[dict[str, LimitedText | None] | None, Field(description="Headers of every response.")] = None

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str | None] | None) -> dict[str, str | None] | None:
        for name, value in (headers or {}).items():
            if name not in ALLOWED_HEADERS:
                raise ValueError(f"can only set {', '.join(ALLOWED_HEADERS)}")
            if ALLOWED_HEADERS[name] and value not in ALLOWED_HEADERS[name]:
                raise ValueError(f"{name} must be {' or '.join(ALLOWED_HEADERS[name])}")
            if value and not (value.isascii() and value.isprintable()):
                raise ValueError(f"{name} contains a character that is not allowed in a header")
        return headers


class RateLimit(_WebConfigModel):
    """`rate_limit`: a bucket of `burst` requests, refilled by one every `interval`; 0 is no limit."""

    interval: Annotated[Duration | None, Field(description="How often one more request is allowed: 500ms, 1s.")] = None
    burst: Annotated[WholeNumber | None, Field(description="How many requests are allowed at once.")] = None

    @model_validator(mode="after")
    def _check_burst(self) -> Self:
        if self.interval and (self.burst or 0) < 1:
            raise ValueError("has a burst below 1, which would refuse every request")
        return self


class WebConfig(_WebConfigModel):
    """A web configuration file."""

    tls_server_config: Annotated[TlsConfig | None, Field(description="TLS.")] = None
    http_server_config: Annotated[HttpConfig | None, Field(description="HTTP.")] = None
    basic_auth_users: Annotated[
        dict[str, Annotated[SecretStr, AfterValidator(check_bcrypt_hash)]] | None,
        Field(description="Users and the bcrypt hashes of their passwords."),
    ] = None
    rate_limit: Annotated[RateLimit | None, Field(description="The rate limit of all clients together.")] = None

    @field_validator("basic_auth_users")
    @classmethod
    def _check_user_names(cls, users: dict[str, SecretStr] | None) -> dict[str, SecretStr] | None:
        if any(":" in name or not name.isprintable() for name in users or {}):
            raise ValueError("has a name with a colon or a control character, which browsers cannot send")
        return users

    @property
    def tls(self) -> TlsConfig:
        """The TLS configuration; an empty one is plain HTTP."""
        return self.tls_server_config or TlsConfig()

    @property
    def headers(self) -> dict[str, str]:
        """The headers to set."""
        headers = (self.http_server_config or HttpConfig()).headers or {}
        return {name: value for name, value in headers.items() if value}

    @property
    def users(self) -> dict[str, str]:
        """Names and bcrypt hashes."""
        return {name: secret.get_secret_value() for name, secret in (self.basic_auth_users or {}).items()}

    @property
    def request_limit(self) -> tuple[timedelta, int] | None:
        """Interval and burst."""
        rate = self.rate_limit or RateLimit()
        return (rate.interval, rate.burst) if rate.interval and rate.burst else None
