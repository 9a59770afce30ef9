"""The example's package, installed as anybody would install it: found, checked, visited and served as a process."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.test_house import ROOT
from tests.test_process import PATIENCE, launched

pytestmark = pytest.mark.xdist_group("example")
SOURCE = ROOT / "examples" / "brook"


async def run(*words: str, folder: Path, site: Path | None = None) -> tuple[int, str, str]:
    done = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *words),
        cwd=folder,
        env=environment(site),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(2 * PATIENCE):
        out, err = await done.communicate()
    return done.returncode or 0, out.decode(), err.decode()


def environment(site: Path | None) -> dict[str, str]:
    """With the example's package, if it is installed, beside the exporter."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, filter(None, (site, ROOT)))), "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The package, built and installed from a copy of its source, without network."""
    folder = tmp_path_factory.mktemp("brook")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    words = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    code, _, err = asyncio.run(run(*words, f"--target={folder / 'site'}", str(folder / "source"), folder=folder))
    assert code == 0, err
    return folder / "site"


@pytest.fixture
async def home(site, tmp_path) -> AsyncIterator[Path]:
    """A folder with the configuration that the simulation prints, while it runs as a process of its own."""
    portal = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "brook_water.simulation"), env=environment(site), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            (tmp_path / "config.yaml").write_bytes(await portal.stdout.readline())
        (tmp_path / "config.yaml").chmod(0o600)
        yield tmp_path
    finally:
        portal.kill()
        await portal.communicate()


async def test_its_own_tests(site, tmp_path):
    """
    The tests that the package brings pass against what was installed.
    """
    tests = shutil.copytree(SOURCE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE / "pyproject.toml", tmp_path)
    code, out, err = await run("pytest", "-q", "-p", "no:cacheprovider", str(tests), folder=tmp_path, site=site)

    assert code == 0, out + err
    assert " passed" in out


async def test_check_and_visit(home, site):
    """
    `check` knows the portal's keys, also those that are wrong; `visit` prints its page.
    """
    checked = await run("exporter", "check", folder=home, site=site)
    visited = await run("exporter", "visit", "cottage", folder=home, site=site)
    found = await run("exporter", "discover", "cottage", folder=home, site=site)
    wrong = json.loads((home / "config.yaml").read_text())["accounts"][0] | {"contract": "1042", "pasword": "x"}
    (home / "wrong.yaml").write_text(json.dumps({"accounts": [wrong]}))
    refused = await run("exporter", "check", "--config.file=wrong.yaml", folder=home, site=site)

    assert checked == (0, "config.yaml: 1 account(s), no faults\n", "")
    assert visited[0] == 0, visited[2]
    assert 'utility_consumption_index_m3{account="cottage",register="total",usage_point="C-1042"} ' in visited[1]
    assert "contract C-1042  (meter: B-17, index: " in found[1]
    assert refused[0] == 1
    assert "unknown key; did you mean password?" in refused[2]
    assert "accounts[0].contract: must match ^C-[0-9]+$" in refused[2]


async def test_serve(home, site):
    """
    A served portal of somebody else's is like any other: visited, shown, healthy.
    """
    async with launched("serve", folder=home, env=environment(site)) as program:
        page = await program.until('utility_up{account="cottage",portal="brook"} 1.0')

    assert 'utility_daily_consumption_m3{account="cottage",register="total",usage_point="C-1042"} ' in page
    assert 'utility_divergent_consumption{account="cottage",usage_point="C-1042"} 0.0' in page


async def test_without_the_package(home):
    """
    Where it is not installed, the configuration says which portals there are.
    """
    code, _, err = await run("exporter", "check", folder=home)

    assert code == 1
    assert "accounts[0].portal: unknown portal; the portals are cem, enedis, fluvius, water-link" in err
