"""The entry point: `python -m exporter` and the command `utility-exporter`."""

from exporter import startup_signals  # noqa: F401  # keeps signals from here on

# isort: split

import sys

from exporter.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
