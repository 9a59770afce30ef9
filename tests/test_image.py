"""The image: what the Dockerfile keeps to, and, where there is an engine, the image as it runs."""

import json
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.cli import build_parser, main
from tests import container_engine
from tests.container_engine import IMAGE, ROOT, ContainerEngine

pytestmark = pytest.mark.xdist_group("image")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SERVED = "accounts: [{name: h, portal: water-link, username: u, password: p, meters: ['123456'], portal_url: http://127.0.0.1:9}]"
TOOLS = ("pip", "gcc", "cc", "ld", "make")


def parse_instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Dockerfile: the first word, and the rest in one line."""
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in plain.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, " ".join(rest.split())


DOCKERFILE = list(parse_instructions((ROOT / "Dockerfile").read_text()))
LAST = DOCKERFILE[max(at for at, (word, _) in enumerate(DOCKERFILE) if word == "FROM") :]
BASE = next(rest.partition("=")[2] for word, rest in DOCKERFILE if word == "ARG")


def find_arguments(word: str, stage: list[tuple[str, str]] = LAST) -> list[str]:
    return [rest for found, rest in stage if found == word]


def test_hadolint_is_silent():
    """
    Every rule of hadolint is kept.
    """
    program = container_engine.find_hadolint()
    if program is None:
        pytest.skip("hadolint is not in this environment; scripts/environment test brings it")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_two_stages_on_one_slim_base():
    """
    What builds stays behind: the second stage takes one folder of the first, and nothing of the machine that builds.
    """

    assert re.fullmatch(r"python:3\.\d+(\.\d+)?-slim-[a-z]+(@sha256:[0-9a-f]{64})?", BASE)
    assert find_arguments("FROM", DOCKERFILE) == ["${PYTHON} AS build", "${PYTHON}"]
    assert find_arguments("COPY") == ["--from=build /opt/utility-exporter /opt/utility-exporter"]
    assert find_arguments("ADD", DOCKERFILE) == []


def test_wheels_are_locked():
    """
    Packages come as wheels from the lock, by hash; the program itself brings nothing more.
    """
    installs = [part for run in find_arguments("RUN", DOCKERFILE) for part in run.split(" && ") if " install --" in part]

    assert len(installs) == 2
    assert "--require-hashes --only-binary=:all: -r requirements/run.txt" in installs[0]
    assert "--no-deps --no-build-isolation ." in installs[1]
    assert all("--no-cache-dir" in install for install in installs)


def test_nobodys_root():
    """
    It runs as 65532, by number, so that Kubernetes can see it; only the volume is its own.
    """

    assert find_arguments("USER") == ["65532:65532"]
    assert find_arguments("VOLUME") == find_arguments("WORKDIR") == ["/data"]
    assert "install -d -o 65532 -g 65532 -m 0700 /data" in find_arguments("RUN")[0]
    assert "TMPDIR=/data" in find_arguments("ENV")[0]


def test_labels():
    """
    The image says what it is; its version is the project's.
    """
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', find_arguments("LABEL")[0]))

    assert labels.keys() == {"title", "description", "licenses", "version", "revision"}
    assert (labels["title"], labels["licenses"]) == (PROJECT["name"], PROJECT["license"])
    assert f"VERSION={PROJECT['version']}" in find_arguments("ARG")


def test_the_command_line_is_valid():
    """
    The default command is one that the program has, on the port that is exposed and checked.
    """
    options = build_parser().parse_args(json.loads(find_arguments("CMD")[0]))

    assert json.loads(find_arguments("ENTRYPOINT")[0]) == list(PROJECT["scripts"])
    assert (options.command, options.storage_path) == ("start", Path("/data"))
    assert find_arguments("EXPOSE") == ["10230"]
    assert "'127.0.0.1', 10230" in find_arguments("HEALTHCHECK")[0]


def test_only_what_is_needed_is_sent():
    """
    The builder sees nothing but what the Dockerfile copies.
    """
    first = [rest for rest in find_arguments("COPY", DOCKERFILE) if not rest.startswith("--from")]
    copied = {word for rest in first for word in shlex.split(rest)[:-1]}
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    assert lines[1] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == copied


@pytest.mark.parametrize(
    ("name", "command"),
    [(None, "demo"), ("", "demo"), ("config.yaml", "serve"), ("config.yml", "serve")],
    ids=["no folder", "empty folder", "a configuration", "a misspelt one"],
)
def test_start(name, command, tmp_path, monkeypatch):
    """
    The demo runs where no configuration is meant, and where one is, it never stands in for it.
    """
    ran = []
    for mode, function in (("serve", "serve"), ("demo", "run_demo")):
        monkeypatch.setattr(
            f"exporter.commands.serve.{function}", lambda options, mode=mode: ran.append((mode, options.storage_path)) or 0
        )
    folder = tmp_path / "config"
    if name is not None:
        folder.mkdir()
    if name:
        (folder / name).touch()

    assert main(["start", f"--config.file={folder}/config.yaml", "--storage.path=/data"]) == 0
    assert ran == [(command, Path("/data") if command == "serve" else None)]


@pytest.mark.parametrize("base_image", [None, f"{BASE}@sha256:{'a' * 64}", BASE])
def test_make_image_resolves_the_digest(base_image, tmp_path):
    """
    scripts/image builds from the digest that the tag has, or from the base that is given, and labels the image with it.
    """
    stub, log = tmp_path / "engine", tmp_path / "log"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {log}\n[ "$1" = build ] || echo python@sha256:{"b" * 64}\n')
    stub.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in ("BASE", "BUILD_FLAGS")}
    environment |= {"ENGINE": str(stub)} | ({"BASE": base_image} if base_image else {})
    subprocess.run([ROOT / "scripts" / "image"], env=environment, capture_output=True, check=True)
    *asked, build = log.read_text().splitlines()
    base = base_image or f"python@sha256:{'b' * 64}"

    assert [words.split()[0] for words in asked] == ([] if base_image else ["pull", "image"])
    assert f"--build-arg PYTHON={base} --build-arg VERSION={PROJECT['version']} " in build
    assert f"image.base.digest={base.partition('@')[2]} --tag utility-exporter:{PROJECT['version']} " in build


@pytest.fixture(scope="module")
def built() -> ContainerEngine:
    """An engine that has built the image."""
    found = container_engine.find_engine(BASE)
    if found is None:
        pytest.skip(f"no docker or podman here that has {BASE}; `docker pull {BASE}` lets this test run")
    found.build_image()
    return found


def test_the_image_shows_the_demo(built):
    """
    Without arguments, network, capabilities or a root to write to, the demo is there, is healthy, and ends when told to.
    """
    with built.run_container() as container:
        container.wait_for_page("/metrics", "utility_consumption_index_m3{")
        assert "<html" in container.wait_for_page("/", "</html>")
        check = json.loads(built("inspect", "--format", "{{json .Config.Healthcheck.Test}}", IMAGE).stdout)
        assert built("exec", container.name, *check[1:]).returncode == 0
        assert built("stop", container.name).returncode == 0
        assert built("inspect", "--format", "{{.State.ExitCode}}", container.name).stdout.strip() == "0"


def test_the_image_serves_a_configuration(built, tmp_path):
    """
    With a configuration mounted the exporter runs, and keeps its ledger on the volume, for itself alone.
    """
    (tmp_path / "config.yaml").write_text(SERVED)
    (tmp_path / "config.yaml").chmod(0o644)
    tmp_path.chmod(0o755)
    with built.run_container(f"--volume={tmp_path}:/etc/utility-exporter:ro") as container:
        container.wait_for_page("/metrics", 'utility_up{account="h",portal="water-link"} 0.0')
        kept = container.run_python("import os; s = os.stat('/data/ledger.sqlite'); print(oct(s.st_mode), s.st_uid, s.st_gid)")
        log = container.read_log()

    assert kept.stdout == "0o100600 65532 65532\n"
    assert "serving 1 account(s)" in log


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("config.yaml", 0o600, "/etc/utility-exporter/config.yaml: cannot be read: permission denied"),
        ("config.yml", 0o644, "/etc/utility-exporter/config.yaml: cannot be read: no such file or directory"),
    ],
)
def test_the_image_says_what_it_cannot_read(built, tmp_path, name, mode, message):
    """
    A configuration that is not for its eyes, or misspelt, is one clear line and no demo.
    """
    (tmp_path / name).write_text(SERVED)
    (tmp_path / name).chmod(mode)
    tmp_path.chmod(0o755)
    done = built("run", "--rm", *container_engine.RESTRICTED_FLAGS, f"--volume={tmp_path}:/etc/utility-exporter:ro", IMAGE)

    assert (done.returncode, done.stderr.strip()) == (1, message)


def test_the_image_holds_no_tools(built):
    """
    No compiler and no installer, and whoever gets in is nobody.
    """
    script = (
        f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; python -c 'import setuptools'; python -m ensurepip; id -u"
    )
    done = built("run", "--rm", *container_engine.RESTRICTED_FLAGS, "--entrypoint=sh", IMAGE, "-c", script)

    assert done.stdout == "65532\n"
    assert re.findall(r"No module named '?(\w+)", done.stderr) == ["setuptools", "ensurepip"]
