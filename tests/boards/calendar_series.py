"""The calendar series of the contract, worked out from an export of the ledger: for an exporter that does not serve them yet."""

import re
import subprocess
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from exporter.history.series import HISTORY_FAMILIES
from tests.history.programs import find_program

ZONES = defaultdict(
    lambda: ZoneInfo("Europe/Brussels"), maison=ZoneInfo("Europe/Paris"), **{"block-of-flats": ZoneInfo("Europe/Prague")}
)
DAY = timedelta(days=1)
SAMPLE = re.compile(r"(\w+)\{(.*)\} (\S+) (\S+)")
INTERVALS = {
    "utility_interval_consumption_kwh": "consumption_kwh",
    "utility_interval_consumption_m3": "consumption_m3",
    "utility_interval_injection_kwh": "injection_kwh",
}
INDEXES = {
    "utility_measured_index_kwh": "consumption_kwh",
    "utility_measured_index_m3": "consumption_m3",
    "utility_measured_injection_index_kwh": "injection_kwh",
}
FAMILIES = [f"utility_{period}_to_date_{amount}" for period in ("month", "year") for amount in INTERVALS.values()]
SERVED = {family.name for family in HISTORY_FAMILIES.values()}.issuperset(FAMILIES)
"""Whether the exporter serves them itself: this module can go then."""
Key = tuple[str, str, str, str]
"""Amount, account, usage point, register."""


def write_blocks(folder: Path, export: str) -> None:
    """Write the calendar series into the blocks of a Prometheus."""
    file = folder / "calendar.txt"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(calendar_lines(export.splitlines())) + "# EOF\n")
    command = (find_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet", "--max-block-duration=744h")
    subprocess.run([*command, file, folder / "tsdb"], check=True, capture_output=True)


def calendar_lines(export: Iterable[str]) -> Iterator[str]:
    """Return the lines of the derived days, the months, and the running sums, a family after the other."""
    families: dict[str, list[str]] = defaultdict(list)
    stated, derived = read_days(export)
    for key, days in (stated | derived).items():
        amount, account, point, register = key
        labels = f'account="{account}",usage_point="{point}",register="{register}"'
        interval = f"utility_interval_{amount}"
        if key in derived:
            families[interval] += (
                f'{interval}{{{labels},resolution="P1D"}} {value!r} {end(key, day)}\n' for day, value in days.items()
            )
        families[interval] += (
            f'{interval}{{{labels},resolution="P1M"}} {value!r} {end(key, day)}\n' for day, value in months(days)
        )
        for period in ("month", "year"):
            name = f"utility_{period}_to_date_{amount}"
            families[name] += (f"{name}{{{labels}}} {value!r} {end(key, day)}\n" for day, value in running_sums(days, period))
    for name, lines in families.items():
        yield f"# TYPE {name} gauge\n"
        yield from lines


def read_days(export: Iterable[str]) -> tuple[dict[Key, dict[date, float]], dict[Key, dict[date, float]]]:
    """Return the stated days, and those between the midnights of a register."""
    stated: dict[Key, dict[date, float]] = defaultdict(dict)
    indexes: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    for line in export:
        if not (found := SAMPLE.fullmatch(line)):
            continue
        name, labels = found[1], dict(re.findall(r'(\w+)="([^"]*)"', found[2]))
        place = (labels["account"], labels["usage_point"], labels.get("register", ""))
        if name in INTERVALS and labels.get("resolution") == "P1D":
            at = datetime.fromtimestamp(float(found[4]), ZONES[labels["account"]])
            stated[INTERVALS[name], *place][(at - timedelta(hours=7)).date()] = float(found[3])
        elif name in INDEXES:
            indexes[INDEXES[name], *place].append((float(found[4]), float(found[3])))
    return stated, {key: between_midnights(key, seen) for key, seen in indexes.items() if key not in stated}


def between_midnights(key: Key, seen: list[tuple[float, float]]) -> dict[date, float]:
    """Return the days of a register that is read every few hours."""
    zone, stamps, days = ZONES[key[1]], [at for at, _ in seen], {}

    def shown(day: date) -> float | None:
        at = datetime.combine(day, time(), zone).timestamp()
        place = bisect_left(stamps, at)
        if not 0 < place < len(seen) or stamps[place] - stamps[place - 1] > 6 * 3600:
            return None
        (first, low), (second, high) = seen[place - 1 : place + 1]
        return low + (high - low) * (at - first) / (second - first)

    day, last = (datetime.fromtimestamp(at, zone).date() for at in (stamps[0], stamps[-1]))
    while day < last:
        start, stop = shown(day), shown(day + DAY)
        if start is not None and stop is not None:
            days[day] = round(stop - start, 3)
        day += DAY
    return days


def months(days: dict[date, float]) -> Iterator[tuple[date, float]]:
    """Return the last day and the sum of every month of which all days are known."""
    sums: dict[tuple[int, int], list[float]] = defaultdict(list)
    for day, value in days.items():
        sums[day.year, day.month].append(value)
    for year, month in sorted(sums):
        last = date(year + month // 12, month % 12 + 1, 1) - DAY
        if len(sums[year, month]) == last.day:
            yield last, round(sum(sums[year, month]), 3)


def running_sums(days: dict[date, float], period: str) -> Iterator[tuple[date, float]]:
    """Return the sum since the period's first day at every day, up to the first day that is missing."""
    passed: tuple[date, float] | None = None
    for day in sorted(days):
        begins = day.day == 1 and (period == "month" or day.month == 1)
        if begins or (passed and passed[0] + DAY == day):
            passed = (day, round((0 if begins or passed is None else passed[1]) + days[day], 3))
            yield passed
        else:
            passed = None


def end(key: Key, day: date) -> str:
    """Return the last millisecond of a day; gas days end at six."""
    gas = key[3] in ("energy", "volume")
    at = datetime.combine(day + DAY, time(6 if gas else 0), ZONES[key[1]])
    return f"{at.timestamp() - 0.001:.3f}"
