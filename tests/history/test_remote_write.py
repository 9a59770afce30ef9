"""Remote write into the real stores: what a query finds there is what the portals told, sample by sample."""

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from exporter.history import send_plan
from exporter.ledger import Ledger
from exporter.model import Commodity, Register, Unit, UsagePoint
from tests.history import programs
from tests.history.sending import Moving, sending
from tests.history.world import (
    AUTUMN,
    EXPECTED_NAMES,
    NOW,
    PARIS,
    SPRING,
    WATER,
    Truth,
    World,
    late_and_corrected,
    local,
)

ALL = '{__name__=~"utility_.+"}'
AT = NOW.timestamp()
OUT_OF_ORDER = "storage: {tsdb: {out_of_order_time_window: 10y}}"
ACCEPT = "--web.enable-remote-write-receiver"


def copied(truth: Truth) -> Truth:
    return {labels: dict(samples) for labels, samples in truth.items()}


def corrected(before: Truth, after: Truth) -> set[tuple[object, int]]:
    return {(labels, at) for labels, samples in before.items() for at in samples if after[labels][at] != samples[at]}


async def flush(client, store) -> None:
    """VictoriaMetrics shows what it took after a moment; a test need not wait for it."""
    async with client.get(f"{store.url}/internal/force_flush") as answer:
        assert answer.status == 200


async def test_victoria_metrics_has_the_truth(world: World, client, tmp_path: Path):
    """
    Every sample of every series arrives as it was told; so does a late day, and a day sums up over both clock changes.
    A correction is counted and not sent: VictoriaMetrics would keep both values.
    """
    async with programs.victoria_metrics(client, tmp_path / "vm") as store:
        async with sending(world.ledger, f"{store.url}/api/v1/write", Moving(), samples_per_request=500) as sender:
            await sender.round()
            await flush(client, store)
            first, told = await store.samples(ALL, AT), copied(world.truth)
            late_and_corrected(world)
            await sender.round()
            await flush(client, store)
            second = await store.samples(ALL, AT)
        sums = {}
        for day, hours in ((SPRING, 23), (AUTUMN, 25)):
            end = local(PARIS, day + timedelta(days=1)).timestamp()
            query = f'sum_over_time(utility_interval_injection_kwh{{resolution="PT30M"}}[{hours}h])'
            sums[day] = float((await store.query(query, end))[0]["value"][1])
    changed = corrected(told, world.truth)
    (fed,) = [samples for labels, samples in told.items() if {("__name__", "utility_interval_injection_kwh")} < labels]

    assert {dict(labels)["__name__"] for labels in first} == EXPECTED_NAMES
    assert first == told
    assert len(changed) == 22
    assert sender.delivery.corrections == 22
    assert {
        (labels, at) for labels in second for at in second[labels] if second[labels][at] != world.truth[labels][at]
    } == changed
    assert {labels: set(samples) for labels, samples in second.items()} == {
        labels: set(samples) for labels, samples in world.truth.items()
    }
    for day, found in sums.items():
        first_ms, after_ms = (local(PARIS, day + timedelta(days=days)).timestamp() * 1000 for days in (0, 1))
        assert abs(found - sum(value for at, value in fed.items() if first_ms <= at < after_ms)) < 1e-9


async def test_victoria_metrics_keeps_both(world: World, client, tmp_path: Path):
    """
    A correction that is sent again does not replace the value in VictoriaMetrics: sums count both. So it is not the default.
    """
    name = "utility_interval_consumption_kwh"
    async with programs.victoria_metrics(client, tmp_path / "vm") as store:
        async with sending(world.ledger, f"{store.url}/api/v1/write", Moving(), corrections="resend") as sender:
            await sender.round()
            late_and_corrected(world)
            await sender.round()
            await flush(client, store)
        counted = await store.query(f"sum(count_over_time({name}[500d]))", AT)
    there = sum(len(samples) for labels, samples in world.truth.items() if ("__name__", name) in labels)

    assert sender.delivery.corrections == 22
    assert float(counted[0]["value"][1]) == there + 22


async def test_prometheus_has_the_truth(world: World, client, tmp_path: Path):
    """
    Prometheus with an out-of-order window takes all of it, a late day too.
    """
    async with programs.prometheus(client, tmp_path / "p", OUT_OF_ORDER, ACCEPT) as store:
        async with sending(world.ledger, f"{store.url}/api/v1/write", Moving(), samples_per_request=500) as sender:
            await sender.round()
            first, told = await store.samples(ALL, AT), copied(world.truth)
            late_and_corrected(world)
            await sender.round()
        second = await store.samples(ALL, AT)
    changed = corrected(told, world.truth)

    assert first == told
    assert {
        (labels, at) for labels in second for at in second[labels] if second[labels][at] != world.truth[labels][at]
    } == changed
    assert (sender.delivery.refused, sender.delivery.corrections) == (0, 22)


async def test_prometheus_without_a_window(ledger: Ledger, client, tmp_path: Path, monkeypatch):
    """
    The history of a town that is read every half-hour goes hour by hour, and series by series only within the hour: even a
    Prometheus that takes nothing out of order takes it whole.
    """
    monkeypatch.setattr(send_plan, "PAGE", 200)
    world = World(ledger)
    for number in range(100):
        register = Register(UsagePoint(f"{number:014}", Commodity.WATER), Unit.M3)
        for step in range(48):
            at = NOW - timedelta(minutes=30 * step, seconds=number)
            world.index("flats", "utility_measured_index_m3", register, at, 100 - step)
    world.visit()
    async with programs.prometheus(client, tmp_path / "p", "", ACCEPT) as store:
        async with sending(ledger, f"{store.url}/api/v1/write", Moving()) as sender:
            await sender.round()
        found = await store.samples(ALL, AT)

    assert found == world.truth
    assert sender.delivery.refused == 0


async def test_prometheus_and_corrections(ledger: Ledger, client, tmp_path: Path):
    """
    Prometheus answers a second value for an instant with success whether it takes it or not; while the first is among the
    latest late samples of its series, it does not.
    """
    world, name, water = World(ledger), "utility_measured_index_m3", Register(WATER, Unit.M3)

    def read(days: Iterable[int], more: float) -> None:
        for day in days:
            world.index("flats", name, water, NOW - timedelta(days=day), 100 - day + more)
        world.visit()

    async with programs.prometheus(client, tmp_path / "p", OUT_OF_ORDER, ACCEPT) as store:
        async with sending(ledger, f"{store.url}/api/v1/write", Moving(), corrections="resend") as sender:
            for days, more in ((range(1), 0.0), (range(5, 15), 0.0), (range(5, 10), 0.5)):
                kept = copied(world.truth)
                read(days, more)
                await sender.round()
        found = await store.samples(ALL, AT)

    assert (sender.delivery.corrections, sender.delivery.refused) == (5, 0)
    assert found == kept
    assert found != world.truth


async def test_prometheus_with_a_small_window(world: World, client, tmp_path: Path):
    """
    Where the receiver's window is too small, `not_before` keeps what it cannot take from being sent at all.
    """
    window = "storage: {tsdb: {out_of_order_time_window: 240d}}"
    async with programs.prometheus(client, tmp_path / "p", window, ACCEPT) as store:
        async with sending(world.ledger, f"{store.url}/api/v1/write", Moving(), not_before="239d") as sender:
            await sender.round()
        found = await store.samples(ALL, AT)
    floor = (NOW - timedelta(days=239)).timestamp() * 1000
    expected = {labels: {at: value for at, value in samples.items() if at >= floor} for labels, samples in world.truth.items()}

    assert found == {labels: samples for labels, samples in expected.items() if samples}
    assert sender.delivery.refused == 0
