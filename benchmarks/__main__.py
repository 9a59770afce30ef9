"""All measurements in one run: `python -m benchmarks` writes docs/performance.md anew.

    python -m benchmarks [--largest] [--only PART ...] [--sizes 100 1000]

`--largest` adds a scrape of 1,000,000 series. With `--only` or `--sizes` the tables are printed, and nothing is written.
"""

import argparse
import importlib
import sys
import time

from benchmarks import page
from benchmarks.figures import Report

PARTS = ("scrape", "rerender", "visit", "start", "readings", "thinning", "write", "read")
SIZES = (100, 1_000, 10_000, 100_000)
ITS_OWN = {"thinning": SIZES[:2]}
"""Parts that have other sizes."""


def main() -> None:
    """Measure."""
    asked = flags().parse_args()
    started, reports = time.monotonic(), []
    for part in asked.only or PARTS:
        sizes = tuple(asked.sizes or ITS_OWN.get(part, SIZES)) + ((1_000_000,) if asked.largest and part == "scrape" else ())
        sys.stderr.write(f"{part}: {', '.join(f'{size:,}' for size in sizes)}\n")
        made: Report = importlib.import_module(f"benchmarks.{part}").measure(sizes)
        sys.stderr.write(page.table(made.figures) + "\n\n" + page.goals([made]) + "\n\n")
        reports.append(made)
    took = time.monotonic() - started
    if not (asked.only or asked.sizes):
        page.renew(reports, took)
    sys.stdout.write(page.goals(reports) + "\n")


def flags() -> argparse.ArgumentParser:
    """Make the command line."""
    made = argparse.ArgumentParser(prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--largest", action="store_true", help="a scrape of 1,000,000 series too")
    made.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    made.add_argument("--sizes", nargs="+", type=int, metavar="SIZE", help="these sizes only")
    return made


if __name__ == "__main__":
    main()
