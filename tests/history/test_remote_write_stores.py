"""Remote write into the real stores: what a query finds there is what the portals expected, sample by sample."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from exporter.history import write_queue
from exporter.ledger.ledger import Ledger
from exporter.models import Commodity, Register, Unit, UsagePoint
from tests.conftest import FakeClock
from tests.history import programs
from tests.history.remote_write_sender import run_sender
from tests.history.sample_history import (
    AUTUMN,
    EXPECTED_NAMES,
    NOW,
    PARIS,
    SPRING,
    WATER,
    ExpectedSamples,
    SampleHistory,
    add_late_and_corrected,
    local_instant,
)

ALL = '{__name__=~"utility_.+"}'
AT = NOW.timestamp()
OUT_OF_ORDER = "storage: {tsdb: {out_of_order_time_window: 10y}}"
ACCEPT = "--web.enable-remote-write-receiver"


def copied(truth: ExpectedSamples) -> ExpectedSamples:
    return {labels: dict(samples) for labels, samples in truth.items()}


def corrected(before: ExpectedSamples, after: ExpectedSamples) -> set[tuple[object, int]]:
    return {(labels, at) for labels, samples in before.items() for at in samples if after[labels][at] != samples[at]}


async def flush(client, store) -> None:
    """VictoriaMetrics shows what it took after a moment; a test need not wait for it."""
    async with client.get(f"{store.url}/internal/force_flush") as answer:
        assert answer.status == 200


async def test_victoria_metrics_has_the_truth(sample_history: SampleHistory, client, tmp_path: Path):
    """
    Every sample of every series arrives as it was reported; so does a late day, and a day sums up over both clock changes.
    A correction is counted and not sent: VictoriaMetrics would keep both values.
    """
    async with programs.run_victoria_metrics(client, tmp_path / "vm") as store:
        async with run_sender(sample_history.ledger, f"{store.url}/api/v1/write", FakeClock(), samples_per_request=500) as sender:
            await sender.run_round()
            await flush(client, store)
            first, expected = await store.query_samples(ALL, AT), copied(sample_history.expected_samples)
            add_late_and_corrected(sample_history)
            await sender.run_round()
            await flush(client, store)
            second = await store.query_samples(ALL, AT)
        sums = {}
        for day, hours in ((SPRING, 23), (AUTUMN, 25)):
            end = local_instant(PARIS, day + timedelta(days=1)).timestamp()
            query = f'sum_over_time(utility_interval_injection_kwh{{resolution="PT30M"}}[{hours}h])'
            sums[day] = float((await store.query(query, end))[0]["value"][1])
    changed = corrected(expected, sample_history.expected_samples)
    (fed,) = [samples for labels, samples in expected.items() if {("__name__", "utility_interval_injection_kwh")} < labels]

    assert {dict(labels)["__name__"] for labels in first} == EXPECTED_NAMES
    assert first == expected
    assert len(changed) == 22
    assert sender.stats.corrections == 22
    assert {
        (labels, at)
        for labels in second
        for at in second[labels]
        if second[labels][at] != sample_history.expected_samples[labels][at]
    } == changed
    assert {labels: set(samples) for labels, samples in second.items()} == {
        labels: set(samples) for labels, samples in sample_history.expected_samples.items()
    }
    for day, found in sums.items():
        first_ms, after_ms = (local_instant(PARIS, day + timedelta(days=days)).timestamp() * 1000 for days in (0, 1))
        assert abs(found - sum(value for at, value in fed.items() if first_ms <= at < after_ms)) < 1e-9


async def test_victoria_metrics_keeps_both(sample_history: SampleHistory, client, tmp_path: Path):
    """
    A correction that is sent again does not replace the value in VictoriaMetrics: sums count both. So it is not the default.
    """
    name = "utility_interval_consumption_kwh"
    async with programs.run_victoria_metrics(client, tmp_path / "vm") as store:
        async with run_sender(sample_history.ledger, f"{store.url}/api/v1/write", FakeClock(), corrections="resend") as sender:
            await sender.run_round()
            add_late_and_corrected(sample_history)
            await sender.run_round()
            await flush(client, store)
        counted = await store.query(f"sum(count_over_time({name}[500d]))", AT)
    there = sum(len(samples) for labels, samples in sample_history.expected_samples.items() if ("__name__", name) in labels)

    assert sender.stats.corrections == 22
    assert float(counted[0]["value"][1]) == there + 22


async def test_prometheus_has_the_truth(sample_history: SampleHistory, client, tmp_path: Path):
    """
    Prometheus with an out-of-order window takes all of it, a late day too.
    """
    async with programs.run_prometheus(client, tmp_path / "p", OUT_OF_ORDER, ACCEPT) as store:
        async with run_sender(sample_history.ledger, f"{store.url}/api/v1/write", FakeClock(), samples_per_request=500) as sender:
            await sender.run_round()
            first, expected = await store.query_samples(ALL, AT), copied(sample_history.expected_samples)
            add_late_and_corrected(sample_history)
            await sender.run_round()
        second = await store.query_samples(ALL, AT)
    changed = corrected(expected, sample_history.expected_samples)

    assert first == expected
    assert {
        (labels, at)
        for labels in second
        for at in second[labels]
        if second[labels][at] != sample_history.expected_samples[labels][at]
    } == changed
    assert (sender.stats.refused, sender.stats.corrections) == (0, 22)


async def test_prometheus_without_a_window(ledger: Ledger, client, tmp_path: Path, monkeypatch):
    """
    The history of a town that is read every half-hour goes hour by hour, and series by series only within the hour: even a
    Prometheus that takes nothing out of order takes it whole.
    """
    monkeypatch.setattr(write_queue, "TARGET_WINDOW_SAMPLES", 200)
    sample_history = SampleHistory(ledger)
    for number in range(100):
        register = Register(UsagePoint(f"{number:014}", Commodity.WATER), Unit.M3)
        for step in range(48):
            at = NOW - timedelta(minutes=30 * step, seconds=number)
            sample_history.add_index("flats", "utility_measured_index_m3", register, at, 100 - step)
    sample_history.record_visit()
    async with programs.run_prometheus(client, tmp_path / "p", "", ACCEPT) as store:
        async with run_sender(ledger, f"{store.url}/api/v1/write", FakeClock()) as sender:
            await sender.run_round()
        found = await store.query_samples(ALL, AT)

    assert found == sample_history.expected_samples
    assert sender.stats.refused == 0


async def test_prometheus_and_corrections(ledger: Ledger, client, tmp_path: Path):
    """
    Prometheus answers a second value for an instant with success whether it takes it or not; while the first is among the
    latest late samples of its series, it does not.
    """
    sample_history, name, water = SampleHistory(ledger), "utility_measured_index_m3", Register(WATER, Unit.M3)

    def read(days: Iterable[int], more: float) -> None:
        for day in days:
            sample_history.add_index("flats", name, water, NOW - timedelta(days=day), 100 - day + more)
        sample_history.record_visit()

    async with programs.run_prometheus(client, tmp_path / "p", OUT_OF_ORDER, ACCEPT) as store:
        async with run_sender(ledger, f"{store.url}/api/v1/write", FakeClock(), corrections="resend") as sender:
            for days, more in ((range(1), 0.0), (range(5, 15), 0.0), (range(5, 10), 0.5)):
                kept = copied(sample_history.expected_samples)
                read(days, more)
                await sender.run_round()
        found = await store.query_samples(ALL, AT)

    assert (sender.stats.corrections, sender.stats.refused) == (5, 0)
    assert found == kept
    assert found != sample_history.expected_samples


async def test_prometheus_with_a_small_window(sample_history: SampleHistory, client, tmp_path: Path):
    """
    Where the receiver's window is too small, `not_before` keeps what it cannot take from being sent at all.
    """
    window = "storage: {tsdb: {out_of_order_time_window: 240d}}"
    async with programs.run_prometheus(client, tmp_path / "p", window, ACCEPT) as store:
        async with run_sender(sample_history.ledger, f"{store.url}/api/v1/write", FakeClock(), not_before="239d") as sender:
            await sender.run_round()
        found = await store.query_samples(ALL, AT)
    floor = (NOW - timedelta(days=239)).timestamp() * 1000
    expected = {
        labels: {at: value for at, value in samples.items() if at >= floor}
        for labels, samples in sample_history.expected_samples.items()
    }

    assert found == {labels: samples for labels, samples in expected.items() if samples}
    assert sender.stats.refused == 0
