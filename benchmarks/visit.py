"""Visits to CEM: our own CPU for what they do, and the memory they leave. The portal is a process of its own."""

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.apart import apart
from benchmarks.figures import Figure, Report
from benchmarks.town import Town, town
from exporter import heap
from exporter.demo.cem import PATH, CemSimulation
from exporter.ledger import Ledger
from exporter.metrics import Page, leaves
from exporter.poller import AccountPoller
from exporter.portals.cem import Cem

VISITS = 20
EVERY = timedelta(minutes=30)
MB = 1_000_000
DRAWN = ("first visit: all of it", "ask and parse", "record", "derive", "render", "all of it", "memory peak, MB")


def measure(sizes: Sequence[int]) -> Report:
    """Visit towns of these sizes."""
    report = Report("Visit", "seconds of CPU, the median of visits half an hour apart, half of the counters new; MB", DRAWN)
    for counters in sizes:
        report.figures += apart(visits, counters)
    seconds, most = report.at("all of it"), report.at("memory peak, MB")
    later, sooner = "memory after 20 visits, MB", "memory after 5 visits, MB"
    report.goals += [
        report.goal("CPU of a visit to 100,000 counters", seconds, most=4, say="{:.2f} s".format),
        report.goal("memory at most, 100,000 counters", most, most=350, say="{:.0f} MB".format),
        report.ratio("memory after 20 visits to that after 5", later, sooner, most=1.05),
    ]
    return report


def visits(counters: int) -> list[Figure]:
    """Visit a town again and again, in this process."""
    heap.keep_one()
    heap.take_turns()
    with town(counters) as there, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_visits(there, Path(folder), counters))


async def _visits(there: Town, folder: Path, counters: int) -> list[Figure]:
    taken: dict[str, list[float]] = defaultdict(list)
    with Ledger(folder) as ledger:
        page = Page(ledger, there.clock.now, "0")
        poller = AccountPoller(_portal(there), ledger, page, there.clock)
        await poller.open()
        found, settled = [], 0.0
        for number in range(1, VISITS + 1):
            with _parts(taken):
                await poller.visit()
            assert poller.state.up, poller.state.message
            if number == 1:
                found = [Figure(f"first visit: {part}", counters, values.pop()) for part, values in taken.items()]
                page.body(gzip=True)
            if number == 5:
                settled = memory_of("VmRSS")
            there.move(EVERY)
    found += [Figure(part, counters, median(values)) for part, values in taken.items()]
    memory = {"peak": memory_of("VmHWM"), "after 5 visits": settled, "after 20 visits": memory_of("VmRSS")}
    return found + [Figure(f"memory {what}, MB", counters, value) for what, value in memory.items()]


def _portal(there: Town) -> Any:
    login = {key: value for key, value in CemSimulation().accounts(there.url)[0].items() if key in ("username", "password")}
    return Cem(name="town", portal="cem", base_url=there.url + PATH, timeout=timedelta(minutes=2), **login)


@contextmanager
def _parts(taken: dict[str, list[float]]) -> Iterator[None]:
    """Take the CPU of a visit and of its parts."""
    spent: dict[str, float] = defaultdict(float)
    started = time.process_time()
    with (
        _timed(Ledger, "record_visit", spent),
        _timed(Page, "refresh", spent),
        _timed(leaves, "say", spent),
        _timed(leaves, "say_readings", spent),
        _timed(heap, "give_back", spent),
    ):
        yield
    every = time.process_time() - started
    derive = spent["say"] + spent["say_readings"]
    render = spent["refresh"] - derive + spent["give_back"]
    parts = {"record": spent["record_visit"], "derive": derive, "render": render}
    for part, value in {"ask and parse": every - sum(parts.values()), **parts, "all of it": every}.items():
        taken[part].append(value)


def _timed(place: Any, name: str, spent: dict[str, float]) -> Any:
    """Count the CPU of a function's own thread."""
    function: Callable[..., Any] = getattr(place, name)

    def timed(*given: Any, **named: Any) -> Any:
        started = time.thread_time()
        try:
            return function(*given, **named)
        finally:
            spent[name] += time.thread_time() - started

    return patch.object(place, name, timed)


def memory_of(what: str, process: int | str = "self") -> float:
    """Give a process's memory in MB: `VmRSS` is what it holds, `VmHWM` the most it has held."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) * 1024 / MB
