"""The flags of the command line: which commands have them, what they take, how their text is read."""

import argparse
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeAlias

from exporter import log
from exporter.app import DEFAULT_PORT
from exporter.sharding import ALL_ACCOUNTS, Shard
from exporter.web.listen import ListenAddress

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    subparsers: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    description: str,
) -> argparse.ArgumentParser:
    """Add a command with the flags that all have."""
    made = subparsers.add_parser(
        name, help=description, description=description[0].upper() + description[1:] + ".", allow_abbrev=False
    )
    made.set_defaults(run=run)
    made.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        default=Path("config.yaml"),
        metavar="FILE",
        help="the configuration; default: config.yaml",
    )
    made.add_argument(
        "--storage.path",
        dest="storage_path",
        type=Path,
        default=Path("data"),
        metavar="FOLDER",
        help="the folder of the ledger; default: data",
    )
    made.add_argument(
        "--log.level", dest="log_level", choices=log.LEVELS, default="info", help="the least that is logged; default: info"
    )
    made.add_argument("--log.format", dest="log_format", choices=log.FORMATS, default="logfmt", help="default: logfmt")
    return made


def add_day_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags that bound a span of days."""
    parser.add_argument(
        "--from", dest="first", type=parse_day, metavar="DAY", help="the first day, like 2026-01-31; local to the account"
    )
    parser.add_argument("--to", dest="last", type=parse_day, metavar="DAY", help="the last day")
    return parser


def add_web_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flags of a command that serves."""
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        action="append",
        type=parse_address,
        metavar="HOST:PORT",
        help=f"where to listen, repeatable; default :{DEFAULT_PORT}",
    )
    parser.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        type=parse_web_path,
        default="/metrics",
        metavar="PATH",
        help="where the live page is; default: /metrics",
    )
    parser.add_argument("--web.enable-lifecycle", dest="lifecycle", action="store_true", help="allow /-/reload and /-/visit")
    parser.add_argument(
        "--web.systemd-socket", dest="systemd_socket", action="store_true", help="listen on systemd's sockets, and on no address"
    )
    parser.add_argument(
        "--shard",
        type=parse_shard,
        default=ALL_ACCOUNTS,
        metavar="I/N",
        help="visit only the I-th of N parts of the accounts, chosen by name",
    )
    return add_web_config_flag(parser)


def add_web_config_flag(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the flag of the web configuration."""
    parser.add_argument(
        "--web.config.file", dest="web_config_file", type=Path, metavar="FILE", help="TLS and users, in exporter-toolkit's format"
    )
    return parser


def add_account_flags(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add what a command on one account has."""
    parser.add_argument("account", metavar="ACCOUNT", help="the account's name in the configuration")
    parser.add_argument("--force", action="store_true", help="try once, even while the portal has refused the login")
    return parser


def parse_address(text: str) -> ListenAddress:
    """Read a listen address, for argparse."""
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_shard(text: str) -> Shard:
    """Read a shard, for argparse."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_web_path(text: str) -> str:
    """Read a path, for argparse."""
    if not text.startswith("/") or any(letter in text for letter in "{}?# "):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /metrics")
    return text


def parse_day(text: str) -> date:
    """Read a day, for argparse."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day like 2026-01-31") from None


def parse_key_value(text: str) -> tuple[str, str]:
    """Read KEY=VALUE, for argparse."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
