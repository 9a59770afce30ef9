"""What is asked of Water-Link: the state of each meter at every visit, and the days of a month as a feed."""

import hashlib
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from exporter.errors import PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.models import Inventory, Register, Unit, UsagePoint, VisitResult
from exporter.portals.base import build_skip_notes
from exporter.portals.water_link.client import RefusedMeterError, WaterLinkApiClient
from exporter.portals.water_link.parser import ZONE, build_usage_point, local_day, parse_meter, parse_month
from exporter.sync.feeds import CalendarMonth, Feed, FeedResult

MAX_UNREACHABLE_METERS = 2
"""After so many meters that could not be requested it is not the meter, it is the portal."""


def build_feed(number: str, where: str, reach: timedelta) -> Feed:
    """Return the days of one meter; the portal shows a day about noon of the next one, often days later, and corrects it."""
    return Feed(
        key=f"days:{hashlib.sha256(number.encode()).hexdigest()[:16]}",
        zone=ZONE,
        chunk=CalendarMonth(),
        usage_points=(number,),
        resolution="P1D",
        reach=reach,
        label=where,
        if_empty="no days come: check its number, and whether the portal shows its days",
        if_stopped="no days come any more: check whether the meter was replaced",
    )


async def fetch_states(client: WaterLinkApiClient, numbers: Sequence[str], now: datetime) -> VisitResult:
    """Return every meter's facts and index, and what failed while the rest is good.

    Raise a refused login, and the first failure if no meter was answered.
    """
    results, failures, unreachable = list[VisitResult](), list[PortalError](), 0
    has_response = False
    await client.log_in()
    for index, number in enumerate(numbers):
        where = f"meters[{index}]"
        try:
            response = await client.get_meter(number, where)
        except RefusedMeterError as error:
            failures.append(error)
            continue
        except UnreachableError as error:
            failures.append(error)
            unreachable += 1
            if unreachable == MAX_UNREACHABLE_METERS:
                break
            continue
        except (RateLimitError, ResponseError) as error:
            failures.append(error)
            break
        has_response = True
        try:
            results.append(parse_meter(number, response.json(), where, now))
        except ResponseError as error:
            failures.append(error)
    if failures and not has_response:
        raise failures[0]
    facts = [facts for result in results for facts in result.facts]
    points = {number: build_usage_point(number) for number in numbers} | {one.usage_point.id: one.usage_point for one in facts}
    return VisitResult(
        readings=[reading for result in results for reading in result.readings],
        facts=facts,
        inventory=Inventory(tuple(points.values()), tuple(Register(point, Unit.M3) for point in points.values())),
        notes=[note for result in results for note in result.notes],
        failures=failures,
        skipped=sum(result.skipped for result in results),
    )


async def read_month(client: WaterLinkApiClient, point: UsagePoint, month: date, where: str, now: datetime) -> FeedResult:
    """Return the measured days of a month; one before the meter was mounted has none. Raise PortalError."""
    response = await client.get_month(point.id, month, where)
    readings, skipped = parse_month(point, month.replace(day=1), response.json(), where, local_day(now))
    return FeedResult(readings, build_skip_notes(where, skipped), skipped.total())
