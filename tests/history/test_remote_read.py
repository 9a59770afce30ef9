"""Remote read: Prometheus gets what the portals reported, and invalid requests do no harm."""

import asyncio
import errno
import io
import logging
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import cramjam
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import BusyError, LedgerError, RequestError
from exporter.history.config import MAX_MATCHERS, MAX_QUERIES, MAX_REQUEST_BYTES, HistorySettings
from exporter.history.foreign_reads import build_empty_response
from exporter.history.read_worker import MAX_CONCURRENT_READS, ReadSlots, RemoteReader
from exporter.history.read_worker_main import AbandonedError
from exporter.history.remote_pb2 import ReadRequest
from exporter.history.remote_read import RemoteReadHandler, parse_read_request
from exporter.history.selection import Matcher, MatcherType, Selector, SeriesIndex, list_positions
from exporter.history.series import HISTORY_FAMILIES, HistorySeries
from exporter.ledger.account_state import AccountState
from exporter.ledger.samples import SampleReader, SampleRows, TimestampRule
from exporter.models import Index, Register, Unit
from exporter.sync.feeds import FeedResult
from exporter.web.app import Handler, add_remote_read
from exporter.web.listen import ListenAddress, listen
from tests.history import programs
from tests.history.remote_read_client import (
    EQUAL,
    MAX_TIME,
    MIN_TIME,
    NOT_EQUAL,
    NOT_REGEXP,
    REGEXP,
    build_request,
    parse_response,
    post_request,
    read_series,
)
from tests.history.sample_history import (
    AUTUMN,
    EXPECTED_NAMES,
    LINKY,
    MONTH_NAMES,
    NOW,
    PARIS,
    POWER,
    SPRING,
    WATER,
    SampleHistory,
    add_late_and_corrected,
    local_instant,
)
from tests.visit_parts import build_result

ALL = '{__name__=~"utility_.+"}'
EVERY = [(REGEXP, "__name__", ".+")]
AT = NOW.timestamp()


def config(base_url: str, more: str = "") -> str:
    return f"{more}\nremote_read:\n  - url: {base_url}/api/v1/read\n    read_recent: true\n"


def read(sample_history: SampleHistory, *queries, **more):
    """Ask without the web between."""
    body = b"".join(
        RemoteReadHandler(sample_history.ledger, {}, 1_000_000).handle_request(build_request(*queries, **more), int(AT * 1000))
    )
    return parse_response(body)


async def test_prometheus_reads_the_truth(sample_history, base_url, client, tmp_path: Path):
    """
    Through Prometheus every sample of every series comes as it was reported; a late day and a correction with the next query.
    """
    async with programs.run_prometheus(client, tmp_path / "p", config(base_url)) as prometheus:
        before = await prometheus.query_samples(ALL, AT)
        expected = {labels: dict(samples) for labels, samples in sample_history.all_samples.items()}
        add_late_and_corrected(sample_history)
        after = await prometheus.query_samples(ALL, AT)

    assert {dict(labels)["__name__"] for labels in before} == EXPECTED_NAMES | MONTH_NAMES
    assert before == expected
    assert after == sample_history.all_samples
    assert after != before


async def test_a_day_is_the_sum_of_its_half_hours(sample_history, base_url, client, tmp_path: Path):
    """
    Summed at the local midnight that ends it, a day has 23 hours in spring and 25 in autumn, and no half-hour of its neighbours.
    """
    selector = 'utility_interval_consumption_kwh{account="maison",resolution="PT30M"}'
    (samples,) = [
        samples
        for labels, samples in sample_history.all_samples.items()
        if ("resolution", "PT30M") in labels and is_consumption(labels)
    ]
    async with programs.run_prometheus(client, tmp_path / "p", config(base_url)) as prometheus:
        for day, hours in ((SPRING, 23), (AUTUMN, 25)):
            start, end = local_instant(PARIS, day).timestamp(), local_instant(PARIS, day + timedelta(days=1)).timestamp()
            found = await prometheus.query(f"sum_over_time({selector}[{hours}h])", end)
            amount = sum(value for at, value in samples.items() if start * 1000 <= at < end * 1000)

            assert end - start == hours * 3600
            assert float(found[0]["value"][1]) == pytest.approx(amount, abs=1e-9)


def is_consumption(labels: frozenset[tuple[str, str]]) -> bool:
    return dict(labels)["__name__"] == "utility_interval_consumption_kwh"


async def test_external_labels_do_no_harm(sample_history, history, base_url, client, tmp_path: Path):
    """
    A Prometheus whose external labels are named in the configuration finds the same series as one without.
    """
    history.configure(HistorySettings(external_labels=("cluster", "replica")), {})
    more = "global: {external_labels: {cluster: home, replica: a}}"
    async with programs.run_prometheus(client, tmp_path / "p", config(base_url, more)) as prometheus:
        found = await prometheus.query_samples(ALL, AT)

    assert found == sample_history.all_samples


async def test_prometheus_lists_the_series(sample_history, base_url, client, tmp_path: Path):
    """
    Prometheus's list of series, and so Grafana's variables, know the history series.
    """
    async with programs.run_prometheus(client, tmp_path / "p", config(base_url)) as prometheus:
        found = await prometheus.get("/api/v1/series", **{"match[]": ALL, "start": 0, "end": AT})

    assert {frozenset(labels.items()) for labels in found} == set(sample_history.all_samples)


@pytest.mark.parametrize(
    "matcher",
    [
        (EQUAL, "account", "home"),
        (EQUAL, "register", ""),
        (EQUAL, "usage_point", WATER.id),
        (EQUAL, "usage_point", "nobody"),
        (NOT_EQUAL, "account", "home"),
        (NOT_EQUAL, "register", ""),
        (REGEXP, "account", "hom"),
        (REGEXP, "account", "home|flats"),
        (REGEXP, "account", "(?i)HOME"),
        (REGEXP, "resolution", "PT[[:digit:]]+M"),
        (REGEXP, "resolution", "|P1M"),
        (REGEXP, "__name__", "utility_measured_.*"),
        (NOT_REGEXP, "resolution", "P.*"),
        (NOT_REGEXP, "account", "ho"),
        (NOT_EQUAL, "job", "x"),
        (EQUAL, "job", ""),
        (REGEXP, "job", ".+"),
    ],
)
def test_matchers(sample_history, matcher):
    """
    Each kind of matcher means what it means in Prometheus: expressions are anchored, an absent label is the empty text.
    """
    kind, name, wanted = matcher
    python = re.compile(wanted.replace("[[:digit:]]", "[0-9]")) if kind in (REGEXP, NOT_REGEXP) else None

    def accepts(labels: frozenset[tuple[str, str]]) -> bool:
        value = dict(labels).get(name, "")
        same = value == wanted if python is None else python.fullmatch(value) is not None
        return same is (kind in (EQUAL, REGEXP))

    (found,) = read(sample_history, (MIN_TIME, MAX_TIME, [matcher]))
    assert {frozenset(labels.items()) for labels, _ in found} == {
        labels for labels in sample_history.all_samples if accepts(labels)
    }


@pytest.mark.parametrize("pattern", ["a(?=b)", "(a)\\1", "(?<!a)b", "a++", "(", "a{2000}", "*", "(?P<x>a)(?P=x)", "a" * 70_000])
def test_expressions_that_are_not_re2(sample_history, pattern):
    """
    An expression that RE2 does not have, though Python may, is refused with its reason.
    """
    with pytest.raises(RequestError, match="regular expression"):
        read(sample_history, (MIN_TIME, MAX_TIME, [(REGEXP, "account", pattern)]))


def test_several_queries_in_order(sample_history):
    """
    Each query of a request has its result, in its place; series come in label order, samples in time order.
    """
    queries = [[(EQUAL, "account", "home")], [(EQUAL, "account", "nobody")], EVERY]
    some, none, every = read(sample_history, *((MIN_TIME, MAX_TIME, matchers) for matchers in queries))

    assert none == []
    assert {labels["account"] for labels, _ in some} == {"home"}
    assert [sorted(labels.items()) for labels, _ in every] == sorted(sorted(labels) for labels in sample_history.all_samples)
    assert all(list(labels) == sorted(labels) for labels, _ in every)
    assert all([at for at, _ in samples] == sorted({at for at, _ in samples}) for _, samples in every)


@pytest.mark.parametrize("name", sorted(EXPECTED_NAMES | MONTH_NAMES))
def test_bounds_belong_to_the_answer(sample_history, name):
    """
    A sample on the first or the last millisecond asked for is given, its neighbours are not.
    """
    labels, samples = max(
        ((labels, at) for labels, at in sample_history.all_samples.items() if ("__name__", name) in labels),
        key=lambda x: len(x[1]),
    )
    stamps = sorted(samples)
    middle = stamps[len(stamps) // 3 : 2 * len(stamps) // 3 + 1]
    matchers = [(EQUAL, label, value) for label, value in labels]
    ((inside,), (within,)) = read(sample_history, (middle[0], middle[-1], matchers), (middle[0], middle[0], matchers))

    assert [at for at, _ in inside[1]] == middle
    assert within[1] == [(middle[0], samples[middle[0]])]


@pytest.mark.parametrize(("first", "last"), [(2, 1), (-(1 << 63), (1 << 63) - 1), (-5, -1), ((1 << 63) - 1, -(1 << 63))])
def test_any_bounds_are_accepted(sample_history, first, last):
    """
    Bounds in the wrong order or beyond all calendars harm nothing.
    """
    (found,) = read(sample_history, (first, last, EVERY))

    assert len(found) == (len(sample_history.all_samples) if last - first > 1 << 63 else 0)


def test_nothing_of_the_future(sample_history):
    """
    What a portal's clock stamps a little ahead of ours waits until its time has come.
    """
    ahead = Index(Register(POWER, Unit.KWH, name="day"), 12.0, NOW + timedelta(minutes=3))
    sample_history.ledger.record_visit("home", build_result([ahead]), AccountState(last_visit=NOW), at=NOW)
    (found,) = read(sample_history, (MIN_TIME, MAX_TIME, [(EQUAL, "account", "home"), (EQUAL, "register", "day")]))

    assert {labels["__name__"] for labels, _ in found} == {"utility_interval_consumption_kwh"}


async def test_aliases(sample_history, history, base_url, client):
    """
    An alias stands for its usage point as soon as the configuration has it; of two points with one name the first is shown.
    """
    (before,) = await read_series(client, base_url, (MIN_TIME, MAX_TIME, [(EQUAL, "usage_point", LINKY.id)]))
    history.configure(HistorySettings(), {"maison": {LINKY.id: "maison"}, "home": {POWER.id: "us", "541448820000000001": "us"}})
    (after,) = await read_series(client, base_url, (MIN_TIME, MAX_TIME, [(EQUAL, "usage_point", "maison")]))
    (same,) = await read_series(
        client, base_url, (MIN_TIME, MAX_TIME, [(EQUAL, "usage_point", "us"), (REGEXP, "register", "energy|day")])
    )

    assert before
    assert [samples for _, samples in after] == [samples for _, samples in before]
    assert {labels["register"] for labels, _ in same} == {"day", "energy"}


async def test_too_many_samples(sample_history, history, base_url, client, tmp_path: Path):
    """
    A request for more samples than allowed is refused with the number, and Prometheus's user reads why.
    """
    count = sum(len(samples) for samples in sample_history.all_samples.values())
    history.configure(HistorySettings(max_samples=count - 1), {})
    status, body = await post_request(client, base_url, build_request((MIN_TIME, MAX_TIME, EVERY)))
    async with (
        programs.run_prometheus(client, tmp_path / "p", config(base_url)) as prometheus,
        client.get(
            f"{prometheus.url}/api/v1/query",
            params={"query": f"count({ALL}[500d])".replace("count(", "count(last_over_time(") + ")", "time": AT},
        ) as answer,
    ):
        shown = await answer.text()
    history.configure(HistorySettings(max_samples=count), {})

    assert (status, b"history.max_samples" in body) == (400, True)
    assert "history.max_samples" in shown
    assert await read_series(client, base_url, (MIN_TIME, MAX_TIME, EVERY))


async def test_other_ways_to_ask(sample_history, base_url, client, caplog):
    """
    Only a POST of a snappy-compressed request for a known type of response is answered.
    """
    asked = build_request((MIN_TIME, MAX_TIME, EVERY))
    async with client.get(f"{base_url}/api/v1/read") as got:
        assert got.status == 405
    assert (await post_request(client, base_url, asked, headers={"Content-Encoding": "gzip"}))[0] == 415
    assert (await post_request(client, base_url, build_request((MIN_TIME, MAX_TIME, EVERY), accepted=[2])))[0] == 400
    assert (await post_request(client, base_url, build_request((MIN_TIME, MAX_TIME, EVERY), accepted=[1, 0])))[0] == 200
    assert caplog.records == []


def test_a_selector_gets_the_span_it_needs(sample_history):
    """
    Prometheus asks for the span of the whole query, and hints at the part of it that a selector needs: only that is read; a hint
    never widens the span.
    """
    first, last = (int(local_instant(PARIS, day).timestamp() * 1000) for day in (SPRING, SPRING + timedelta(days=1)))
    week = 7 * 86_400_000
    (needed,) = read(sample_history, (first, last, EVERY))
    (hinted,) = read(sample_history, (first - week, last + week, EVERY), hints=(first, last))
    (wider,) = read(sample_history, (first, last, EVERY), hints=(first - week, last + week))

    assert needed
    assert hinted == needed
    assert wider == needed


@pytest.mark.parametrize("accepted", [[ReadRequest.SAMPLES], [ReadRequest.STREAMED_XOR_CHUNKS]], ids=["samples", "chunks"])
def test_sums_are_calculated_once_a_read(sample_history, monkeypatch, accepted):
    """
    What is calculated to be counted is what is sent; beyond a limit it is calculated again, with the same result.
    """
    calculated, calculate = [], SampleReader.calculate

    def record(self: SampleReader, *arguments: Any) -> SampleRows:
        calculated.append(arguments)
        return calculate(self, *arguments)

    monkeypatch.setattr(SampleReader, "calculate", record)
    handler = RemoteReadHandler(sample_history.ledger, {}, 1_000_000)
    body = build_request((MIN_TIME, MAX_TIME, [(REGEXP, "__name__", "utility_(month|year)_to_date_.+")]), accepted=accepted)
    kept = b"".join(handler.handle_request(body, int(AT * 1000)))
    once = calculated.copy()
    monkeypatch.setattr("exporter.history.remote_read.MAX_KEPT_SAMPLES", 0)

    assert b"".join(handler.handle_request(body, int(AT * 1000))) == kept
    assert len(kept) > 400
    assert len(once) == len(set(once)) > 1
    assert len(calculated) > 2 * len(once)


NAMED, OTHER = (EQUAL, "__name__", "utility_interval_consumption_kwh"), (EQUAL, "__name__", "up")


@pytest.mark.parametrize(
    ("queries", "accepted", "is_foreign"),
    [
        ([[OTHER]], (), True),
        ([[(REGEXP, "job", ".+"), OTHER], [OTHER]], (1, 0), True),
        ([[OTHER], [NAMED]], (), False),
        ([[OTHER]], (1,), False),
        ([[(REGEXP, "__name__", "up")]], (), False),
        ([[(NOT_EQUAL, "__name__", "up")]], (), False),
        ([], (), False),
        ([[OTHER]] * (MAX_QUERIES + 1), (), False),
        ([[OTHER] * (MAX_MATCHERS + 1)], (), False),
        ([[OTHER, (7, "job", "x")]], (), False),
    ],
)
def test_a_metric_of_others_needs_no_worker(sample_history, queries, accepted, is_foreign):
    """
    The response is that of the worker, byte for byte; whatever might select a series of ours, or is to be refused, goes there.
    """
    body = build_request(*((MIN_TIME, MAX_TIME, matchers) for matchers in queries), accepted=accepted)
    response = build_empty_response(body)

    assert response == (
        b"".join(RemoteReadHandler(sample_history.ledger, {}, 10_000).handle_request(body, MAX_TIME)) if is_foreign else None
    )
    assert build_empty_response(body[:-1]) is None


async def test_reads_of_others_start_no_worker(sample_history, history, base_url, client):
    """
    A Prometheus that never asks for a metric of ours costs no process.
    """
    assert await read_series(client, base_url, (MIN_TIME, MAX_TIME, [OTHER])) == [[]]
    assert history._worker is None


def test_names_without_samples(sample_history):
    """
    Asked which series there are in a span, it says so without reading their samples.
    """
    day = local_instant(PARIS, SPRING).timestamp() * 1000
    (found,) = read(sample_history, (int(day), int(day) + 3_600_000, EVERY), function="series")

    assert {labels["account"] for labels, _ in found} == {"maison", "home", "flats"}
    assert all(samples == [] for _, samples in found)


BOMBS = {
    "nothing": b"",
    "no length": b"\xff" * 10,
    "4 GiB declared": b"\xff\xff\xff\xff\x0f" + bytes(100),
    "just too much declared": b"\x81\x80\x40" + bytes(100),
    "zeros": bytes(cramjam.snappy.compress_raw(bytes(MAX_REQUEST_BYTES))),
    "a bomb": bytes(cramjam.snappy.compress_raw(bytes(16 * MAX_REQUEST_BYTES))),
    "cut short": build_request((MIN_TIME, MAX_TIME, EVERY))[:-3],
    "many queries": build_request(*[(MIN_TIME, MAX_TIME, [])] * 70),
    "many matchers": build_request((MIN_TIME, MAX_TIME, EVERY * 70)),
    "a fifth kind": build_request((MIN_TIME, MAX_TIME, [(4, "account", "x")])),
    "half a million empty queries": bytes(cramjam.snappy.compress_raw(b"\x0a\x00" * (MAX_REQUEST_BYTES // 2))),
    "half a million empty matchers": bytes(
        cramjam.snappy.compress_raw(b"\x0a\xfc\xff\x3f" + b"\x1a\x00" * (MAX_REQUEST_BYTES // 2 - 2))
    ),
    "nested groups": bytes(cramjam.snappy.compress_raw(b"\x0b" * 500_000)),
    "no text": bytes(cramjam.snappy.compress_raw(b"\x0a\x06\x1a\x04\x12\x02\xff\xfe")),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs(base_url, client, caplog, name):
    """
    Whatever is posted that is no request is refused in a few words, in little memory, and without a trace in the log.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, body = await post_request(client, base_url, BOMBS[name])

    assert (status, len(body) < 300) == (400, True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert caplog.records == []


async def test_a_large_body(base_url, client):
    """
    A body that is too large is not read.
    """

    assert (await post_request(client, base_url, io.BytesIO(bytes(MAX_REQUEST_BYTES + 1))))[0] == 413


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes(body):
    """
    Random bytes, compressed or not, are a request or a RequestError, nothing else.
    """
    for sent in (body, bytes(cramjam.snappy.compress_raw(body))):
        with suppress(RequestError):
            parse_read_request(sent)


async def start_worker(history, base_url, client) -> int:
    await read_series(client, base_url, (MIN_TIME, MAX_TIME, []))
    return history._worker.process.pid


async def test_others_are_served_while_a_read_waits(sample_history, history, base_url, client):
    """
    Reading is done by another process: while it stands still, whoever wants something else is answered.
    """
    worker = await start_worker(history, base_url, client)
    os.kill(worker, signal.SIGSTOP)
    reads = [asyncio.ensure_future(read_series(client, base_url, (MIN_TIME, MAX_TIME, EVERY))) for _ in range(10)]
    async with client.get(f"{base_url}/api/v1/read") as meanwhile:
        assert meanwhile.status == 405
    assert not any(read.done() for read in reads)
    os.kill(worker, signal.SIGCONT)
    assert len({str(read) for read in await asyncio.gather(*reads)}) == 1


async def test_a_worker_that_dies(sample_history, history, base_url, client, caplog):
    """
    Who waits for a reading process that is killed gets 503, and the log says so; the next read starts another.
    """
    worker = await start_worker(history, base_url, client)
    await wait_until_idle(history)
    os.kill(worker, signal.SIGSTOP)
    waiting = asyncio.ensure_future(post_request(client, base_url, build_request((MIN_TIME, MAX_TIME, EVERY))))
    while not history._slots._held:  # noqa: ASYNC110  # slots have no event for it
        await asyncio.sleep(0)
    os.kill(worker, signal.SIGKILL)
    status, body = await waiting
    (found,) = await read_series(client, base_url, (MIN_TIME, MAX_TIME, EVERY))

    assert (status, body) == (503, b"The ledger cannot be read now.\n")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert len(found) == len(sample_history.all_samples)


async def test_no_descriptors_for_a_worker(sample_history, history, base_url, client, monkeypatch):
    """
    Where the system has no more descriptors for the process that reads, the response says so; no place is lost by it.
    """

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patches:
        patches.setattr(socket, "socketpair", refuse)
        found = [
            await post_request(client, base_url, build_request((MIN_TIME, MAX_TIME, EVERY)))
            for _ in range(MAX_CONCURRENT_READS + 1)
        ]

    assert set(found) == {(503, b"The ledger cannot be read now.\n")}
    assert len(await read_series(client, base_url, (MIN_TIME, MAX_TIME, EVERY))) == 1


async def test_the_worker_ends_with_its_parent(sample_history, history, base_url, client):
    """
    The reading process ends with the exporter, whatever it does; one that is replaced after a reload ends its answers first.
    """
    await start_worker(history, base_url, client)
    first = history._worker.process
    history.configure(HistorySettings(max_samples=200_000_000), {})
    assert len(await read_series(client, base_url, (MIN_TIME, MAX_TIME, EVERY))) == 1
    second = history._worker.process
    replaced = await asyncio.to_thread(first.wait, 30)
    history.close()

    assert (replaced, second.returncode) == (0, -signal.SIGKILL)


def test_the_worker_ends_with_a_parent_that_was_killed(sample_history, tmp_path: Path):
    """
    The reading process does not outlive an exporter that was killed, and takes no module of the current folder.
    """
    (tmp_path / "re2.py").write_text("open('taken', 'w')")
    program = (
        "import sys; from datetime import UTC, datetime\n"
        "from multiprocessing import Pipe; from exporter.history.read_worker import ReadWorker, WorkerSettings\n"
        "worker = ReadWorker.start(WorkerSettings(sys.argv[1], {}, 99, ()))\n"
        "worker.send_request(*Pipe(), bytes(5), datetime.now(UTC)); print(worker.process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-P", "-c", program, sample_history.ledger.folder]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        worker = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        ended, _, _ = select.select([worker], [], [], 30)  # it is not our child: its descriptor is readable once it has ended
        os.close(worker)

    assert ended == [worker]
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("matchers", [[(EQUAL, "portal", "nosuch")], [(EQUAL, "job", "x"), (EQUAL, "account", "home")]])
def test_a_label_that_no_series_has_selects_nothing(sample_history, matchers):
    """
    An equality on a label that a series lacks selects nothing, unless the configuration names it as an external label.
    """
    handler = RemoteReadHandler(sample_history.ledger, {}, 1_000_000, external_labels=["portal", "job"])

    assert read(sample_history, (MIN_TIME, MAX_TIME, matchers)) == [[]]
    assert len(b"".join(handler.handle_request(build_request((MIN_TIME, MAX_TIME, matchers)), MAX_TIME))) > 100


def test_the_cost_of_expressions_is_bounded(ledger):
    """
    Expressions that would be tried on millions of values are refused before any is tried; equalities cost nothing.
    """
    index = SeriesIndex([build_history_series(number) for number in range(20_000)])
    patterns = [Matcher(MatcherType.NOT_REGEXP, "usage_point", f"x{number}.*") for number in range(4096)]
    names = [Matcher(MatcherType.NOT_EQUAL, "usage_point", f"{number}") for number in range(4096)]
    selector = Selector(index)

    with pytest.raises(RequestError, match="too many regular expressions"):
        selector.check_cost([patterns])
    selector.check_cost([names, patterns[:64], patterns[:64]])
    assert list(list_positions(selector.select([*names[1:], *patterns[:64]])))[:3] == [0, 4096, 4097]


def test_work_ends_when_its_asker_has_gone(sample_history):
    """
    A read is given up before its plan is made, once nobody waits for it.
    """

    def gone():
        raise AbandonedError

    handler = RemoteReadHandler(sample_history.ledger, {}, 1_000_000)
    answer = handler.handle_request(build_request(*[(MIN_TIME, MAX_TIME, EVERY)] * 64), MAX_TIME, gone)

    with pytest.raises(AbandonedError):
        list(answer)


def test_queries_together_are_bounded(sample_history, monkeypatch):
    """
    The series that all queries of a request select together are limited, not those of each.
    """
    monkeypatch.setattr("exporter.history.remote_read.MAX_COUNTED_SERIES", 20)
    read(sample_history, (MIN_TIME, MAX_TIME, EVERY))

    with pytest.raises(RequestError, match="too many series together"):
        read(sample_history, *[(MIN_TIME, MAX_TIME, EVERY)] * 4)


async def test_a_read_that_finds_no_place_may_come_again(sample_history, history, base_url, client, monkeypatch):
    """
    Where all slots are held by readers that stand still, a further read is told so soon, with when to come again.
    """
    monkeypatch.setattr("exporter.history.read_worker.MAX_WAIT_SECONDS", 0.05)
    for number in range(MAX_CONCURRENT_READS - 1):
        await history._slots.acquire(f"192.0.2.{number // 2}")
    await history._slots.acquire("127.0.0.1")
    answer = await client.post(f"{base_url}/api/v1/read", data=build_request((MIN_TIME, MAX_TIME, EVERY)))

    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_one_address_never_has_all_slots():
    """
    An address gets half of the free slots; others are served while it waits, those who have fewest first.
    """
    slots, served = ReadSlots(4), []

    async def wait_for_slot(peer: str) -> None:
        await slots.acquire(peer)
        served.append(peer)

    tasks = [asyncio.ensure_future(wait_for_slot(peer)) for peer in ("a", "a", "a", "a", "b", "b", "c")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    at_first = served.copy()
    tasks[2].cancel()
    slots.release("a")
    slots.release("b")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert at_first == ["a", "a", "b", "c"]
    assert served[4:] == ["b"]


def build_history_series(number: int) -> HistorySeries:
    labels = (("__name__", "utility_measured_index_m3"), ("account", "home"), ("usage_point", f"{number}"))
    return HistorySeries(labels, number, "home", TimestampRule(0), next(iter(HISTORY_FAMILIES.values())), "index", "")


async def test_who_hangs_up_frees_the_slot(sample_history, history, base_url, client):
    """
    Listeners that leave in the middle of an answer cost later ones nothing.
    """
    many = [(MIN_TIME, MAX_TIME, EVERY)] * 20
    for _ in range(6):
        answer = await client.post(f"{base_url}/api/v1/read", data=build_request(*many))
        await answer.content.read(10)
        answer.close()

    async with asyncio.timeout(30):
        assert len(await read_series(client, base_url, (MIN_TIME, MAX_TIME, EVERY))) == 1


async def test_a_network_of_ipv6_is_one_address(history, client, monkeypatch):
    """
    One machine has as many addresses of IPv6 as it likes: all of its network share the slots of one.
    """
    peers, remotes = [], iter(("2001:db8::1", "2001:db8::2", "192.0.2.1"))

    async def refuse(self: RemoteReader, body: bytes, peer: str, on_xor_chunks: object) -> AsyncGenerator[bytes, None]:
        peers.append(peer)
        raise BusyError("enough")
        yield b""

    @web.middleware
    async def come_from_elsewhere(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await handler(request.clone(remote=next(remotes)))

    monkeypatch.setattr(RemoteReader, "read", refuse)
    app = web.Application(middlewares=[come_from_elsewhere])
    add_remote_read(app, history)
    async with AsyncExitStack() as stack:
        (address,) = await listen(app, [ListenAddress("127.0.0.1", 0)], stack)
        statuses = [(await post_request(client, f"http://{address}", b""))[0] for _ in range(3)]

    assert statuses == [503] * 3
    assert peers == ["2001:db8::/64", "2001:db8::/64", "192.0.2.1"]


async def wait_until_idle(history) -> None:
    async with asyncio.timeout(30):
        while history._slots._held:  # noqa: ASYNC110  # slots have no event for it
            await asyncio.sleep(0.01)


async def test_a_place_is_held_until_its_work_has_ended(sample_history, history, base_url, client):
    """
    A client that leaves does not make room for another while its work goes on.
    """
    worker = await start_worker(history, base_url, client)
    await wait_until_idle(history)
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await read_series(client, base_url, (MIN_TIME, MAX_TIME, EVERY))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await anext(history.read(bytes(1 << 20), "192.0.2.1", lambda: None))  # more than the connection holds
    held = history._slots._held.total()
    os.kill(worker, signal.SIGCONT)
    await wait_until_idle(history)

    assert held == 2


async def test_who_hangs_up_before_asking(history, base_url, client, capfd):
    """
    A connection that ends before its question does no harm, and leaves no traceback.
    """
    await start_worker(history, base_url, client)
    connection, remote = Pipe()
    history._worker.pass_connection(remote)
    connection.close()
    await read_series(client, base_url, (MIN_TIME, MAX_TIME, []))
    history.close()

    assert capfd.readouterr().err == ""


def test_a_ledger_that_fails(sample_history, monkeypatch):
    """
    A ledger that cannot be read is body to be so.
    """

    def broken():
        raise LedgerError("the disk is gone")

    monkeypatch.setattr(sample_history.ledger, "snapshot", broken)
    with pytest.raises(LedgerError, match="the disk is gone"):
        list(RemoteReadHandler(sample_history.ledger, {}, 1).handle_request(build_request((MIN_TIME, MAX_TIME, EVERY)), MAX_TIME))


def test_stamps_outside_the_protocol_are_left_out(ledger, monkeypatch):
    """
    A reading of 1970, which no meter has, is kept in the ledger and has no sample.
    """
    monkeypatch.setattr("exporter.models.MIN_YEAR", 1900)  # an older ledger may hold it
    ledger.open_account("home", portal="brook", zone="UTC", login="a")
    readings = [Index(Register(WATER, Unit.M3), 1.0, datetime(1970, 1, 2, tzinfo=UTC)), Index(Register(WATER, Unit.M3), 2.0, NOW)]
    ledger.record_visit("home", build_result(readings), AccountState(last_visit=NOW), at=NOW)
    body = b"".join(RemoteReadHandler(ledger, {}, 99).handle_request(build_request((MIN_TIME, MAX_TIME, EVERY)), MAX_TIME))

    assert bytes(cramjam.snappy.decompress_raw(body)).count(b"\x12\x10\x09") == 1


async def test_a_reader_that_stands_still(sample_history, history, base_url, monkeypatch, caplog):
    """
    Who takes nothing of an answer loses it, and with it the view of the ledger that keeps the write-ahead log from being folded.
    """
    monkeypatch.setattr("exporter.web.app.MAX_STALL_SECONDS", 0.5)
    history.configure(HistorySettings(max_samples=200_000_000), {})
    many = [Index(Register(WATER, Unit.M3), float(n), NOW - timedelta(minutes=n)) for n in range(20_000)]
    sample_history.ledger.record_feed("home", {}, FeedResult(many), at=NOW)
    body = build_request(*[(MIN_TIME, MAX_TIME, EVERY)] * 64)  # 20 MB are more than what the way to the listener holds
    head = f"POST /api/v1/read HTTP/1.1\r\nHost: home\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as still:
        still.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        still.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(still, (base_url.rpartition("/")[2].partition(":")[0], int(base_url.rpartition(":")[2])))
        await loop.sock_sendall(still, head.encode() + body)
        began = await loop.sock_recv(still, 12)
        add_late_and_corrected(sample_history)
        folded = await asyncio.to_thread(fold, sample_history)
        async with asyncio.timeout(30):
            while not caplog.records:  # noqa: ASYNC110  # the log has no event for it
                await asyncio.sleep(0.02)
        then = await asyncio.to_thread(fold, sample_history, 10_000)

    assert began == b"HTTP/1.1 200"
    assert (folded, then) == (False, True)
    assert caplog.messages == ["remote read aborted: it took too long"]


def fold(sample_history: SampleHistory, patience: int = 0) -> bool:
    """Try to fold the log into the file; tells whether all of it went."""
    with sample_history.ledger.database._write_lock:
        db = sample_history.ledger.database._connection
        db.execute(f"PRAGMA busy_timeout = {patience}")
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        db.execute("PRAGMA busy_timeout = 10000")
    return not busy
