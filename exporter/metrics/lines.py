"""One sample, one line: `family{label="value"} number`, to the byte as prometheus_client writes it.

The library checks every name of every sample at every scrape. Ours stand in one table and were checked once, so that a
line is its labels put into a shape made beforehand, and a number.
"""

import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from operator import itemgetter

from prometheus_client.utils import floatToGoString

from exporter.metrics.families import BY_NAME, Family
from exporter.metrics.words import Labels

NEVER = -math.inf
ODD_AT = 1e6
"""From here on the library writes an exponent where Python does not."""


def number(value: float) -> str:
    """Write a value."""
    value = float(value)
    return repr(value) if NEVER < value < ODD_AT else str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the library has no types there


@cache
def starter(family: str) -> Callable[[Labels], str]:
    """Give what writes the start of a family's lines, up to and with the blank before the value."""
    shape, pick, quotes = _shape(BY_NAME[family])

    def start(labels: Labels) -> str:
        line: str = shape % pick(labels)
        if "\\" in line or "\n" in line or line.count('"') != quotes:
            line = shape % tuple(map(_escaped, pick(labels)))
        return line

    return start


def lines(family: str, values: Mapping[Labels, float]) -> list[str]:
    """Write a family's samples, each without its line's end."""
    start = starter(family)
    return [f"{start(labels)}{number(value)}" for labels, value in values.items()]


def labels_of(family: str, text: str) -> list[Labels]:
    """Read the labels of a family's lines, each with its end, back out of them."""
    pieces = _pieces(text)
    return list(zip(*(_column(family, label, pieces) for label in BY_NAME[family].labels), strict=True))


def names_of(family: str, text: str) -> list[str]:
    """Read only the names of the usage points back out of them."""
    return _column(family, "usage_point", _pieces(text))


def _pieces(text: str) -> list[str]:
    """Give what stands between labels, and their values, in turn."""
    if "\\" not in text:
        return text.split('"')
    pieces = _QUOTED.split(text)
    pieces[1::2] = map(_unescaped, pieces[1::2])
    return pieces


def _column(family: str, label: str, pieces: list[str]) -> list[str]:
    order = sorted(BY_NAME[family].labels)
    return pieces[2 * order.index(label) + 1 :: 2 * len(order)]


def _shape(family: Family) -> tuple[str, Callable[[Labels], tuple[str, ...]], int]:
    """Give the shape of a line, what picks the label values in the order of their names, and how many quotes it has."""
    order = sorted(range(len(family.labels)), key=family.labels.__getitem__)
    pairs = ",".join(f'{family.labels[place]}="%s"' for place in order)
    pick = itemgetter(*order) if len(order) > 1 else tuple
    return f"{family.name}{{{pairs}}} " if pairs else f"{family.name} ", pick, 2 * len(order)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
