"""The command line: serve, start, check, discover, visit, raw, history, demo."""

from exporter import early  # noqa: F401  # keeps signals from here on

# isort: split

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from exporter import commands, log, runtime
from exporter.app import DEFAULT_PORT, Exporter, ServeOptions, read_web_config
from exporter.cli import (
    Subparsers,
    add_account_flags,
    add_command,
    add_day_flags,
    add_web_config_flag,
    add_web_flags,
    parse_day,
    parse_key_value,
)
from exporter.config.loader import load_config
from exporter.errors import ConfigError, ExporterError, PortalError
from exporter.history.export import ExportSelection
from exporter.history.remote_write import request_resend
from exporter.web.access_control import load_access_control
from exporter.web.listen import ListenAddress


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 good, 1 failed, 2 wrong usage."""
    options = build_parser().parse_args(argv)
    log.set_up_logging(options.log_level, options.log_format)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except PortalError as error:
        return report_failure(f"{error.reason}: {error}")
    except (ExporterError, OSError) as error:
        return report_failure(str(error))
    except KeyboardInterrupt:
        return 130


def report_failure(message: str) -> int:
    """Say on stderr what went wrong."""
    sys.stderr.write("\n".join(map(commands.strip_control, message.rstrip().split("\n"))) + "\n")
    return 1


def serve(options: argparse.Namespace) -> int:
    """Run the exporter until it is told to stop."""
    runtime.limit_arenas()
    runtime.tune_interpreter()
    asyncio.run(Exporter(build_options(options)).run())
    return 0


def build_options(options: argparse.Namespace) -> ServeOptions:
    """Take the flags of `serve` and `demo` together."""
    return ServeOptions(
        config_file=options.config_file,
        storage_path=options.storage_path or Path("data"),
        addresses=tuple(options.addresses or [ListenAddress("", DEFAULT_PORT)]),
        telemetry_path=options.telemetry_path,
        enable_lifecycle=options.lifecycle,
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
        return report_failure("\n".join(faults))
    sys.stdout.write("".join(f"{line}, no faults\n" for line in good))
    return 0


def check_config(options: argparse.Namespace) -> list[str]:
    """Read the configuration; gives what it has. Raises ConfigError."""
    config = load_config(options.config_file)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return [f"{options.config_file}: {len(config.accounts)} account(s)"]


def check_web_config(options: argparse.Namespace) -> list[str]:
    """Read the web configuration, if there is one, and all files it names; gives what it has. Raises ConfigError."""
    if (file := options.web_config_file) is None:
        return []
    door = load_access_control(file, read_web_config)
    door.close()
    return [f"{file}: {'TLS' if door.tls_context else 'no TLS'}, {len(door.config.users)} user(s)"]


def print_visit(options: argparse.Namespace) -> int:
    """Visit an account once and print its page."""
    page, short = asyncio.run(commands.visit_once(build_context(options)))
    sys.stdout.write(page)
    return report_failure(short) if short else 0


def print_discovery(options: argparse.Namespace) -> int:
    """Print what an account holds."""
    found = asyncio.run(commands.discover_account(build_context(options)))
    sys.stdout.write((commands.format_discovery_json if options.json else commands.format_discovery)(found) + "\n")
    return 0


def print_raw(options: argparse.Namespace) -> int:
    """Print the portal's own answer to a call, or the calls there are."""
    if options.call is None:
        portal = commands.find_account(build_context(options))
        for name, known in portal.raw_calls.items():
            keys = " ".join(f"{key}=..." if key in known.required else f"[{key}=...]" for key in known.parameters)
            sys.stdout.write(f"{name} {keys}".rstrip() + f"\n    {known.description}\n")
        return 0
    answer = asyncio.run(commands.call_raw(build_context(options), options.call, dict(options.keys)))
    sys.stdout.write(commands.format_json(answer) + "\n")
    return 0


def import_history(options: argparse.Namespace) -> int:
    """Bring home an account's past."""
    asyncio.run(commands.run_import(build_context(options), options.first, options.last))
    return 0


def export_history(options: argparse.Namespace) -> int:
    """Write the true-time series as OpenMetrics."""
    part = ExportSelection(options.account, options.first, options.last)
    count = commands.write_history(build_context(options), part, options.output)
    if options.output:
        sys.stderr.write(f"{options.output}: {count} samples\n")
    return 0


def resend_history(options: argparse.Namespace) -> int:
    """Have a receiver of remote write sent everything again."""
    receivers = load_config(options.config_file).history.remote_write
    with commands.open_existing_ledger(options.storage_path) as ledger:
        lines = request_resend(ledger, receivers, options.target, options.first)
    sys.stdout.write("".join(f"{line}\n" for line in lines or ["history.remote_write is empty: there is nobody to send to"]))
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """Run the exporter against simulations of the portals."""
    from exporter.demo import serve_demo  # noqa: PLC0415  # the simulations are loaded only for the demo

    asyncio.run(serve_demo(build_options(options), temporary=options.storage_path is None))
    return 0


def start(options: argparse.Namespace) -> int:
    """Serve, or show the demo where there is no configuration: what the image does by itself."""
    if has_configuration(options.config_file):
        return serve(options)
    options.storage_path = None
    return run_demo(options)


def has_configuration(config_file: Path) -> bool:
    """Tell whether somebody means to configure: the folder has something in it, even under a wrong name, or cannot be read.

    Invented meters must never stand where somebody looks for their own.
    """
    try:
        return any(config_file.parent.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def build_context(options: argparse.Namespace) -> commands.CommandContext:
    """Take the flags of the one-off commands together."""
    return commands.CommandContext(options.config_file, options.storage_path, options.account, getattr(options, "force", False))


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="utility-exporter",
        description="A Prometheus exporter for the customer portals of utility meters.",
        epilog="Flags stand after the command: utility-exporter serve --config.file=config.yaml",
    )
    top.add_argument("--version", action="version", version=f"utility-exporter {version('utility-exporter')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_web_flags(add_command(commands, "serve", serve, "run the exporter"))
    add_web_config_flag(add_command(commands, "check", check, "say every fault of the configuration; no network"))
    add_web_flags(
        add_command(commands, "start", start, "serve, or the demo where the configuration's folder is missing or empty")
    )
    simulated = add_web_flags(
        add_command(commands, "demo", run_demo, "run against simulated portals; no credentials, no configuration")
    )
    simulated.set_defaults(storage_path=None)
    add_account_flags(add_command(commands, "visit", print_visit, "visit an account once and print its page; writes no readings"))
    found = add_account_flags(add_command(commands, "discover", print_discovery, "print what an account holds"))
    found.add_argument("--json", action="store_true", help="print JSON")
    asked = add_account_flags(add_command(commands, "raw", print_raw, "print the portal's own answer to a named read-only call"))
    asked.add_argument("call", nargs="?", metavar="CALL", help="the call; without it the calls are listed")
    asked.add_argument("keys", nargs="*", type=parse_key_value, metavar="KEY=VALUE", help="the call's keys")
    add_history_commands(commands)
    return top


def add_history_commands(subparsers: Subparsers) -> None:
    """Add the commands of `history`."""
    text = "the true-time series: bring home the past, write it out, send it again"
    under = subparsers.add_parser("history", help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    parts = under.add_subparsers(dest="part", required=True, metavar="COMMAND")
    brought = add_day_flags(
        add_command(parts, "import", import_history, "fetch the past that the portal still has into the ledger")
    )
    brought.add_argument("account", metavar="ACCOUNT", help="the account's name in the configuration")
    written = add_day_flags(add_command(parts, "export", export_history, "write the ledger as OpenMetrics with timestamps"))
    written.add_argument("--account", metavar="ACCOUNT", help="only this account; default: all of the ledger")
    written.add_argument("-o", dest="output", type=Path, metavar="FILE", help="a file, written whole or not at all")
    again = add_command(parts, "resend", resend_history, "have a receiver of remote write that lost its data sent it again")
    again.add_argument("target", nargs="?", metavar="TARGET", help="its label `target`; without it, all receivers")
    again.add_argument("--from", dest="first", type=parse_day, metavar="DAY", help="the first day, like 2025-12-31")


if __name__ == "__main__":
    sys.exit(main())
