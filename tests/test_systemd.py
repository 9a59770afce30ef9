"""The unit for systemd: what it allows, and the program started as it starts it."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template

import pytest

from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from tests.test_process import Program, environment, launched, until

UNIT = Path(__file__).parent.parent / "deploy" / "systemd" / "utility-exporter.service"
SETTINGS = re.findall(r"(?m)^(\w+)=(.*)$", UNIT.read_text())
GUARDS = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6",
    "StateDirectory": "utility-exporter",
    "StateDirectoryMode": "0700",
    "UMask": "0077",
}
MIN_SYSTEMD_VERSION = 251
"""The systemd that hands over a folder of credentials."""
MAX_EXPOSURE = 1.5
"""Of 10. What remains is that it reaches the network."""


def find_settings(key: str) -> list[str]:
    return [value for found, value in SETTINGS if found == key]


def find_systemd_version() -> int:
    """The version of systemd-analyze; 0 where there is none."""
    if shutil.which("systemd-analyze") is None:
        return 0
    output = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True).stdout
    return int(output.split()[1])


def test_the_guards_are_up():
    """
    The service is nobody, owns its state alone, and may do little else.
    """

    assert {key: find_settings(key) for key in GUARDS} == {key: [value] for key, value in GUARDS.items()}
    assert find_settings("SystemCallFilter")[0] == "@system-service"
    assert find_settings("ExecReload") == ["/bin/kill -HUP $MAINPID"]


def test_secrets_are_credentials():
    """
    systemd hands the configuration and the folder of secrets over; neither is a flag or a variable.
    """

    assert find_settings("LoadCredential") == [
        "config.yaml:/etc/utility-exporter/config.yaml",
        "secrets:/etc/utility-exporter/secrets/",
    ]
    assert find_settings("Environment") == find_settings("EnvironmentFile") == []


@pytest.mark.skipif(
    find_systemd_version() < MIN_SYSTEMD_VERSION,
    reason=f"systemd-analyze of systemd {MIN_SYSTEMD_VERSION} or newer is not on this machine",
)
@pytest.mark.parametrize("words", [["verify"], ["security", "--offline=true", f"--threshold={MAX_EXPOSURE * 10:.0f}"]])
def test_systemd_is_content(words, tmp_path):
    """
    systemd knows every key, and finds little exposed. The program is not installed here, so another stands for it.
    """
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "--no-pager", *words, unit], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@asynccontextmanager
async def run_unit(credentials: Path, state: Path) -> AsyncIterator[Program]:
    """Run the unit's command with the folders that systemd names in the environment (systemd.exec(5)), on a free port."""
    variables = {"CREDENTIALS_DIRECTORY": str(credentials), "STATE_DIRECTORY": str(state)}
    _, *words = [Template(word).substitute(variables) for word in shlex.split(find_settings("ExecStart")[0])]
    words.remove("--web.listen-address=:10230")
    async with launched(*words, env=environment() | variables) as program:
        yield program


async def test_it_runs_as_the_unit_starts_it(tmp_path):
    """
    The unit's command finds configuration and secret where systemd puts them, keeps its ledger in the state for itself alone,
    reads the configuration again on the signal of ExecReload, and has nothing to warn of.
    """
    simulation, credentials, state = CemSimulation(), tmp_path / "credentials", tmp_path / "state"
    credentials.mkdir()
    state.mkdir(mode=0o700)
    async with run_simulation(simulation) as url:
        entry = simulation.build_accounts(url)[0]
        (credentials / "secrets_cem").write_text(f"{entry.pop('password')}\n")
        entry["password_file"] = "${CREDENTIALS_DIRECTORY}/secrets_cem"
        (credentials / "config.yaml").write_text(json.dumps({"accounts": [entry]}))
        for file in credentials.iterdir():
            file.chmod(0o400)
        async with run_unit(credentials, state) as program:
            await program.until('utility_up{account="block-of-flats",portal="cem"} 1.0')
            program.process.send_signal(signal.SIGHUP)
            await until(lambda: any("configuration reloaded" in line for line in program.lines))
            await program.stop()

    assert program.process.returncode == 0
    assert (state / "ledger.sqlite").stat().st_mode & 0o777 == 0o600
    assert [line for line in program.lines if "level=info" not in line] == []
