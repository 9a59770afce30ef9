"""Pieces of the example's files, for the page that walks through it."""

import ast
from collections.abc import Mapping
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "brook"
SHOWN = (
    "pyproject.toml",
    "brook_water/answers.py MeterAnswer",
    "brook_water/answers.py DayAnswer",
    "brook_water/answers.py DaysAnswer",
    "brook_water/answers.py parse_meter",
    "brook_water/answers.py parse_days",
    "brook_water/answers.py _interval",
    "brook_water/__init__.py Brook.fetch",
    "brook_water/__init__.py Brook._ask",
    "brook_water/__init__.py Brook._log_in",
    "brook_water/__init__.py Brook.pieces",
    "brook_water/__init__.py Brook.past",
    "brook_water/__init__.py Brook.discover",
    "brook_water/simulation.py BrookSimulation._days",
    "tests/test_brook.py test_a_visit",
)
"""A file, or a definition in it."""


def parts() -> Mapping[str, str]:
    """Give each piece as a block of code; of the class its keys, up to its first method."""
    shown = {piece: _block(piece) for piece in SHOWN}
    return shown | {"brook_water/__init__.py Brook": _fenced(_head("brook_water/__init__.py", "Brook"), "python")}


def _block(piece: str) -> str:
    file, _, name = piece.partition(" ")
    if not name:
        return _fenced((EXAMPLE / file).read_text().strip(), "toml")
    return _fenced(_lines(file, _found(file, name)), "python")


def _found(file: str, name: str) -> ast.stmt:
    """Find a definition; raises StopIteration where there is none."""
    body = ast.parse((EXAMPLE / file).read_text()).body
    for part in name.split("."):
        found = next(node for node in body if getattr(node, "name", None) == part)
        body = getattr(found, "body", [])
    return found


def _lines(file: str, node: ast.stmt, end: int | None = None) -> str:
    return "\n".join((EXAMPLE / file).read_text().splitlines()[node.lineno - 1 : end or node.end_lineno]).rstrip()


def _head(file: str, name: str) -> str:
    node = _found(file, name)
    first = next(part for part in getattr(node, "body", []) if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))
    return _lines(file, node, first.lineno - 1)


def _fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
