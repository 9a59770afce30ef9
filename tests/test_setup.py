"""`setup`: from an empty folder to a configuration that works, by answers in a terminal and by flags."""

import asyncio
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from exporter.cli import build_parser
from exporter.config.loader import load_config
from exporter.errors import ConfigError, LoginError
from exporter.setup.config_file import write_account
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from exporter.simulators.enedis.simulation import EnedisSimulation
from exporter.simulators.fluvius.simulation import FluviusSimulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation

PATIENCE = 60
DOWN, ENTER = "\x1b[B", "\r"
HAND_WRITTEN = """# the house's meters
accounts:
  # do not touch
  - name: home-water  # downstairs
    portal: water-link
    username: me@example.com
    password: ${PASSWORD}
    meters: [123456, "234567"]   # bath, garden
web: {colour: c8d42a}
"""


@pytest.fixture(params=[CemSimulation, EnedisSimulation, FluviusSimulation, WaterLinkSimulation], ids=lambda kind: kind.portal)
async def portal(request):
    """A simulated portal, and the account that its configuration has."""
    simulation = request.param()
    async with run_simulation(simulation) as url:
        yield simulation, simulation.build_accounts(url)[0]


def build_flags(folder: Path, account: dict[str, Any]) -> list[str]:
    secret = "token" if account["portal"] == "enedis" else "password"
    (folder / "given").write_text(account[secret])
    flags = [account["name"], f"--portal={account['portal']}", f"--password-file={folder / 'given'}", "--yes"]
    flags += [f"--username={account['username']}"] if "username" in account else []
    flags += [f"--set={key}={account[key]}" for key in ("base_url", "portal_url", "identity_url") if key in account]
    for meter in account.get("meters", ()):
        numbers = [meter["ean"], meter["serial"][-1], meter["commodity"]] if isinstance(meter, dict) else [meter]
        flags.append(f"--meter={':'.join(numbers)}")
    return flags


async def run(folder: Path, *flags: str) -> int:
    words = ["setup", f"--config.file={folder}/config.yaml", f"--storage.path={folder}/data", *flags]
    options = build_parser().parse_args(words)
    code: int = await asyncio.to_thread(options.run, options)
    return code


async def test_by_flags(portal, tmp_path, capsys):
    """
    Every portal's account is tried, written and valid, and nothing is asked.
    """
    _, account = portal

    assert await run(tmp_path, *build_flags(tmp_path, account)) == 0
    (written,) = load_config(tmp_path / "config.yaml", {}).accounts
    assert (written.name, written.portal) == (account["name"], account["portal"])
    assert len(written.configured_usage_points()) >= len(account.get("meters", ()))
    assert stat.S_IMODE((tmp_path / "config.yaml").stat().st_mode) == 0o600
    assert "Next: utility-exporter serve" in capsys.readouterr().out


async def test_a_refused_login_writes_nothing(tmp_path):
    """
    By flags a wrong password is tried once, and the configuration is not begun.
    """
    simulation = CemSimulation()
    async with run_simulation(simulation) as url:
        flags = build_flags(tmp_path, simulation.build_accounts(url)[0] | {"password": "wrong"})
        with pytest.raises(LoginError):
            await run(tmp_path, *flags)

    assert not (tmp_path / "config.yaml").exists()
    assert sum(request.method == "POST" for request in simulation.requests) == 1


async def test_what_is_missing_is_named(tmp_path):
    """
    Without a terminal and without answers there is one line, no question.
    """
    for flags, message in (
        (("--yes",), "give --portal"),
        (("x", "--yes", "--portal=cme"), "does not know the portal 'cme'"),
        (("--yes", "--portal=cem"), "give ACCOUNT"),
        (("x", "--yes", "--portal=cem"), "give --username"),
        (("x", "--yes", "--portal=cem", "--username=me"), "give --password-file"),
    ):
        with pytest.raises(ConfigError, match=message):
            await run(tmp_path, *flags)


def test_an_account_is_added_to_what_is_there(tmp_path):
    """
    Comments, order and writing of all else stay; a text that YAML would take for a number is in quotes.
    """
    file = tmp_path / "config.yaml"
    file.write_text(HAND_WRITTEN)
    os.environ["PASSWORD"] = "p"
    try:
        write_account(
            file,
            {"name": "cottage", "portal": "water-link", "username": "a#b", "password": "$x${y", "meters": ["012345"]},
            frozenset({"meters"}),
        )
    finally:
        del os.environ["PASSWORD"]
    text = file.read_text()

    assert [line for line in HAND_WRITTEN.splitlines() if line not in text.splitlines()] == []
    _, added = load_config(file, {"PASSWORD": "p"}).accounts
    assert (added.username, added.password.get_secret_value(), added.meters) == ("a#b", "$x${y", ("012345",))


def test_a_configuration_that_would_be_bad_is_not_written(tmp_path):
    """
    The fault is told, and the file is as it was.
    """
    file = tmp_path / "config.yaml"
    file.write_text("accounts: []\n")
    with pytest.raises(ConfigError, match=r"config.yaml:\d+: accounts\[0\].meters"):
        write_account(file, {"name": "x", "portal": "water-link", "username": "a", "password": "b", "meters": ["1"]}, frozenset())

    assert file.read_text() == "accounts: []\n"
    assert sorted(os.listdir(tmp_path)) == ["config.yaml"]


def answer(folder: Path, flags: list[str], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Answer the questions of `setup` in a terminal; return its exit code and all it showed."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "exporter", "setup", *flags],
        cwd=folder,
        env=environment,
        encoding="utf-8",
        timeout=PATIENCE,
        dimensions=(24, 160),
    )
    shown = ""
    try:
        for question, text in answers:
            child.expect_exact(question)
            shown += child.before
            child.send(text)
        child.expect(pexpect.EOF)
        shown += child.before
    finally:
        child.close()
    return child.exitstatus, shown


async def test_water_link_in_a_terminal(tmp_path):
    """
    Portal, name, login, meters and names are asked; a wrong password once more; the secret is never shown.
    """
    simulation = WaterLinkSimulation()
    async with run_simulation(simulation) as url:
        account = simulation.build_accounts(url)[0]
        flags = [f"--set={key}={account[key]}" for key in ("portal_url", "identity_url")]
        code, shown = await asyncio.to_thread(
            answer,
            tmp_path,
            flags,
            [
                ("Which portal?", ENTER),
                ("A name for the account", ENTER),
                ("E-mail address:", account["username"] + ENTER),
                ("Password (not shown)", "wrong" + ENTER),
                ("Meter numbers", "204417, 204418" + ENTER),
                ("Once more; a third wrong one may lock the account", ""),
                ("Password (not shown)", account["password"] + ENTER),
                ("A name for 204417", "bath" + ENTER),
                ("A name for 204418", ENTER),
            ],
        )

        assert (code, "Next: utility-exporter serve" in shown) == (0, True), shown
    assert account["password"] not in shown
    (written,) = load_config(tmp_path / "config.yaml", {}).accounts
    assert (written.name, written.meters, written.aliases) == ("home-water", ("204417", "204418"), {"204417": "bath"})
    secret = tmp_path / "home-water.password"
    assert (secret.read_text().strip(), stat.S_IMODE(secret.stat().st_mode)) == (account["password"], 0o600)


async def test_the_meters_of_an_account_are_changed(tmp_path):
    """
    Of an account that is there the meters are shown, to be changed; names, login and all else stay.
    """
    simulation = WaterLinkSimulation()
    async with run_simulation(simulation) as url:
        account = simulation.build_accounts(url)[0]
        assert await run(tmp_path, *build_flags(tmp_path, account), "--name=204417=bath") == 0
        code, shown = await asyncio.to_thread(
            answer, tmp_path, ["home-water"], [("Meter numbers", ""), ("204418", "\x7f" * 7 + ENTER)]
        )

    assert code == 0, shown
    (written,) = load_config(tmp_path / "config.yaml", {}).accounts
    assert (written.meters, written.aliases, written.username) == (("204417",), {"204417": "bath"}, account["username"])


async def test_cem_in_a_terminal(tmp_path):
    """
    What the account holds is a tree: typing filters it, and a ticked branch brings all its counters. Again, all of it is read.
    """
    simulation = CemSimulation()
    async with run_simulation(simulation) as url:
        account = simulation.build_accounts(url)[0]
        code, shown = await asyncio.to_thread(
            answer,
            tmp_path,
            ["flats", f"--set=base_url={account['base_url']}"],
            [
                ("Which portal?", DOWN * 3 + ENTER),
                ("User name:", account["username"] + ENTER),
                ("Password (not shown)", account["password"] + ENTER),
                ("Read all of it?", "n"),
                ("Tick what to read", "70036"),
                ("70036\x1b[0m...", " " + ENTER),
            ],
        )
        assert (code, "Next: utility-exporter serve" in shown) == (0, True), shown
        (written,) = load_config(tmp_path / "config.yaml", {}).accounts
        assert len(written.counters.include) in range(1, 10)

        again, _ = await asyncio.to_thread(answer, tmp_path, ["flats"], [("Read all of it?", "y")])
        (written,) = load_config(tmp_path / "config.yaml", {}).accounts
        assert (again, written.counters.include) == (0, frozenset())
