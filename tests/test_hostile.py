"""Hostile portals: whatever one responds, at whatever step, time and memory are bounded and no stored reading is lost."""

import asyncio
import math
import re
import shutil
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.client.response import Response
from exporter.errors import ResponseError
from exporter.models import Commodity, Index, Register, UsagePoint
from tests.conftest import NOW, FakeClock, load_installed_portals
from tests.fault_proxy import (
    AccountSnapshot,
    Attack,
    ReadingValues,
    list_simulation_types,
    open_account,
    remove_waits,
    run_visit,
    select_first_per_kind,
    serve_app,
)
from tests.malicious_responses import (
    BODY_ATTACKS,
    CONNECTION_ATTACKS,
    EQUIVALENT_ATTACKS,
    REDIRECT_ATTACKS,
    SINGLE_VALUES,
    TERMINAL_TEXT,
    TIMEOUT_ATTACKS,
    VALUE_ATTACKS,
    redirect_elsewhere,
    replace_key,
    respond_with_bomb,
)
from tests.scripted_portal import SCRIPTS, VisitScript, build_portal

LATER = timedelta(days=3)
"""All tokens have expired by then, and everything is requested again."""
PATIENCE = 20.0
PORTALS = sorted(list_simulation_types())
ANSWERS = CONNECTION_ATTACKS | REDIRECT_ATTACKS | BODY_ATTACKS
NUMBER = re.compile(r"^([^#].*) (\S+)$", re.MULTILINE)
"""The value at the end of a line of a page."""
NAMED = {"unreachable", "response", "rate_limit", "login"}


@dataclass
class Life:
    """A portal's ledger after a successful visit, its readings three days later, and which requests of that visit to attack.

    `steps` are one of each kind and the last one; `json_steps` those of them that are answered with JSON.
    """

    folder: Path
    before: ReadingValues
    later: ReadingValues
    steps: tuple[int, ...]
    json_steps: tuple[int, ...]

    @property
    def ends(self) -> tuple[int, int]:
        """The first and the last of `steps`."""
        return self.steps[0], self.steps[-1]

    def keeps(self, seen: AccountSnapshot) -> None:
        """Check that no stored reading is lost, and that only those differ that the portal itself corrects."""
        assert self.before.keys() <= seen.readings.keys()
        assert all(seen.readings[key] in (value, self.later[key]) for key, value in self.before.items())


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a limit that a test can reach, and no delay between requests."""
    remove_waits(monkeypatch)
    for portal in load_installed_portals().values():
        monkeypatch.setattr(portal, "max_response_bytes", 1 << 20)


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Life]:
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        remove_waits(patch)
        for kind in PORTALS:
            folder, clock = tmp_path_factory.mktemp(kind), FakeClock()
            _, first = asyncio.run(run_visit(folder, kind, clock))
            clock.advance(days=LATER.days)
            copy = shutil.copytree(folder, tmp_path_factory.mktemp(kind) / "again")
            between, second = asyncio.run(run_visit(copy, kind, clock))
            assert first.state.up, first.state.message
            assert second.state.up, second.state.message
            steps = dict.fromkeys(
                (*select_first_per_kind(between.requests), len(between.requests) - 1)
            )  # the last one asks for the past
            made[kind] = Life(
                folder,
                first.readings,
                second.readings,
                tuple(steps),
                tuple(step for step in steps if step in between.json_requests),
            )
    return made


async def struck(
    life: Life, kind: str, attack: Attack, folder: Path, steps: Iterable[int], **keys: str
) -> AsyncIterator[AccountSnapshot]:
    """Attack these requests of a visit in turn, each time with a fresh copy of the ledger."""
    for step in steps:
        yield await strike(life, kind, attack, folder / f"{kind}-{step}", step, **keys)


async def strike(life: Life, kind: str, attack: Attack, folder: Path, step: int, **keys: str) -> AccountSnapshot:
    """Visit, three days after a successful visit, a portal that attacks one request."""
    clock = FakeClock()
    clock.advance(days=LATER.days)
    shutil.copytree(life.folder, folder)
    try:
        async with asyncio.timeout(PATIENCE):
            _, seen = await run_visit(folder, kind, clock, attack, step, **keys)
    finally:
        shutil.rmtree(folder)
    return seen


def sound(seen: AccountSnapshot) -> None:
    """Check that Prometheus accepts both formats of the page, and that it has no infinite number and no control character."""
    assert all(math.isfinite(float(number)) for page in (seen.text, seen.openmetrics) for _, number in NUMBER.findall(page))
    well_formed(NUMBER.sub(r"\1 1", seen.text), NUMBER.sub(r"\1 1", seen.openmetrics))


@lru_cache(maxsize=100)
def well_formed(text: str, openmetrics: str) -> None:
    """Parse both formats as Prometheus does; pages that differ in numbers only are parsed once."""
    for parse, page in ((parse_text, text), (parse_openmetrics, openmetrics)):
        samples = [sample for family in parse(page) for sample in family.samples]
        ours = [sample for sample in samples if sample.name.startswith("utility_")]
        assert len({(sample.name, *sorted(sample.labels.items())) for sample in ours}) == len(ours) > 10
        assert all(len(text) <= 200 and text.isprintable() for sample in ours for text in sample.labels.values())


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("name", ANSWERS)
async def test_hostile_answers(lives, tmp_path, kind, name):
    """
    Whatever is received instead of a valid response: the visit ends in time with a known reason, and nothing is lost.
    """
    attack, reason = ANSWERS[name]
    keys = {"timeout": "100ms"} if name in TIMEOUT_ATTACKS else {}
    steps = lives[kind].ends if name in EQUIVALENT_ATTACKS else lives[kind].steps
    seen = [one async for one in struck(lives[kind], kind, attack, tmp_path, steps, **keys)]
    for one in seen:
        lives[kind].keeps(one)
        sound(one)

    assert len(seen) > (1 if name in EQUIVALENT_ATTACKS else 4)
    assert {one.state.reason for one in seen} <= NAMED | {""}
    assert reason in {one.state.reason for one in seen}
    # What readings do not need may be missing, with a note that says so.
    reasons = {one.state.reason for one in seen if one.state.reason or not one.state.notes}
    assert name not in CONNECTION_ATTACKS or reasons <= {reason, "unreachable"}


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("name", VALUE_ATTACKS)
async def test_hostile_values(lives, tmp_path, kind, name):
    """
    Whatever the values of an otherwise valid response: only readings are stored, and later visits go on.
    """
    seen = [one async for one in struck(lives[kind], kind, VALUE_ATTACKS[name], tmp_path, lives[kind].json_steps)]
    for one in seen:
        sound(one)

    assert {one.state.reason for one in seen} <= NAMED | {""}
    assert all(lives[kind].before.keys() <= one.readings.keys() for one in seen)


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("name", SINGLE_VALUES)
async def test_one_hostile_value(lives, tmp_path, kind, name):
    """
    Whichever field of an otherwise valid response has an impossible value: none of it is stored, and later visits go on.
    """
    tried = 0
    for step in lives[kind].json_steps:
        keys, number = [""], 0
        while number < len(keys):
            seen = await strike(lives[kind], kind, replace_key(number, SINGLE_VALUES[name], keys), tmp_path / "one", step)
            assert not re.search("(Inf|NaN)$", seen.text, re.MULTILINE)
            assert seen.state.reason in NAMED | {""}, (keys[number], seen.state.message)
            assert lives[kind].before.keys() <= seen.readings.keys()
            assert all(abs(value) <= 1e15 for value in seen.readings.values())
            number, tried = number + 1, tried + 1

    assert tried > 20


@pytest.mark.parametrize("kind", PORTALS)
@pytest.mark.parametrize("status", [200, 302, 303, 307, 308])
async def test_nobody_else_is_asked(lives, tmp_path, kind, status):
    """
    A redirect to another host, or a URL of one in a response, is not followed at any step: no secret leaks.
    """
    reached = []

    async def other(request: web.Request) -> web.Response:
        reached.append(f"{request.method} {request.path} {await request.text()}")
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", other)
    async with serve_app(app) as url:
        steps = lives[kind].steps if status in (200, 302, 307) else lives[kind].ends
        seen = [one async for one in struck(lives[kind], kind, redirect_elsewhere(url, status), tmp_path, steps)]
        for one in seen:
            lives[kind].keeps(one)
    reasons = {one.state.reason for one in seen}

    assert reached == []
    assert reasons <= NAMED | {""}
    assert status == 200 or reasons & NAMED


async def test_an_endless_answer_takes_no_more_memory_than_its_bound(visit):
    """
    A bomb of a gigabyte and an endless stream need about twice the limit in memory (the parts, and the whole), not more.
    """
    app = web.Application()
    app.router.add_get("/bomb", partial(respond_with_bomb(1 << 30), handler=None))
    app.router.add_get("/endless", partial(CONNECTION_ATTACKS["an endless answer"][0], handler=None))
    async with serve_app(app) as url, visit(max_response_bytes=4 << 20, timeout=timedelta(seconds=60)) as session:
        for path in ("/bomb", "/endless"):
            tracemalloc.start()
            with pytest.raises(ResponseError, match="more than 4194304 bytes"):
                await session.get(url + path)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 16 << 20


def test_many_values_in_little_text(visit):
    """
    A response of empty lists, which need thirty times its length in memory, is refused before it is parsed.
    """
    body = b"[" + b"[]," * 4_000_000 + b"[]]"
    answer = Response(200, "http://brook.example/", CIMultiDictProxy(CIMultiDict()), body, "GET /")
    tracemalloc.start()
    with pytest.raises(ResponseError, match="more values than any meter has"):
        answer.json()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 1 << 20


async def test_ten_thousand_counters_with_long_names(tmp_path):
    """
    10,000 counters whose names are long and full of control characters are all stored; the page truncates each name.
    """
    screen, long = TERMINAL_TEXT.encode(errors="replace").decode(), "long " * 100

    def build_reading(number: int) -> Index:
        point = UsagePoint(f"{number:06}{long}", Commodity.OTHER, meter=long, site=screen, name=long)
        return Index(Register(point, long, name=f"{number}{long}", kind=long, description=long), 1e15, NOW)

    SCRIPTS["home"] = VisitScript([[build_reading(number) for number in range(10_000)]])
    async with (
        open_account(tmp_path, build_portal(name="home"), FakeClock()) as (poller, _),
        asyncio.timeout(120),
    ):
        await poller.visit()
        page = poller._page.render().decode()
    SCRIPTS.clear()
    lines = page.splitlines()

    assert poller.state.up, poller.state.message
    assert sum(line.startswith("utility_register_value{") for line in lines) == 10_000
    assert max(map(len, lines)) < 2_000
    assert all(line.isprintable() for line in lines)
