"""Access control: TLS, client certificates, users and a rate limit, from a web configuration reloaded when its files change."""

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import secrets
import ssl
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import bcrypt
from aiohttp import web

from exporter.config.loader import load_yaml_model
from exporter.errors import BusyError, ConfigError
from exporter.files import FileStamps, find_exposure, stamp_files
from exporter.web.tls import choose_curve, make_context, read_alternative_names
from exporter.web.web_config import WebConfig

MAX_WAITING_CHECKS = 256
"""How many passwords may wait for verification; further requests are refused."""
MAX_WAITING_CHECKS_PER_PEER = 32
"""How many of them may be of one address."""
NICENESS = 10
_UNKNOWN_USER_DIGEST = "QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
"""Salt and digest against which the password of an unknown user is verified."""
FILE_CHECK_INTERVAL = timedelta(seconds=5)
"""How often the files are checked for changes."""
log = logging.getLogger(__name__)


class BasicAuthUsers:
    """Users with bcrypt passwords, verified off the event loop, one at a time.

    An unknown user takes as long as the slowest known one. A verified pair is cached under a keyed digest of its parts,
    each digested separately, so that no two pairs share a key.
    """

    def __init__(self, hashes: Mapping[str, str]) -> None:
        self._hashes = {name.encode(): _normalize_hash(text) for name, text in hashes.items()}
        highest = max((text[4:6] for text in self._hashes.values()), default=b"10")
        self._unknown_user_hash = b"$2b$" + highest + b"$" + _UNKNOWN_USER_DIGEST.encode()
        self._key = secrets.token_bytes(32)
        self._verified: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def is_verified(self, name: bytes, password: bytes) -> bool:
        """Return whether this pair was verified before."""
        return self._digest(name, password) in self._verified

    async def verify(self, name: bytes, password: bytes, queue: "PasswordQueue", peer: str = "") -> bool:
        """Verify a name and its password off the event loop: this takes 50 ms and more; raise BusyError."""
        digest = self._digest(name, password)
        if digest in self._verified:
            return True
        expected = self._hashes.get(name, self._unknown_user_hash)
        good = await queue.check(peer, password, expected, lambda: digest in self._verified)
        if good and name in self._hashes:
            self._verified.add(digest)
            return True
        return False

    def _digest(self, name: bytes, password: bytes) -> bytes:
        parts = (name, self._hashes.get(name, b""), password)
        return hmac.digest(self._key, b"".join(hashlib.sha256(part).digest() for part in parts), "sha256")


class PasswordQueue:
    """Verifies one password at a time in a thread, the addresses that wait in turn: who sends many delays nobody else."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="bcrypt", initializer=_lower_priority)
        self._waiting: OrderedDict[str, deque[tuple[bytes, bytes, asyncio.Future[bool], Callable[[], bool]]]] = OrderedDict()
        self._task: asyncio.Task[None] | None = None

    async def check(self, peer: str, password: bytes, expected: bytes, is_verified: Callable[[], bool] = lambda: False) -> bool:
        """Return whether a password is the one of a hash; raise BusyError where too many wait.

        `is_verified` tells whether it was verified for another request while this one waited.
        """
        if len(self._waiting.get(peer, ())) >= MAX_WAITING_CHECKS_PER_PEER:
            raise BusyError("too many passwords are waiting for verification")
        if sum(map(len, self._waiting.values())) >= MAX_WAITING_CHECKS:
            self._drop_one(peer)
        result: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(peer, deque()).append((password, expected, result, is_verified))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="passwords")
        return await result

    def close(self) -> None:
        """Cancel pending verifications."""
        if self._task:
            self._task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _drop_one(self, peer: str) -> None:
        """Turn away the last one of the address of which the most wait; raise BusyError if that is `peer`."""
        largest = max(self._waiting.values(), key=len)
        if len(largest) <= len(self._waiting.get(peer, ())) + 1:
            raise BusyError("too many passwords are waiting for verification")
        result = largest.pop()[2]
        if not result.done():
            result.set_exception(BusyError("too many passwords are waiting for verification"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            peer, waiting = next(iter(self._waiting.items()))
            self._waiting.move_to_end(peer)
            password, expected, result, is_verified = waiting[0]
            if not result.done():
                try:
                    good = is_verified() or await loop.run_in_executor(self._executor, _matches, password, expected)
                except ValueError as error:  # of bcrypt; whoever waits next must not wait for ever
                    log.error("failed to verify a password: %s", error)  # noqa: TRY400  # the message is complete
                    good = False
                if not result.done():
                    result.set_result(good)
            waiting.popleft()
            if not waiting:
                del self._waiting[peer]


def _lower_priority() -> None:
    """Lower the priority of this thread: whoever sends wrong passwords should not slow down scrapes.

    Only on Linux: elsewhere `nice` is about the whole process.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.nice(NICENESS)


def parse_basic_authorization(header: str | None) -> tuple[bytes, bytes] | None:
    """Parse an Authorization header; None if it is not a valid Basic one."""
    kind, _, coded = (header or "").partition(" ")
    try:
        name, colon, password = base64.b64decode(coded.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    return (name, password) if kind.lower() == "basic" and colon else None


def _normalize_hash(text: str) -> bytes:
    """Return a hash with the prefix 2b: 2, 2a, 2x and 2y are computed the same way today."""
    return b"$2b$" + text.split("$", 2)[2].encode()


def _matches(password: bytes, expected: bytes) -> bool:
    # bcrypt uses the first 72 bytes; the Python library refuses longer passwords, Go's does not.
    return bcrypt.checkpw(password[:72], expected)


class TokenBucket:
    """A bucket of `burst` requests, full at the start, refilled by one every `interval`."""

    def __init__(self, interval: timedelta, burst: int) -> None:
        self.interval, self._burst = interval.total_seconds(), burst
        self._tokens, self._updated_at = float(burst), 0.0

    def try_acquire(self, now: float) -> bool:
        """Remove a request at `now` (seconds of a monotonic clock); return False if there is none."""
        self._tokens = min(self._tokens + max(now - self._updated_at, 0.0) / self.interval, self._burst)
        self._updated_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class _LoadedConfig:
    """A valid configuration with everything built from it."""

    config: WebConfig
    tls_context: ssl.SSLContext | None
    users: BasicAuthUsers
    bucket: TokenBucket | None
    file_stamps: FileStamps

    @classmethod
    def from_file(cls, file: Path) -> Self:
        """Load a file and all files that it names; raise ConfigError that names the file."""
        # Stamped before it is read: a change in between causes a reload.
        config_stamp = stamp_files([file])
        config = load_yaml_model(file, WebConfig)
        stamps = config_stamp | stamp_files(_list_referenced_files(config))
        try:
            context = make_context(config.tls) if config.tls.enabled else None
        except ConfigError as error:
            raise ConfigError("\n".join(f"{file}: {line}" for line in str(error).splitlines()), stamps) from None
        return cls(
            config,
            context,
            BasicAuthUsers(config.users),
            TokenBucket(*config.request_limit) if config.request_limit else None,
            stamps,
        )


class AccessControl:
    """Decides about requests by the current web configuration, reloaded when its files change."""

    def __init__(self, file: Path, loaded: _LoadedConfig) -> None:
        self._file, self._loaded, self._last_error = file, loaded, ""
        self._passwords = PasswordQueue()

    @property
    def config(self) -> WebConfig:
        """The current configuration."""
        return self._loaded.config

    def get_tls_context(self) -> ssl.SSLContext | None:
        """Return the context of new connections; None is plain HTTP."""
        return self._loaded.tls_context

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of every response."""
        return self._loaded.config.headers

    async def check_request(
        self, authorization: str | None, certificate: Mapping[str, Any] | None, peer: str = ""
    ) -> web.Response | None:
        """Return the response to a request of an address that is refused, or None."""
        loaded = self._loaded
        sans = loaded.config.tls.client_allowed_sans
        if sans is not None and read_alternative_names(certificate).isdisjoint(sans):
            return web.Response(status=403, text="This client certificate is not allowed.\n", headers={"Connection": "close"})
        if loaded.bucket and not loaded.bucket.try_acquire(time.monotonic()):
            headers = {"Retry-After": str(int(loaded.bucket.interval) + 1)}
            return web.Response(status=429, text="Too many requests.\n", headers=headers)
        return await self._check_password(loaded.users, authorization, peer) if loaded.users else None

    async def watch_files(self) -> None:
        """Check the files until cancelled."""
        while True:
            await asyncio.sleep(FILE_CHECK_INTERVAL.total_seconds())
            await self.reload_if_changed()

    async def reload_if_changed(self) -> None:
        """Reload the files if one has changed; an error keeps the previous configuration, and is logged once."""
        stamps = await asyncio.to_thread(stamp_files, [self._file, *_list_referenced_files(self._loaded.config)])
        if stamps == self._loaded.file_stamps and not self._last_error:
            return
        try:
            self.apply(await self.load())
        except ConfigError as error:
            if str(error) != self._last_error:
                log.error("web configuration reload failed, keeping the previous configuration: %s", error)  # noqa: TRY400  # the message is complete
            self._last_error = str(error)
        else:
            log.info("reloaded web configuration, certificates and users")

    async def load(self) -> _LoadedConfig:
        """Load the file and all files that it names, for `apply`; raise ConfigError."""
        loaded = await asyncio.to_thread(_LoadedConfig.from_file, self._file)
        if (loaded.tls_context is None) != (self._loaded.tls_context is None):
            raise ConfigError(f"{self._file}: TLS can be switched on or off only by a restart")
        return loaded

    def apply(self, loaded: _LoadedConfig) -> None:
        """Use a loaded configuration, and log its warnings; open connections are not affected."""
        log_warnings(self._file, loaded.config)
        if loaded.config.request_limit == self._loaded.config.request_limit:
            loaded = replace(loaded, bucket=self._loaded.bucket)
        self._loaded, self._last_error = loaded, ""

    def close(self) -> None:
        """Cancel pending verifications."""
        self._passwords.close()

    async def _check_password(self, users: BasicAuthUsers, authorization: str | None, peer: str) -> web.Response | None:
        pair = parse_basic_authorization(authorization)
        if pair and users.is_verified(*pair):
            return None
        try:
            if pair and await users.verify(*pair, self._passwords, peer):
                return None
        except BusyError:
            text = "Too many passwords are waiting for verification.\n"
            return web.Response(status=503, text=text, headers={"Retry-After": "1"})
        headers = {"WWW-Authenticate": 'Basic realm="utility-exporter", charset="UTF-8"'}
        return web.Response(status=401, text="Unauthorized.\n", headers=headers)


def load_access_control(file: Path) -> AccessControl:
    """Load the access control of a web configuration; raise ConfigError. Reads files, so not for the event loop."""
    loaded = _LoadedConfig.from_file(file)
    log_warnings(file, loaded.config)
    return AccessControl(file, loaded)


def log_warnings(file: Path, config: WebConfig) -> None:
    """Log the warnings about a configuration and the files that it names."""
    for warning in find_warnings(config):
        log.warning("%s: %s", file, warning)
    tls = config.tls
    files = {file: bool(config.users or tls.key), tls.cert_file: False, tls.client_ca_file: False, tls.key_file: True}
    for name, holds_secret in files.items():
        if name and (exposure := find_exposure(name, holds_secret=holds_secret)):
            log.warning("%s", exposure)


def find_warnings(config: WebConfig) -> list[str]:
    """Return warnings about a configuration, a line each."""
    tls, curves = config.tls, config.tls.curve_preferences or ()
    warnings = {
        "tls_server_config has no certificate: TLS is off": config.tls_server_config is not None
        and not tls.enabled
        and tls != type(tls)(),
        "min_version is raised to TLS12, the oldest supported version": tls.min_version in ("TLS10", "TLS11"),
        "RequireAnyClientCert is treated as RequireAndVerifyClientCert: Python verifies every certificate it requests": (
            tls.client_auth_type in ("RequireAnyClientCert", "RequireClientCert")
        ),
    }
    if len(curves) > 1 and sys.version_info < (3, 15):
        warnings[f"this Python offers only one curve of curve_preferences: {choose_curve(curves)}"] = True
    return [warning for warning, applies in warnings.items() if applies]


def _list_referenced_files(config: WebConfig) -> list[Path]:
    tls = config.tls
    return [file for file in (tls.cert_file, tls.key_file, tls.client_ca_file) if file]
