"""Excerpts of the example's files, for the page that walks through it."""

import ast
from collections.abc import Mapping
from pathlib import Path

EXAMPLE_FOLDER = Path(__file__).parent.parent / "examples" / "brook"
EXCERPTS = (
    "pyproject.toml",
    "brook_water/parser.py BrookMeterResponse",
    "brook_water/parser.py BrookDay",
    "brook_water/parser.py BrookDaysResponse",
    "brook_water/parser.py parse_meter",
    "brook_water/parser.py parse_days",
    "brook_water/parser.py _build_interval",
    "brook_water/account.py BrookConfig",
    "brook_water/account.py Brook.fetch_latest",
    "brook_water/account.py Brook._get",
    "brook_water/account.py Brook._log_in",
    "brook_water/account.py Brook.list_feeds",
    "brook_water/account.py Brook.read",
    "brook_water/account.py Brook.discover",
    "brook_water/simulation.py BrookSimulation._handle_days",
    "tests/test_brook.py test_a_visit",
)
"""A file, or a definition in it."""


def build_excerpts() -> Mapping[str, str]:
    """Return each excerpt as a block of code; of the class its fields, up to its first method."""
    excerpts = {excerpt: _format_excerpt(excerpt) for excerpt in EXCERPTS}
    return excerpts | {
        "brook_water/account.py Brook": _format_code_block(_read_class_head("brook_water/account.py", "Brook"), "python")
    }


def _format_excerpt(excerpt: str) -> str:
    file, _, name = excerpt.partition(" ")
    if not name:
        return _format_code_block((EXAMPLE_FOLDER / file).read_text().strip(), "toml")
    return _format_code_block(_read_lines(file, _find_definition(file, name)), "python")


def _find_definition(file: str, name: str) -> ast.stmt:
    """Return a definition; raise StopIteration if there is none."""
    body = ast.parse((EXAMPLE_FOLDER / file).read_text()).body
    for part in name.split("."):
        definition = next(node for node in body if getattr(node, "name", None) == part)
        body = getattr(definition, "body", [])
    return definition


def _read_lines(file: str, node: ast.stmt, end: int | None = None) -> str:
    return "\n".join((EXAMPLE_FOLDER / file).read_text().splitlines()[node.lineno - 1 : end or node.end_lineno]).rstrip()


def _read_class_head(file: str, name: str) -> str:
    node = _find_definition(file, name)
    first = next(part for part in getattr(node, "body", []) if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))
    return _read_lines(file, node, first.lineno - 1)


def _format_code_block(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
