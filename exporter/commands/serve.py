"""The commands `serve`, `start`, `demo` and `check`: all accounts of a configuration."""

import argparse
import asyncio
import sys
from pathlib import Path

from exporter import runtime
from exporter.app import DEFAULT_ADDRESS, Exporter, ServeOptions
from exporter.config.loader import load_config
from exporter.errors import ConfigError
from exporter.web.access_control import load_access_control


def serve(options: argparse.Namespace) -> int:
    """Run the exporter until it is stopped."""
    runtime.limit_arenas()
    runtime.tune_interpreter()
    asyncio.run(Exporter(build_options(options)).run())
    return 0


def start(options: argparse.Namespace) -> int:
    """Serve, or run the demo without a configuration: what the image does by default."""
    if has_configuration(options.config_file):
        return serve(options)
    return run_demo(argparse.Namespace(**vars(options) | {"storage_path": None}))


def has_configuration(config_file: Path) -> bool:
    """Return whether the configuration's folder has anything in it, even under a wrong name, or cannot be read.

    Simulated meters must never appear where a user expects their own.
    """
    try:
        return any(config_file.parent.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def run_demo(options: argparse.Namespace) -> int:
    """Run the exporter against simulations of the portals."""
    from exporter.commands.demo import serve_demo  # noqa: PLC0415  # the simulations are loaded only for the demo

    asyncio.run(serve_demo(build_options(options), temporary=options.storage_path is None))
    return 0


def build_options(options: argparse.Namespace) -> ServeOptions:
    """Return the options of `serve` and `demo` from their flags."""
    return ServeOptions(
        config_file=options.config_file,
        storage_path=options.storage_path or Path("data"),
        addresses=tuple(options.addresses or [DEFAULT_ADDRESS]),
        telemetry_path=options.telemetry_path,
        enable_lifecycle=options.lifecycle,
        watch_config=options.watch_config,
        web_config_file=options.web_config_file,
        systemd_socket=options.systemd_socket,
        shard=options.shard,
    )


def check(options: argparse.Namespace) -> int:
    """Validate the configuration and the web configuration; raise ConfigError of every fault at once."""
    faults, valid = [], []
    for check_file in (check_config, check_web_config):
        try:
            valid += check_file(options)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    sys.stdout.write("".join(f"{line}, no faults\n" for line in valid))
    return 0


def check_config(options: argparse.Namespace) -> list[str]:
    """Return what the configuration has; raise ConfigError."""
    config = load_config(options.config_file)
    for warning in config.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    return [f"{options.config_file}: {len(config.accounts)} account(s)"]


def check_web_config(options: argparse.Namespace) -> list[str]:
    """Return what the web configuration and the files it names have, if there is one; raise ConfigError."""
    if (file := options.web_config_file) is None:
        return []
    access_control = load_access_control(file)
    access_control.close()
    return [f"{file}: {'TLS' if access_control.config.tls.enabled else 'no TLS'}, {len(access_control.config.users)} user(s)"]
