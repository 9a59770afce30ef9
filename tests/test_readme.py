"""The README and docs/install.md: their commands run as they are written, in order, on a machine with nothing but the program."""

import asyncio
import json
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pexpect

from exporter.config.loader import load_config
from exporter.simulators.base import run_simulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation
from tests.test_architecture import ROOT

PATIENCE = 60
README, INSTALL = (ROOT / "README.md").read_text(), (ROOT / "docs" / "install.md").read_text()
NOT_RUN = {
    "make test": "it is what runs this",
    "python3 -m venv .venv": "needs a registry; `make dist` installs without one",
    ".venv/bin/pip install": "the same",
    ".venv/bin/utility-exporter setup": "asks; tests/test_setup.py answers",
    "promtool ": "tests/history/test_export.py runs it",
    "curl ": "needs a VictoriaMetrics",
}
"""Beginnings of the README's commands that are not run here, and why."""


def list_commands(page: str, chapter: str = "") -> list[str]:
    """Return the commands of a page, or of one of its chapters, each in one line."""
    text = page
    if chapter:
        (text,) = re.findall(rf"(?ms)^## {chapter}\n.*?(?=^## |\Z)", page)
    blocks = re.findall(r"(?ms)^```sh\n(.*?)^```", text)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def write_program(file: Path, lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{lines}\n")
    file.chmod(0o700)


def run_shell(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=os.environ | variables, input="geheim\n", capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip


async def test_the_commands_of_the_readme(tmp_path):
    """
    What can be typed on a machine without a registry succeeds: beside `serve`, with the account that `setup` has written.
    """
    simulation = WaterLinkSimulation()
    async with run_simulation(simulation) as url:
        account = simulation.build_accounts(url)[0] | {"name": "water"}
        file = tmp_path / "config.yaml"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"accounts": [account]}))
        failures = await asyncio.to_thread(type_commands, list_commands(README), tmp_path)

    assert failures == {}
    assert (tmp_path / "history.om").read_text().endswith("# EOF\n")
    secret = tmp_path / "home-water.password"
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == ("geheim\n", 0o600)
    (example,) = re.findall(r"(?ms)^```yaml\n(accounts:.*?)^```", README)
    file.write_text(example)
    (written,) = load_config(file, {}).accounts
    assert written.config.password.get_secret_value() == "geheim"


def type_commands(commands: list[str], folder: Path) -> dict[str, str]:
    """Run commands in a folder that has the program; return the errors of those that fail.

    What serves takes a free port.
    """
    free = 'case "$1" in serve|demo) set -- "$@" --web.listen-address=127.0.0.1:0;; esac'
    program = folder / ".venv" / "bin" / "utility-exporter"
    write_program(program, f'{free}\nPYTHONPATH={ROOT} exec {sys.executable} -m exporter "$@"')
    path, failures = f"{program.parent}:{os.environ['PATH']}", {}
    with ExitStack() as servers:
        for command in commands:
            typed = command.partition(" #")[0].strip()
            if typed.startswith("make demo"):
                typed = run_shell("MAKEFLAGS= make -n --no-print-directory demo", ROOT).stdout.splitlines()[-1]
            if any(typed.startswith(start) for start in NOT_RUN):
                continue
            if typed.endswith(" demo"):
                with run_server(typed, folder, "Stop with Ctrl-C"):
                    pass
            elif typed.endswith(" serve"):
                servers.enter_context(run_server(typed, folder, r"serving 1 account\(s\)"))
            elif (done := run_shell(typed, folder, PATH=path)).returncode:
                failures[command] = done.stderr
    return failures


@contextmanager
def run_server(command: str, folder: Path, shown: str) -> Iterator[None]:
    """Run a program that serves, once it shows what it should, until Ctrl-C."""
    server = pexpect.spawn("bash", ["-c", f"exec {command}"], cwd=folder, timeout=PATIENCE)
    try:
        server.expect(shown)
        yield
    finally:
        server.kill(signal.SIGINT)
        server.expect(pexpect.EOF)
        server.close()
    assert server.exitstatus == 0


def test_the_commands_for_systemd(tmp_path):
    """
    The chapter can be pasted whole: the service is enabled only once the configuration is good, with the secret that was typed.
    """
    root, log = tmp_path / "root", tmp_path / "systemctl.log"
    for folder in ("etc/systemd/system", "run"):
        (root / folder).mkdir(parents=True)
    shims = tmp_path / "bin"
    write_program(shims / "sudo", 'while [ "${1#*=}" != "$1" ]; do export "$1"; shift; done\nexec "$@"')
    write_program(shims / "systemctl", f'echo "$@" >> {log}')
    write_program(root / "opt/utility-exporter/bin/utility-exporter", f'PYTHONPATH={ROOT} exec {sys.executable} -m exporter "$@"')
    moved = [re.sub(r"(?<![\w.])/(?=etc/|run/|opt/)", f"{root}/", line) for line in list_commands(INSTALL, "systemd")]
    install, ask, check = moved[:5], moved[5], moved[6:]
    assert "read -r secret" in ask
    assert "systemctl enable" in check[2]

    for line in (*install, *check[:4]):
        run_shell(line, ROOT, PATH=f"{shims}:{os.environ['PATH']}")
    assert log.read_text().splitlines() == ["daemon-reload"]  # the example's accounts have no secrets here

    terminal = pexpect.spawn("bash", ["-c", ask], env=os.environ | {"PATH": f"{shims}:{os.environ['PATH']}"}, timeout=PATIENCE)
    terminal.expect_exact("Password: ")
    terminal.sendline("geheim")
    terminal.expect(pexpect.EOF)
    assert b"geheim" not in terminal.before
    secret = root / "etc/utility-exporter/secrets/water-link"
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == ("geheim\n", 0o600)
    (root / "etc/utility-exporter/config.yaml").write_text(
        "accounts:\n- {name: home, portal: water-link, username: me, meters: ['123456'],"
        " password_file: '${CREDENTIALS_DIRECTORY}/secrets_water-link'}\n"
    )
    for line in check[:4]:
        done = run_shell(line, ROOT, PATH=f"{shims}:{os.environ['PATH']}")
        assert (line, done.returncode, done.stderr) == (line, 0, "")
    assert log.read_text().splitlines() == ["daemon-reload", "enable --now utility-exporter"]
    assert not (root / "run/utility-exporter-check").exists()
    assert all(shlex.split(line)[0] == "sudo" for line in moved)
