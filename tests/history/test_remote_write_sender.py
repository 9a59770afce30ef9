"""A sender against a strict receiver: what is refused, what is late, what is lost, and what is sent twice."""

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli import main
from exporter.errors import LedgerError
from exporter.history import write_queue
from exporter.history.config import Receiver
from exporter.history.remote_write import RemoteWriteManager, request_resend
from exporter.history.series import MIN_TIMESTAMP_MS
from exporter.history.write_queue import Batch
from exporter.ledger.delivery_state import DeliveryProgress, DeliveryRound
from exporter.ledger.ledger import Ledger
from exporter.models import Peak, Register, Unit
from tests.conftest import FakeClock
from tests.history.remote_write_receiver import StrictReceiver, run_receiver
from tests.history.remote_write_sender import run_sender
from tests.history.sample_history import (
    BRUSSELS,
    LINKY,
    NOW,
    POWER,
    SPRING,
    WATER,
    SampleHistory,
    add_late_and_corrected,
    local_instant,
    split_into_intervals,
)

PERSONAL = "541448820000000000"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def strict(clock: FakeClock) -> StrictReceiver:
    return StrictReceiver(clock.now)


def sent(strict: StrictReceiver) -> int:
    return sum(map(len, strict.requests))


def size(sample_history: SampleHistory) -> int:
    return sum(map(len, sample_history.expected_samples.values()))


async def test_everything_once(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    All that has settled is sent once, one request at a time, none larger than allowed, and older days before newer ones.
    """
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock, samples_per_request=100) as sender:
        await sender.run_round()
        requests = len(strict.requests)
        await sender.run_round()
    days = [(min(at for _, at, _ in request), max(at for _, at, _ in request)) for request in strict.requests]

    assert strict.samples == sample_history.expected_samples
    assert sent(strict) == size(sample_history) == sender.stats.sent
    assert len(strict.requests) == requests
    assert max(map(len, strict.requests)) == 100
    assert strict.max_requests_in_progress == 1
    assert all(earlier[0] < later[1] for earlier, later in pairwise(days))
    assert days[0][0] == min(at for samples in sample_history.expected_samples.values() for at in samples)


async def test_windows_that_are_too_full(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, monkeypatch):
    """
    A window that holds too much is read anew, narrower: all of it arrives once, older before newer, corrections in their turn.
    """
    monkeypatch.setattr(write_queue, "TARGET_WINDOW_SAMPLES", 10)
    monkeypatch.setattr(write_queue, "MAX_WINDOW_SAMPLES", 40)
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock, corrections="resend") as sender:
        await sender.run_round()
        windows, before = [min(at for _, at, _ in request) for request in strict.requests], sent(strict)
        add_late_and_corrected(sample_history)
        await sender.run_round()

    assert strict.samples == sample_history.expected_samples
    assert windows[0] == min(windows)
    assert before == size(sample_history) - 48
    assert sent(strict) - before == 48 + 22
    assert max(map(len, strict.requests)) <= 40


async def test_two_on_one_instant(ledger: Ledger, strict: StrictReceiver, clock: FakeClock, monkeypatch):
    """
    Of two peaks on one instant the higher is sent, and none is lost though a window holds more readings than samples.
    """
    monkeypatch.setattr(write_queue, "TARGET_WINDOW_SAMPLES", 10)
    monkeypatch.setattr(write_queue, "MAX_WINDOW_SAMPLES", 40)
    sample_history, name, start = SampleHistory(ledger), "utility_measured_peak_kw", NOW - timedelta(days=90)
    sample_history.add_peak("maison", name, Peak(LINKY, Unit.KW, start, start + timedelta(days=1), 1.0, start), "P1D")
    sample_history.record_visit()
    first = round(start.timestamp() * 1000)
    with ledger.database.write() as db:
        rows = ((first + second * 1000, second, second % 2) for second in range(1, 51))
        db.executemany("INSERT INTO reading SELECT series, ?, ?, ?, visit FROM reading LIMIT 1", rows)
    async with run_receiver(strict) as url, run_sender(ledger, url, clock) as sender:
        await sender.run_round()
    (samples,) = strict.samples.values()

    assert samples == {first: 1.0} | {first + second * 1000: second for second in range(2, 51, 2)}
    assert sent(strict) == len(samples)


async def test_headers_and_labels_of_requests(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    The login, the further headers and the extra labels of the configuration go with every request.
    """
    keys = {
        "basic_auth": {"username": "me", "password": "secret"},
        "headers": {"X-Scope-OrgID": "home"},
        "extra_labels": {"Zone": "north", "cluster": "a", "zz": "z"},
    }
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock, **keys) as sender:
        await sender.run_round()
    extra = {("Zone", "north"), ("cluster", "a"), ("zz", "z")}

    assert strict.samples == {labels | extra: samples for labels, samples in sample_history.expected_samples.items()}
    assert {headers["Authorization"] for headers in strict.headers} == {"Basic bWU6c2VjcmV0"}
    assert {headers["X-Scope-OrgID"] for headers in strict.headers} == {"home"}


async def test_a_bearer_token(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    A token goes as Authorization: Bearer.
    """
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock, bearer_token="abc") as sender:
        await sender.run_round()

    assert {headers["Authorization"] for headers in strict.headers} == {"Bearer abc"}


async def test_only_what_has_settled(ledger: Ledger, strict: StrictReceiver, clock: FakeClock):
    """
    A half-hour is sent when it is a day old, a day when it is two, an index at once; none of them twice, the future never.
    """
    sample_history = SampleHistory(ledger)
    total = Register(LINKY, Unit.KWH)
    for hours in (100, 49, 25, 23, 1):
        at = NOW - timedelta(hours=hours, minutes=30)
        sample_history.add_interval("maison", "i", total, at, at + timedelta(minutes=30), "PT30M")
        sample_history.add_index("maison", "x", Register(WATER, Unit.M3), at, hours)
    for days in (4, 3, 2, 1):
        sample_history.add_interval(
            "maison", "d", total, NOW - timedelta(days=days, hours=1), NOW - timedelta(days=days - 1, hours=1), "P1D"
        )
    sample_history.add_index("maison", "x", Register(WATER, Unit.M3), NOW + timedelta(minutes=3), 0)
    sample_history.record_visit(NOW)
    counts = []
    async with run_receiver(strict) as url, run_sender(ledger, url, clock) as sender:
        for hours in (0, 2, 24, 72):
            clock.at = NOW + timedelta(hours=hours)
            await sender.run_round()
            kept = {dict(labels).get("resolution", "index"): len(samples) for labels, samples in strict.samples.items()}
            counts.append((kept["PT30M"], kept["P1D"], kept["index"]))

    assert counts == [(3, 2, 5), (4, 2, 6), (5, 3, 6), (5, 4, 6)]
    assert sent(strict) == strict.count_samples == 15


async def test_settling_is_configurable(ledger: Ledger, strict: StrictReceiver, clock: FakeClock):
    """
    A shorter time to settle sends at once what waited; a longer one sends nothing again.
    """
    sample_history = SampleHistory(ledger)
    for start, end in split_into_intervals(BRUSSELS, (NOW - timedelta(days=3)).date(), 2, timedelta(minutes=15)):
        sample_history.add_interval("home", "i", Register(POWER, Unit.KWH), start, end, "PT15M")
    sample_history.record_visit(NOW)
    counts = []
    async with run_receiver(strict) as url:
        for interval in ("60h", "0s", "50h"):
            async with run_sender(ledger, url, clock, settle={"interval": interval}) as sender:
                await sender.run_round()
                counts.append(sent(strict))

    assert 0 < counts[0] < counts[1] == counts[2] == 192


async def test_late_days_arrive(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    A day that comes weeks late is sent when it is known, and nothing around it again; corrections are counted, and not sent.
    """
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock) as sender:
        await sender.run_round()
        before = sent(strict)
        add_late_and_corrected(sample_history)
        await sender.run_round()

    assert sent(strict) - before == 48
    assert strict.count_samples == size(sample_history)
    assert sender.stats.corrections == 22


async def test_corrections_are_sent_again(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    With `corrections: resend` a receiver has the new value after the next round, and no other sample twice.
    """
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock, corrections="resend") as sender:
        await sender.run_round()
        before = sent(strict)
        add_late_and_corrected(sample_history)
        await sender.run_round()

    assert strict.samples == sample_history.expected_samples
    assert sent(strict) - before == 48 + 22
    assert sender.stats.corrections == 22


@pytest.mark.parametrize("policy", ["ignore", "resend"])
async def test_a_correction_during_a_round(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, policy: str):
    """
    What is corrected before it was sent is sent with its new value, and not lost; what was sent before goes by the policy.
    """

    def correct(samples: object) -> tuple[int, str]:
        if len(strict.requests) == 3:
            add_late_and_corrected(sample_history)
        return 204, ""

    strict.respond = correct
    async with (
        run_receiver(strict) as url,
        run_sender(sample_history.ledger, url, clock, samples_per_request=300, corrections=policy) as sender,
    ):
        await sender.run_round()
        await sender.run_round()

    assert {labels: set(samples) for labels, samples in strict.samples.items()} == {
        labels: set(samples) for labels, samples in sample_history.expected_samples.items()
    }
    assert sender.stats.corrections == 22
    assert policy == "ignore" or strict.samples == sample_history.expected_samples


async def test_offending_samples_are_isolated(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, caplog):
    """
    The samples that a receiver refuses are found one by one and set aside; all others are delivered, and the log says why, once.
    """
    bad = {at for samples in sample_history.expected_samples.values() for number, at in enumerate(samples) if number % 97 == 5}

    def refuse(samples: list[tuple[object, int, float]]) -> tuple[int, str]:
        if any(at in bad for _, at, _ in samples):
            return 400, f'out of bounds\n\x1b[31m series={{usage_point="{PERSONAL}"}} of me@example.com ' + "x" * 5000
        return 204, ""

    strict.respond = refuse
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock, samples_per_request=1000) as sender:
        await sender.run_round()
        first = len(strict.requests)
        await sender.run_round()
    expected = {
        labels: {at: v for at, v in samples.items() if at not in bad}
        for labels, samples in sample_history.expected_samples.items()
    }

    assert strict.samples == expected
    assert sender.stats.refused == size(sample_history) - strict.count_samples > 10
    assert len(strict.requests) == first
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "out of bounds" in caplog.text
    assert PERSONAL not in caplog.text
    assert "me@example.com" not in caplog.text
    assert len(caplog.messages[0]) < 400
    assert sender.stats.up


async def test_a_receiver_past_a_whole_stretch(ledger: Ledger, strict: StrictReceiver, clock: FakeClock):
    """
    Where everything older than the receiver's window is refused, few requests find that out; all that it can take arrives.
    """
    sample_history = SampleHistory(ledger)
    register = Register(POWER, Unit.KWH)
    for start, end in split_into_intervals(BRUSSELS, SPRING - timedelta(days=100), 200, timedelta(minutes=15)):
        sample_history.add_interval("home", "utility_interval_consumption_kwh", register, start, end, "PT15M")
    sample_history.record_visit(NOW)
    edge = local_instant(BRUSSELS, SPRING).timestamp() * 1000
    strict.respond = lambda samples: (400, "too old") if any(at < edge for _, at, _ in samples) else (204, "")
    async with run_receiver(strict) as url, run_sender(ledger, url, clock, samples_per_request=1000) as sender:
        await sender.run_round()
    ((labels, samples),) = sample_history.expected_samples.items()

    assert strict.samples == {labels: {at: value for at, value in samples.items() if at >= edge}}
    assert sender.stats.refused == sum(at < edge for at in samples)
    assert len(strict.requests) < 300


async def test_too_many_requests(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, caplog):
    """
    A receiver that asks for a pause gets it, in seconds or as a date, and then everything.
    """
    date = (NOW + timedelta(seconds=17 + 90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    answers = [
        (429, "slow down", {"Retry-After": "17"}),
        (429, "slow down", {"Retry-After": date}),
        (503, "", {"Retry-After": "5"}),
    ]
    strict.respond = lambda _: answers.pop(0) if answers else (204, "")
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock) as sender:
        await sender.run_round()

    assert clock.slept == [timedelta(seconds=17), timedelta(seconds=90), timedelta(seconds=5)]
    assert strict.samples == sample_history.expected_samples
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]


@pytest.mark.parametrize(
    ("status", "waits"),
    [(500, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]), (429, [1, 2, 4]), (401, [60, 120, 240, 480]), (404, [60]), (302, [60])],
)
async def test_waits_grow(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, status: int, waits: list[int]):
    """
    A receiver in trouble is asked again in growing steps; so is one that refuses us, in larger ones; no sample is set aside.
    """
    strict.respond = lambda _: (status, "no") if len(strict.requests) <= len(waits) else (204, "")
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock) as sender:
        await sender.run_round()

    assert [length.total_seconds() for length in clock.slept] == waits
    assert strict.samples == sample_history.expected_samples
    assert sender.stats.refused == 0


async def test_a_receiver_that_is_dead_for_a_day(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, caplog):
    """
    While a receiver is dead the page says so, and how much waits; once back it has everything, what came meanwhile included.
    """
    caplog.set_level(logging.INFO)
    seen = []
    alive = NOW + timedelta(days=1)
    strict.respond = lambda _: (204, "") if clock.at > alive else (502, "bad gateway")

    def check() -> None:
        samples = sender.stats.to_samples(clock.at)
        seen.append(
            {name.removeprefix("utility_exporter_remote_write_"): value for name, of in samples.items() for value in of.values()}
        )
        if len(seen) == 100:
            add_late_and_corrected(sample_history)

    clock.on_sleep = check
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock, corrections="resend") as sender:
        await sender.run_round()
        total = size(sample_history)
        await sender.run_round()
    first, last = seen[0], seen[-1]

    assert strict.samples == sample_history.expected_samples
    assert len(strict.requests) < 320
    assert (first["up"], first["pending_samples"], first["lag_seconds"]) == (0, total - 48, 1)
    assert (last["up"], last["pending_samples"]) == (0, total)
    assert 86_000 < last["lag_seconds"] < 87_000
    assert "last_success_timestamp_seconds" not in last
    assert (sender.stats.up, sender.stats.pending, sender.stats.pending_since_ms) == (True, 0, None)
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]


async def test_a_restart_in_the_middle(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    Killed between sending and remembering, a sender goes on there: the samples of that one request come twice, no others.
    """
    async with run_receiver(strict) as url:
        async with run_sender(sample_history.ledger, url, clock, samples_per_request=100) as sender:
            save, kept = sender._delivery_state.save_progress, []

            def killed(key: str, progress: DeliveryProgress, position: DeliveryRound) -> None:
                kept.append(position)
                if len(kept) == 7:
                    raise LedgerError("the process is killed between sending and remembering")
                save(key, progress, position)

            sender._delivery_state.save_progress = killed  # type: ignore[method-assign]
            with pytest.raises(LedgerError):
                await sender.run_round()
        before = sent(strict)
        async with run_sender(sample_history.ledger, url, clock, samples_per_request=100) as sender:
            await sender.run_round()
    times = Counter((labels, at) for request in strict.requests for labels, at, _ in request)

    assert before == sum(map(len, strict.requests[:7]))
    assert strict.samples == sample_history.expected_samples
    assert {sample for sample, count in times.items() if count > 1} == {(labels, at) for labels, at, _ in strict.requests[6]}
    assert max(times.values()) == 2


async def test_a_receiver_that_lost_its_data(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    Asked to, everything is sent again, corrected values too; or all from a day on.
    """
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock) as sender:
        await sender.run_round()
        add_late_and_corrected(sample_history)
        await sender.run_round()
        strict.samples.clear()
        lines = request_resend(sample_history.ledger, [sender._receiver], None, None)
        await sender.run_round()
        whole = dict(strict.samples)
        strict.samples.clear()
        request_resend(sample_history.ledger, [sender._receiver], sender._receiver.target, SPRING)
        await sender.run_round()
    day = datetime(SPRING.year, SPRING.month, SPRING.day, tzinfo=UTC).timestamp() * 1000
    part = {
        labels: {at: value for at, value in samples.items() if at >= day}
        for labels, samples in sample_history.expected_samples.items()
    }

    assert whole == sample_history.expected_samples
    assert lines == [f"{sender._receiver.target}: sent again from the beginning"]
    for labels, samples in part.items():
        assert samples.items() <= strict.samples.get(labels, {}).items()
    assert (
        min(min(samples) for labels, samples in strict.samples.items() if ("resolution", "P1M") not in labels) > day - 86_400_000
    )


def test_a_wrong_folder(tmp_path: Path, capsys):
    """
    `history resend` with a folder that holds no ledger says so, and begins none.
    """
    file = tmp_path / "config.yaml"
    file.write_text(
        "accounts:\n- {name: home, portal: water-link, username: me@example.com, password: planted, meters: ['123456']}\n"
        "history: {remote_write: [{url: 'http://127.0.0.1:9/write', name: store}]}\n"
    )

    assert main(["history", "resend", f"--config.file={file}", f"--storage.path={tmp_path / 'other'}"]) == 1
    assert "holds no ledger" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


async def test_asked_again_while_something_new_is_older(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    Sent again from a day on, a receiver still gets what was learned of the days before.
    """
    async with run_receiver(strict) as url, run_sender(sample_history.ledger, url, clock) as sender:
        await sender.run_round()
        add_late_and_corrected(sample_history)
        request_resend(sample_history.ledger, [sender._receiver], None, NOW.date())
        await sender.run_round()

    assert strict.count_samples == size(sample_history)


async def test_nothing_before(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    Nothing older than `not_before` is sent, be it a day or an age.
    """
    async with run_receiver(strict) as url:
        for number, (floor, since) in enumerate(
            [("2026-03-28", datetime(2026, 3, 28, tzinfo=UTC)), ("239d", NOW - timedelta(days=239))]
        ):
            strict.samples.clear()
            async with run_sender(sample_history.ledger, url, clock, not_before=floor, name=f"target {number}") as sender:
                await sender.run_round()
            edge = since.timestamp() * 1000
            expected = {
                labels: {at: v for at, v in samples.items() if at >= edge}
                for labels, samples in sample_history.expected_samples.items()
            }
            assert strict.samples == {labels: samples for labels, samples in expected.items() if samples}


async def test_one_that_comes_back(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    A receiver that was removed from the configuration and restored is sent what it missed, and nothing twice.
    """
    async with run_receiver(strict) as url:
        async with run_sender(sample_history.ledger, url, clock) as sender:
            await sender.run_round()
        sample_history.ledger.get_delivery_state().set_targets([])
        add_late_and_corrected(sample_history)
        async with run_sender(sample_history.ledger, url, clock) as sender:
            await sender.run_round()

    assert strict.count_samples == size(sample_history)
    assert sent(strict) == size(sample_history)


async def test_senders_follow_the_configuration(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock):
    """
    A reload starts the sender of a new receiver, ends that of one that is gone, and leaves others alone unless aliases changed.
    """
    done = asyncio.Event()
    clock.on_sleep = lambda: done.set() if strict.count_samples >= size(sample_history) else None
    async with run_receiver(strict) as url:
        senders = RemoteWriteManager(sample_history.ledger, clock, "utility-exporter/0")
        receiver = Receiver(url=url, name="store")
        await senders.configure((receiver,), {})
        task = senders._running[receiver.key][2]
        async with asyncio.timeout(30):
            await done.wait()
        first = senders.collect_samples()
        await senders.configure((receiver,), {})
        same = senders._running[receiver.key][2] is task
        await senders.configure((receiver,), {"flats": {WATER.id: "cellar"}})
        other = senders._running[receiver.key][2] is not task
        await senders.configure((), {})
        none = senders.collect_samples()
        await senders.stop()

    assert strict.samples == sample_history.expected_samples
    assert first["utility_exporter_remote_write_sent_samples_total"] == {("store",): size(sample_history)}
    assert first["utility_exporter_remote_write_up"] == {("store",): 1}
    assert (same, other, none) == (True, True, {})


async def test_a_bug_does_not_end_a_delivery(
    sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, monkeypatch, caplog
):
    """
    Whatever goes wrong in a round, the sender tries again.
    """
    done = asyncio.Event()
    clock.on_sleep = lambda: done.set() if strict.count_samples >= size(sample_history) else None
    errors = [KeyError("a bug"), LedgerError("the disk is full")]
    plain = Ledger.snapshot

    def broken(self):
        if errors:
            raise errors.pop(0)
        return plain(self)

    monkeypatch.setattr(Ledger, "snapshot", broken)
    async with run_receiver(strict) as url:
        senders = RemoteWriteManager(sample_history.ledger, clock, "utility-exporter/0")
        await senders.configure((Receiver(url=url, name="store"),), {})
        async with asyncio.timeout(30):
            await done.wait()
        await senders.stop()

    assert strict.samples == sample_history.expected_samples
    assert "a bug" in caplog.text
    assert "the disk is full" in caplog.text


async def test_a_missing_authority(
    sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, tmp_path: Path, authority: trustme.CA, caplog
):
    """
    A `ca_file` that cannot be read is logged once and shown on the page; when it is there, everything is delivered.
    """
    done, tried, file = asyncio.Event(), asyncio.Event(), tmp_path / "ca.pem"

    def check() -> None:
        if strict.count_samples >= size(sample_history):
            done.set()
        elif len(clock.slept) == 3:
            tried.set()

    clock.on_sleep = check
    async with run_receiver(strict) as url:
        senders = RemoteWriteManager(sample_history.ledger, clock, "utility-exporter/0")
        await senders.configure((Receiver(url=url, name="store", ca_file=file),), {})
        async with asyncio.timeout(30):
            await tried.wait()
        first = senders.collect_samples()
        authority.cert_pem.write_to_path(file)
        async with asyncio.timeout(30):
            await done.wait()
        await senders.stop()

    assert first["utility_exporter_remote_write_up"] == {("store",): 0}
    assert [record.getMessage() for record in caplog.records] == [
        f"remote write to store: {file} cannot be read, or holds no certificate to trust"
    ]
    assert strict.samples == sample_history.expected_samples


def test_no_secret_is_stored_or_logged(sample_history: SampleHistory):
    """
    Neither the books nor a description of a receiver hold its secrets, or the query of its address.
    """
    receiver = Receiver.model_validate(
        {"url": "https://metrics.example.com/write?token=planted", "bearer_token": "planted", "headers": {"X-Key": "planted"}}
    )
    sample_history.ledger.get_delivery_state().set_targets([receiver.key])

    assert "planted" not in receiver.key + receiver.target
    assert "planted" not in repr(receiver).replace(receiver.url, "")
    assert b"planted" not in b"".join(file.read_bytes() for file in sample_history.ledger.database.path.parent.iterdir())


async def test_unreachable(sample_history: SampleHistory, strict: StrictReceiver, clock: FakeClock, caplog):
    """
    No connection and no answer are trouble that passes; the address is in no message.
    """
    async with run_receiver(strict) as url:
        pass
    strict.requests.clear()
    clock.on_sleep = lambda: (_ for _ in ()).throw(asyncio.CancelledError) if len(clock.slept) == 3 else None
    async with run_sender(sample_history.ledger, f"{url}?key=planted", clock) as sender:
        with pytest.raises(asyncio.CancelledError):
            await sender.run_round()

    assert (sender.stats.up, sender.stats.pending, sender.stats.sent) == (False, size(sample_history), 0)
    assert "could not connect" in caplog.text
    assert "planted" not in caplog.text


async def test_thinned_readings_are_no_trouble(ledger: Ledger, strict: StrictReceiver, clock: FakeClock):
    """
    Readings that are gone from the ledger before they were sent are not sent, and nothing waits for them.
    """
    sample_history = SampleHistory(ledger)
    for number in range(100):
        sample_history.add_index(
            "flats", "utility_measured_index_m3", Register(WATER, Unit.M3), NOW - timedelta(hours=number), number
        )
    sample_history.record_visit(NOW)
    async with run_receiver(strict) as url, run_sender(ledger, url, clock) as sender:
        with ledger.database.write() as db:
            db.execute("DELETE FROM reading WHERE value < 10 OR CAST(value AS INTEGER) % 3 = 0")
        await sender.run_round()
        with ledger.snapshot() as snapshot:
            left = snapshot.pending_ranges(sender._receiver.key)

    assert strict.count_samples == 60
    assert left == []


@given(
    st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True).map(sorted), min_size=1, max_size=6).filter(
        lambda series: sum(map(len, series)) > 1
    )
)
def test_halving_loses_nothing(series: list[list[int]]):
    """
    The two halves of a batch have its samples between them, neither is empty, and the older half is the older one.
    """
    rows = [(line, MIN_TIMESTAMP_MS + number, float(number)) for line, numbers in enumerate(series) for number in numbers]
    batch = Batch(rows, {}, DeliveryRound(0, 0, {}))
    older, newer = batch.split()

    assert sorted([*older.samples, *newer.samples]) == rows
    assert list(older.samples) == sorted(older.samples)
    assert list(newer.samples) == sorted(newer.samples)
    assert older.size > 0
    assert newer.size > 0
    assert max(at for _, at, _ in older.samples) <= min(at for _, at, _ in newer.samples)
    assert batch.select_newest().samples[0][1] == max(at for _, at, _ in rows)
