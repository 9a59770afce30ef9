"""The command line: serve, start, check, discover, visit, raw, history, demo."""

from exporter import early  # noqa: F401  # keeps signals from here on

# isort: split

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from exporter import heap, logs, oneoff
from exporter.config import load
from exporter.errors import ConfigError, ExporterError, PortalError
from exporter.flags import Commands, account_flags, command, day, day_flags, key_value, web_config_flag, web_flags
from exporter.history.export import Part
from exporter.history.resend import resend
from exporter.serve import PORT, Exporter, Options, read_web_config
from exporter.server import Address
from exporter.webconfig import open_door


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 good, 1 failed, 2 wrong usage."""
    options = parser().parse_args(arguments)
    logs.set_up(options.log_level, options.log_format)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except PortalError as error:
        return fail(f"{error.reason}: {error}")
    except (ExporterError, OSError) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        return 130


def fail(message: str) -> int:
    """Say on stderr what went wrong."""
    sys.stderr.write("\n".join(map(oneoff.plain, message.rstrip().split("\n"))) + "\n")
    return 1


def serve(options: argparse.Namespace) -> int:
    """Run the exporter until it is told to stop."""
    heap.keep_one()
    heap.take_turns()
    asyncio.run(Exporter(serve_options(options)).run())
    return 0


def serve_options(options: argparse.Namespace) -> Options:
    """Take the flags of `serve` and `demo` together."""
    return Options(
        config_file=options.config_file,
        storage_path=options.storage_path or Path("data"),
        addresses=tuple(options.addresses or [Address("", PORT)]),
        telemetry_path=options.telemetry_path,
        lifecycle=options.lifecycle,
        web_config_file=options.web_config_file,
        systemd_socket=options.systemd_socket,
        shard=options.shard,
    )


def check(options: argparse.Namespace) -> int:
    """Read the configuration and the web configuration, and say every fault at once."""
    faults, good = [], []
    for look in (check_config, check_web_config):
        try:
            good += look(options)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        return fail("\n".join(faults))
    sys.stdout.write("".join(f"{line}, no faults\n" for line in good))
    return 0


def check_config(options: argparse.Namespace) -> list[str]:
    """Read the configuration; gives what it has. Raises ConfigError."""
    config = load(options.config_file)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return [f"{options.config_file}: {len(config.accounts)} account(s)"]


def check_web_config(options: argparse.Namespace) -> list[str]:
    """Read the web configuration, if there is one, and all files it names; gives what it has. Raises ConfigError."""
    if (file := options.web_config_file) is None:
        return []
    door = open_door(file, read_web_config)
    door.close()
    return [f"{file}: {'TLS' if door.tls else 'no TLS'}, {len(door.config.users)} user(s)"]


def visit(options: argparse.Namespace) -> int:
    """Visit an account once and print its page."""
    page, short = asyncio.run(oneoff.visit(place(options)))
    sys.stdout.write(page)
    return fail(short) if short else 0


def discover(options: argparse.Namespace) -> int:
    """Print what an account holds."""
    found = asyncio.run(oneoff.discover(place(options)))
    sys.stdout.write((oneoff.discovery_json if options.json else oneoff.say_discovery)(found) + "\n")
    return 0


def raw(options: argparse.Namespace) -> int:
    """Print the portal's own answer to a call, or the calls there are."""
    if options.call is None:
        portal = oneoff.find(place(options))
        for name, known in portal.calls.items():
            keys = " ".join(f"{key}=..." if key in known.required else f"[{key}=...]" for key in known.keys)
            sys.stdout.write(f"{name} {keys}".rstrip() + f"\n    {known.help}\n")
        return 0
    answer = asyncio.run(oneoff.raw(place(options), options.call, dict(options.keys)))
    sys.stdout.write(oneoff.say_json(answer) + "\n")
    return 0


def history_import(options: argparse.Namespace) -> int:
    """Bring home an account's past."""
    asyncio.run(oneoff.bring_past(place(options), options.first, options.last))
    return 0


def history_export(options: argparse.Namespace) -> int:
    """Write the true-time series as OpenMetrics."""
    part = Part(options.account, options.first, options.last)
    count = oneoff.export_history(place(options), part, options.output)
    if options.output:
        sys.stderr.write(f"{options.output}: {count} samples\n")
    return 0


def history_resend(options: argparse.Namespace) -> int:
    """Have a receiver of remote write sent everything again."""
    receivers = load(options.config_file).history.remote_write
    with oneoff.existing(options.storage_path) as ledger:
        lines = resend(ledger, receivers, options.target, options.first)
    sys.stdout.write("".join(f"{line}\n" for line in lines or ["history.remote_write is empty: there is nobody to send to"]))
    return 0


def demo(options: argparse.Namespace) -> int:
    """Run the exporter against simulations of the portals."""
    from exporter.demo.runner import run  # noqa: PLC0415  # the simulations are loaded only for the demo

    asyncio.run(run(serve_options(options), temporary=options.storage_path is None))
    return 0


def start(options: argparse.Namespace) -> int:
    """Serve, or show the demo where there is no configuration: what the image does by itself."""
    if meant(options.config_file):
        return serve(options)
    options.storage_path = None
    return demo(options)


def meant(config_file: Path) -> bool:
    """Tell whether somebody means to configure: the folder has something in it, even under a wrong name, or cannot be read.

    Invented meters must never stand where somebody looks for their own.
    """
    try:
        return any(config_file.parent.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def place(options: argparse.Namespace) -> oneoff.Place:
    """Take the flags of the one-off commands together."""
    return oneoff.Place(options.config_file, options.storage_path, options.account, getattr(options, "force", False))


def parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="utility-exporter",
        description="A Prometheus exporter for the customer portals of utility meters.",
        epilog="Flags stand after the command: utility-exporter serve --config.file=config.yaml",
    )
    top.add_argument("--version", action="version", version=f"utility-exporter {version('utility-exporter')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    web_flags(command(commands, "serve", serve, "run the exporter"))
    web_config_flag(command(commands, "check", check, "say every fault of the configuration; no network"))
    web_flags(command(commands, "start", start, "serve, or the demo where the configuration's folder is missing or empty"))
    simulated = web_flags(command(commands, "demo", demo, "run against simulated portals; no credentials, no configuration"))
    simulated.set_defaults(storage_path=None)
    account_flags(command(commands, "visit", visit, "visit an account once and print its page; writes no readings"))
    found = account_flags(command(commands, "discover", discover, "print what an account holds"))
    found.add_argument("--json", action="store_true", help="print JSON")
    asked = account_flags(command(commands, "raw", raw, "print the portal's own answer to a named read-only call"))
    asked.add_argument("call", nargs="?", metavar="CALL", help="the call; without it the calls are listed")
    asked.add_argument("keys", nargs="*", type=key_value, metavar="KEY=VALUE", help="the call's keys")
    history_commands(commands)
    return top


def history_commands(commands: Commands) -> None:
    """Add the commands of `history`."""
    text = "the true-time series: bring home the past, write it out, send it again"
    under = commands.add_parser("history", help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    parts = under.add_subparsers(dest="part", required=True, metavar="COMMAND")
    brought = day_flags(command(parts, "import", history_import, "fetch the past that the portal still has into the ledger"))
    brought.add_argument("account", metavar="ACCOUNT", help="the account's name in the configuration")
    written = day_flags(command(parts, "export", history_export, "write the ledger as OpenMetrics with timestamps"))
    written.add_argument("--account", metavar="ACCOUNT", help="only this account; default: all of the ledger")
    written.add_argument("-o", dest="output", type=Path, metavar="FILE", help="a file, written whole or not at all")
    again = command(parts, "resend", history_resend, "have a receiver of remote write that lost its data sent it again")
    again.add_argument("target", nargs="?", metavar="TARGET", help="its label `target`; without it, all receivers")
    again.add_argument("--from", dest="first", type=day, metavar="DAY", help="the first day, like 2025-12-31")


if __name__ == "__main__":
    sys.exit(main())
