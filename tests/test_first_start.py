"""A first start with an empty ledger, at every simulated portal: the running month and year are right within two minutes."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from exporter.poller import AccountPoller
from exporter.portals.base import Portal
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from exporter.simulators.enedis.simulation import EnedisSimulation
from exporter.simulators.fluvius.simulation import FluviusSimulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation
from tests.conftest import FakeClock
from tests.fault_proxy import FaultProxy, open_account

TODAY, JANUARY, DAY = date(2026, 11, 20), date(2026, 1, 1), timedelta(days=1)
CEM_COUNTERS = {"gas": 1.0, "house heat": 1000 / 3.6, "hot 1": 1.0}
"""Their scales: heat is stated in GJ."""
Amounts = dict[tuple[str, str, date], float]
"""Usage point, register and day."""
Sums = dict[tuple[str, str], float]


def list_days() -> list[date]:
    return [JANUARY + n * DAY for n in range((TODAY - JANUARY).days)]


def list_water_days(portal: WaterLinkSimulation, now: datetime) -> Amounts:
    return {
        (number, "total", day): litres / 1000
        for number, meter in portal.meters.items()
        for day in list_days()
        if (litres := meter.get_shown_litres(day, now)) is not None
    }


def list_fluvius_days(portal: FluviusSimulation, now: datetime) -> Amounts:
    zone = ZoneInfo("Europe/Brussels")
    return {
        (one.ean, one.register, one.start.astimezone(zone).date()): one.value
        for ean in portal.data_api.usage_points
        for one in portal.list_true_days(ean, JANUARY, TODAY)
        if one.direction == "consumption"
    }


def list_enedis_days(portal: EnedisSimulation, now: datetime) -> Amounts:
    """The portal never has the 23rd of a month."""
    return {
        (name, "total", day): portal.get_true_day(home, day, producing=False)
        for home, name in ((portal.producer, "house"), (portal.recent_customer, "workshop"))
        for day in list_days()
        if day.day != 23 and day >= home.activation and portal.source.ready_at(home, "days", False, day) <= now
    }


def list_cem_days(portal: CemSimulation, now: datetime) -> Amounts:
    """What the building's own model counts between the local midnights."""
    zone = ZoneInfo("Europe/Prague")
    found: Amounts = {}
    for name, scale in CEM_COUNTERS.items():
        number = portal.named_counters[name]
        for day in list_days():
            start, end = (datetime(at.year, at.month, at.day, tzinfo=zone).astimezone(UTC) for at in (day, day + DAY))
            amount = portal.true_value(number, end) - portal.true_value(number, start)
            found[str(portal.building.counters[number].meters[0]), str(number), day] = scale * amount
    return found


PORTALS: dict[str, tuple[Callable[[FakeClock], Any], Callable[[Any, datetime], Amounts], float]] = {
    "water-link": (WaterLinkSimulation, list_water_days, 1e-6),
    "fluvius": (FluviusSimulation, list_fluvius_days, 1e-6),
    "enedis": (EnedisSimulation, list_enedis_days, 1e-6),
    # Midnights lie between two readings an hour apart.
    "cem": (lambda clock: CemSimulation(clock, flats=1), list_cem_days, 0.01),
}


def add_up(days: Amounts, first: date) -> Sums:
    sums: Sums = {}
    for (point, register, day), amount in days.items():
        if day >= first:
            sums[point, register] = sums.get((point, register), 0.0) + amount
    return sums


def read_page(text: str, family: str) -> Sums:
    """Return the values of a family by usage point and register, in whatever unit."""
    found: Sums = {}
    for match in re.finditer(rf"^{family}(?:_kwh|_m3)?\{{(.*?)\}} (\S+)$", text, re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', match[1]))
        found[labels["usage_point"], labels.get("register", "")] = float(match[2])
    return found


async def step_until(end: datetime, poller: AccountPoller, portal: Portal, clock: FakeClock) -> None:
    """Read older days at the portal's own pace."""
    while clock.at + portal.pace.pause <= end:
        clock.advance(seconds=portal.pace.pause.total_seconds())
        await poller.step()


@pytest.mark.parametrize("name", PORTALS)
async def test_month_and_year_are_right_within_two_minutes(name: str, tmp_path: Path, clock: FakeClock) -> None:
    """
    Until they are, what is missing is counted; a restart after the first minute goes on.
    """
    build, list_true_days, tolerance = PORTALS[name]
    simulation = build(clock)
    async with run_simulation(simulation) as url:
        keys = {"counters": {"include": [simulation.named_counters[name] for name in CEM_COUNTERS]}} if name == "cem" else {}
        portal = FaultProxy(simulation).build_account(url, **keys)
        days = list_true_days(simulation, clock.at)
        month, year = add_up(days, TODAY.replace(day=1)), add_up(days, JANUARY)
        end, middle = clock.at + timedelta(minutes=2), clock.at + timedelta(minutes=1)
        async with open_account(tmp_path, portal, clock, reads_backlog=True) as (poller, read_account):
            await poller.visit()
            text = read_account().text
            shown, gaps = (read_page(text, f"utility_yearly_{what}") for what in ("consumption", "day_gaps"))
            for key, total in year.items():
                assert key not in shown or shown[key] == pytest.approx(total, rel=tolerance) or gaps[key[0], ""] > 0, key
            await step_until(middle, poller, portal, clock)
        async with open_account(tmp_path, portal, clock, reads_backlog=True) as (poller, read_account):
            await step_until(end, poller, portal, clock)
            text = read_account().text

    shown = read_page(text, "utility_monthly_consumption")
    assert {key: shown.get(key) for key in month} == pytest.approx(month, rel=tolerance)
    shown = read_page(text, "utility_yearly_consumption")
    assert {key: shown.get(key) for key in year} == pytest.approx(year, rel=tolerance)
