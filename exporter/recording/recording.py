"""The recording: a visit as a JSON document that is safe to publish, and how it is written and read."""

import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from yarl import URL

from exporter.client.response import Response
from exporter.client.session import Request
from exporter.compressed_text import PREFIX, decompress_text
from exporter.errors import PortalError
from exporter.recording.configuration import ACCOUNT, list_secrets, redact_config
from exporter.recording.dates import MOVE
from exporter.recording.json_text import Number, format_compact, format_readable, parse_json
from exporter.recording.recorder import Recorder
from exporter.recording.redaction import SECRET, Redactor
from exporter.recording.rules import RedactionRules
from exporter.recording.sampling import MAX_VALUES, sample

FORMAT = 1
DESCRIPTION = (
    "A visit of utility-exporter to a portal: the structure is the portal's, every name, number, date and amount is invented."
)
MAX_TEXT_LENGTH = 2000
"""Of a text that is neither JSON nor a page; it is a message."""
MIN_BYTES_PER_VALUE = 8
_PATH = re.compile(r"(?<=[A-Z] )/[^\s:,;)]*")
_RESPONSE_HEADERS = ("Content-Type", "Location", "Retry-After", "Set-Cookie")
_LIST_STEPS = (MAX_VALUES, 1500, 300)


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
        raise ValueError(f"{file} is no recording of format {FORMAT}")
    return document


def build_recording(
    portal: BaseModel,
    rules: RedactionRules,
    recorder: Recorder,
    failure: PortalError | None = None,
    *,
    max_bytes: int | None = None,
    redactor: Redactor | None = None,
) -> Recording:
    """Return what a visit of an account met, redacted, with lists cut until it has at most `max_bytes`."""
    own_names = dict.fromkeys(list_secrets(portal), "…") | {getattr(portal, "name", ""): ACCOUNT}
    own_names |= {alias: f"alias-{at}" for at, alias in enumerate(getattr(portal, "aliases", {}).values(), 1)}
    for max_values in _LIST_STEPS:
        redactor = redactor or Redactor(rules, recorder.started_at)
        redactor.secret_texts = frozenset(list_secrets(portal))
        recording = _RecordingBuilder(redactor, recorder, own_names, max_values).build(portal, failure)
        if max_bytes is None or len(recording.format().encode()) <= max_bytes:
            return recording
    for call in recording.document["calls"]:
        call["response"] = {
            name: value for name, value in call.get("response", {}).items() if name in ("status", "seconds", "headers")
        }
    return recording


@dataclass(slots=True)
class _Body:
    """A body understood: what it is (`json`, `html`, `text`, `bytes`), and its value."""

    kind: str
    value: Any
    url: str = ""


@dataclass(slots=True)
class _RecordingBuilder:
    redactor: Redactor
    recorder: Recorder
    own_names: dict[str, str]
    max_values: int

    def build(self, portal: BaseModel, failure: PortalError | None) -> Recording:
        exchanges = self.recorder.exchanges
        requests = [_parse_request(exchange.request) for exchange in exchanges]
        responses = [_parse_response(exchange.response) if exchange.response else None for exchange in exchanges]
        kept = {key: _parse_kept(value) for key, value in self.recorder.kept.items()}
        lists = [body for body in (*requests, *responses) if body and body.kind == "json"]
        values, left_out = sample([*(body.value for body in lists), kept], self.max_values)
        for body, value in zip(lists, values, strict=False):
            body.value = value
        self._learn([*requests, *responses], values[-1])
        calls = list(self._build_calls(requests, responses))
        document = {
            "recording": DESCRIPTION,
            "format": Number(str(FORMAT)),
            "exporter": version("utility-exporter"),
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "at": (self.recorder.started_at + MOVE).isoformat(),
            "config": redact_config(self.redactor, portal),
            "kept": {self._redact_key(key): self.redactor.redact(value) for key, value in values[-1].items()},
            "calls": calls,
            "failure": self._describe_failure(failure) if failure else None,
            "kept_words": sorted(self.redactor.kept_words),
            "left_out": {"rows": Number(str(left_out)), "calls": Number(str(self.recorder.left_out))},
        }
        return Recording(document, self.redactor, left_out)

    def _learn(self, bodies: Sequence[_Body | None], kept: Any) -> None:
        for body in bodies:
            if body and body.kind == "html":
                from exporter.recording.page import learn_page  # noqa: PLC0415  # lxml is loaded for pages only

                learn_page(self.redactor, body.value, body.url)
            elif body and body.kind != "bytes":
                self.redactor.learn(body.value)
        self.redactor.learn(kept)
        self.redactor.plan_numbers()

    def _build_calls(self, requests: Sequence[_Body | None], responses: Sequence[_Body | None]) -> Iterator[dict[str, Any]]:
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

    def _redact_request(self, request: Request, body: _Body | None) -> dict[str, Any]:
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

    def _redact_body(self, body: _Body) -> Any:
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


def _join_query(request: Request) -> str:
    url = URL(request.url)
    return str(url.update_query(dict(request.params)) if request.params else url)


def _parse_request(request: Request) -> _Body | None:
    if request.json is not None:
        return _Body("json", parse_json(json.dumps(request.json)))
    if isinstance(request.data, bytes):
        return _Body("bytes", len(request.data))
    return _Body("form", dict(request.data)) if request.data else None


def _parse_response(response: Response) -> _Body:
    body = response.body
    if not body.strip():
        return _Body("text", "")
    if sum(map(body.count, (b",", b"[", b"{"))) <= max(len(body) // MIN_BYTES_PER_VALUE, 1_000_000):
        try:
            return _Body("json", parse_json(body))
        except ValueError:
            pass
    text = response.text()
    if text.lstrip().startswith("<"):
        return _Body("html", text, response.url)
    if "\0" in text or text.count("\ufffd") > len(text) // 20:
        return _Body("bytes", len(body))
    return _Body("text", text[:MAX_TEXT_LENGTH])


def _parse_kept(value: Any) -> Any:
    """Return a kept value with its numbers as `Number`; lists that are kept as JSON text, compressed or not, are marked."""
    match value:
        case dict():
            return {key: _parse_kept(part) for key, part in value.items()}
        case list():
            return [_parse_kept(part) for part in value]
        case str() if value.startswith(("[", "{", PREFIX)):
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
