"""The command line: every command, its flags, and how their text is read."""

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TypeAlias

from exporter import log
from exporter.app import DEFAULT_ADDRESS
from exporter.commands.context import report_failure
from exporter.commands.history import export_history, import_history, resend_history
from exporter.commands.report import write_report
from exporter.commands.serve import check, run_demo, serve, start
from exporter.commands.visit import print_discovery, print_raw, print_visit
from exporter.errors import ExporterError, LoginError, PortalError, suggest
from exporter.sharding import ALL_ACCOUNTS, Shard
from exporter.web.listen import ListenAddress

Subparsers: TypeAlias = "argparse._SubParsersAction[CommandParser]"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0 success, 1 failure, 2 wrong usage, 130 interrupted."""
    parser, words = build_parser(), sys.argv[1:] if argv is None else argv
    if not words:
        parser.exit(2, parser.format_help())
    if words[0].startswith("-") and words[0] not in parser.get_flags():
        parser.report_unknown(words[:1])
    options, unknown = parser.parse_known_args(words)
    if unknown:
        options.parser.report_unknown(unknown)
    log.set_up_logging(options.log_level, options.log_format)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except PortalError as error:
        is_password = isinstance(error, LoginError) and "password" in str(error) and "--force" not in str(error)
        hint = "; few tries are left before a portal locks the account: be sure of the next" if is_password else ""
        return report_failure(f"{error.reason}: {error}{hint}")
    except (ExporterError, OSError) as error:
        is_missing = str(error).startswith(f"{options.config_file}: cannot be read: no such file")
        hint = "\n`utility-exporter setup` makes one; --config.file names another" if is_missing else ""
        return report_failure(f"{error}{hint}")
    except KeyboardInterrupt:
        return 130


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one line with the word that was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Print an error without the usage, which only hides it; exit with 2."""
        self.exit(2, f"{self.prog}: {message}\nsee {self.prog} --help\n")

    def report_unknown(self, words: Sequence[str]) -> NoReturn:
        """Report words that no flag or argument takes; exit with 2."""
        near = next((suggest(word.partition("=")[0], self.get_flags()) for word in words if word.startswith("-")), "")
        self.error(f"unrecognized arguments: {' '.join(words)}{near}")

    def get_flags(self) -> list[str]:
        """Return the flags."""
        return [flag for action in self._actions for flag in action.option_strings]

    def _check_value(self, action: argparse.Action, value: object) -> None:
        # argparse's own message lists everything, and differs from one version of Python to the next.
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        near = suggest(str(value), choices)
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"unknown command {value!r}{near or '; the commands are ' + ', '.join(choices)}")
        raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(choices)}{near}")


def build_parser() -> CommandParser:
    """Return the parser of the whole command line."""
    parser = CommandParser(
        prog="utility-exporter",
        description="A Prometheus exporter for the customer portals of utility meters.",
        epilog="To begin: utility-exporter demo; or utility-exporter setup, then utility-exporter serve. Flags follow the"
        " command: utility-exporter serve --config.file=config.yaml",
    )
    parser.add_argument("--version", action="version", version=f"utility-exporter {version('utility-exporter')}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = add_web_flags(
        add_command(subparsers, "demo", run_demo, "run with simulated portals, without credentials or a configuration")
    )
    demo.set_defaults(storage_path=None, log_level="warn")  # its address stands first
    add_setup_command(subparsers)
    add_web_config_flag(add_command(subparsers, "check", check, "validate the configuration offline"))
    add_web_flags(add_command(subparsers, "serve", serve, "run the exporter"))
    visit = add_account_flags(
        add_command(subparsers, "visit", print_visit, "visit an account once and print its readings; none is stored")
    )
    visit.add_argument("--page", action="store_true", help="print the metrics as Prometheus would scrape them")
    discover = add_account_flags(
        add_command(subparsers, "discover", print_discovery, "print the usage points and meters of an account")
    )
    discover.add_argument("--json", action="store_true", help="print JSON")
    raw = add_force_flag(add_command(subparsers, "raw", print_raw, "print the portal's own response to a named read-only call"))
    raw.add_argument(
        "words",
        nargs="*",
        metavar="[ACCOUNT] [CALL] [KEY=VALUE ...]",
        help="the account, if there are several; the call (without one, the calls are listed); its parameters",
    )
    report = add_account_flags(
        add_command(
            subparsers, "report", write_report, "record a visit in a file that is safe to publish; nothing is sent to anybody"
        )
    )
    report.add_argument("-o", dest="output", type=Path, metavar="FILE", help="the file to write; default: report-ACCOUNT.json")
    report.add_argument(
        "--last-failure",
        dest="last_failure",
        action="store_true",
        help="write the last failed visit of serve, without a new visit",
    )
    add_history_commands(subparsers)
    add_web_flags(
        add_command(subparsers, "start", start, "serve, or run the demo if the configuration's folder is missing or empty")
    )
    return parser


def add_setup_command(subparsers: Subparsers) -> None:
    """Add the command `setup`."""
    setup = add_command(subparsers, "setup", run_setup, "add an account to the configuration by answering questions")
    setup.add_argument("account", nargs="?", metavar="ACCOUNT", help="the account's name; if it exists, what it reads is changed")
    setup.add_argument("--portal", metavar="PORTAL", help="the portal: water-link, fluvius, enedis or cem")
    setup.add_argument("--access", metavar="ACCESS", help="enedis only: conso, dataconnect or myelectricaldata; default: conso")
    setup.add_argument("--username", metavar="NAME", help="the user name of the login; for Data Connect, the client_id")
    setup.add_argument(
        "--password-file", dest="secret_file", type=Path, metavar="FILE", help="the file that holds the password, secret or token"
    )
    setup.add_argument(
        "--meter",
        dest="meters",
        action="append",
        default=[],
        metavar="NUMBER",
        help="what to read, repeatable; water-link: a meter; fluvius: EAN:SERIAL[,SERIAL]:COMMODITY; enedis: PRM; cem: var_id",
    )
    setup.add_argument(
        "--production", action="append", default=[], metavar="PRM", help="enedis only: a usage point with injection, repeatable"
    )
    setup.add_argument(
        "--name",
        dest="names",
        action="append",
        default=[],
        type=parse_key_value,
        metavar="NUMBER=NAME",
        help="the name to show for a number, repeatable",
    )
    setup.add_argument(
        "--suggest-names", dest="suggest_names", action="store_true", help="name the meters by their place and kind"
    )
    setup.add_argument(
        "--set",
        dest="keys",
        action="append",
        default=[],
        type=parse_key_value,
        metavar="KEY=VALUE",
        help="another configuration key of the account, repeatable",
    )
    setup.add_argument("--yes", action="store_true", help="ask nothing; all answers come from the flags")


def run_setup(options: argparse.Namespace) -> int:
    """Set an account up; what asks the questions is loaded for this command alone."""
    from exporter.setup.command import run_setup  # noqa: PLC0415
    from exporter.setup.draft import SetupOptions  # noqa: PLC0415

    return run_setup(
        SetupOptions(
            config_file=options.config_file,
            storage_path=options.storage_path,
            account=options.account,
            portal=options.portal,
            access=options.access,
            username=options.username,
            secret_file=options.secret_file,
            meters=options.meters,
            production=options.production,
            names=dict(options.names),
            suggest_names=options.suggest_names,
            keys=dict(options.keys),
            yes=options.yes,
        )
    )


def add_history_commands(subparsers: Subparsers) -> None:
    """Add the commands of `history`."""
    description = "the history series: import past readings, export them, send them again"
    history = subparsers.add_parser(
        "history", help=description, description=description[0].upper() + description[1:] + ".", allow_abbrev=False
    )
    parts = history.add_subparsers(dest="part", required=True, metavar="COMMAND")
    import_ = add_day_flags(
        add_command(parts, "import", import_history, "fetch past readings that the portal still has into the ledger")
    )
    add_account_argument(import_)
    import_.add_argument("--again", action="store_true", help="also ask for complete days, to get their corrections")
    import_.add_argument("--wait", action="store_true", help="wait until the portal's limits end, instead of pausing the import")
    export = add_day_flags(add_command(parts, "export", export_history, "write the ledger as OpenMetrics with timestamps"))
    export.add_argument("--account", metavar="ACCOUNT", help="only this account; default: all accounts of the ledger")
    export.add_argument(
        "-o",
        dest="output",
        type=Path,
        metavar="FILE",
        help="the file to write, completely or not at all; default: standard output",
    )
    resend = add_command(parts, "resend", resend_history, "send all data again to a remote write receiver that has lost it")
    resend.add_argument("target", nargs="?", metavar="TARGET", help="the receiver, by its label `target`; default: all receivers")
    resend.add_argument(
        "--from", dest="first", type=parse_day, metavar="DAY", help="the first day, like 2025-12-31; default: the oldest"
    )


def add_command(subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], int], description: str) -> CommandParser:
    """Add a command with the flags that every command has."""
    parser = subparsers.add_parser(
        name, help=description, description=description[0].upper() + description[1:] + ".", allow_abbrev=False
    )
    parser.set_defaults(run=run, parser=parser)
    parser.add_argument(
        "--config.file",
        dest="config_file",
        type=Path,
        default=Path("config.yaml"),
        metavar="FILE",
        help="the configuration file; default: config.yaml",
    )
    parser.add_argument(
        "--storage.path",
        dest="storage_path",
        type=Path,
        default=Path("data"),
        metavar="FOLDER",
        help="the folder of the ledger; default: data; of demo a temporary one",
    )
    parser.add_argument(
        "--log.level",
        dest="log_level",
        choices=log.LEVELS,
        default="info",
        help="the lowest level that is logged; default: info; of demo warn",
    )
    parser.add_argument(
        "--log.format", dest="log_format", choices=log.FORMATS, default="logfmt", help="the format of log lines; default: logfmt"
    )
    return parser


def add_day_flags(parser: CommandParser) -> CommandParser:
    """Add the flags of the first and the last day."""
    parser.add_argument(
        "--from", dest="first", type=parse_day, metavar="DAY", help="the first day, like 2026-01-31; default: the oldest"
    )
    parser.add_argument("--to", dest="last", type=parse_day, metavar="DAY", help="the last day; default: the newest")
    return parser


def add_web_flags(parser: CommandParser) -> CommandParser:
    """Add the flags of a command that serves."""
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        action="append",
        type=parse_address,
        metavar="HOST:PORT",
        help=f"address to listen on, repeatable, :PORT for every interface; default: {DEFAULT_ADDRESS}",
    )
    parser.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        type=parse_web_path,
        default="/metrics",
        metavar="PATH",
        help="path of the metrics; default: /metrics",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="allow reloads and visits by HTTP: /-/reload and /-/visit",
    )
    parser.add_argument(
        "--no-config.watch",
        dest="watch_config",
        action="store_false",
        help="do not reload automatically when the configuration or a secret's file changes",
    )
    parser.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action="store_true",
        help="listen on the sockets that systemd passes, and on no address",
    )
    parser.add_argument(
        "--shard",
        type=parse_shard,
        default=ALL_ACCOUNTS,
        metavar="I/N",
        help="serve only part I of N of the accounts, which are divided by their names",
    )
    return add_web_config_flag(parser)


def add_web_config_flag(parser: CommandParser) -> CommandParser:
    """Add the flag of the web configuration."""
    parser.add_argument(
        "--web.config.file",
        dest="web_config_file",
        type=Path,
        metavar="FILE",
        help="TLS and users, in the format of exporter-toolkit",
    )
    return parser


def add_account_flags(parser: CommandParser) -> CommandParser:
    """Add the flags of a command on one account."""
    add_account_argument(parser)
    return add_force_flag(parser)


def add_account_argument(parser: CommandParser) -> None:
    """Add the argument that names an account."""
    parser.add_argument(
        "account", nargs="?", metavar="ACCOUNT", help="the account's name in the configuration; not needed if it is the only one"
    )


def add_force_flag(parser: CommandParser) -> CommandParser:
    """Add the flag of a command that logs in."""
    parser.add_argument("--force", action="store_true", help="log in once, even while the login is suspended")
    return parser


def parse_address(text: str) -> ListenAddress:
    """Return a listen address; raise ArgumentTypeError."""
    try:
        return ListenAddress.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_shard(text: str) -> Shard:
    """Return the shard; raise ArgumentTypeError."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_web_path(text: str) -> str:
    """Return the path; raise ArgumentTypeError."""
    if not text.startswith("/") or any(letter in text for letter in "{}?# "):
        raise argparse.ArgumentTypeError(f"{text!r} is not a path such as /metrics")
    return text


def parse_day(text: str) -> date:
    """Return the day; raise ArgumentTypeError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day like 2026-01-31") from None


def parse_key_value(text: str) -> tuple[str, str]:
    """Return the key and value of KEY=VALUE; raise ArgumentTypeError."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value
