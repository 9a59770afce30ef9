"""A Prometheus that has scraped the exporter since yesterday: its page, written into blocks at the instants of the past."""

import subprocess
from pathlib import Path

from tests.history.programs import find_program

BACKFILL_SPAN, SCRAPE_STEP = 26 * 3600, 240
"""Seconds. Every midnight and noon is in it, where the points of long spans lie; and no point sees nothing for five minutes."""


def write_blocks(folder: Path, page: str, instance: str, now: float) -> None:
    """Write the page (in OpenMetrics) as if it had been scraped until now and had always said the same."""
    first = int(now) - BACKFILL_SPAN
    stamps = [str(at) for at in range(first, int(now), SCRAPE_STEP)]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "scraped.txt"
    with file.open("w") as out:
        for line in ("up 1", "scrape_duration_seconds 0.02", *page.splitlines()):
            if line.startswith("#"):
                out.write(line + "\n")
                continue
            series, value = add_scrape_labels(line, instance)
            out.writelines(f"{series} {value} {stamp}\n" for stamp in stamps)
    command = (find_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet", file, folder / "tsdb")
    subprocess.run(command, check=True, capture_output=True)


def add_scrape_labels(line: str, instance: str) -> tuple[str, str]:
    """Split a line into series and value, with the labels a scrape adds."""
    series, _, value = line.rpartition(" ")
    name, brace, labels = series.partition("{")
    added = f'instance="{instance}",job="utility"'
    return f"{name}{{{added}{',' + labels if brace else '}'}", value
