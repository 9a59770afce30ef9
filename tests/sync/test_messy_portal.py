"""400 days with a messy portal: the ledger ends equal to it, and the portal was not pestered.

`MESSY_SALT=anything MESSY_EXAMPLES=20` tries so many other messes for each portal; the same salt tries the same ones.
"""

import os
from dataclasses import replace
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporter.sync.feeds import DAY_SECONDS
from tests.sync.declarations import CEM, CEM_ACCOUNT, ENEDIS_ACCOUNT, FLUVIUS_ACCOUNT, WATER
from tests.sync.memory_store import value_of
from tests.sync.messy_portal import Mess
from tests.sync.world import World

PORTALS = {"water-link": WATER, "fluvius": FLUVIUS_ACCOUNT, "enedis": ENEDIS_ACCOUNT[-4:], "cem": CEM}
QUIET = 70
"""At the end nothing unusual happens for so many days; what came before must have arrived."""
EXAMPLES = int(os.environ.get("MESSY_EXAMPLES", "2"))
SALT = os.environ.get("MESSY_SALT", "")


def draw_mess(number: int) -> Mess:
    chance = Random(f"{SALT} {number}")
    return Mess(
        seed=chance.randrange(1 << 30),
        no_data=chance.randrange(400 - QUIET),
        off=chance.randint(1, 300),
        refused=(chance.randrange(400 - QUIET - 7), chance.randrange(4)),
        failing=(chance.randrange(300), chance.randint(1, 9), chance.randrange(4)),
        history=chance.randint(20, 700),
        activation=chance.choice([None, None, 200, 150]),
    )


messes = st.integers(0, 1 << 30).map(draw_mess)
# Shrinking would take an hour.
limits = settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.generate], database=None, derandomize=True)


def missing(world: World, settled: int) -> list[str]:
    """Return what the ledger lacks, or holds otherwise, of what the portal has had since `settled`."""
    found, now = [], round(world.now.timestamp())
    for feed in world.feeds:
        held = world.store.held[feed.key]
        first = world.portal.beginning()
        if feed.reach:
            first = max(first, world.start.toordinal() - feed.reach.days + 2)
        for day in range(first, feed.day_at(settled)):
            if max(world.portal.day(feed, day)[:2]) > settled:
                continue
            for reading in world.portal.of_day(feed, day, now):
                period, value = feed.period(reading), value_of(reading)
                assert period
                if held.get(period) != value:
                    found.append(f"{feed.key} {day - world.start.toordinal()}: {held.get(period)} for {value}")
    return found


def repeated(world: World) -> list[str]:
    """Return requests made again within an hour after they were in vain."""
    last: dict[tuple[object, ...], int] = {}
    found = []
    for one in world.portal.asked:
        name = (one.feed, one.first, one.last)
        if name in last and one.at - last[name] < 3600:
            found.append(f"{one}")
        last.pop(name, None)
        if one.in_vain:
            last[name] = one.at
    return found


@pytest.mark.parametrize("portal", PORTALS)
@limits
@given(mess=messes)
async def test_the_ledger_equals_the_portal(portal: str, mess: Mess) -> None:
    world = World(PORTALS[portal], mess)
    await world.run(400)
    assert not missing(world, round(world.now.timestamp()) - 36 * DAY_SECONDS)[:10]
    assert not repeated(world)[:10]


@limits
@given(mess=messes)
async def test_hours_between_visits_and_late_ones_come(mess: Mess) -> None:
    """
    Of an account whose days are judged by visits, all that the portal has within three weeks is there in the end.
    """
    world = World(CEM_ACCOUNT, replace(mess, very_late=0, holes=0, corrected=0))
    (feed,) = world.feeds
    world.portal.latest_readings = lambda: world.portal.of_day(
        feed, feed.day_at(round(world.now.timestamp())), round(world.now.timestamp())
    )[-1:]
    await world.run(400)
    assert not missing(world, round(world.now.timestamp()) - 36 * DAY_SECONDS)[:10]
    assert not repeated(world)[:10]
    quiet = [one for one in world.portal.asked if one.at > round(world.now.timestamp()) - 28 * DAY_SECONDS]
    assert len(quiet) <= 6  # a week of days at once
