"""The feeds of Water-Link: a meter's state and the days of its months."""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import date, datetime
from functools import partial

from exporter.client.response import Response
from exporter.errors import RateLimitError, ResponseError, UnreachableError
from exporter.models import DAY, Facts, PartialFailure, VisitPart
from exporter.portals.base import BackfillChunk
from exporter.portals.water_link.client import RefusedMeterError, WaterLinkApiClient
from exporter.portals.water_link.days import local_day, month_end, previous_month
from exporter.portals.water_link.parser import build_usage_point, parse_meter, parse_month

MAX_UNREACHABLE_METERS = 2
"""After so many meters that could not be requested it is not the meter, it is the portal."""


async def fetch_meters(client: WaterLinkApiClient, numbers: Sequence[str], now: datetime) -> AsyncIterator[VisitPart]:
    """Yield every meter's parts; raise a refused login, and yield any other failure as a PartialFailure."""
    unreachable = 0
    await client.log_in()
    for index, number in enumerate(numbers):
        try:
            async for part in fetch_meter(client, number, f"meters[{index}]", now):
                yield part
        except RefusedMeterError as error:
            yield PartialFailure(error)
        except UnreachableError as error:
            yield PartialFailure(error)
            unreachable += 1
            if unreachable == MAX_UNREACHABLE_METERS:
                return
        except (RateLimitError, ResponseError) as error:
            yield PartialFailure(error)
            return


async def fetch_meter(client: WaterLinkApiClient, number: str, where: str, now: datetime) -> AsyncIterator[VisitPart]:
    """Yield one meter's facts, index, and days of the previous and the current month.

    A response that cannot be parsed is a PartialFailure, and the next one is requested; a failed request is raised.
    """
    point = build_usage_point(number)
    state = await client.get_meter(number, where)
    for part in _parse_or_failure(state, partial(parse_meter, number, where=where, now=now)):
        point = part.usage_point if isinstance(part, Facts) else point
        yield part
    today = local_day(now)
    for month in (previous_month(today), today):
        chart = await client.get_month(number, month, where)
        for part in _parse_or_failure(chart, partial(parse_month, point, month, where=where, today=today)):
            yield part


def _parse_or_failure(response: Response, parse: Callable[..., Iterable[VisitPart]]) -> list[VisitPart]:
    try:
        return list(parse(body=response.json()))
    except ResponseError as error:
        return [PartialFailure(error)]


def build_month_chunk(number: str, month: date, today: date) -> BackfillChunk:
    """Return one month of one meter; while its days may come late its key is new each day, so that it is requested again."""
    is_settled = month < previous_month(today)
    key = f"{number}/{month:%Y-%m}" + ("" if is_settled else f"@{today}")
    return BackfillChunk(key, number, month, min(month_end(month), today - DAY), {"meter": number})
