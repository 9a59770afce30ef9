"""The command line: serve, check, discover, visit, raw, demo."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from exporter import heap, logs, oneoff
from exporter.config import load
from exporter.errors import ExporterError, PortalError
from exporter.serve import PORT, Exporter, Options
from exporter.server import Address


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
    sys.stderr.write(message.rstrip() + "\n")
    return 1


def serve(options: argparse.Namespace) -> int:
    """Run the exporter until it is told to stop."""
    heap.keep_one()
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
    )


def check(options: argparse.Namespace) -> int:
    """Read the configuration and say every fault at once."""
    config = load(options.config_file)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write(f"{options.config_file}: {len(config.accounts)} account(s), no faults\n")
    return 0


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
    sys.stdout.write(json.dumps(answer, ensure_ascii=False, indent=2) + "\n")
    return 0


def demo(options: argparse.Namespace) -> int:
    """Run the exporter against simulations of the portals."""
    from exporter.demo.runner import run  # noqa: PLC0415  # the simulations are loaded only for the demo

    asyncio.run(run(serve_options(options), temporary=options.storage_path is None))
    return 0


def place(options: argparse.Namespace) -> oneoff.Place:
    """Take the flags of the one-off commands together."""
    return oneoff.Place(options.config_file, options.storage_path, options.account, options.force)


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
    command(commands, "check", check, "say every fault of the configuration; no network")
    simulated = web_flags(command(commands, "demo", demo, "run against simulated portals; no credentials, no configuration"))
    simulated.set_defaults(storage_path=None)
    account_flags(command(commands, "visit", visit, "visit an account once and print its page; writes no readings"))
    found = account_flags(command(commands, "discover", discover, "print what an account holds"))
    found.add_argument("--json", action="store_true", help="print JSON")
    asked = account_flags(command(commands, "raw", raw, "print the portal's own answer to a named read-only call"))
    asked.add_argument("call", nargs="?", metavar="CALL", help="the call; without it the calls are listed")
    asked.add_argument("keys", nargs="*", type=key_value, metavar="KEY=VALUE", help="the call's keys")
    return top


def command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    """Add a command with the flags that all have."""
    made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
    made.set_defaults(run=run)
    made.add_argument(
        "--config.file", dest="config_file", type=Path, default=Path("config.yaml"), metavar="FILE", help="default: config.yaml"
    )
    made.add_argument(
        "--storage.path", dest="storage_path", type=Path, default=Path("data"), metavar="FOLDER", help="default: data"
    )
    made.add_argument("--log.level", dest="log_level", choices=logs.LEVELS, default="info", help="default: info")
    made.add_argument("--log.format", dest="log_format", choices=logs.FORMATS, default="logfmt", help="default: logfmt")
    return made


def web_flags(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags of a command that serves."""
    made.add_argument(
        "--web.listen-address",
        dest="addresses",
        action="append",
        type=address,
        metavar="HOST:PORT",
        help=f"where to listen, repeatable; default :{PORT}",
    )
    made.add_argument(
        "--web.telemetry-path", dest="telemetry_path", type=web_path, default="/metrics", metavar="PATH", help="default: /metrics"
    )
    made.add_argument("--web.enable-lifecycle", dest="lifecycle", action="store_true", help="allow /-/reload and /-/visit")
    return made


def account_flags(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what a command on one account has."""
    made.add_argument("account", metavar="ACCOUNT", help="the account's name in the configuration")
    made.add_argument("--force", action="store_true", help="try once, even while the portal has refused the login")
    return made


def address(text: str) -> Address:
    """Read a listen address, for argparse."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def web_path(text: str) -> str:
    """Read a path, for argparse."""
    if not text.startswith("/") or any(letter in text for letter in "{}?# "):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /metrics")
    return text


def key_value(text: str) -> tuple[str, str]:
    """Read KEY=VALUE, for argparse."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


if __name__ == "__main__":
    sys.exit(main())
