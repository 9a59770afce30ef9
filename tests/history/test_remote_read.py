"""Remote read: what Prometheus gets is what the portals told, and nothing else harms."""

from datetime import timedelta
from pathlib import Path

from exporter.history import Aliases
from tests.history import programs
from tests.history.world import EXPECTED_NAMES, NOW, late_and_corrected

ALL = '{__name__=~"utility_.+"}'
AT = NOW.timestamp()


def config(face: str, more: str = "") -> str:
    return f"{more}\nremote_read:\n  - url: {face}/api/v1/read\n    read_recent: true\n"


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


async def test_both_clock_changes_add_up(world, face, client, tmp_path: Path):
    """
    The half-hours of a day, summed at the local midnight that ends it, are that day: 23 hours of them in spring, 25 in autumn.
    """
    total = Register(LINKY, Unit.KWH)
    wanted = {}
    for day, hours in ((SPRING, 23), (AUTUMN, 25)):
        end = local(PARIS, day + timedelta(days=1)).timestamp()
        wanted[end] = (
            hours,
            sum(
                one.amount
                for one in halves(world)
                if one.register == total and local(PARIS, day) <= one.start < local(PARIS, day + timedelta(days=1))
            ),
        )
    async with programs.prometheus(client, tmp_path / "p", config(face)) as prometheus:
        for end, (hours, amount) in wanted.items():
            query = f'sum_over_time(utility_interval_consumption_kwh{{account="maison",resolution="PT30M"}}[{hours}h])'
            (found,) = await prometheus.query(query, end)
            assert float(found["value"][1]) == pytest.approx(amount, abs=1e-9)
