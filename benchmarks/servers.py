"""The servers that are scraped, each in a process of its own: `python -m benchmarks.servers KIND FOLDER SERIES` says its port.

`ours` is the exporter's web face over a fleet; it leaves its page in FOLDER, as text and as gzip. The others take it from
there: `bare` is aiohttp with the same bytes kept, `library` is prometheus_client's custom collector behind aiohttp.
"""

import asyncio
import gzip
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.fleet import Fleet
from exporter import heap
from exporter.clock import WallClock
from exporter.poller import Pollers
from exporter.serve import write_ahead
from exporter.server import READY, Face, make_app

PLAIN, ZIPPED = "page.txt", "page.txt.gz"
FLEETS: list[Fleet] = []
"""Kept for as long as the process runs."""


def ours(folder: Path, series: int) -> web.Application:
    """The exporter."""
    fleet = Fleet(folder, series)
    FLEETS.append(fleet)
    fleet.fill()
    (folder / PLAIN).write_bytes(fleet.page.render())
    (folder / ZIPPED).write_bytes(fleet.page.render_gzip())
    heap.give_back()
    app = make_app(Face(fleet.page, Pollers(fleet.ledger, fleet.page, WallClock())))
    app[READY].append(True)
    return app


def bare(folder: Path, series: int) -> web.Application:
    """Bytes that are kept."""
    plain, zipped = ((folder / name).read_bytes() for name in (PLAIN, ZIPPED))

    async def answer(request: web.Request) -> web.Response:
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=zipped, headers={"Content-Encoding": "gzip"})
        return web.Response(body=plain)

    return _serving(answer)


def library(folder: Path, series: int) -> web.Application:
    """The same families as metrics of prometheus_client, made anew at each scrape, as its documentation shows it."""
    told = [_told(family) for family in text_string_to_metric_families((folder / PLAIN).read_text())]

    class Collector:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            for make, names, values in told:
                family = make(labels=names)
                for labels, value in values:
                    family.add_metric(labels, value)
                yield family

    registry = CollectorRegistry()
    registry.register(Collector())

    async def answer(request: web.Request) -> web.Response:
        body = generate_latest(registry)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=gzip.compress(body, 1), headers={"Content-Encoding": "gzip"})
        return web.Response(body=body)

    return _serving(answer)


def _told(family: Metric) -> tuple[Callable[..., Any], list[str], list[tuple[list[str], float]]]:
    """Give what makes a family, the names of its labels, and its samples: label values and value."""
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    samples = [(list(sample.labels.values()), sample.value) for sample in family.samples]
    return partial(kind, family.name, family.documentation), list(family.samples[0].labels), samples


def _serving(answer: Callable[[web.Request], Awaitable[web.Response]]) -> web.Application:
    app = web.Application()
    app.router.add_get("/metrics", answer)
    return app


async def serve(app: web.Application) -> None:
    """Serve on the loopback, and say the port."""
    ahead = [asyncio.create_task(write_ahead(fleet.page, WallClock())) for fleet in FLEETS]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.gather(*ahead) if ahead else await asyncio.Event().wait()


def main() -> None:
    """Be one of them."""
    kind, folder, series = sys.argv[1:]
    heap.keep_one()
    heap.take_turns()
    make = {"ours": ours, "bare": bare, "library": library}[kind]
    asyncio.run(serve(make(Path(folder), int(series))))


if __name__ == "__main__":
    main()
