"""A container engine, if one is installed, and the image built with it."""

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
TIMEOUT = 30.0
BUILD_TIMEOUT = 280.0
IMAGE = "utility-exporter:tested"
RESTRICTED_FLAGS = ("--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
"""No network: the demo and a configuration need the loopback alone."""


@dataclass(frozen=True)
class ContainerEngine:
    """docker or podman."""

    command: str

    def __call__(self, *words: str, seconds: float = TIMEOUT) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.command, *words], capture_output=True, text=True, timeout=seconds, check=False)

    def build_image(self) -> None:
        """Build the image with the network of the host, which may be the only one with a proxy."""
        done = self("build", "--network=host", "--tag", IMAGE, str(ROOT), seconds=BUILD_TIMEOUT)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def run_container(self, *flags: str) -> Iterator["RunningContainer"]:
        """Run the image in the background, as restricted as possible."""
        started = self("run", "--detach", *RESTRICTED_FLAGS, *flags, IMAGE)
        assert started.returncode == 0, started.stderr
        container = RunningContainer(self, started.stdout.strip())
        try:
            yield container
        finally:
            self("rm", "--force", "--volumes", container.name)


@dataclass(frozen=True)
class RunningContainer:
    """A running container."""

    engine: ContainerEngine
    name: str

    def run_python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Run a line of Python in it."""
        return self.engine("exec", self.name, "python", "-c", code)

    def wait_for_page(self, path: str, word: str) -> str:
        """Return one of its pages once it contains a word."""
        code = f"from urllib.request import urlopen; print(urlopen('http://127.0.0.1:10230{path}').read().decode())"
        ends = time.monotonic() + TIMEOUT
        while word not in (page := self.run_python(code).stdout):
            assert time.monotonic() < ends, page + self.read_log()
            time.sleep(0.2)
        return page

    def read_log(self) -> str:
        """Return its log so far."""
        done = self.engine("logs", self.name)
        return done.stdout + done.stderr


def find_engine(base: str) -> ContainerEngine | None:
    """Find an engine that has the base image already: tests fetch nothing."""
    for command in filter(shutil.which, ("docker", "podman")):
        engine = ContainerEngine(command)
        if engine("image", "inspect", base).returncode == 0:
            return engine
    return None


def find_hadolint() -> str | None:
    """Find hadolint, which comes with the test environment."""
    return shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
