"""A container engine, where there is one, and the image built with it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATIENCE = 30.0
BUILDING = 280.0
IMAGE = "utility-exporter:tested"
KEPT_SMALL = ("--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
"""No network: the demo and a configuration need the loopback alone."""


@dataclass(frozen=True)
class Engine:
    """docker or podman."""

    command: str

    def __call__(self, *words: str, seconds: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.command, *words], capture_output=True, text=True, timeout=seconds, check=False)

    def build(self) -> None:
        """Build the image, with the network of this machine, as a proxy may be there alone."""
        done = self("build", "--network=host", "--tag", IMAGE, str(ROOT), seconds=BUILDING)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def container(self, *flags: str) -> Iterator["Container"]:
        """Run the image in the background, as small as it can be kept."""
        started = self("run", "--detach", *KEPT_SMALL, *flags, IMAGE)
        assert started.returncode == 0, started.stderr
        container = Container(self, started.stdout.strip())
        try:
            yield container
        finally:
            self("rm", "--force", "--volumes", container.name)


@dataclass(frozen=True)
class Container:
    """A running container."""

    engine: Engine
    name: str

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run a line of Python in it."""
        return self.engine("exec", self.name, "python", "-c", code)

    def page(self, path: str, word: str) -> str:
        """Give one of its pages once a word is on it."""
        code = f"from urllib.request import urlopen; print(urlopen('http://127.0.0.1:10230{path}').read().decode())"
        ends = time.monotonic() + PATIENCE
        while word not in (page := self.python(code).stdout):
            assert time.monotonic() < ends, page + self.log()
            time.sleep(0.2)
        return page

    def log(self) -> str:
        """Give what it has written so far."""
        done = self.engine("logs", self.name)
        return done.stdout + done.stderr


def find(base: str) -> Engine | None:
    """Find an engine that has the base image already: tests fetch nothing."""
    for command in filter(shutil.which, ("docker", "podman")):
        engine = Engine(command)
        if engine("image", "inspect", base).returncode == 0:
            return engine
    return None


def hadolint() -> str | None:
    """Find hadolint, which comes with the test environment."""
    return shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
