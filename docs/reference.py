"""Tables of metrics and of the command line, in Markdown."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence

from exporter.cli import build_parser
from exporter.history.series import HISTORY_FAMILIES
from exporter.metrics.families import CACHED_HELP, FAMILY_GROUPS, MetricFamily, MetricType

UNITS = {
    "timestamp_seconds": "seconds since 1970",
    "seconds": "seconds",
    "kwh": "kWh",
    "m3": "m³",
    "kw": "kW",
    "kva": "kVA",
    "celsius": "°C",
    "ratio": "0 to 1",
    "info": "always 1",
}
"""Unit by the suffix of the name."""
_COMMON_FLAGS = {"--config.file", "--storage.path", "--log.level", "--log.format"}
"""The flags of every command."""
_SERVE_FLAGS = {
    *("--web.listen-address", "--web.telemetry-path", "--web.enable-lifecycle", "--web.systemd-socket", "--web.config.file"),
    "--shard",
}
"""Those of the commands that serve."""
_SHARED_FLAGS = _COMMON_FLAGS | _SERVE_FLAGS


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; bars inside cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def format_code(text: object) -> str:
    """Return a text as inline code."""
    return f"`{text}`"


def build_metric_tables() -> Mapping[str, str]:
    """Return a table for each group of the metrics page, and one of the history series."""
    tables = {
        name: format_table(("family", "labels", "unit", "meaning"), map(format_family, group))
        for name, group in FAMILY_GROUPS.items()
    }
    history = {
        family.name: (format_code(family.name), find_unit(family.name, family.help), family.help)
        for family in HISTORY_FAMILIES.values()
    }
    return tables | {"history": format_table(("family", "unit", "meaning"), history.values())}


def format_family(family: MetricFamily) -> tuple[str, ...]:
    """Return the row of a family."""
    labels, help_text = ", ".join(map(format_code, family.labels)) or "none", family.help.replace(f"; {CACHED_HELP}", "")
    return (
        format_code(family.name),
        labels,
        "counter" if family.type is MetricType.COUNTER else find_unit(family.name, help_text),
        help_text,
    )


def find_unit(name: str, help_text: str) -> str:
    """Return the unit that a family's name ends in; the help of a flag says what 1 means."""
    plain = "0 or 1" if help_text.startswith("1 w") else "number"
    return next((unit for suffix, unit in UNITS.items() if name.endswith(f"_{suffix}")), plain)


def build_command_tables() -> Mapping[str, str]:
    """Return the tables of commands, of the common flags, and of those of `serve`."""
    commands = dict(list_commands(build_parser()))
    return {
        "commands": format_table(
            ("command", "does"), [(format_code(format_usage(command)), str(command.description)) for command in commands.values()]
        ),
        "flags of all": format_table(("flag", "means"), list_flags(commands["serve"], _COMMON_FLAGS)),
        "flags of serve": format_table(("flag", "means"), list_flags(commands["serve"], _SERVE_FLAGS)),
    }


def list_commands(command_parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command, `history import` among them, with its parser."""
    subcommands = [action.choices for action in command_parser._actions if isinstance(action, argparse._SubParsersAction)]
    for choices in subcommands:
        for name, subparser in choices.items():
            yield from list_commands(subparser, f"{path} {name}".strip())
    if not subcommands:
        yield path, command_parser


def format_usage(command_parser: argparse.ArgumentParser) -> str:
    """Return a command with its arguments, without the common flags and those of `serve`."""
    own = [
        action for action in command_parser._actions if action.dest != "help" and not _SHARED_FLAGS & set(action.option_strings)
    ]
    arguments = [_format_count(str(action.metavar), action.nargs) for action in own if not action.option_strings]
    flags = [f"[{' '.join([action.option_strings[0], *_format_value(action)])}]" for action in own if action.option_strings]
    return " ".join([command_parser.prog.removeprefix("utility-exporter "), *arguments, *flags])


def list_flags(command_parser: argparse.ArgumentParser, names: set[str]) -> list[tuple[str, str]]:
    """Return flags of a command, and what they mean."""
    actions = [action for action in command_parser._actions if names & set(action.option_strings)]
    return [(format_code(" ".join([action.option_strings[0], *_format_value(action)])), str(action.help)) for action in actions]


def _format_value(action: argparse.Action) -> list[str]:
    if action.choices:
        return ["|".join(action.choices)]
    return [str(action.metavar)] if action.metavar else []


def _format_count(name: str, count: int | str | None) -> str:
    return {"?": f"[{name}]", "*": f"[{name} ...]"}.get(str(count), name)
