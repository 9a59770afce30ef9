"""The web configuration, exporter-toolkit's format: TLS, users, headers and a rate limit for the whole web face."""

import asyncio
import logging
import ssl
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from exporter.errors import ConfigError
from exporter.webconfig.rate import Bucket
from exporter.webconfig.shape import WebConfig
from exporter.webconfig.tls import make_context, names_of, one_curve, switch_to
from exporter.webconfig.users import Users, read_basic

__all__ = ["Door", "Refusal", "WebConfig", "open_door", "warnings"]

LOOKED_AT = timedelta(seconds=5)
"""How often the files are looked at; they are read when one has changed."""
Stamp = tuple[tuple[int, int, int] | None, ...]
"""Of each file its time, inode and size; None where it is not there."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody does not come in: the HTTP status, and the headers that go with it."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rules:
    """What is in force: made of one good configuration."""

    config: WebConfig
    context: ssl.SSLContext | None
    users: Users
    bucket: Bucket | None
    stamp: Stamp

    @classmethod
    def of(cls, file: Path, read: Callable[[Path], WebConfig]) -> "_Rules":
        """Read a file and all that it names; raises ConfigError that names the file."""
        # Looked at before it is read: what changes in between is read again.
        before = _stamp([file])
        config = read(file)
        stamp = before + _stamp(_named(config))
        try:
            context = make_context(config.tls) if config.tls.enabled else None
        except ConfigError as error:
            raise ConfigError("\n".join(f"{file}: {line}" for line in str(error).splitlines())) from None
        return cls(config, context, Users(config.users), Bucket(*config.limit) if config.limit else None, stamp)


class Door:
    """Who may come in, and over what: the web configuration in force, read again when its files change."""

    def __init__(self, file: Path, read: Callable[[Path], WebConfig], rules: _Rules) -> None:
        self._file, self._read, self._rules = file, read, rules
        self._fault = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")
        self.tls = switch_to(rules.context) if rules.context else None
        """What a listener is given; None is plain HTTP."""

    @property
    def config(self) -> WebConfig:
        """The configuration in force."""
        return self._rules.config

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that every answer gets."""
        return self._rules.config.headers

    async def refusal(self, authorization: str | None, certificate: Mapping[str, Any] | None) -> Refusal | None:
        """Say why a request is refused; None lets it in."""
        rules = self._rules
        sans = rules.config.tls.client_allowed_sans
        if sans is not None and names_of(certificate).isdisjoint(sans):
            return Refusal(403, "This client certificate is not on the list.\n", {"Connection": "close"})
        if rules.bucket and not rules.bucket.take(time.monotonic()):
            return Refusal(429, "Too many requests.\n", {"Retry-After": str(int(rules.bucket.interval) + 1)})
        return await self._unknown(rules.users, authorization) if rules.users else None

    async def follow(self) -> None:
        """Look at the files for ever."""
        while True:
            await asyncio.sleep(LOOKED_AT.total_seconds())
            await self.look()

    async def look(self) -> None:
        """Read the files again if one has changed; what is broken leaves what was, and is logged once."""
        stamp = await asyncio.to_thread(_stamp, [self._file, *_named(self._rules.config)])
        if stamp == self._rules.stamp and not self._fault:
            return
        try:
            self.take(await self.read())
        except ConfigError as error:
            if str(error) != self._fault:
                log.error("the web configuration before stays in force: %s", error)  # noqa: TRY400  # the message says it all
            self._fault = str(error)
        else:
            log.info("web configuration, certificates and users read again")

    async def read(self) -> _Rules:
        """Read the file and all that it names, for `take`; raises ConfigError."""
        rules = await asyncio.to_thread(_Rules.of, self._file, self._read)
        if (rules.context is None) != (self.tls is None):
            raise ConfigError(f"{self._file}: TLS is switched on or off by a restart only")
        return rules

    def take(self, rules: _Rules) -> None:
        """Put into force what was read; connections that are open stay as they are."""
        if rules.config.limit == self._rules.config.limit:
            rules = replace(rules, bucket=self._rules.bucket)
        self._rules, self._fault = rules, ""
        if self.tls and rules.context:
            self.tls.inner = rules.context

    def close(self) -> None:
        """Drop the passwords that still wait for their check."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _unknown(self, users: Users, authorization: str | None) -> Refusal | None:
        pair = read_basic(authorization)
        if pair and users.remembers(*pair):
            return None
        if pair and users.busy:
            return Refusal(503, "Too many passwords wait for their check.\n", {"Retry-After": "1"})
        if pair and await users.allow(*pair, self._thread):
            return None
        return Refusal(401, "Unauthorized.\n", {"WWW-Authenticate": 'Basic realm="utility-exporter", charset="UTF-8"'})


def open_door(file: Path, read: Callable[[Path], WebConfig]) -> Door:
    """Make the door that a file describes; `read` understands its YAML.

    Raises ConfigError. Reads files: not for the event loop.
    """
    rules = _Rules.of(file, read)
    for warning in warnings(rules.config):
        log.warning("%s: %s", file, warning)
    return Door(file, read, rules)


def warnings(config: WebConfig) -> list[str]:
    """Say what a configuration does that its owner should know, a line each."""
    tls, curves = config.tls, config.tls.curve_preferences or ()
    found = {
        "tls_server_config has no certificate: TLS is off": config.tls_server_config is not None
        and not tls.enabled
        and tls != type(tls)(),
        "min_version is raised to TLS12: nothing older is spoken here": tls.min_version in ("TLS10", "TLS11"),
        "RequireAnyClientCert is taken for RequireAndVerifyClientCert: Python verifies every certificate it asks for": (
            tls.client_auth_type in ("RequireAnyClientCert", "RequireClientCert")
        ),
    }
    if len(curves) > 1 and sys.version_info < (3, 15):
        found[f"this Python offers one curve: of curve_preferences that is {one_curve(curves)}"] = True
    return [warning for warning, said in found.items() if said]


def _named(config: WebConfig) -> list[Path]:
    tls = config.tls
    return [file for file in (tls.cert_file, tls.key_file, tls.client_ca_file) if file]


def _stamp(files: list[Path]) -> Stamp:
    return tuple(_one_stamp(file) for file in files)


def _one_stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
