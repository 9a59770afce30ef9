"""All measurements in one run: `python -m benchmarks` rewrites docs/performance.md.

    python -m benchmarks [--largest] [--only PART ...] [--sizes 100 1000]

`--largest` adds a scrape of 1,000,000 series. With `--only` or `--sizes` the tables are printed, and nothing is written.
"""

import argparse
import importlib
import sys
import time

from benchmarks import report
from benchmarks.results import Report

PARTS = ("scrape", "rerender", "visit", "start", "status", "ledger_table", "thinning", "remote_write", "remote_read")
SIZES = (100, 1_000, 10_000, 100_000)
PART_SIZES = {"thinning": SIZES[:2]}
"""Parts that have other sizes."""


def main() -> None:
    """Run the measurements."""
    options = build_parser().parse_args()
    started, reports = time.monotonic(), []
    for part in options.only or PARTS:
        sizes = tuple(options.sizes or PART_SIZES.get(part, SIZES)) + (
            (1_000_000,) if options.largest and part == "scrape" else ()
        )
        sys.stderr.write(f"{part}: {', '.join(f'{size:,}' for size in sizes)}\n")
        part_report: Report = importlib.import_module(f"benchmarks.{part}").measure(sizes)
        sys.stderr.write(report.format_figures(part_report.figures) + "\n\n" + report.format_goals([part_report]) + "\n\n")
        reports.append(part_report)
    duration = time.monotonic() - started
    if not (options.only or options.sizes):
        report.update_document(reports, duration)
    sys.stdout.write(report.format_goals(reports) + "\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", action="store_true", help="a scrape of 1,000,000 series too")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--sizes", nargs="+", type=int, metavar="SIZE", help="these sizes only")
    return parser


if __name__ == "__main__":
    main()
