"""The entry point: `python -m exporter` and the command `utility-exporter`."""

import signal
import sys

SERVING_COMMANDS = ("serve", "start", "demo")


def main() -> int:
    """Run the command line; a SIGHUP that arrives while a serving command still loads waits until it can reload."""
    if sys.argv[1:2] and sys.argv[1] in SERVING_COMMANDS:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from exporter.cli import main as run_command_line  # noqa: PLC0415  # takes half a second, in which signals arrive

    return run_command_line()


if __name__ == "__main__":
    sys.exit(main())
