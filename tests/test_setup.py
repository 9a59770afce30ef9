"""`setup`: from an empty folder to a configuration that works, by answers in a terminal and by flags."""

import asyncio
import os
import re
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import pexpect
import pytest

from exporter.cli import build_parser
from exporter.config.loader import load_config
from exporter.errors import ConfigError, LoginError
from exporter.models import Finding
from exporter.setup.config_file import write_account
from exporter.setup.forms import ENEDIS_ACCESSES, FORMS
from exporter.setup.meters import list_fitting_choices
from exporter.setup.questions import Choice
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from exporter.simulators.enedis.simulation import EnedisSimulation
from exporter.simulators.fluvius.simulation import FluviusSimulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation
from tests.test_architecture import ROOT

PATIENCE = 60
FIRST_HOUR = 90
"""Seconds from an empty folder to a serving exporter, at most."""
KEYS = ("base_url", "portal_url", "identity_url", "calls_per_second")
ESCAPES = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
DOWN, ENTER, TAB = "\x1b[B", "\r", "\t"
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
    flags += [f"--set={key}={account[key]}" for key in KEYS if key in account]
    for meter in account.get("meters", ()):
        numbers = [meter["ean"], meter["serial"][-1], meter["commodity"]] if isinstance(meter, dict) else [meter]
        flags.append(f"--meter={':'.join(numbers)}")
    flags += [f"--meter={point['prm']}" for point in account.get("usage_points", ())[:1]]
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
    (written,) = (portal.config for portal in load_config(tmp_path / "config.yaml", {}).accounts)
    assert (written.name, written.portal) == (account["name"], account["portal"])
    assert len(written.configured_usage_points()) >= len(account.get("meters", ()))
    assert stat.S_IMODE((tmp_path / "config.yaml").stat().st_mode) == 0o600
    assert "Next: utility-exporter serve" in capsys.readouterr().out


@pytest.mark.parametrize("number", ["204419", "541448820000000048:1SAG1100000048:electricity", "99999"])
async def test_a_number_that_is_not_there_writes_nothing(number, tmp_path):
    """
    By flags a meter that the portal does not have is named, and the configuration is not begun.
    """
    kinds = {"204419": WaterLinkSimulation, "99999": CemSimulation}
    simulation = kinds.get(number, FluviusSimulation)()
    async with run_simulation(simulation) as url:
        flags = build_flags(tmp_path, simulation.build_accounts(url)[0])
        with pytest.raises(ConfigError, match=f"not found: {number.partition(':')[0]}; "):
            await run(tmp_path, *flags, f"--meter={number}")

    assert not (tmp_path / "config.yaml").exists()


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


async def test_a_bad_configuration_is_told_before_anything_is_asked(tmp_path):
    """
    What is wrong in the configuration already stops `setup` before it logs in.
    """
    simulation = CemSimulation()
    (tmp_path / "config.yaml").write_text("accounts:\n- {name: x, portal: cem, usename: me, password: p}\n")
    async with run_simulation(simulation) as url:
        flags = build_flags(tmp_path, simulation.build_accounts(url)[0])
        with pytest.raises(ConfigError, match=r"usename: unknown key; did you mean username\?"):
            await run(tmp_path, *flags)

    assert simulation.requests == []


def test_an_answer_that_is_wrong_is_told_so_in_a_terminals_words():
    """
    What is said of a number that is typed is of numbers, not of how a file is written.
    """
    fields = [one for form in (*FORMS.values(), *ENEDIS_ACCESSES.values()) for one in form.fields if not one.choices]
    wrong = ["", "x", "12", "5414-4882-0000", "a b", '"123456"']
    messages = {one.check(text) for one in fields for text in wrong}

    assert len(fields) == 5
    assert all(one.check("") for one in fields)
    assert not [message for message in messages if "quotes" in message or "file" in message]


async def test_what_is_missing_is_named(tmp_path):
    """
    Without a terminal and without answers there is one line, no question.
    """
    for flags, message in (
        (("--yes",), "give --portal"),
        (("x", "--yes", "--portal=cme"), r"does not know the portal 'cme'; did you mean cem\?"),
        (("x", "--yes", "--portal=enedis", "--access=cons"), r"there is no access 'cons'; did you mean conso\?"),
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
    _, added = (portal.config for portal in load_config(file, {"PASSWORD": "p"}).accounts)
    assert (added.username, added.password.get_secret_value(), added.meters) == ("a#b", "$x${y", ("012345",))


def test_what_is_changed_keeps_the_comments_beside_it(tmp_path):
    """
    Of a list only what is new or gone is touched.
    """
    file = tmp_path / "config.yaml"
    file.write_text(
        "accounts:\n  - name: flats\n    portal: cem\n    username: me\n    password: p\n    counters:\n      include:\n"
        "        - 80001  # bath\n        - 80002  # kitchen\n        # the lift\n        - 80003\n    every: 1h  # enough\n"
    )
    entry = {"name": "flats", "counters": {"include": [80002, 80003, 80004]}}
    write_account(file, entry, frozenset({"counters"}), {"80004": "roof"})

    assert file.read_text() == (
        "accounts:\n  - name: flats\n    portal: cem\n    username: me\n    password: p\n    counters:\n      include:\n"
        "        - 80002  # kitchen\n        # the lift\n        - 80003\n        - 80004 # roof\n    every: 1h  # enough\n"
    )


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


def read_files(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("exporter.setup.config_file.load_config", KeyboardInterrupt()),
        ("exporter.setup.config_file.load_config", ConfigError("config.yaml:1: refused")),
        ("os.fsync", OSError("disk full")),
        ("pathlib.Path.replace", KeyboardInterrupt()),
    ],
)
def test_a_setup_that_is_stopped_changes_nothing(tmp_path, monkeypatch, step, error):
    """
    Wherever the writing ends, the configuration and the file of its secret are those of before, and no other is there.
    """
    file = tmp_path / "config.yaml"
    write_home(tmp_path, "old")
    before = read_files(tmp_path)

    def stop(*_: Any) -> None:
        raise error

    monkeypatch.setattr(step, stop)
    with pytest.raises(type(error)):
        write_home(tmp_path, "new")
    monkeypatch.undo()

    assert read_files(tmp_path) == before
    assert load_config(file).accounts[0].config.password.get_secret_value() == "old"


def write_home(folder: Path, password: str, name: str = "home water") -> list[str]:
    """Write an account with a password as `setup` does; return the files no longer used."""
    entry = {"name": name, "portal": "water-link", "username": "me", "password": password, "meters": ["123456"]}
    return write_account(folder / "config.yaml", entry, frozenset({"meters"}), secret_keys=frozenset({"password"}))


def test_a_secret_is_written_to_a_file_of_its_own(tmp_path):
    """
    A new secret takes the place of the old one, in a file that only its user can read. No file is deleted: another account, or
    another program, may use it under whatever name; the one no longer used is named.
    """
    (tmp_path / "home-water.password").write_text("somebody's")
    file = tmp_path / "config.yaml"
    write_home(tmp_path, "old")
    write_home(tmp_path, "other", "home/water")
    names = {"config.yaml", "home-water.password", "home-water-2.password", "home-water-3.password"}
    assert read_files(tmp_path).keys() == names
    unused = write_home(tmp_path, "new")

    files = read_files(tmp_path)
    assert unused == ["home-water-2.password"]
    assert files.keys() == names | {"home-water-4.password"}
    assert files["home-water.password"] == "somebody's"
    assert [portal.config.password.get_secret_value() for portal in load_config(file).accounts] == ["new", "other"]
    assert stat.S_IMODE((tmp_path / "home-water-4.password").stat().st_mode) == 0o600
    assert load_config(file).warnings == ()


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
        dimensions=(40, 160),
    )
    child.delaybeforesend = None
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


@asynccontextmanager
async def serve(folder: Path) -> AsyncIterator[str]:
    """Run the next command that `setup` says, on a free port; yield the address of its page."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exporter", "serve", "--web.listen-address=127.0.0.1:0",
        cwd=folder, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(r"account\(s\) at ([\d.:]+)", (await process.stderr.readline()).decode())):
                pass
        yield f"http://{found[1]}/metrics"
    finally:
        process.terminate()
        await process.communicate()


async def read_value(url: str, name: str, **labels: str) -> float:
    """Return a value of the page once it is there."""
    async with aiohttp.ClientSession() as client, asyncio.timeout(PATIENCE):
        while True:
            async with client.get(url) as response:
                page = await response.text()
            for line in page.splitlines():
                if line.startswith(name + "{") and all(f'{label}="{value}"' in line for label, value in labels.items()):
                    return float(line.rpartition(" ")[2])
            await asyncio.sleep(0.1)


async def test_water_link_from_nothing_to_serving(tmp_path):
    """
    Portal, name, login, meters and names are asked, a wrong password and a wrong number once more; one password is sent by all of
    setup's second try and `serve`; what is served is what the meter shows.
    """
    simulation, started = WaterLinkSimulation(), time.monotonic()
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
                ("E-mail address you sign in with:", account["username"] + ENTER),
                ("Password you sign in with (not shown)", "wrong" + ENTER),
                ("Meter numbers", "204417, 20441" + ENTER),
                ("20441: a meter's number is six digits", "9" + ENTER),
                ("Once more; a third wrong one may lock the account", ""),
                ("E-mail address you sign in with:", ENTER),
                ("Password you sign in with (not shown)", account["password"] + ENTER),
                ("Not found: 204419", ""),
                ("Meter numbers", "\x7f8" + ENTER),
                ("A name for 204417", "bath" + ENTER),
                ("A name for 204418", "bath" + ENTER),
                ("this name is used already", "\x15" + ENTER),
            ],
        )
        assert (code, "Next: utility-exporter serve" in shown) == (0, True), shown
        async with serve(tmp_path) as page:
            index = await read_value(page, "utility_consumption_index_m3", usage_point="bath")
        assert simulation.login_count == 2

    meter = simulation.meters["204417"]
    assert index == meter.compute_index(meter.find_latest_shown_day(simulation.clock()) + timedelta(days=1)) / 1000
    assert time.monotonic() - started < FIRST_HOUR
    assert account["password"] not in shown
    example = re.findall(r"(?m)^(\? [^?:]+[?:]|(?:Needs|open) .*)", (ROOT / "README.md").read_text())
    assert len(example) == 8
    assert [line for line in example if line.replace("123456 (s", "204417 (s").strip("? ") not in ESCAPES.sub("", shown)] == []
    (written,) = (portal.config for portal in load_config(tmp_path / "config.yaml", {}).accounts)
    assert (written.name, written.meters, written.aliases) == ("home-water", ("204417", "204418"), {"204417": "bath"})
    secret = tmp_path / "home-water.password"
    assert (secret.read_text().strip(), stat.S_IMODE(secret.stat().st_mode)) == (account["password"], 0o600)


async def test_fluvius_from_nothing_to_serving(tmp_path):
    """
    Of each meter EAN, serials and kind are asked, and checked as they are typed; quarter-hours are read where there are any.
    """
    simulation, started = FluviusSimulation(), time.monotonic()
    async with run_simulation(simulation) as url:
        account = simulation.build_accounts(url)[0]
        solar, _, gas = account["meters"]
        flags = [f"--set={key}={account[key]}" for key in ("portal_url", "identity_url")]
        code, shown = await asyncio.to_thread(
            answer,
            tmp_path,
            flags,
            [
                ("Which portal?", DOWN + ENTER),
                ("A name for the account", ENTER),
                ("E-mail address you sign in with:", account["username"] + ENTER),
                ("Password you sign in with (not shown)", account["password"] + ENTER),
                ("EAN", solar["ean"][:-1] + ENTER),
                ("an EAN has 18 digits; this has 17", solar["ean"][-1] + ENTER),
                ("Serial number", " ".join(solar["serial"]) + ENTER),
                ("What it measures", ENTER),
                ("Another meter of this account?", "y"),
                ("EAN", gas["ean"] + ENTER),
                ("Serial number", gas["serial"][0] + ENTER),
                ("What it measures", DOWN + ENTER),
                ("Another meter of this account?", "n"),
                (f"A name for {solar['ean']}", ENTER),
                (f"A name for {gas['ean']}", "\x15heating" + ENTER),
            ],
        )
        assert (code, "Next: utility-exporter serve" in shown) == (0, True), shown
        async with serve(tmp_path) as page:
            volume = await read_value(page, "utility_daily_consumption_m3", usage_point="heating")
            day = await read_value(page, "utility_latest_day_timestamp_seconds", usage_point="heating")

    true = [
        one.value for one in simulation.list_true_days(gas["ean"], *(2 * [to_day(day, "Europe/Brussels")])) if one.unit == "m³"
    ]
    assert [volume] == true
    assert time.monotonic() - started < FIRST_HOUR
    (written,) = (portal.config for portal in load_config(tmp_path / "config.yaml", {}).accounts)
    assert [(meter.ean, list(meter.serial), meter.intervals) for meter in written.meters] == [
        (meter["ean"], meter["serial"], True) for meter in (solar, gas)
    ]
    assert written.aliases == {solar["ean"]: "electricity", gas["ean"]: "heating"}


async def test_enedis_from_nothing_to_serving(tmp_path):
    """
    A token that was not copied whole is said at once; of the usage points that it names one is ticked, with injection.
    """
    simulation, started = EnedisSimulation(), time.monotonic()
    async with run_simulation(simulation) as url:
        account = simulation.build_account(url, "conso")
        code, shown = await asyncio.to_thread(
            answer,
            tmp_path,
            [f"--set=base_url={account['base_url']}", "--set=calls_per_second=5"],
            [
                ("Which portal?", DOWN * 2 + ENTER),
                ("Which access to Enedis?", ENTER),
                ("A name for the account", ENTER),
                ("Token from conso.boris.sh (not shown)", account["token"].partition(".")[0] + ENTER),
                ("this is no complete Conso API token; copy it again", "." + account["token"].partition(".")[2] + ENTER),
                ("Tick what to read", DOWN + TAB + ENTER),
                ("have injection, from solar panels?", "y"),
                ("A name for 09000000000017", "house" + ENTER),
            ],
        )
        assert (code, "Next: utility-exporter serve" in shown) == (0, True), shown
        async with serve(tmp_path) as page:
            used = await read_value(page, "utility_daily_consumption_kwh", usage_point="house")
            fed_in = await read_value(page, "utility_daily_injection_kwh", usage_point="house")
            day = await read_value(page, "utility_latest_day_timestamp_seconds", usage_point="house")

    home, latest = simulation.producer, to_day(day, "Europe/Paris")
    assert (used, fed_in) == (simulation.get_true_day(home, latest), simulation.get_true_day(home, latest, producing=True))
    assert time.monotonic() - started < FIRST_HOUR
    (written,) = (portal.config for portal in load_config(tmp_path / "config.yaml", {}).accounts)
    assert [(point.prm, point.production) for point in written.usage_points] == [(home.prm, True)]
    assert "calls_per_second: 5" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("access", ["dataconnect", "myelectricaldata"])
async def test_enedis_by_its_other_accesses(access, tmp_path):
    """
    Each access has a secret of its own kind, and needs the usage points; by flags as by questions.
    """
    simulation = EnedisSimulation()
    async with run_simulation(simulation) as url:
        account = simulation.build_account(url, access)
        (tmp_path / "given").write_text(account.get("client_secret") or account["token"])
        flags = [
            "maison",
            "--portal=enedis",
            f"--access={access}",
            f"--set=base_url={account['base_url']}",
            "--set=calls_per_second=5",
        ]
        flags += ["--production=09000000000017", "--meter=09000000000017", f"--password-file={tmp_path / 'given'}", "--yes"]
        if client := account.get("client_id"):
            with pytest.raises(ConfigError, match="give --username"):
                await run(tmp_path, *flags)
            flags.append(f"--username={client}")

        assert await run(tmp_path, *flags) == 0
    (written,) = (portal.config for portal in load_config(tmp_path / "config.yaml", {}).accounts)
    assert (written.access.value, [(point.prm, point.production) for point in written.usage_points]) == (
        access,
        [("09000000000017", True)],
    )


async def test_cem_from_nothing_to_serving(tmp_path):
    """
    What the account holds is a tree: typing filters it, with blanks too, and a ticked branch brings all below it. Meters are
    named by place and kind. Again, all of it is read.
    """
    simulation, started = CemSimulation(), time.monotonic()
    async with run_simulation(simulation) as url:
        account = simulation.build_accounts(url)[0]
        counter = simulation.named_counters["replacement"]
        code, shown = await asyncio.to_thread(
            answer,
            tmp_path,
            ["flats"],
            [
                ("Which portal?", DOWN * 3 + ENTER),
                (
                    "Address of your CEM",
                    "\x15" + account["base_url"].removeprefix("http://") + ENTER,
                ),
                ("must be an address like https://host/path", "\x15" + account["base_url"] + ENTER),
                ("User name you sign in with:", account["username"] + ENTER),
                ("Password you sign in with (not shown)", account["password"] + ENTER),
                ("Read all of it?", "n"),
                ("Tick what to read", "byt 3"),
                ("byt 3\x1b[0m...", TAB + ENTER),
                ("A name for 700", "\x15Novák" + ENTER),
                *[("A name for 700", ENTER)] * 4,
            ],
        )
        assert (code, "Next: utility-exporter serve" in shown) == (0, True), shown
        async with serve(tmp_path) as page:
            before = simulation.latest_reading(counter)
            index = await read_value(page, "utility_consumption_index_m3", usage_point="Novák")
            after = simulation.latest_reading(counter)
        assert index in (before[1], after[1])
        assert time.monotonic() - started < FIRST_HOUR
        (written,) = (portal.config for portal in load_config(tmp_path / "config.yaml", {}).accounts)
        names = {f"Byt 3 {kind}" for kind in ("hot water", "heat", "electricity", "indoor temperature")}
        assert (len(written.counters.include), {*written.aliases.values()}) == (6, {"Novák", *names})

        again, _ = await asyncio.to_thread(answer, tmp_path, ["flats"], [("Read all of it?", "y"), ("Name the", ENTER)])
        (written,) = (portal.config for portal in load_config(tmp_path / "config.yaml", {}).accounts)
        assert (again, written.counters.include) == (0, frozenset())


@pytest.mark.parametrize(("flats", "lines"), [(10, 40), (700, 1400), (1500, 1500), (2500, 0)])
def test_a_town_is_ticked_by_site(flats, lines):
    """
    Where counters are too many to be shown, meters are ticked, then sites; a branch stands for what is shown below it.
    """
    sites = [
        Finding(
            f"House / Flat {flat}",
            {},
            tuple(
                Finding(
                    f"meter {flat}-{meter}",
                    {"me_id": flat * 10 + meter},
                    (Finding("counter", {"var_id": flat * 10 + meter, "shown": meter > 0}),),
                )
                for meter in range(2)
            ),
        )
        for flat in range(flats)
    ]
    choices = list_fitting_choices(sites)

    assert len(choices) == lines
    assert not choices or choices[0] == Choice("House / Flat 0", ("1",))


def to_day(seconds: float, zone: str) -> date:
    """Return the local day that begins at an instant."""
    return datetime.fromtimestamp(seconds, ZoneInfo(zone)).date()


async def test_the_meters_of_an_account_are_changed(tmp_path):
    """
    Of an account that is there the meters are shown, to be changed; names of those that stay, login and all else stay.
    """
    simulation = WaterLinkSimulation()
    async with run_simulation(simulation) as url:
        account = simulation.build_accounts(url)[0]
        assert await run(tmp_path, *build_flags(tmp_path, account), "--name=204417=bath", "--name=204418=garden") == 0
        code, shown = await asyncio.to_thread(
            answer, tmp_path, ["home-water"], [("Meter numbers", ""), ("204418", "\x7f" * 7 + ENTER)]
        )

    assert code == 0, shown
    (written,) = (portal.config for portal in load_config(tmp_path / "config.yaml", {}).accounts)
    assert (written.meters, written.aliases, written.username) == (("204417",), {"204417": "bath"}, account["username"])
