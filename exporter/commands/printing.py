"""What commands print for people: tables and trees, each thing once."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from exporter.models import Discovery, Finding, Index, Interval, Peak, Reading, Unit, UsagePoint
from exporter.portals.register_kinds import name_kind

MAX_ROWS = 40
INSTANT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d(?:[+-]\d\d:\d\d)?")


def format_visit(readings: Iterable[Reading], aliases: Mapping[str, str], zone: tzinfo) -> str:
    """Return the newest readings of each register as a table; the rest of a large account is counted."""
    newest: dict[tuple[str, ...], Reading] = {}
    for reading in readings:
        if (key := _find_row(reading)) not in newest or _find_end(reading) >= _find_end(newest[key]):
            newest[key] = reading
    rows = [_format_reading(reading, aliases, zone) for _, reading in sorted(newest.items())]
    if not rows:
        return "the portal has no reading"
    lines = format_table([("usage point", "register", "what", "value", "when"), *rows[:MAX_ROWS]])
    more = [f"... and {len(rows) - MAX_ROWS} more; --page shows all"] if len(rows) > MAX_ROWS else []
    return "\n".join(map(strip_control, [*lines, *more]))


def format_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines of columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _find_row(reading: Reading) -> tuple[str, ...]:
    if isinstance(reading, Peak):
        return (reading.usage_point.id, "", f"peak {reading.unit}", _name_length(reading))
    register = reading.register
    length = "" if isinstance(reading, Index) else _name_length(reading)
    return (register.usage_point.id, register.name, str(register.direction), register.unit, length)


def _name_length(reading: Interval | Peak) -> str:
    hours = (reading.end - reading.start).total_seconds() / 3600
    return "interval" if hours < 23 else "day" if hours < 26 else "month"


def _find_end(reading: Reading) -> float:
    return (reading.at if isinstance(reading, Index) else reading.end).timestamp()


def _format_reading(reading: Reading, aliases: Mapping[str, str], zone: tzinfo) -> tuple[str, ...]:
    if isinstance(reading, Peak):
        point, register, what, value, unit = (
            reading.usage_point,
            "",
            f"peak of the {_name_length(reading)}",
            reading.power,
            str(reading.unit),
        )
    else:
        point, unit = reading.register.usage_point, reading.register.unit
        register = name_kind(reading.register.kind) or reading.register.name
        what, value = ("reading", reading.value) if isinstance(reading, Index) else (_name_amount(reading), reading.amount)
    return (name_usage_point(point, aliases), register, what, format_value(value, unit), _format_when(reading, zone))


def name_usage_point(point: UsagePoint, aliases: Mapping[str, str]) -> str:
    """Return the name of a usage point, else its site and number."""
    return aliases.get(point.id) or " ".join(filter(None, (point.site, point.name or point.id)))


def format_value(value: float, unit: str) -> str:
    """Return a value with its unit; humidity in percent."""
    return f"{format_number(value * 100)} %" if unit == Unit.RELATIVE_HUMIDITY else f"{format_number(value)} {unit}"


def format_number(value: float) -> str:
    """Return a number without the noise of calculations: three decimals, four where there is nothing before the point."""
    text = f"{value:.{3 if abs(value) >= 1 else 4}f}"
    return text.rstrip("0").rstrip(".")


def _name_amount(reading: Interval) -> str:
    direction = "" if reading.register.direction == "consumption" else f", {reading.register.direction}"
    return f"amount of the {_name_length(reading)}{direction}"


def _format_when(reading: Reading, zone: tzinfo) -> str:
    if isinstance(reading, Index):
        return f"{reading.at.astimezone(zone):%Y-%m-%d %H:%M}"
    form = {"interval": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m"}[_name_length(reading)]
    return reading.start.astimezone(zone).strftime(form)


def format_discovery(discovery: Discovery) -> str:
    """Return a discovery as an indented tree, its notes, and the lines of configuration."""
    lines = [line for finding in discovery.findings for line in _format_finding(finding, "")] or ["nothing was found"]
    notes = [f"note: {note}" for note in discovery.notes]
    config = ["", "# config.yaml", *discovery.config.rstrip().splitlines()] if discovery.config else []
    return "\n".join(map(strip_control, [*lines, *notes, *config]))


def format_discovery_json(discovery: Discovery) -> str:
    """Return a discovery as JSON."""

    def build_branch(finding: Finding) -> dict[str, Any]:
        return {"text": finding.text, "facts": dict(finding.facts), "under": [build_branch(child) for child in finding.children]}

    return format_json(
        {
            "tree": [build_branch(finding) for finding in discovery.findings],
            "notes": list(discovery.notes),
            "config": discovery.config,
        }
    )


def format_json(value: Any) -> str:
    """Return JSON for people: printable characters as they are, all others as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1] for character in text
    )


def strip_control(line: str) -> str:
    """Return a line without control characters, which a portal could send to a terminal."""
    return "".join(character if character.isprintable() else "�" for character in line)


def _format_finding(finding: Finding, indent: str) -> Sequence[str]:
    names = finding.facts if finding.printed is None else [name for name in finding.printed if name in finding.facts]
    texts = {name.replace("_", " "): _format_fact(finding.facts[name]) for name in names}
    facts = ", ".join(f"{name}: {text}" for name, text in texts.items() if text and text not in finding.text)
    line = f"{indent}{finding.text}" + (f"  ({facts})" if facts else "")
    return [line, *(child_line for child in finding.children for child_line in _format_finding(child, indent + "  "))]


def _format_fact(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "yes" if value else ""
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(_format_fact, value))
    if isinstance(value, str) and (instant := INSTANT.fullmatch(value)):
        return " ".join(instant.groups())
    return f"{value:.10g}" if isinstance(value, float) else str(value)
