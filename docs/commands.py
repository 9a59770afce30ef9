"""The commands and flags, out of the parser itself."""

import argparse
from collections.abc import Iterator, Mapping

from docs.tables import code, table
from exporter.__main__ import parser

_ALL = {"--config.file", "--storage.path", "--log.level", "--log.format"}
"""The flags that every command has."""
_SERVING = {
    *("--web.listen-address", "--web.telemetry-path", "--web.enable-lifecycle", "--web.systemd-socket", "--web.config.file"),
    "--shard",
}
"""Those of the commands that serve."""
_SHARED = _ALL | _SERVING


def parts() -> Mapping[str, str]:
    """Make the tables of commands, of the flags that all have, and of those of `serve`."""
    commands = dict(walk(parser()))
    return {
        "commands": table(("command", "does"), [(code(usage(made)), str(made.description)) for made in commands.values()]),
        "flags of all": table(("flag", "means"), flags(commands["serve"], _ALL)),
        "flags of serve": table(("flag", "means"), flags(commands["serve"], _SERVING)),
    }


def walk(top: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Give every command that can be given, `history import` among them, with its parser."""
    under = [action.choices for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    for choices in under:
        for name, made in choices.items():
            yield from walk(made, f"{path} {name}".strip())
    if not under:
        yield path, top


def usage(made: argparse.ArgumentParser) -> str:
    """Write a command with what it wants, without the flags of all commands and of serving."""
    own = [action for action in made._actions if action.dest != "help" and not _SHARED & set(action.option_strings)]
    wanted = [_counted(str(one.metavar), one.nargs) for one in own if not one.option_strings]
    flags = [f"[{' '.join([one.option_strings[0], *_value(one)])}]" for one in own if one.option_strings]
    return " ".join([made.prog.removeprefix("utility-exporter "), *wanted, *flags])


def flags(made: argparse.ArgumentParser, names: set[str]) -> list[tuple[str, str]]:
    """Give flags of a command, and what they mean."""
    asked = [action for action in made._actions if names & set(action.option_strings)]
    return [(code(" ".join([one.option_strings[0], *_value(one)])), str(one.help)) for one in asked]


def _value(action: argparse.Action) -> list[str]:
    if action.choices:
        return ["|".join(action.choices)]
    return [str(action.metavar)] if action.metavar else []


def _counted(name: str, count: int | str | None) -> str:
    return {"?": f"[{name}]", "*": f"[{name} ...]"}.get(str(count), name)
