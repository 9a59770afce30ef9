"""A recording played: a server that answers as the portal did, over real HTTP, and the real client against it."""

import asyncio
import html
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from aiohttp import web

from exporter.commands.report import visit_fresh
from exporter.errors import PortalError
from exporter.models import Index, Interval, Peak, Reading, VisitResult, format_resolution
from exporter.portals.base import Portal
from exporter.portals.enedis.config import API_VERSIONS, BASE_URLS, AccessMethod
from exporter.recording.json_text import Number, format_compact, to_plain
from exporter.recording.recorder import FreshStore
from exporter.recording.recording import format_document, read_document
from exporter.visit import build_session
from tests.conftest import build_portal_of

FOLDER = Path(__file__).parent.parent / "recordings"
MIN_ECHO_LENGTH = 16
"""Values that a client invents for each login, such as OAuth's state, are longer."""


@dataclass
class RecordedCall:
    """A call of a recording, and whether it was played."""

    method: str
    origin: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    call: dict[str, Any]
    is_played: bool = False

    @classmethod
    def from_document(cls, call: dict[str, Any]) -> "RecordedCall":
        request = call["request"]
        parts = urlsplit(request["url"])
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        origin = f"{parts.scheme}://{parts.netloc}"
        return cls(request["method"], origin, unquote(parts.path) or "/", query, request.get("form", {}), call)

    def similarity(self, query: dict[str, str]) -> int:
        """Return how much of a query is the same; -1 where a short value (a function's number, a code) is another."""
        if query.keys() != self.query.keys():
            return -1
        differing = [name for name in query if query[name] != self.query[name]]
        is_other = any(max(len(query[name]), len(self.query[name])) < 4 for name in differing)
        return -1 if is_other else len(query) - len(differing)


@dataclass
class Replay:
    """The portal of a recording."""

    document: dict[str, Any]
    calls: list[RecordedCall] = field(init=False)
    sites: dict[str, str] = field(default_factory=dict)
    """The address on the loopback of each recorded origin."""
    echoes: dict[str, str] = field(default_factory=dict)
    """What the client sends now in the place of what it sent then."""
    unmatched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calls = [RecordedCall.from_document(call) for call in self.document["calls"]]

    @property
    def origins(self) -> list[str]:
        config = self.document["config"]
        keys = [value for value in config.values() if isinstance(value, str) and value.startswith(("http://", "https://"))]
        origins = [f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, keys)]
        return sorted({*origins, *(call.origin for call in self.calls)}, key=len, reverse=True)

    def localize(self, text: str) -> str:
        """Return a text with the recorded origins on the loopback, and the client's own values as they are now."""
        for then, now in (*self.sites.items(), *self.echoes.items()):
            text = text.replace(then, now)
        return text

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        runners = []
        try:
            for origin in self.origins:
                app = web.Application(client_max_size=1 << 26)
                app.router.add_route("*", "/{path:.*}", self._make_handler(origin))
                runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
                runners.append(runner)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                self.sites[origin] = "http://{}:{}".format(*runner.addresses[0])
            yield
        finally:
            for runner in runners:
                await runner.cleanup()

    def build_account(self) -> Portal:
        config = json.loads(self.localize(json.dumps(to_plain(self.document["config"]))))
        if config["portal"] == "enedis" and "base_url" not in config:
            access = AccessMethod(config["access"])
            config["base_url"] = self.localize(BASE_URLS[access, config.get("api", API_VERSIONS[access][0])])
        return build_portal_of(config)

    def _make_handler(self, origin: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            query = {name: self._delocalize(value) for name, value in request.query.items()}
            found = self._find(request.method, origin, request.path, query)
            if found is None:
                self.unmatched.append(f"{request.method} {request.path_qs}")
                return web.Response(status=404, text="the recording has no such call")
            is_form = request.content_type == "application/x-www-form-urlencoded"
            form = {name: str(value) for name, value in (await request.post()).items()} if is_form else {}
            self._note_echoes(found, query | {name: self._delocalize(value) for name, value in form.items()})
            return await self._respond(request, found.call)

        return handle

    def _delocalize(self, text: str) -> str:
        for then, now in self.sites.items():
            text = text.replace(now, then)
        return text

    def _find(self, method: str, origin: str, path: str, query: dict[str, str]) -> RecordedCall | None:
        here = [call for call in self.calls if (call.method, call.origin, call.path) == (method, origin, unquote(path))]
        scored = [(call.similarity(query), call) for call in here]
        best = max((score for score, _ in scored), default=-1)
        if best < 0:
            return None
        same = [call for score, call in scored if score == best]
        found = next((call for call in same if not call.is_played), same[-1])
        found.is_played = True
        return found

    def _note_echoes(self, call: RecordedCall, sent: dict[str, str]) -> None:
        for name, then in {**call.query, **call.form}.items():
            now = sent.get(name, then)
            if now != then and len(then) >= MIN_ECHO_LENGTH and "://" not in then:
                self.echoes[then] = now

    async def _respond(self, request: web.Request, call: dict[str, Any]) -> web.StreamResponse:
        if "error" in call:
            return await self._break_off(request, call["error"])
        response = web.Response(status=int(call["response"]["status"].text), body=self._render(call["response"]))
        for name, values in call["response"].get("headers", {}).items():
            response.headers.popall(name, None)
            for value in values:
                response.headers.add(name, self.localize(value))
        return response

    async def _break_off(self, request: web.Request, error: str) -> web.StreamResponse:
        assert request.transport is not None
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        if "cut off" in error:
            await response.prepare(request)
            await response.write(b"{")
            request.transport.close()
        else:
            request.transport.abort()
        return response

    def _render(self, response: dict[str, Any]) -> bytes:
        if "same_as_call" in response:
            return self._render(self.document["calls"][int(response["same_as_call"].text)]["response"])
        if "json" in response:
            return self.localize(format_compact(response["json"])).encode()
        if "html" in response:
            return self.localize(render_page(response["html"])).encode()
        return self.localize(response["text"]).encode() if "text" in response else b"\0" * int(response.get("bytes", "0"))


@dataclass
class Outcome:
    """What a visit came to."""

    result: VisitResult
    failure: PortalError | None
    unmatched: list[str]

    def describe(self) -> dict[str, Any]:
        """Return it as the `expect` of a recording."""
        return {
            "readings": describe_series(self.result.readings),
            "notes": list(self.result.notes),
            "failure": {"reason": self.failure.reason, "message": str(self.failure)} if self.failure else None,
        }


async def replay(document: dict[str, Any]) -> Outcome:
    """Visit the portal of a recording with the real client, at the instant of the recording."""
    portal = Replay(document)
    at = datetime.fromisoformat(document["at"])
    result, failure = VisitResult(), None
    async with portal.serve():
        account = portal.build_account()
        store = FreshStore()
        for key, value in document["kept"].items():
            await store.put(key, restore_kept(value))
        async with build_session(account, store, lambda: at) as session:
            try:
                result = await visit_fresh(account, session)
                failure = next(iter(result.failures), None)
            except PortalError as error:
                failure = error
    return Outcome(result, failure, portal.unmatched)


def restore_kept(value: Any) -> Any:
    """Return a value of the store as the client kept it."""
    if isinstance(value, dict) and value.keys() == {"json_text"}:
        return format_compact(value["json_text"])
    if isinstance(value, dict):
        return {key: restore_kept(part) for key, part in value.items()}
    return [restore_kept(part) for part in value] if isinstance(value, list) else to_plain(value)


def describe_series(readings: Sequence[Reading]) -> list[list[Any]]:
    """Return a row for each series: what and where, how many readings, the first and the last instant, and their sum."""
    rows: dict[tuple[str, ...], list[tuple[str, float]]] = {}
    for reading in readings:
        match reading:
            case Index(register, value, at):
                key, start = ("index", register.usage_point.id, register.name, register.direction, register.unit), at
            case Interval(register, start, end, value):
                key = (
                    "interval",
                    register.usage_point.id,
                    register.name,
                    register.direction,
                    register.unit,
                    format_resolution(end - start),
                )
            case Peak():
                key, start = ("peak", reading.usage_point.id, reading.unit), reading.start
                value = reading.power
        rows.setdefault(tuple(map(str, key)), []).append((start.isoformat(timespec="seconds"), value))
    return [
        [*key, len(found), min(found)[0], max(found)[0], round(sum(value for _, value in found), 6)]
        for key, found in sorted(rows.items())
    ]


def list_recordings() -> Iterator[Path]:
    """Return the recordings that are tests."""
    yield from sorted(FOLDER.glob("*.json"))


def add_recording(file: Path, folder: Path = FOLDER) -> Path:
    """Copy a recording to the tests, with the outcome that it has now; one that is there already is renewed."""
    document = read_document(file)
    document.pop("expect", None)
    outcome = asyncio.run(replay(document))
    folder.mkdir(exist_ok=True)
    expect = json.loads(json.dumps(outcome.describe()), parse_float=Number, parse_int=Number)
    target = folder / file.name
    target.write_text(format_document(document | {"expect": expect}))
    failure = f"{outcome.failure.reason}: {outcome.failure}" if outcome.failure else "no failure"
    sys.stdout.write(f"{target}: {len(outcome.result.readings)} readings, {len(outcome.result.notes)} notes, {failure}\n")
    for unmatched in outcome.unmatched:
        sys.stdout.write(f"  not in the recording: {unmatched}\n")
    return target


if __name__ == "__main__":
    add_recording(Path(sys.argv[1]))


def render_page(page: dict[str, Any]) -> str:
    """Return a web page that a client reads as it read the one that was reduced."""
    variables = "".join(f"var {name} = {format_compact(value)};" for name, value in page["scripts"].items())
    forms = "".join(_render_form(form) for form in page["forms"])
    phrases = "".join(f"<p>{html.escape(phrase)}</p>" for phrase in page["phrases"])
    mark = html.escape(" ".join(page["marks"]))
    captcha = '<div class="g-recaptcha"></div>' if page["captcha"] else ""
    body = f'<body data-page="{mark}">{forms}{phrases}{captcha}</body>'
    return f"<!DOCTYPE html><html><head><script>{variables}</script></head>{body}</html>"


def _render_form(form: dict[str, Any]) -> str:
    inputs = "".join(map(_render_input, form["inputs"]))
    return f'<form action="{html.escape(form["action"])}" method="{form["method"]}">{inputs}</form>'


def _render_input(field: dict[str, Any]) -> str:
    named = {
        "name": field["name"],
        "type": field["type"],
        "value": field["value"],
        "placeholder": " ".join(field.get("hints", [])),
    }
    written = " ".join(f'{name}="{html.escape(text)}"' for name, text in named.items())
    return f"<input {written}{' checked' if field.get('checked') else ''}{'' if field.get('visible') else ' style=display:none'}>"
