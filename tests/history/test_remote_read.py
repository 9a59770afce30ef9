"""Remote read: what Prometheus gets is what the portals told, and nothing else harms."""

import asyncio
import io
import logging
import os
import re
import resource
import signal
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cramjam
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.errors import LedgerError, RequestError
from exporter.history import LARGEST_REQUEST, MOST_READS, HistorySettings
from exporter.history.read import Reader, understand
from exporter.ledger import AccountState
from exporter.model import Index, Register, Unit
from tests.history import programs
from tests.history.asking import EQUAL, FIRST, LAST, NOT_EQUAL, NOT_REGEXP, REGEXP, ask, post, request, response
from tests.history.world import AUTUMN, EXPECTED_NAMES, LINKY, NOW, PARIS, POWER, SPRING, WATER, World, late_and_corrected, local

ALL = '{__name__=~"utility_.+"}'
EVERY = [(REGEXP, "__name__", ".+")]
AT = NOW.timestamp()


def config(face: str, more: str = "") -> str:
    return f"{more}\nremote_read:\n  - url: {face}/api/v1/read\n    read_recent: true\n"


def read(world: World, *queries, **more):
    """Ask without the web between."""
    body = b"".join(Reader(world.ledger, {}, 1_000_000).answer(request(*queries, **more), int(AT * 1000)))
    return response(body)


async def test_prometheus_reads_the_truth(world, face, client, tmp_path: Path):
    """
    Through Prometheus every sample of every series comes as it was told; a late day and a correction with the next query.
    """
    async with programs.prometheus(client, tmp_path / "p", config(face)) as prometheus:
        before = await prometheus.samples(ALL, AT)
        expected = {labels: dict(samples) for labels, samples in world.truth.items()}
        late_and_corrected(world)
        after = await prometheus.samples(ALL, AT)

    assert {dict(labels)["__name__"] for labels in before} == EXPECTED_NAMES
    assert before == expected
    assert after == world.truth
    assert after != before


async def test_a_day_is_the_sum_of_its_half_hours(world, face, client, tmp_path: Path):
    """
    Summed at the local midnight that ends it, a day has 23 hours in spring and 25 in autumn, and no half-hour of its neighbours.
    """
    selector = 'utility_interval_consumption_kwh{account="maison",resolution="PT30M"}'
    (samples,) = [
        samples for labels, samples in world.truth.items() if ("resolution", "PT30M") in labels and is_consumption(labels)
    ]
    async with programs.prometheus(client, tmp_path / "p", config(face)) as prometheus:
        for day, hours in ((SPRING, 23), (AUTUMN, 25)):
            start, end = local(PARIS, day).timestamp(), local(PARIS, day + timedelta(days=1)).timestamp()
            found = await prometheus.query(f"sum_over_time({selector}[{hours}h])", end)
            amount = sum(value for at, value in samples.items() if start * 1000 <= at < end * 1000)

            assert end - start == hours * 3600
            assert float(found[0]["value"][1]) == pytest.approx(amount, abs=1e-9)


def is_consumption(labels: frozenset[tuple[str, str]]) -> bool:
    return dict(labels)["__name__"] == "utility_interval_consumption_kwh"


async def test_external_labels_do_no_harm(world, face, client, tmp_path: Path):
    """
    A Prometheus with external labels finds the same series as one without.
    """
    more = "global: {external_labels: {cluster: home, replica: a}}"
    async with programs.prometheus(client, tmp_path / "p", config(face, more)) as prometheus:
        found = await prometheus.samples(ALL, AT)

    assert found == world.truth


async def test_prometheus_lists_the_series(world, face, client, tmp_path: Path):
    """
    Prometheus's list of series, and so Grafana's variables, know the true-time series.
    """
    async with programs.prometheus(client, tmp_path / "p", config(face)) as prometheus:
        found = await prometheus.get("/api/v1/series", **{"match[]": ALL, "start": 0, "end": AT})

    assert {frozenset(labels.items()) for labels in found} == set(world.truth)


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
def test_matchers(world, matcher):
    """
    Each kind of matcher means what it means in Prometheus: expressions are anchored, an absent label is the empty text.
    """
    kind, name, wanted = matcher
    python = re.compile(wanted.replace("[[:digit:]]", "[0-9]")) if kind in (REGEXP, NOT_REGEXP) else None

    def accepts(labels: frozenset[tuple[str, str]]) -> bool:
        value = dict(labels).get(name, "")
        same = value == wanted if python is None else python.fullmatch(value) is not None
        return same is (kind in (EQUAL, REGEXP))

    (found,) = read(world, (FIRST, LAST, [matcher]))
    assert {frozenset(labels.items()) for labels, _ in found} == {labels for labels in world.truth if accepts(labels)}


@pytest.mark.parametrize("pattern", ["a(?=b)", "(a)\\1", "(?<!a)b", "a++", "(", "a{2000}", "*", "(?P<x>a)(?P=x)", "a" * 70_000])
def test_expressions_that_are_not_re2(world, pattern):
    """
    An expression that RE2 does not have, though Python may, is refused with its reason.
    """
    with pytest.raises(RequestError, match="regular expression"):
        read(world, (FIRST, LAST, [(REGEXP, "account", pattern)]))


def test_several_queries_in_order(world):
    """
    Each query of a request has its result, in its place; series come in label order, samples in time order.
    """
    queries = [[(EQUAL, "account", "home")], [(EQUAL, "account", "nobody")], EVERY]
    some, none, every = read(world, *((FIRST, LAST, matchers) for matchers in queries))

    assert none == []
    assert {labels["account"] for labels, _ in some} == {"home"}
    assert [sorted(labels.items()) for labels, _ in every] == sorted(sorted(labels) for labels in world.truth)
    assert all(list(labels) == sorted(labels) for labels, _ in every)
    assert all([at for at, _ in samples] == sorted({at for at, _ in samples}) for _, samples in every)


@pytest.mark.parametrize("name", sorted(EXPECTED_NAMES))
def test_bounds_belong_to_the_answer(world, name):
    """
    A sample on the first or the last millisecond asked for is given, its neighbours are not.
    """
    labels, samples = max(
        ((labels, at) for labels, at in world.truth.items() if ("__name__", name) in labels), key=lambda x: len(x[1])
    )
    stamps = sorted(samples)
    middle = stamps[len(stamps) // 3 : 2 * len(stamps) // 3 + 1]
    matchers = [(EQUAL, label, value) for label, value in labels]
    ((inside,), (within,)) = read(world, (middle[0], middle[-1], matchers), (middle[0], middle[0], matchers))

    assert [at for at, _ in inside[1]] == middle
    assert within[1] == [(middle[0], samples[middle[0]])]


@pytest.mark.parametrize(("first", "last"), [(2, 1), (-(1 << 63), (1 << 63) - 1), (-5, -1), ((1 << 63) - 1, -(1 << 63))])
def test_any_bounds_are_understood(world, first, last):
    """
    Bounds in the wrong order or beyond all calendars harm nothing.
    """
    (found,) = read(world, (first, last, EVERY))

    assert len(found) == (len(world.truth) if last - first > 1 << 63 else 0)


def test_nothing_of_the_future(world):
    """
    What a portal's clock stamps a little ahead of ours waits until its time has come.
    """
    ahead = Index(Register(POWER, Unit.KWH, name="day"), 12.0, NOW + timedelta(minutes=3))
    world.ledger.record_visit("home", [ahead], AccountState(last_visit=NOW), at=NOW)
    (found,) = read(world, (FIRST, LAST, [(EQUAL, "account", "home"), (EQUAL, "register", "day")]))

    assert {labels["__name__"] for labels, _ in found} == {"utility_interval_consumption_kwh"}


async def test_aliases(world, history, face, client):
    """
    An alias stands for its usage point as soon as the configuration has it; of two points with one name the first is shown.
    """
    (before,) = await ask(client, face, (FIRST, LAST, [(EQUAL, "usage_point", LINKY.id)]))
    history.follow(HistorySettings(), {"maison": {LINKY.id: "maison"}, "home": {POWER.id: "us", "541448820000000001": "us"}})
    (after,) = await ask(client, face, (FIRST, LAST, [(EQUAL, "usage_point", "maison")]))
    (same,) = await ask(client, face, (FIRST, LAST, [(EQUAL, "usage_point", "us"), (REGEXP, "register", "energy|day")]))

    assert before
    assert [samples for _, samples in after] == [samples for _, samples in before]
    assert {labels["register"] for labels, _ in same} == {"day", "energy"}


async def test_too_many_samples(world, history, face, client, tmp_path: Path):
    """
    A request for more samples than allowed is refused with the number, and Prometheus's user reads why.
    """
    count = sum(len(samples) for samples in world.truth.values())
    history.follow(HistorySettings(max_samples=count - 1), {})
    status, said = await post(client, face, request((FIRST, LAST, EVERY)))
    async with (
        programs.prometheus(client, tmp_path / "p", config(face)) as prometheus,
        client.get(
            f"{prometheus.url}/api/v1/query",
            params={"query": f"count({ALL}[500d])".replace("count(", "count(last_over_time(") + ")", "time": AT},
        ) as answer,
    ):
        shown = await answer.text()
    history.follow(HistorySettings(max_samples=count), {})

    assert (status, b"history.max_samples" in said) == (400, True)
    assert "history.max_samples" in shown
    assert await ask(client, face, (FIRST, LAST, EVERY))


async def test_other_ways_to_ask(world, face, client, caplog):
    """
    Only a POST of a snappy-compressed request for plain samples is answered.
    """
    asked = request((FIRST, LAST, EVERY))
    async with client.get(f"{face}/api/v1/read") as got:
        assert got.status == 405
    assert (await post(client, face, asked, headers={"Content-Encoding": "gzip"}))[0] == 415
    assert (await post(client, face, request((FIRST, LAST, EVERY), accepted=[1])))[0] == 400
    assert (await post(client, face, request((FIRST, LAST, EVERY), accepted=[1, 0])))[0] == 200
    assert caplog.records == []


def test_names_without_samples(world):
    """
    Asked which series there are in a span, it says so without reading their samples.
    """
    day = local(PARIS, SPRING).timestamp() * 1000
    (found,) = read(world, (int(day), int(day) + 3_600_000, EVERY), function="series")

    assert {labels["account"] for labels, _ in found} == {"maison", "home", "flats"}
    assert all(samples == [] for _, samples in found)


BOMBS = {
    "nothing": b"",
    "no length": b"\xff" * 10,
    "4 GiB declared": b"\xff\xff\xff\xff\x0f" + bytes(100),
    "just too much declared": b"\x81\x80\x40" + bytes(100),
    "zeros": bytes(cramjam.snappy.compress_raw(bytes(LARGEST_REQUEST))),
    "a bomb": bytes(cramjam.snappy.compress_raw(bytes(16 * LARGEST_REQUEST))),
    "cut short": request((FIRST, LAST, EVERY))[:-3],
    "many queries": request(*[(FIRST, LAST, [])] * 70),
    "many matchers": request((FIRST, LAST, EVERY * 70)),
    "a fifth kind": request((FIRST, LAST, [(4, "account", "x")])),
    "half a million empty queries": bytes(cramjam.snappy.compress_raw(b"\x0a\x00" * (LARGEST_REQUEST // 2))),
    "half a million empty matchers": bytes(
        cramjam.snappy.compress_raw(b"\x0a\xfc\xff\x3f" + b"\x1a\x00" * (LARGEST_REQUEST // 2 - 2))
    ),
    "nested groups": bytes(cramjam.snappy.compress_raw(b"\x0b" * 500_000)),
    "no text": bytes(cramjam.snappy.compress_raw(b"\x0a\x06\x1a\x04\x12\x02\xff\xfe")),
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs(face, client, caplog, name):
    """
    Whatever is posted that is no request is refused in a few words, in little memory, and without a trace in the log.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, said = await post(client, face, BOMBS[name])

    assert (status, len(said) < 300) == (400, True)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert caplog.records == []


async def test_a_large_body(face, client):
    """
    A body that is too large is not read.
    """

    assert (await post(client, face, io.BytesIO(bytes(LARGEST_REQUEST + 1))))[0] == 413


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes(body):
    """
    Random bytes, compressed or not, are a request or a RequestError, nothing else.
    """
    for sent in (body, bytes(cramjam.snappy.compress_raw(body))):
        with suppress(RequestError):
            understand(sent)


async def helper_of(history, face, client) -> int:
    await ask(client, face, (FIRST, LAST, []))
    return history._helper.process.pid


async def test_others_are_served_while_a_read_waits(world, history, face, client):
    """
    Reading is done by another process: while it stands still, whoever wants something else is answered.
    """
    helper = await helper_of(history, face, client)
    os.kill(helper, signal.SIGSTOP)
    reads = [asyncio.ensure_future(ask(client, face, (FIRST, LAST, EVERY))) for _ in range(10)]
    async with client.get(f"{face}/api/v1/read") as meanwhile:
        assert meanwhile.status == 405
    assert not any(read.done() for read in reads)
    os.kill(helper, signal.SIGCONT)
    assert len({str(read) for read in await asyncio.gather(*reads)}) == 1


async def test_a_helper_that_dies(world, history, face, client, caplog):
    """
    Who waits for a reading process that is killed gets 503, and the log says so; the next read starts another.
    """
    helper = await helper_of(history, face, client)
    os.kill(helper, signal.SIGSTOP)
    waiting = asyncio.ensure_future(post(client, face, request((FIRST, LAST, EVERY))))
    while not history._places._value < MOST_READS:  # noqa: ASYNC110  # a semaphore has no event for it
        await asyncio.sleep(0)
    os.kill(helper, signal.SIGKILL)
    status, said = await waiting
    (found,) = await ask(client, face, (FIRST, LAST, EVERY))

    assert (status, said) == (503, b"The ledger cannot be read now.\n")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert len(found) == len(world.truth)


async def test_the_helper_leaves_with_its_master(world, history, face, client):
    """
    The reading process ends when the exporter lets it go, or is gone.
    """
    await helper_of(history, face, client)
    process = history._helper.process
    history.close()

    assert await asyncio.to_thread(process.wait, 30) == 0


async def test_who_hangs_up_frees_the_place(world, history, face, client):
    """
    Listeners that leave in the middle of an answer cost later ones nothing.
    """
    many = [(FIRST, LAST, EVERY)] * 20
    for _ in range(6):
        answer = await client.post(f"{face}/api/v1/read", data=request(*many))
        await answer.content.read(10)
        answer.close()

    async with asyncio.timeout(30):
        assert len(await ask(client, face, (FIRST, LAST, EVERY))) == 1


async def test_who_hangs_up_before_asking(history, face, client, capfd):
    """
    A connection that ends before its question does no harm, and leaves no traceback.
    """
    await helper_of(history, face, client)
    history._helper.connect().close()
    await ask(client, face, (FIRST, LAST, []))
    process = history._helper.process
    history.close()
    await asyncio.to_thread(process.wait, 30)

    assert capfd.readouterr().err == ""


def test_a_ledger_that_fails(world, monkeypatch):
    """
    A ledger that cannot be read is said to be so.
    """

    def broken():
        raise LedgerError("the disk is gone")

    monkeypatch.setattr(world.ledger, "look", broken)
    with pytest.raises(LedgerError, match="the disk is gone"):
        list(Reader(world.ledger, {}, 1).answer(request((FIRST, LAST, EVERY)), LAST))


def test_stamps_outside_the_protocol_are_left_out(ledger):
    """
    A reading of 1970, which no meter has, is kept in the ledger and has no sample.
    """
    ledger.open_account("home", portal="brook", zone="UTC", login="a")
    told = [Index(Register(WATER, Unit.M3), 1.0, datetime(1970, 1, 2, tzinfo=UTC)), Index(Register(WATER, Unit.M3), 2.0, NOW)]
    ledger.record_visit("home", told, AccountState(last_visit=NOW), at=NOW)
    body = b"".join(Reader(ledger, {}, 99).answer(request((FIRST, LAST, EVERY)), LAST))

    assert bytes(cramjam.snappy.decompress_raw(body)).count(b"\x12\x10\x09") == 1


async def test_a_reader_that_stands_still(world, history, face, monkeypatch, caplog):
    """
    Who takes nothing of an answer loses it, and with it the view of the ledger that keeps the write-ahead log from being folded.
    """
    monkeypatch.setattr("exporter.server.remote_read.LONGEST_STANDSTILL", 0.5)
    history.follow(HistorySettings(max_samples=200_000_000), {})
    many = [Index(Register(WATER, Unit.M3), float(n), NOW - timedelta(minutes=n)) for n in range(20_000)]
    world.ledger.record_piece("home", None, many, at=NOW)
    body = request(*[(FIRST, LAST, EVERY)] * 64)  # 20 MB are more than what the way to the listener holds
    head = f"POST /api/v1/read HTTP/1.1\r\nHost: home\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as still:
        still.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        still.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(still, (face.rpartition("/")[2].partition(":")[0], int(face.rpartition(":")[2])))
        await loop.sock_sendall(still, head.encode() + body)
        began = await loop.sock_recv(still, 12)
        late_and_corrected(world)
        folded = await asyncio.to_thread(fold, world)
        async with asyncio.timeout(30):
            while not caplog.records:  # noqa: ASYNC110  # the log has no event for it
                await asyncio.sleep(0.02)
        then = await asyncio.to_thread(fold, world, 10_000)

    assert began == b"HTTP/1.1 200"
    assert (folded, then) == (False, True)
    assert caplog.messages == ["a remote read was broken off: it took too long"]


def fold(world: World, patience: int = 0) -> bool:
    """Try to fold the log into the file; tells whether all of it went."""
    with world.ledger.store._writing:
        db = world.ledger.store._connection
        db.execute(f"PRAGMA busy_timeout = {patience}")
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        db.execute("PRAGMA busy_timeout = 10000")
    return not busy
