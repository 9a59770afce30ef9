"""Visits to CEM: our own CPU for what they do, and the memory they leave. The portal is a process of its own."""

import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.cem_simulator import CemSimulator, run_cem_simulator
from benchmarks.measuring import read_memory_mb, run_in_new_process
from benchmarks.results import Figure, Report
from exporter import runtime
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage, SampleBlock, SamplesBuilder
from exporter.poller import AccountPoller
from exporter.portals.cem.account import Cem
from exporter.portals.cem.config import CemConfig
from exporter.simulators.cem.simulation import API_PATH, CemSimulation
from exporter.visit import BacklogSettings

VISITS = 20
VISIT_INTERVAL = timedelta(minutes=30)
FIRST_HOUR = 22
"""Local hour of the first visit: the others begin on the evening after, so that all counters have a new day after midnight."""
FIRST_DAY = 10
"""Of a month: at its end months are closed too, and figures of other days could not be compared."""
PAUSES = (timedelta(hours=3), timedelta(hours=18))
"""After the first and the second visit: two midnights are known sooner, and the third visit renews all lists."""
RENEWED, AFTER_MIDNIGHT = "lists renewed", "after midnight"
"""Visits with figures of their own: two a day renew the lists, and three bring each counter the day that has ended."""
PLOTTED = (
    *("first visit: all of it", "ask and parse", "record", "derive", "render", "all of it", f"all of it, {AFTER_MIDNIGHT}"),
    "memory peak, MB",
)


def measure(sizes: Sequence[int]) -> Report:
    """Visit towns of these sizes."""
    report = Report("Visit", "seconds of CPU, the median of visits half an hour apart, half of the counters new; MB", PLOTTED)
    for counters in sizes:
        report.figures += run_in_new_process(run_visits, counters)
    seconds = report.find_value("all of it")
    peaks = [report.find_value(f"memory peak{kind}, MB") for kind in ("", f", {RENEWED}", f", {AFTER_MIDNIGHT}")]
    peak = max((value for value in peaks if value is not None), default=None)
    later, sooner = "memory after 20 visits, MB", "memory after 5 visits, MB"
    report.goals += [
        report.check_goal("CPU of a visit to 100,000 counters", seconds, maximum=3, format_value="{:.2f} s".format),
        report.check_goal("memory at most, 100,000 counters", peak, maximum=350, format_value="{:.0f} MB".format),
        report.check_ratio("memory after 20 visits to that after 5", later, sooner, maximum=1.05),
    ]
    return report


def run_visits(counters: int) -> list[Figure]:
    """Visit a town again and again, in this process."""
    runtime.limit_arenas()
    runtime.tune_interpreter()
    with run_cem_simulator(counters) as simulator, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_run_visits(simulator, Path(folder), counters))


async def _run_visits(simulator: CemSimulator, folder: Path, counters: int) -> list[Figure]:
    durations, special = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    peaks = defaultdict[str, list[float]](list)
    with Ledger(folder) as ledger:
        page = MetricsPage(ledger, simulator.clock.now, "0")
        # The history of a town is days of requests; what a visit costs is measured here.
        backlog = BacklogSettings(enabled=False)
        poller = AccountPoller(_make_account(simulator), ledger, page, simulator.clock, backlog=backlog)
        await poller.open()
        found, settled = [], 0.0
        local = simulator.clock.now().astimezone(Cem.zone)
        simulator.advance_clock(timedelta(days=(FIRST_DAY - local.day) % 28, hours=(FIRST_HOUR - local.hour) % 24))
        pauses = dict(enumerate(PAUSES, 1))
        for number in range(1, VISITS + 1):
            hour = simulator.clock.now().astimezone(Cem.zone).hour
            _reset_peak()
            parts: dict[str, list[float]] = defaultdict(list)
            with _measure_parts(parts):
                await poller.visit()
            assert poller.state.up, poller.state.message
            kind = {1: "first visit", 2: "", 3: RENEWED}.get(number, AFTER_MIDNIGHT if hour < 2 else "usual")
            peaks[kind].append(read_memory_mb("VmHWM"))
            if number == 1:
                found = [Figure(f"first visit: {part}", counters, value) for part, (value,) in parts.items()]
                page.render_parts(compress=True)
            elif kind == "usual":
                for part, (value,) in parts.items():
                    durations[part].append(value)
            elif kind:
                special[kind] += parts["all of it"]
            if number == 5:
                settled = read_memory_mb("VmRSS")
            simulator.advance_clock(pauses.get(number, VISIT_INTERVAL))
    found += [Figure(part, counters, median(values)) for part, values in durations.items()]
    found += [Figure(f"all of it, {kind}", counters, max(values)) for kind, values in special.items()]
    memory = {
        "peak": max(peaks["first visit"] + peaks["usual"]),
        **{f"peak, {kind}": max(peaks[kind]) for kind in (RENEWED, AFTER_MIDNIGHT)},
        "after 5 visits": settled,
        "after 20 visits": read_memory_mb("VmRSS"),
    }
    return found + [Figure(f"memory {what}, MB", counters, value) for what, value in memory.items()]


def _reset_peak() -> None:
    with suppress(OSError):  # where the system does not allow it the peaks are those of all visits until then
        Path("/proc/self/clear_refs").write_text("5")


def _make_account(simulator: CemSimulator) -> Any:
    login = {
        key: value for key, value in CemSimulation().build_accounts(simulator.url)[0].items() if key in ("username", "password")
    }
    return Cem(CemConfig(name="town", portal="cem", base_url=simulator.url + API_PATH, timeout=timedelta(minutes=2), **login))


@contextmanager
def _measure_parts(durations: dict[str, list[float]]) -> Iterator[None]:
    """Measure the CPU of a visit and of its parts."""
    spent: dict[str, float] = defaultdict(float)
    started = time.process_time()
    with (
        _time_function(Ledger, "record_visit", spent),
        _time_function(MetricsPage, "refresh", spent),
        _time_function(SamplesBuilder, "rebuild", spent),
        _time_function(SamplesBuilder, "rebuild_readings", spent),
        _time_function(SamplesBuilder, "rebuild_indexes", spent),
        _time_function(SampleBlock, "replace_usage_points", spent),
        _time_function(runtime, "trim_memory", spent),
    ):
        yield
    every = time.process_time() - started
    rebuild = spent["rebuild"] + spent["rebuild_readings"] + spent["rebuild_indexes"]
    derive = rebuild - spent["replace_usage_points"]
    render = spent["refresh"] - derive + spent["trim_memory"]
    parts = {"record": spent["record_visit"], "derive": derive, "render": render}
    for part, value in {"ask and parse": every - sum(parts.values()), **parts, "all of it": every}.items():
        durations[part].append(value)


def _time_function(owner: Any, name: str, cpu_seconds: dict[str, float]) -> Any:
    """Count the CPU of a function's own thread."""
    function: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **keywords: Any) -> Any:
        started = time.thread_time()
        try:
            return function(*arguments, **keywords)
        finally:
            cpu_seconds[name] += time.thread_time() - started

    return patch.object(owner, name, timed)
