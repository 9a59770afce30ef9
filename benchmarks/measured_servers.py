"""The servers that are scraped, each in its own process: `python -m benchmarks.measured_servers KIND FOLDER SERIES`.

`ours` is the exporter's web application over a fleet; it leaves its page in FOLDER, as text and as gzip. The others read it from
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

from benchmarks.counter_fleet import Fleet
from exporter import runtime
from exporter.app import render_ages_ahead
from exporter.clock import WallClock
from exporter.poller_group import PollerGroup
from exporter.web.app import WebContext, make_app

PLAIN, ZIPPED = "page.txt", "page.txt.gz"
FLEETS: list[Fleet] = []
"""Kept for as long as the process runs."""


def make_exporter_app(folder: Path, series: int) -> web.Application:
    """The exporter."""
    fleet = Fleet(folder, series)
    FLEETS.append(fleet)
    fleet.record_first_visit()
    (folder / PLAIN).write_bytes(fleet.page.render())
    (folder / ZIPPED).write_bytes(b"".join(fleet.page.render_parts(compress=True)))
    runtime.trim_memory()
    context = WebContext(fleet.page, PollerGroup(fleet.ledger, fleet.page, WallClock()))
    context.ready.set()
    return make_app(context)


def make_bare_app(folder: Path, series: int) -> web.Application:
    """Bytes that are kept."""
    plain, zipped = ((folder / name).read_bytes() for name in (PLAIN, ZIPPED))

    async def answer(request: web.Request) -> web.Response:
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=zipped, headers={"Content-Encoding": "gzip"})
        return web.Response(body=plain)

    return _make_app(answer)


def make_library_app(folder: Path, series: int) -> web.Application:
    """The same families as metrics of prometheus_client, built at each scrape, as in its documentation."""
    families = [_read_family(family) for family in text_string_to_metric_families((folder / PLAIN).read_text())]

    class Collector:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> Iterator[Metric]:
            for make, names, values in families:
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

    return _make_app(answer)


def _read_family(family: Metric) -> tuple[Callable[..., Any], list[str], list[tuple[list[str], float]]]:
    """Return the constructor of a family, the names of its labels, and its samples: label values and value."""
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    samples = [(list(sample.labels.values()), sample.value) for sample in family.samples]
    return partial(kind, family.name, family.documentation), list(family.samples[0].labels), samples


def _make_app(handler: Callable[[web.Request], Awaitable[web.Response]]) -> web.Application:
    app = web.Application()
    app.router.add_get("/metrics", handler)
    return app


async def serve(app: web.Application) -> None:
    """Serve on the loopback, and print the port."""
    ahead = [asyncio.create_task(render_ages_ahead(fleet.page, WallClock())) for fleet in FLEETS]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.gather(*ahead) if ahead else await asyncio.Event().wait()


def main() -> None:
    """Run one of the servers."""
    kind, folder, series = sys.argv[1:]
    if kind == "ours":  # the others copy their whole page at each scrape, and do that faster in a heap as it comes
        runtime.limit_arenas()
    runtime.tune_interpreter()
    make = {"ours": make_exporter_app, "bare": make_bare_app, "library": make_library_app}[kind]
    asyncio.run(serve(make(Path(folder), int(series))))


if __name__ == "__main__":
    main()
