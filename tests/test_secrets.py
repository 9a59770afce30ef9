"""Secrets stay where they belong: recognisable ones are planted everywhere, and looked for in all that leaves the program."""

import asyncio
import json
import logging
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import aiohttp
import pytest
from aiohttp import web

from exporter.app import Exporter, ServeOptions
from exporter.client.pkce import PkcePair
from exporter.client.session import Session
from exporter.client.token_cache import Token
from exporter.commands.context import CommandContext
from exporter.commands.printing import format_discovery, format_discovery_json, format_json
from exporter.commands.visit import VisitOutput, call_raw, discover_account, visit_once
from exporter.config.loader import load_config, load_portals
from exporter.errors import ExporterError
from exporter.log import JsonFormatter, LogfmtFormatter
from exporter.models import Discovery
from exporter.simulators.base import Handler, run_simulation
from exporter.web.listen import ListenAddress
from tests.conftest import FakeClock, InMemoryAccountStore, build_portal_of
from tests.fault_proxy import FaultProxy, list_simulation_types, open_account, select_first_per_kind
from tests.scripted_portal import SCRIPTS, VisitScript, build_portal

PORTALS = sorted(list_simulation_types())
PATIENCE = 30.0
PAGES = ("/", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/nowhere")
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
SECRET_KEYS = re.compile(
    "password|token|secret|code$|code_verifier|csrf|j_username|signInName|user$|pass$|username", re.IGNORECASE
)
PERSONAL = {
    "cem": {"Jana Ukázková", "SVJ Ukázka"},
    "water-link": {"Verzonnenlaan"},
}
"""What a portal tells of its people, which is shown to nobody who has not asked for it."""


@dataclass
class Listener(FaultProxy):
    """Hears every secret that passes: what a client proves itself with, and what the portal hands out."""

    received: set[str] = field(default_factory=set)

    @web.middleware
    async def _handle(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._collect([request.headers.get("Authorization", "").partition(" ")[2], *request.cookies.values()])
        self._collect(
            value for name, value in [*request.query.items(), *parse_qsl(await request.text())] if SECRET_KEYS.search(name)
        )
        answer = await super()._handle(request, handler)
        self._collect(morsel.value for morsel in answer.cookies.values())
        self._collect(re.findall(r"[?&](?:code|state)=([^&]+)", answer.headers.get("Location", "")))
        if isinstance(answer, web.Response) and isinstance(answer.body, bytes) and answer.body[:1] == b"{":
            body = json.loads(answer.body)
            self._collect(str(value) for name, value in body.items() if SECRET_KEYS.search(name))
        return answer

    def _collect(self, values: Any) -> None:
        self.received |= {value for value in values if len(value) > 7}


async def echo(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse, and say back all that was sent: in the status line, the headers, and the body."""
    output = f"{request.headers.get('Authorization')} {request.headers.get('Cookie')} {request.path_qs} {await request.text()}"
    plain = unquote_plus(re.sub(r"[\r\n]", " ", output))
    body = {"error": plain, "error_description": plain, "message": plain, "status": "400", "reason": plain, plain: plain}
    ascii_only = plain.encode("ascii", "replace").decode()[:4000]
    return web.Response(status=400, reason=ascii_only, text=json.dumps(body), headers={"X-Said": ascii_only})


async def echo_page(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say everything back in a page where something else is due."""
    plain = unquote_plus(await request.text()) + str(request.headers) + request.path_qs
    return web.Response(text=f"<title>{plain}</title><p>{plain}", content_type="text/html")


async def echo_value(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Put it where a value of another kind is due."""
    plain = f"{request.headers.get('Authorization')} {unquote_plus(await request.text())} {request.path_qs}"
    answer = await handler(request)
    if isinstance(answer, web.Response) and isinstance(answer.body, bytes) and answer.body[:1] in (b"{", b"["):
        answer.body = re.sub(rb"(?<=[:\[,])\s*-?\d[\d.]*", lambda _: json.dumps(plain).encode(), answer.body)
    return answer


@dataclass
class Planted:
    """A portal with a listener, an account whose usage points have other names, and what must not be found."""

    listener: Listener
    config: Path
    secrets: set[str]
    personal: set[str]
    lines: list[str]

    def everything(self) -> set[str]:
        return {secret for secret in self.secrets | self.personal | self.listener.received if len(secret) > 5}

    def found(self, text: str, *, personal: bool = True) -> set[str]:
        wanted = self.everything() - (set() if personal else self.personal)
        return {secret for secret in wanted for form in (text, unescape(text), unquote_plus(text)) if secret in form}


class Collector(logging.Handler):
    """Keeps each line as both of our formats write it."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines += [LogfmtFormatter().format(record), JsonFormatter().format(record)]


@pytest.fixture
def lines() -> Any:
    """Everything that anybody logs, at debug level."""
    found: list[str] = []
    collector, root = Collector(found), logging.getLogger()
    before = root.level
    root.addHandler(collector)
    root.setLevel(logging.DEBUG)
    logging.getLogger("exporter").setLevel(logging.DEBUG)
    yield found
    root.removeHandler(collector)
    root.setLevel(before)


def new_folder(parent: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=parent))


@asynccontextmanager
async def planted(kind: str, parent: Path, lines: list[str], attack: Any = None, at: int | None = None) -> AsyncIterator[Planted]:
    folder = new_folder(parent)
    simulation = list_simulation_types()[kind]()
    listener = Listener(simulation, attack, at)
    async with run_simulation(listener) as url:  # type: ignore[arg-type]  # all that is asked of it is an app
        account = simulation.build_accounts(url)[0]
        points = sorted(build_portal_of(account).config.configured_usage_points())
        account["aliases"] = {point: f"alias-{number}" for number, point in enumerate(points)}
        config = folder / "config.yaml"
        config.write_text(json.dumps({"accounts": [account]}))
        config.chmod(0o600)
        keys = ("password", "token", "client_secret", "username", "client_id")
        secrets = {str(account[key]) for key in keys if key in account}
        yield Planted(listener, config, secrets, set(points) | PERSONAL.get(kind, set()), lines)


async def served(planted: Planted) -> str:
    """Serve until the account was visited; gives all that every page says."""
    ready = asyncio.get_running_loop().create_future()
    exporter = Exporter(
        ServeOptions(planted.config, planted.config.parent / "data", (ListenAddress("127.0.0.1", 0),), enable_lifecycle=True)
    )
    task = asyncio.create_task(exporter.run(ready.set_result))
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as client:
        serving = await ready
        while any(part.health.state.up is None for part in serving.page.accounts.values()):  # noqa: ASYNC110  # the product's own doing
            await asyncio.sleep(0.01)
        output = []
        for path in PAGES:
            for headers in ({}, OPENMETRICS) if path == "/metrics" else ({},):
                method = "POST" if path == "/-/reload" else "GET"
                async with client.request(method, f"http://{serving.addresses[0]}{path}", headers=headers) as answer:
                    output.append(f"{answer.status} {dict(answer.headers)} {await answer.text()}")
        exporter.stop()
        await task
    return "\n".join(output)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for portal in load_portals().values():
        monkeypatch.setattr(portal.config_model, "min_request_gap", Session.__init__.__kwdefaults__["min_request_gap"])
        monkeypatch.setattr(portal, "adjust_visit_time", lambda self, at: at)


@pytest.mark.parametrize("kind", PORTALS)
async def test_a_good_life_gives_nothing_away(tmp_path, lines, kind):
    """
    In a successful visit no secret, and nothing personal, gets on any page, in any log line, or in a file that others can read.
    """
    async with planted(kind, tmp_path, lines) as there:
        pages = await served(there)
        log = "\n".join(lines)

        assert len(there.everything()) > 2
        assert 'utility_up{account="' in pages
        assert re.search(r"utility_up\{[^}]*\} 1\.0", pages), log
        assert there.found(pages) == set()
        assert there.found(log) == set()
        assert (kind == "cem") == ("alias-0" not in pages)
    data = there.config.parent / "data"
    assert {file.stat().st_mode & 0o777 for file in data.iterdir()} == {0o600}
    assert data.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("attack", [echo, echo_page, echo_value], ids=lambda attack: attack.__name__)
async def test_a_portal_that_says_secrets_back(tmp_path, lines, kind, attack):
    """
    If a portal repeats what it was sent, at any step, in status line, headers, page or value, none of it is published.
    """
    async with planted(kind, tmp_path, lines) as there:
        await served(there)
    failed = 0
    for step in select_first_per_kind(there.listener.requests):
        async with planted(kind, tmp_path, lines, attack, step) as there:
            pages = await served(there)
            log = "\n".join(lines)
            failed += not re.search(r"utility_up\{[^}]*\} 1\.0", pages) or "skipped invalid fields" in log

            assert there.found(pages) == set()
            assert there.found(log) == set()
        lines.clear()
    assert failed > 1


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("attack", [None, echo, echo_page, echo_value], ids=["good", "echo", "echo_page", "echo_value"])
async def test_one_off_commands(tmp_path, lines, kind, attack):
    """
    `visit` reveals no more than the page; `discover` and `raw` show the user's own data, and never a credential.
    """
    async with planted(kind, tmp_path, lines, attack) as there:
        place = CommandContext(there.config, there.config.parent / "data", load_config(there.config).accounts[0].name, force=True)
        output, failures = [], list[str]()
        for call in (
            visit_once(place),
            discover_account(place),
            *(call_raw(place, *one) for one in raw_calls(there.config)),
        ):
            body = await outcome(call)
            if isinstance(body, ExporterError):
                failures.append(f"{body} {body!r}")
            elif isinstance(body, VisitOutput):
                failures += [body.page, body.table, body.failure]
            elif isinstance(body, Discovery):
                output += [format_discovery(body), format_discovery_json(body)]
            else:
                output.append(format_json(body))

        assert attack or len(output) > 2
        assert there.found("\n".join(failures)) == set()
        assert attack or there.found("\n".join(output), personal=False) - {there_name(there)} == set()
        assert there.found("\n".join(lines)) == set()


async def outcome(call: Awaitable[Any]) -> Any:
    """Return what a command gives, or the error that it would print."""
    try:
        return await call
    except ExporterError as error:
        return error


def there_name(there: Planted) -> str:
    """The user's name: a portal's own answer about the account may hold it."""
    return str(json.loads(there.config.read_text())["accounts"][0].get("username"))


def raw_calls(config: Path) -> list[tuple[str, dict[str, str]]]:
    """Every call that needs no key."""
    portal = load_config(config).accounts[0]
    return [(name, {}) for name, call in portal.raw_calls.items() if not call.required]


@pytest.mark.parametrize("kind", PORTALS)
async def test_reprs(tmp_path, lines, kind):
    """
    The representation of a configuration, a token or a session has no secret.
    """
    async with planted(kind, tmp_path, lines) as there:
        config = load_config(there.config)
        async with Session(store=InMemoryAccountStore(), clock=FakeClock()) as session:
            things = [
                config,
                config.accounts[0],
                config.accounts[0].config,
                session,
                Token("tok-secret", FakeClock()(), {"refresh_token": "ref-secret"}),
                PkcePair.generate(),
            ]
            shown = " ".join(f"{thing!r} {thing!s}" for thing in things) + config.accounts[0].config.build_login_digest()

    hidden = there.secrets - {there_name(there)}
    assert not [secret for secret in hidden if secret in shown]
    assert "-secret" not in shown
    assert things[-1].verifier not in shown


async def test_a_bug_tells_its_place_and_not_its_values(tmp_path, lines):
    """
    A bug's text may contain anything: the log has the type of the error and its traceback, but not that text.
    """
    SCRIPTS["home"] = VisitScript([KeyError("planted-1"), ValueError("planted-2")])
    async with open_account(tmp_path, build_portal(name="home"), FakeClock()) as (poller, read_account):
        await poller.visit()
        await poller.visit()
        page = read_account().text
    SCRIPTS.clear()
    log = "\n".join(lines)

    assert "KeyError" in log
    assert "scripted_portal.py" in log
    assert "planted" not in log + page
