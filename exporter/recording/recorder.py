"""A visit watched: its exchanges and what the client had kept, held in the memory until they are redacted or forgotten."""

import copy
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from exporter.client.login_attempts import ATTEMPTS_SUFFIX
from exporter.client.response import Response
from exporter.client.session import AccountStore, Exchange, Request
from exporter.recording.json_text import parse_json

MAX_TEXT_LENGTH = 2000
"""Of a text that is neither JSON nor a page; it is a message."""
MIN_BYTES_PER_VALUE = 8


@dataclass(slots=True)
class Recorder:
    """What was exchanged since the visit began; bodies beyond `max_bytes` in all are counted, not held."""

    started_at: datetime
    max_bytes: int
    exchanges: list[Exchange] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)
    """The values that the client read from its store, as they were before the visit."""
    left_out: int = 0
    _held: int = 0

    def observe(self, exchange: Exchange) -> None:
        """Hold an exchange, for `Session`."""
        size = len(exchange.response.body) if exchange.response else 0
        if self._held + size > self.max_bytes:
            self.left_out += 1
            return
        self._held += size
        self.exchanges.append(exchange)


class RecordingStore:
    """An account's store whose first answers are noted."""

    def __init__(self, store: AccountStore, recorder: Recorder) -> None:
        self._store, self._recorder = store, recorder
        self._seen: set[str] = set()

    @property
    def cache(self) -> dict[str, Any]:
        """What is held in this process only."""
        return self._store.cache

    async def get(self, key: str, now: datetime) -> Any | None:
        """Return a kept value, and note it unless the visit has put it there."""
        value = await self._store.get(key, now)
        if value is not None and key not in self._seen:
            self._recorder.kept[key] = copy.deepcopy(value)
        self._seen.add(key)
        return value

    async def put(self, key: str, value: Any, expires_at: datetime | None = None) -> None:
        """Keep a value."""
        self._seen.add(key)
        await self._store.put(key, value, expires_at)

    async def delete(self, key: str) -> None:
        """Forget a value."""
        self._seen.add(key)
        await self._store.delete(key)

    async def record_calls(self, quota: str, at: datetime, calls: int = 1) -> None:
        """Count calls against a quota."""
        await self._store.record_calls(quota, at, calls)

    async def count_calls(self, quota: str, since: datetime) -> int:
        """Return the calls of a quota since an instant."""
        return await self._store.count_calls(quota, since)


class FreshStore:
    """A store that begins empty and is forgotten, so that a visit logs in and asks everything.

    Quotas and failed logins are the account's own: a visit more must not send a password that has to wait.
    """

    def __init__(self, store: AccountStore | None = None) -> None:
        self._store = store
        self._values: dict[str, tuple[Any, datetime | None]] = {}
        self.cache: dict[str, Any] = {}

    async def get(self, key: str, now: datetime) -> Any | None:
        """Return a value of this visit, or the account's failed logins."""
        if self._store and key.endswith(ATTEMPTS_SUFFIX):
            return await self._store.get(key, now)
        value, ends = self._values.get(key, (None, None))
        return None if ends and ends <= now else value

    async def put(self, key: str, value: Any, expires_at: datetime | None = None) -> None:
        """Keep a value for this visit, failed logins for longer."""
        if self._store and key.endswith(ATTEMPTS_SUFFIX):
            await self._store.put(key, value, expires_at)
        self._values[key] = value, expires_at

    async def delete(self, key: str) -> None:
        """Forget a value."""
        if self._store and key.endswith(ATTEMPTS_SUFFIX):
            await self._store.delete(key)
        self._values.pop(key, None)

    async def record_calls(self, quota: str, at: datetime, calls: int = 1) -> None:
        """Count calls against the account's quota."""
        if self._store:
            await self._store.record_calls(quota, at, calls)

    async def count_calls(self, quota: str, since: datetime) -> int:
        """Return the calls of the account's quota since an instant."""
        return await self._store.count_calls(quota, since) if self._store else 0


@dataclass(frozen=True, slots=True)
class Body:
    """A body understood: what it is (`json`, `html`, `text`, `bytes`), and its value."""

    kind: str
    value: Any
    url: str = ""


def parse_request(request: Request) -> Body | None:
    """Return the body of a request, or None where it has none."""
    if request.json is not None:
        return Body("json", parse_json(json.dumps(request.json)))
    if isinstance(request.data, bytes):
        return Body("bytes", len(request.data))
    return Body("form", dict(request.data)) if request.data else None


def parse_response(response: Response) -> Body:
    """Return the body of a response as what it is."""
    body = response.body
    if not body.strip():
        return Body("text", "")
    if sum(map(body.count, (b",", b"[", b"{"))) <= max(len(body) // MIN_BYTES_PER_VALUE, 1_000_000):
        try:
            return Body("json", parse_json(body))
        except ValueError:
            pass
    text = response.text()
    if text.lstrip().startswith("<"):
        return Body("html", text, response.url)
    if "\0" in text or text.count("\ufffd") > len(text) // 20:
        return Body("bytes", len(body))
    return Body("text", text[:MAX_TEXT_LENGTH])
