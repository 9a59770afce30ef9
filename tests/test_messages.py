"""What people are told of their mistakes: in the configuration of each portal, and on the command line."""

import ast
import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exporter.cli import build_parser, main
from exporter.commands.history import describe_import
from exporter.config.loader import load_config
from exporter.errors import ConfigError, RateLimitError
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from exporter.simulators.water_link.simulation import FOREIGN_METER, WaterLinkSimulation
from exporter.sync.importer import Progress
from tests.test_architecture import ROOT

FLUVIUS = 'accounts:\n- name: home\n  portal: fluvius\n  username: me\n  password: "p"\n'
METER = '  meters: [{ean: "541448820000000024", serial: "1SAG0000000042", commodity: electricity}]\n'
ENEDIS = "accounts:\n- name: home\n  portal: enedis\n  access: conso\n"
WATER = "accounts:\n- name: home\n  portal: water-link\n  username: me\n"


TESTED_IN = {
    "must be electricity or gas": "test_messages.test_a_mistake_has_one_message",
    "an EAN has 18 digits; this has 16": "test_messages.test_a_mistake_has_one_message",
    "six hex digits, like c8d42a": "test_messages.test_a_mistake_has_one_message",
    "all after the # is a comment": "test_messages.test_a_mistake_has_one_message",
    "the rest of the line are a comment": "test_messages.test_what_is_probably_not_meant_warns",
    "unknown key; did you mean password?": "test_messages.test_a_mistake_has_one_message",
    "~ is not expanded": "test_messages.test_the_file_of_a_secret_is_named_as_looked_for",
    'write {ean: "...", serial: ..., commodity: electricity}': "test_messages.test_a_mistake_has_one_message",
    "this is no complete Conso API token; copy it again": "test_messages.test_a_mistake_has_one_message",
    "makes no second fault": "test_messages.test_the_file_of_a_secret_is_named_as_looked_for",
    "write :10230": "test_messages.test_wrong_words_on_the_command_line",
    "is not in this account (403): check the number": "test_messages.test_a_meter_of_somebody_else",
    "Meter 999999 is not in this account": "portals.test_cem_odd_responses.test_raw_names_a_number_that_is_not_there",
    "usually ends in /api": "portals.test_cem_odd_responses.test_a_wrong_address_is_named",
    "refused (403): check the configuration": "portals.test_fluvius_login.test_a_meter_that_is_refused_to_everybody",
    "few tries are left": "test_messages.test_a_refused_password_says_that_few_tries_are_left",
    "perhaps a second factor, new terms": "portals.test_water_link_login.test_the_page_that_comes_back_gives_the_reason",
    "paused: 119 of 1216 requests, continues by itself at": "test_messages.test_an_import_that_pauses_says_when_it_goes_on",
    "a name for a usage point that is not configured": "test_messages.test_what_is_probably_not_meant_warns",
    "noise": "test_metrics.test_sums_have_no_noise",
}
"""Messages that were bad once, and the test of each."""


def write(folder: Path, text: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return file


def list_faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text), {})
    return [line.partition("config.yaml:")[2] for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            FLUVIUS + METER.replace("electricity", "power"),
            "6: accounts[0].meters[0].commodity: must be electricity or gas",
        ),
        (
            FLUVIUS + METER.replace("541448820000000024", "5414488200000000"),
            "6: accounts[0].meters[0].ean: an EAN has 18 digits; this has 16",
        ),
        (
            FLUVIUS + '  meters: ["541448820000000024"]\n',
            '6: accounts[0].meters[0]: must be a block: write {ean: "...", serial: ..., commodity: electricity}',
        ),
        (
            FLUVIUS + METER + "web: {colour: lime}\n",
            "7: web.colour: must be six hex digits, like c8d42a (a # before them needs quotes)",
        ),
        (FLUVIUS.replace("password", "pasword") + METER, "5: accounts[0].pasword: unknown key; did you mean password?"),
        (
            FLUVIUS.replace('"p"', "#hunter2") + METER,
            "5: accounts[0].password: has no value: all after the # is a comment; put the text in quotes",
        ),
        (
            FLUVIUS.replace("fluvius", "Fluvis") + METER,
            "3: accounts[0].portal: unknown portal; did you mean fluvius?; the portals are cem, enedis, fluvius, water-link",
        ),
        (ENEDIS + "  token: abc.def\n", "2: accounts[0]: token: this is no complete Conso API token; copy it again"),
        (
            ENEDIS + '  token: t\n  usage_points: ["12345678901234"]\n',
            '6: accounts[0].usage_points[0]: must be a block: write {prm: "..."}',
        ),
        (
            WATER.replace("username", "user_name") + '  password: "p"\n  meters: ["123456"]\n',
            "4: accounts[0].user_name: unknown key; did you mean username?",
        ),
    ],
)
def test_a_mistake_has_one_message(text, fault, tmp_path):
    """
    Each mistake is one line that says what to write; no second one that only follows from it.
    """

    assert list_faults(tmp_path, text) == [fault]


def test_the_file_of_a_secret_is_named_as_looked_for(tmp_path):
    """
    The path that was tried, and why ~ did not help; the missing secret makes no second fault.
    """
    (fault,) = list_faults(tmp_path, ENEDIS + "  token_file: ~/token\n")

    assert fault == (
        f"5: accounts[0].token_file: the file {tmp_path}/~/token cannot be read: no such file or directory;"
        " ~ is not expanded, write the whole path"
    )


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (
            WATER + '  password: hunter2 #3\n  meters: ["123456"]\n',
            ["5: accounts[0].password: the # and the rest of the line are a comment; if they belong to it, it needs quotes"],
        ),
        (WATER + '  password: "hunter2 #3"  # on the fridge\n  meters: ["123456"]\n', []),
        (WATER + '  password: hunter2#3\n  meters: ["123456"] # both\n', []),
        (
            WATER + '  password: p\n  meters: ["123456"]\n  aliases:\n    "123456": bath\n    "123465": garden\n',
            ["9: accounts[0].aliases: a name for a usage point that is not configured"],
        ),
    ],
)
def test_what_is_probably_not_meant_warns(text, warnings, tmp_path):
    """
    A # that cuts a password off, and a name of a meter that is not there: the configuration is good, and says so.
    """
    config = load_config(write(tmp_path, text), {})

    assert [warning.partition("config.yaml:")[2] for warning in config.warnings] == warnings


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["vist", "home"], "utility-exporter: unknown command 'vist'; did you mean visit?"),
        (["--verison"], "utility-exporter: unrecognized arguments: --verison; did you mean --version?"),
        (["history", "exprt"], "utility-exporter history: unknown command 'exprt'; did you mean export?"),
        (
            ["serve", "--web.listen-adress=:1"],
            "utility-exporter serve: unrecognized arguments: --web.listen-adress=:1; did you mean --web.listen-address?",
        ),
        (
            ["serve", "--web.listen-address=10230"],
            "utility-exporter serve: argument --web.listen-address: '10230' is not HOST:PORT, :PORT or [IPV6]:PORT; write :10230",
        ),
        (
            ["serve", "--log.level=inf"],
            "utility-exporter serve: argument --log.level: 'inf' is none of debug, info, warn, error; did you mean info?",
        ),
    ],
)
def test_wrong_words_on_the_command_line(words, error, capsys):
    """
    One line with the near word, and where the flags are listed; no page of usage.
    """
    with pytest.raises(SystemExit) as left:
        main(words)

    assert left.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == error
    assert second == f"see {error.partition(':')[0]} --help"


def test_no_command_is_answered_with_the_help(capsys):
    """
    Whoever types the program's name alone sees what there is, and how to begin.
    """
    with pytest.raises(SystemExit) as left:
        main([])

    assert (left.value.code, "To begin: utility-exporter demo" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize("command", ["check", "serve", "visit"])
def test_a_configuration_that_is_not_there(command, tmp_path, monkeypatch, capsys):
    """
    The file that was looked for, and what makes one.
    """
    monkeypatch.chdir(tmp_path)

    assert main([command]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "config.yaml: cannot be read: no such file or directory",
        "`utility-exporter setup` makes one; --config.file names another",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["raw", "metr"], "water-link has no call 'metr'; did you mean meter?; it has meter, days, alarms"),
        (["raw", "home", "metr"], "water-link has no call 'metr'; did you mean meter?; it has meter, days, alarms"),
        (["raw", "home", "days", "mnth=2026-01"], "days takes no 'mnth'; did you mean month?; it takes meter, month"),
    ],
)
def test_a_misspelt_call(words, message, tmp_path, monkeypatch, capsys):
    """
    The call or parameter that was probably meant.
    """
    monkeypatch.chdir(tmp_path)
    write(tmp_path, WATER + '  password: p\n  meters: ["123456"]\n')

    assert main(words) == 1
    assert capsys.readouterr().err.strip() == message


def test_a_misspelt_account(tmp_path, monkeypatch):
    """
    The account that was probably meant, and all there are.
    """
    monkeypatch.chdir(tmp_path)
    write(tmp_path, WATER + '  password: p\n  meters: ["123456"]\n')
    options = build_parser().parse_args(["raw", "hoem"])

    with pytest.raises(ConfigError, match=r"config.yaml has no account 'hoem'; did you mean home\?; it has home"):
        options.run(options)
    assert sorted(os.listdir(tmp_path)) == ["config.yaml"]


async def test_a_refused_password_says_that_few_tries_are_left(tmp_path, monkeypatch, capsys):
    """
    Before the next try people know what it may cost; a login that is not asked again says nothing of the kind.
    """
    monkeypatch.chdir(tmp_path)
    simulation = CemSimulation()
    async with run_simulation(simulation) as url:
        account = simulation.build_accounts(url)[0] | {"password": "wrong"}
        write(tmp_path, json.dumps({"accounts": [account]}))
        code = await asyncio.to_thread(main, ["discover"])

    assert (code, capsys.readouterr().err.splitlines()[-1]) == (
        1,
        "login: the portal refused the user name or the password; few tries are left before a portal locks the account:"
        " be sure of the next",
    )


@pytest.mark.parametrize("message", TESTED_IN)
def test_each_message_has_its_test(message):
    """
    No message of the list loses its test.
    """
    module, _, name = TESTED_IN[message].rpartition(".")
    file = ROOT / "tests" / f"{module.replace('.', '/')}.py"
    tests = {
        node.name: ast.unparse(node)
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert message in tests.get(name, "").replace("\\", "")


async def test_a_meter_of_somebody_else(tmp_path, monkeypatch, capsys):
    """
    A number that the account does not have is named as it was typed.
    """
    monkeypatch.chdir(tmp_path)
    simulation = WaterLinkSimulation()
    async with run_simulation(simulation) as url:
        write(tmp_path, json.dumps({"accounts": simulation.build_accounts(url)}))
        code = await asyncio.to_thread(main, ["raw", "meter", f"meter={FOREIGN_METER}"])

    message = "Meter 999999 is not in this account (403): check the number"
    assert (code, capsys.readouterr().err.splitlines()[-1]) == (1, f"response: {message}")


def test_an_import_that_pauses_says_when_it_goes_on():
    """
    How far it is, when it goes on without anybody, and why it waits.
    """
    progress = Progress(done=119, remaining=1097, new=40, paused=RateLimitError("the quota is used up", timedelta(minutes=44)))

    assert describe_import(progress, datetime(2026, 11, 20, 20, 0, tzinfo=UTC)) == (
        "paused: 119 of 1216 requests, continues by itself at 2026-11-20 20:44 UTC (with `serve`, or this command again);"
        " 40 readings new, 0 corrected; the quota is used up"
    )
