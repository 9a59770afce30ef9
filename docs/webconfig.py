"""What is taken and refused of the toolkit's web configuration, out of the files that the tests hold against promtool."""

from collections.abc import Callable, Mapping

from docs import keys
from docs.tables import code, table
from exporter.webconfig import WebConfig
from tests.web_configs import KEYS, NEW, SAME, Row

HEADS = ("of", "both take", "both refuse", "refused here, taken by promtool")


def parts() -> Mapping[str, str]:
    """Make the table of the keys, and one with a line for each group of them, in which every file of the tests stands once."""
    found = (row for _, row in keys.rows(WebConfig))
    return {
        "keys": table(("key", "is", "for"), ((key, kind.replace("secret", "text"), why) for key, kind, _, why in found)),
        "equivalence": table(HEADS, (line(of, rows) for of, rows in KEYS.items())),
    }


def line(of: str, rows: Mapping[str, Row]) -> tuple[str, ...]:
    """Write the line of a group."""
    verdicts: tuple[Callable[[Row], bool], ...] = (
        lambda row: row.good,
        lambda row: not row.good and row.why == SAME,
        lambda row: not row.good and row.why != SAME,
    )
    return of, *(", ".join(_named(name, row) for name, row in rows.items() if fits(row)) for fits in verdicts)


def _named(name: str, row: Row) -> str:
    mark = "³" if row.since == NEW else "²" if row.until < NEW else ""
    return code(name) + mark
