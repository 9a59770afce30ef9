"""The recording: a visit as a JSON document that is safe to publish; how it is written and read, and the last failed visits."""

import hashlib
import json
import logging
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from yarl import URL

from exporter.client.response import Response
from exporter.client.session import COMPRESSED_PREFIX, Request, decompress_text
from exporter.duration import format_duration
from exporter.errors import PortalError
from exporter.files import slugify
from exporter.recording.dates import MOVE
from exporter.recording.json_text import MAX_VALUES, Number, format_compact, format_readable, parse_json, sample
from exporter.recording.recorder import Body, Recorder, parse_request, parse_response
from exporter.recording.redaction import SECRET, Redactor, draw_factor
from exporter.recording.rules import RedactionRules

FORMAT = 1
DESCRIPTION = (
    "A visit of utility-exporter to a portal: the structure is the portal's, every name, number, date and amount is invented."
)
ACCOUNT = "account"
"""What the account is called in its recording."""
_LOGIN_NAMES = ("username", "client_id", "contact")
"""Keys that say who logs in, though they are no secrets."""
_PATH = re.compile(r"(?<=[A-Z] )/[^\s:,;)]*")
_RESPONSE_HEADERS = ("Content-Type", "Location", "Retry-After", "Set-Cookie")
_LIST_STEPS = (MAX_VALUES, 1500, 300)
MAX_HELD_BYTES = 8 << 20
"""Of the responses of a visit that is under way."""
MAX_FAILURE_BYTES = 2 << 20
FAILURE_PREFIX = "last-failure-"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recording:
    """A redacted visit: the document, and what a person wants to know before it is sent to anybody."""

    document: dict[str, Any]
    redactor: Redactor = field(repr=False)
    """Holds what was replaced by what: never written."""
    rows_left_out: int = 0

    def format(self) -> str:
        """Return the file's text."""
        return format_document(self.document)

    def write(self, file: Path) -> int:
        """Write the file, for its owner only; return its size."""
        return write_document(self.document, file)


def format_document(document: dict[str, Any]) -> str:
    """Return the text of a recording's file; its first line says what it is."""
    return "{" + format_readable(document).removeprefix("{\n ")


def write_document(document: dict[str, Any], file: Path) -> int:
    """Write a recording's file completely or not at all, for its owner only; return its size."""
    text = format_document(document).encode()
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(text)
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return len(text)


def read_document(file: Path) -> dict[str, Any]:
    """Return the document of a recording's file; raise ValueError."""
    document = parse_json(file.read_bytes())
    if not isinstance(document, dict) or document.get("format") != Number(str(FORMAT)):
        raise ValueError(f"{file} is not a recording of format {FORMAT}")
    return document


def build_recording(
    config: BaseModel,
    rules: RedactionRules,
    recorder: Recorder,
    failure: PortalError | None = None,
    *,
    max_bytes: int | None = None,
    factor: Decimal | None = None,
) -> Recording:
    """Return what a visit of an account met, redacted, with lists cut until it has at most `max_bytes`.

    `config` is that of the account, `factor` what amounts are multiplied by; None: a secret one.
    """
    own_names = dict.fromkeys(list_secrets(config), "…") | {getattr(config, "name", ""): ACCOUNT}
    own_names |= {alias: f"alias-{at}" for at, alias in enumerate(getattr(config, "aliases", {}).values(), 1)}
    redactor = Redactor(rules, recorder.started_at, frozenset(list_secrets(config)), factor=factor or draw_factor())
    for max_values in _LIST_STEPS:
        recording = _RecordingBuilder(redactor, recorder, own_names, max_values).build(config, failure)
        if max_bytes is None or len(recording.format().encode()) <= max_bytes:
            return recording
    for call in recording.document["calls"]:
        call["response"] = {
            name: value for name, value in call.get("response", {}).items() if name in ("status", "seconds", "headers")
        }
    return recording


class FailureRecordings:
    """The files of the accounts' last failures; off until it is switched on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._enabled = False
        self._written: dict[str, tuple[str, str]] = {}

    def configure(self, enabled: bool) -> None:
        """Switch on or off; off, the files are removed."""
        self._enabled = enabled
        if not enabled:
            self._written.clear()
            with suppress(OSError):
                for file in self._folder.glob(f"{FAILURE_PREFIX}*.json"):
                    file.unlink(missing_ok=True)

    def begin(self, now: datetime) -> Recorder | None:
        """Return what a visit that begins is recorded by; None while switched off."""
        return Recorder(now, MAX_HELD_BYTES) if self._enabled else None

    def write(self, config: BaseModel, account: str, rules: RedactionRules, recorder: Recorder, failure: PortalError) -> None:
        """Keep a failed visit, unless the visit before failed in the same way; it blocks. What fails here is only logged."""
        seen = failure.reason, str(failure)
        if self._written.get(account) == seen:
            return
        try:
            build_recording(config, rules, recorder, failure, max_bytes=MAX_FAILURE_BYTES).write(get_file(self._folder, account))
        except Exception:  # a response that cannot be recorded must not harm the visits
            log.exception("account %s: failed to record the failed visit", account)
        self._written[account] = seen


def get_file(folder: Path, account: str) -> Path:
    """Return the file of an account's last failure."""
    digest = hashlib.sha256(account.encode()).hexdigest()[:8]
    return folder / f"{FAILURE_PREFIX}{slugify(account)}-{digest}.json"


@dataclass(slots=True)
class _RecordingBuilder:
    redactor: Redactor
    recorder: Recorder
    own_names: dict[str, str]
    max_values: int

    def build(self, config: BaseModel, failure: PortalError | None) -> Recording:
        exchanges = self.recorder.exchanges
        requests = [parse_request(exchange.request) for exchange in exchanges]
        responses = [parse_response(exchange.response) if exchange.response else None for exchange in exchanges]
        kept = {key: _parse_kept(value) for key, value in self.recorder.kept.items()}
        values = [body.value for body in (*requests, *responses) if body and body.kind == "json"]
        values, left_out = sample([*values, kept], self.max_values)
        *cut, kept = values
        bodies = _replace_values([*requests, *responses], iter(cut))
        requests, responses = bodies[: len(requests)], bodies[len(requests) :]
        self._learn(bodies, kept)
        calls = list(self._build_calls(requests, responses))
        document = {
            "recording": DESCRIPTION,
            "format": Number(str(FORMAT)),
            "exporter": version("utility-exporter"),
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "at": (self.recorder.started_at + MOVE).isoformat(),
            "config": redact_config(self.redactor, config),
            "kept": {self._redact_key(key): self.redactor.redact(value) for key, value in kept.items()},
            "calls": calls,
            "failure": self._describe_failure(failure) if failure else None,
            "kept_words": sorted(self.redactor.kept_words),
            "left_out": {"rows": Number(str(left_out)), "calls": Number(str(self.recorder.left_out))},
        }
        return Recording(document, self.redactor, left_out)

    def _learn(self, bodies: Sequence[Body | None], kept: Any) -> None:
        for body in bodies:
            if body and body.kind == "html":
                from exporter.recording.page import learn_page  # noqa: PLC0415  # lxml is loaded for pages only

                learn_page(self.redactor, body.value, body.url)
            elif body and body.kind != "bytes":
                self.redactor.learn(body.value)
        self.redactor.learn(kept)
        self.redactor.plan_numbers()

    def _build_calls(self, requests: Sequence[Body | None], responses: Sequence[Body | None]) -> Iterator[dict[str, Any]]:
        seen: dict[str, int] = {}
        for position, exchange in enumerate(self.recorder.exchanges):
            call: dict[str, Any] = {"request": self._redact_request(exchange.request, requests[position])}
            if response := responses[position]:
                assert exchange.response is not None
                body = {response.kind: self._redact_body(response)}
                first = seen.setdefault(format_compact(body), position)
                head = self._redact_head(exchange.response, exchange.seconds)
                call["response"] = head | (body if first == position else {"same_as_call": Number(str(first))})
            else:
                call["error"] = self._redact_message(str(exchange.error))
            yield call

    def _redact_request(self, request: Request, body: Body | None) -> dict[str, Any]:
        url = self.redactor.redact_url(_join_query(request))
        authorization = (request.headers or {}).get("Authorization", "")
        scheme = {"authorization": authorization.split(" ")[0] if authorization.startswith(("Bearer ", "Basic ")) else SECRET}
        described = {"method": request.method, "url": url} | (scheme if authorization else {})
        return described | ({body.kind: self._redact_body(body)} if body else {})

    def _redact_head(self, response: Response, seconds: float) -> dict[str, Any]:
        headers = {name: list(self._redact_headers(response, name)) for name in _RESPONSE_HEADERS if name in response.headers}
        return {"status": Number(str(response.status)), "seconds": Number(f"{seconds:.2f}")} | (
            {"headers": headers} if headers else {}
        )

    def _redact_headers(self, response: Response, name: str) -> Iterator[str]:
        for value in response.headers.getall(name):
            match name:
                case "Location":
                    yield self.redactor.redact_url(value)
                case "Set-Cookie":
                    cookie, equals, rest = value.partition("=")
                    yield f"{self.redactor.redact_name(cookie)}{equals}{self.redactor.redact_text(rest.split(';')[0])}; Path=/"
                case "Retry-After":
                    yield value if value.strip().isdecimal() and len(value) < 8 else self.redactor.redact_date_header(value)
                case _:
                    yield _keep_content_type(value)

    def _redact_body(self, body: Body) -> Any:
        match body.kind:
            case "json" | "form":
                return self.redactor.redact(body.value)
            case "html":
                from exporter.recording.page import reduce_page  # noqa: PLC0415

                return reduce_page(self.redactor, body.value, body.url)
            case "text":
                return self.redactor.redact_text(body.value)
        return Number(str(body.value))

    def _redact_key(self, key: str) -> str:
        return ":".join(self.redactor.redact_text(part) for part in key.split(":"))

    def _describe_failure(self, failure: PortalError) -> dict[str, Any]:
        return {"reason": failure.reason, "message": self._redact_message(str(failure))}

    def _redact_message(self, message: str) -> str:
        """Return a message of the program's own without paths, the account's names and secrets."""
        for text, name in sorted(self.own_names.items(), key=lambda pair: -len(pair[0])):
            message = message.replace(text, name) if text else message
        masked = _PATH.sub(lambda path: "/".join(map(self._redact_masked, path[0].split("/"))), message)
        return self.redactor.redact_dates(masked)

    def _redact_masked(self, segment: str) -> str:
        return segment if segment == "…" else self.redactor.redact_text(segment)


def _replace_values(bodies: Sequence[Body | None], values: Iterator[Any]) -> list[Body | None]:
    """Return bodies, those of JSON with other values."""
    return [replace(body, value=next(values)) if body and body.kind == "json" else body for body in bodies]


def _join_query(request: Request) -> str:
    url = URL(request.url)
    return str(url.update_query(dict(request.params)) if request.params else url)


def _parse_kept(value: Any) -> Any:
    """Return a kept value with its numbers as `Number`; lists that are kept as JSON text, compressed or not, are marked."""
    match value:
        case dict():
            return {key: _parse_kept(part) for key, part in value.items()}
        case list():
            return [_parse_kept(part) for part in value]
        case str() if value.startswith(("[", "{", COMPRESSED_PREFIX)):
            try:
                return {"json_text": parse_json(decompress_text(value))}
            except ValueError:
                return value
        case str() | bool() | None:
            return value
    return parse_json(json.dumps(value))


def _keep_content_type(value: str) -> str:
    known = ("application/json", "text/json", "text/html", "text/plain", "application/octet-stream", "application/xml")
    kind, _, rest = value.partition(";")
    charset = rest.strip().lower()
    safe = charset if charset in ("charset=utf-8", "charset=iso-8859-1", "charset=windows-1252") else ""
    return "; ".join(filter(None, (kind if kind in known else "application/octet-stream", safe)))


def redact_config(redactor: Redactor, config: BaseModel) -> dict[str, Any]:
    """Return the keys that differ from their defaults, and all addresses; with them the account can be built again."""
    redacted: dict[str, Any] = {}
    for key, info in type(config).model_fields.items():
        value = getattr(config, key)
        if key in ("portal", "name"):
            redacted[key] = value if key == "portal" else ACCOUNT
        elif key == "aliases":
            redacted |= {key: {redactor.redact_text(point): f"alias-{at}" for at, point in enumerate(value, 1)}} if value else {}
        elif value is not None and (_is_url(value) or value != info.get_default(call_default_factory=True)):
            redacted[key] = _redact_option(redactor, value, key)
    return redacted


def list_secrets(config: Any) -> Iterator[str]:
    """Return the secrets of a configuration, and the names of its login."""
    match config:
        case SecretStr():
            yield config.get_secret_value()
        case BaseModel():
            for key, info in type(config).model_fields.items():
                value = getattr(config, key)
                if key in _LOGIN_NAMES and value and value != info.default:
                    yield str(value)
                yield from list_secrets(value)
        case Mapping() | tuple() | list():
            for part in config.values() if isinstance(config, Mapping) else config:
                yield from list_secrets(part)


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _redact_option(redactor: Redactor, value: Any, key: str) -> Any:
    match value:
        case bool() | Enum():
            return value.value if isinstance(value, Enum) else value
        case int() | float():
            return Number(repr(value))
        case timedelta():
            return format_duration(value)
        case tuple() | list():
            return [_redact_element(redactor, part, key) for part in value]
        case set() | frozenset():
            return [_redact_element(redactor, part, key) for part in sorted(value)]
    return _redact_option_text(redactor, value, key)


def _redact_element(redactor: Redactor, value: Any, key: str) -> Any:
    """Return one of several: a number there is an identifier, not an option."""
    if isinstance(value, int) and not isinstance(value, bool | Enum):
        return redactor.redact(Number(str(value)))
    return _redact_option(redactor, value, key)


def _redact_option_text(redactor: Redactor, value: Any, key: str) -> Any:
    match value:
        case SecretStr():
            return redactor.redact_token(value.get_secret_value()) or SECRET
        case BaseModel():
            return redact_config(redactor, value)
        case str():
            is_times = ":" in value and not value.strip("0123456789:-")
            return value if is_times else redactor.redact_account_text(value)
    return None
