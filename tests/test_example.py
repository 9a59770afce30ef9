"""The example's package, installed with pip: checked, visited and served as a process."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.test_architecture import ROOT
from tests.test_process import PATIENCE, launched

pytestmark = pytest.mark.xdist_group("example")
SOURCE = ROOT / "examples" / "brook"


async def run_module(*arguments: str, folder: Path, site: Path | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        cwd=folder,
        env=build_environment(site),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * PATIENCE):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


def build_environment(site: Path | None) -> dict[str, str]:
    """Return the environment with the example's package, if it is installed, beside the exporter."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (site, ROOT)))), "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The package, built and installed from a copy of its source, without network."""
    folder = tmp_path_factory.mktemp("brook")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    arguments = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    code, _, err = asyncio.run(run_module(*arguments, f"--target={folder / 'site'}", str(folder / "source"), folder=folder))
    assert code == 0, err
    return folder / "site"


@pytest.fixture
async def config_folder(site, tmp_path) -> AsyncIterator[Path]:
    """A folder with the configuration that the simulation prints, while the simulation runs as a process."""
    simulation = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "brook_water.simulation"), env=build_environment(site), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            (tmp_path / "config.yaml").write_bytes(await simulation.stdout.readline())
        (tmp_path / "config.yaml").chmod(0o600)
        yield tmp_path
    finally:
        simulation.kill()
        await simulation.communicate()


async def test_its_own_tests(site, tmp_path):
    """
    The package's own tests pass against the installed package.
    """
    tests = shutil.copytree(SOURCE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE / "pyproject.toml", tmp_path)
    code, out, err = await run_module("pytest", "-q", "-p", "no:cacheprovider", str(tests), folder=tmp_path, site=site)

    assert code == 0, out + err
    assert " passed" in out


async def test_check_and_visit(config_folder, site):
    """
    `check` knows the portal's keys, also wrong ones; `visit` prints its metrics.
    """
    checked = await run_module("exporter", "check", folder=config_folder, site=site)
    visited = await run_module("exporter", "visit", "cottage", "--page", folder=config_folder, site=site)
    found = await run_module("exporter", "discover", "cottage", folder=config_folder, site=site)
    wrong = json.loads((config_folder / "config.yaml").read_text())["accounts"][0] | {"contract": "1042", "pasword": "x"}
    (config_folder / "wrong.yaml").write_text(json.dumps({"accounts": [wrong]}))
    refused = await run_module("exporter", "check", "--config.file=wrong.yaml", folder=config_folder, site=site)

    assert checked == (0, "config.yaml: 1 account(s), no faults\n", "")
    assert visited[0] == 0, visited[2]
    assert 'utility_consumption_index_m3{account="cottage",register="total",usage_point="C-1042"} ' in visited[1]
    assert "contract C-1042  (meter: B-17, index: " in found[1]
    assert refused[0] == 1
    assert "unknown key; did you mean password?" in refused[2]
    assert "accounts[0].contract: must match ^C-[0-9]+$" in refused[2]


async def test_serve(config_folder, site):
    """
    A portal of another package is served like any other: visited, shown, healthy.
    """
    async with launched("serve", folder=config_folder, env=build_environment(site)) as program:
        page = await program.until('utility_up{account="cottage",portal="brook"} 1.0')

    assert 'utility_daily_consumption_m3{account="cottage",register="total",usage_point="C-1042"} ' in page
    assert 'utility_divergent_consumption{account="cottage",usage_point="C-1042"} 0.0' in page


async def test_without_the_package(config_folder):
    """
    Where it is not installed, `check` names the portals there are.
    """
    code, _, err = await run_module("exporter", "check", folder=config_folder)

    assert code == 1
    assert "accounts[0].portal: unknown portal; the portals are cem, enedis, fluvius, water-link" in err
