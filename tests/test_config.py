"""The configuration file: what a good one becomes, and what is output of each bad one."""

import json
import os
import subprocess
import time
import tomllib
from datetime import date, timedelta
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, SecretStr

from exporter.cli import main
from exporter.config import loader
from exporter.config.secrets import expand_union, fill_model, list_keys, list_secret_fields
from exporter.config.settings import Config, ConfigFile
from exporter.config.yaml_document import YamlDocument
from exporter.errors import ConfigError
from exporter.files import find_exposure, stamp_files
from exporter.portals.base import Portal
from exporter.web.web_config import WebConfig
from tests.certificates import CertificateFolder, write_web_config
from tests.configurable_portal import ConfigurableConfig, ConfigurablePoint, ConfigurablePortal
from tests.web_configs import CLIENT_CERTIFICATE, build_tls

HERE = Path(__file__).parent
ROOT = HERE.parent
BAD = sorted(HERE.glob("configs/bad-*.yaml"))
ENVIRONMENT = {"PASSWORD": "from-the-environment", "EMPTY": "", "BROKEN": "two\nlines", "NUMBER": "7"}
SECRETS = {"good": b"hunter2\n", "empty": b"\r\n", "large": b"x" * 70_000, "binary": b"\xff\xfe\x00", "two-lines": b"a\nb\n"}
HOME = "accounts:\n- name: home\n  portal: brook\n  username: me\n  password: ${PASSWORD}\n"


@pytest.fixture(autouse=True)
def _install_portals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "load_portals", lambda *_: {"brook": ConfigurablePortal})
    monkeypatch.setattr(
        loader, "_installed_portals", lambda: {"broken": EntryPoint("broken", "no_such_module:Broken", loader.ENTRY_POINT_GROUP)}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with secrets of every sort."""
    (tmp_path / "secrets").mkdir()
    for name, content in SECRETS.items():
        (tmp_path / "secrets" / name).write_bytes(content)
    return tmp_path


def load(folder: Path, text: str | bytes) -> Config:
    file = folder / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(0o600)
    return loader.load_config(file, ENVIRONMENT)


def home(folder: Path, more: str = "") -> Any:
    return load(folder, HOME + more).accounts[0].config


def faults(folder: Path, text: str | bytes) -> str:
    """Load what is bad, and give what is output of it; `#` stands for the file's name, `@` for its folder."""
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).replace(str(folder / "config.yaml"), "#").replace(str(folder), "@")


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_each_bad_file_has_its_message(file: Path, folder: Path):
    """
    A bad file is refused with exactly the faults that its first lines announce.
    """
    text = file.read_text()
    announced = [line for line in text.splitlines() if line.startswith("#:")]

    assert faults(folder, text).splitlines() == announced


def test_there_are_bad_files():
    """
    The bad files are found, and each announces something.
    """

    assert len(BAD) > 30
    assert all(file.read_text().startswith("#:") for file in BAD)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "#:1: is empty"),
        (b"# nothing but words\n---\n", "#:1: is empty"),
        (b"~", "#:1: is empty"),
        (b"- a\n", "#:1: must be a block of keys"),
        (b"3", "#:1: must be a block of keys"),
        (b"accounts: \xff", "#: is not UTF-8 text"),
        ("accounts: []".encode("utf-16"), "#: is not UTF-8 text"),
        (b"accounts:\n- \x00", "#:2: has a character that no text file holds"),
        (b'a: "\\U99999999"', "#: is not valid YAML: it has a number or an escape that is too large"),
        (b"%YAML 1." + b"9" * 5000 + b"\n---\na: b", "#: is not valid YAML: it has a number or an escape that is too large"),
        (b"[" * 5000, "#:1: is nested too deep"),
        (b"a: " + b"{a: " * 5000, "#:1: is nested too deep"),
        (b"\n".join(b"- " * n + b"x" for n in (1, 60)), "#:2: is nested too deep"),
        (b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n + 1, n + 1, n) for n in range(2000)), "#:1: is nested too deep"),
        (b"x" * (2 << 20), "#: is larger than 1024 KiB"),
        (
            b"a: &a [x,x,x,x,x,x,x,x,x]\n"
            + b"".join(b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (n + 1, n + 1, *[n] * 9) for n in range(97, 106)),
            "#: has more than 100000 values; are there aliases of aliases?",
        ),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_what_no_editor_would_write(content: bytes, fault: str, folder: Path):
    """
    Files that are no text, no YAML or beyond all measure are one fault.
    """

    assert faults(folder, content).splitlines()[0] == fault


def test_a_file_that_is_not_there(tmp_path: Path):
    """
    A missing file and a folder are one fault that names it.
    """
    for file, reason in ((tmp_path / "none.yaml", "cannot be read: no such file or directory"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigError) as caught:
            loader.load_config(file, {})

        assert str(caught.value) == f"{file}: {reason}"


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    """
    A named pipe that nobody writes to does not hang the start.
    """
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ConfigError, match="is not a regular file"):
        loader.load_config(tmp_path / "pipe", {})


def test_numbers_that_are_names_stay_as_written(folder: Path):
    """
    A number without quotes keeps its zeros and its digits, where a text is due.
    """
    account = home(
        folder, "  meters: [0123456, 1_000, 12:30:00]\n  points: [{ean: 01234567890123, serial: 1e3}]\n  aliases: {0o17: 0x1F}"
    )

    assert account.meters == ("0123456", "1_000", "12:30:00")
    assert account.points == (ConfigurablePoint(ean="01234567890123", serial="1e3"),)
    assert account.aliases == {"0o17": "0x1F"}


@pytest.mark.parametrize("word", ["null", "~", "yes", "2026-01-31", "0777", "1e5", ".nan", "<<", "=", "true"])
def test_quoted_words_are_words(word: str, folder: Path):
    """
    What is in quotes is text, whatever YAML would make of it otherwise.
    """

    assert load(folder, HOME.replace("username: me", f'username: "{word}"')).accounts[0].config.username == word


@pytest.mark.parametrize("word", ["yes", "2026-01-31", "0777", "1e5", ".nan", "<<", "=", "off", "12:30", "0b11"])
def test_bare_words_are_words(word: str, folder: Path):
    """
    What YAML 1.1 takes for a number, a date or a switch is text where a text is due.
    """

    assert load(folder, HOME.replace("username: me", f"username: {word}")).accounts[0].config.username == word


@pytest.mark.parametrize(
    ("word", "meant"), [("yes", True), ("on", True), ("True", True), ("off", False), ("no", False), ('"true"', True)]
)
def test_switches(word: str, meant: bool, folder: Path):
    """
    A switch may be written in all the ways of YAML.
    """

    assert home(folder, f"  personal_data: {word}").personal_data is meant


def test_a_key_may_be_a_word_of_python(folder: Path):
    """
    `history.from` is the oldest day that is asked for; its faults name the key as written.
    """
    history = load(folder, HOME + "\nhistory: {backfill: false, from: 2024-03-02}\n").history

    assert (history.backfill, history.from_) == (False, date(2024, 3, 2))
    assert "history.from: must be" in faults(folder, HOME + "\nhistory: {from: soon}\n")
    assert "history.from_: unknown key; did you mean from?" in faults(folder, HOME + "\nhistory: {from_: 2024-03-02}\n")


def test_whole_numbers_are_decimal(folder: Path):
    """
    Leading zeros make no octal number.
    """

    assert home(folder, "  counters: [80001, 010, '${NUMBER}']").counters == {80001, 10, 7}


@pytest.mark.parametrize(("written", "form"), [("2026", 2026), ("'2026'", 2026), ("v5", "v5")])
def test_a_number_may_be_one_of_few_words(written: str, form: int | str, folder: Path):
    """
    A key that is one of a few words takes a number among them too.
    """

    assert home(folder, f"  form: {written}").form == form


def test_everything_together(folder: Path):
    """
    A good file becomes its accounts, with defaults for what it leaves out.
    """
    first, second = load(
        folder,
        HOME + '  meters: &meters ["1", "2"]\n'
        "- {name: barn, portal: brook, username: you, password_file: secrets/good, every: 1h30m, timeout: 10s, meters: *meters}\n"
        "history:\n",
    ).accounts
    first, second = first.config, second.config

    assert first == ConfigurableConfig(
        name="home", portal="brook", username="me", password="from-the-environment", meters=("1", "2")
    )
    assert (first.every, first.timeout) == (timedelta(hours=2), timedelta(seconds=30))
    assert (second.every, second.timeout) == (timedelta(minutes=90), timedelta(seconds=10))
    assert second.password.get_secret_value() == "hunter2"
    assert second.meters == first.meters


def test_secrets_come_from_files_at_any_depth(folder: Path):
    """
    Each secret has a twin that names its file, by a path from the configuration's folder or an absolute one.
    """
    account = home(folder, f"  client_secret_file: {folder}/secrets/good\n  points: [{{ean: '1', token_file: secrets/good}}]")

    assert account.client_secret.get_secret_value() == "hunter2"
    assert account.points[0].token.get_secret_value() == "hunter2"


@pytest.mark.parametrize(
    ("content", "secret"), [(b"abc", "abc"), (b"abc\r\n", "abc"), (b" a b \n", " a b "), ("\ufeffé$".encode(), "é$")]
)
def test_only_the_line_end_is_cut(content: bytes, secret: str, folder: Path):
    """
    A secret's file is taken as it is, but for the line end that editors put there.
    """
    (folder / "secrets" / "one").write_bytes(content)

    assert home(folder, "  client_secret_file: secrets/one").client_secret.get_secret_value() == secret


def test_a_secret_that_others_own(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """
    A file that may not be read is a fault with the reason.
    """

    real = Path.open

    def open_others(self: Path, *how: Any, **more: Any) -> Any:
        if self.name == "good":
            raise PermissionError(13, "Permission denied")
        return real(self, *how, **more)

    monkeypatch.setattr(Path, "open", open_others)

    assert faults(folder, HOME + "  client_secret_file: secrets/good") == (
        "#:6: accounts[0].client_secret_file: the file @/secrets/good cannot be read: permission denied"
    )


def list_models(type_: Any) -> set[type[BaseModel]]:
    """Return the models that stand in a type, at any depth."""
    parts = [part for member in expand_union(type_) for part in (member, *get_args(member))]
    models = {part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)}
    inner = [field.annotation for model in models for field in model.model_fields.values()]
    return models.union(*map(list_models, inner))


def test_an_empty_text_is_an_absent_key(folder: Path):
    """
    Every key of every configuration that names a file or holds a secret may be there and empty, as in Prometheus' own.
    """
    found = []
    for model in set().union(
        *map(
            list_models,
            (ConfigFile, WebConfig, ConfigurableConfig, *(portal.config_model for portal in declared().values())),
        )
    ):
        secrets = list_secret_fields(model)
        keys = [key for key, field in list_keys(model).items() if {Path, SecretStr} & set(expand_union(field.annotation))]
        keys += [f"{key}_file" for key in secrets] + [key for key in ("cert", "client_ca") if key in model.model_fields]
        document = YamlDocument(folder / "config.yaml", {}, {}, {(): 1}, frozenset(), ())
        filled = fill_model(document, model, dict.fromkeys(keys, ""), ())
        assert (filled.data, filled.problems) == ({}, ())
        found += keys
    assert {"cert_file", "key", "client_ca", "ca_file", "bearer_token_file", "password", "password_file", "token"} <= set(found)

    receiver = "{url: 'http://a/', bearer_token: '', bearer_token_file: '', ca_file: '', headers: {A: b}}"
    loaded = load(folder, f"{HOME}  password_file: ''\n  client_secret: ''\nhistory: {{remote_write: [{receiver}]}}")
    assert loaded.accounts[0].config.password.get_secret_value() == "from-the-environment"
    assert (loaded.history.remote_write[0].bearer_token, loaded.history.remote_write[0].ca_file) == (None, None)
    assert faults(folder, HOME.replace("${PASSWORD}", "''")) == "#:5: accounts[0].password: must not be empty"


def test_a_secret_that_changes_after_it_was_read(folder: Path):
    """
    A configuration knows how its secrets' files were when it read them, so that no later change is missed.
    """
    config = load(folder, HOME + "  client_secret_file: secrets/good")
    assert config.stamps.keys() == {folder / "config.yaml", folder / "secrets" / "good"}
    assert stamp_files(config.stamps) == config.stamps

    (folder / "secrets" / "good").write_text("longer than before")
    assert stamp_files(config.stamps) != config.stamps


def test_the_names_of_a_town_are_checked_at_once(folder: Path):
    """
    The time that names take grows with their number, not with its square.
    """
    names = ", ".join(f'"{number}": "flat {number}"' for number in range(15_000))
    before = time.process_time()
    config = load(folder, HOME + f"  aliases: {{{names}}}\n")

    assert len(config.accounts[0].config.aliases) == 15_000
    assert time.process_time() - before < 5  # with its square, 9


def test_a_file_whose_mode_changes_is_another(folder: Path):
    """
    A file that could not be read, and can be, is a changed one.
    """
    (folder / "key").touch(mode=0)
    before = stamp_files([folder / "key"])
    (folder / "key").chmod(0o600)

    assert stamp_files([folder / "key"]) != before


def test_variables(folder: Path):
    """
    Variables stand anywhere in a text, are not looked into again, and can be escaped.
    """
    account = home(folder, "  meters: ['a${NUMBER}b${NUMBER}', '$${NUMBER}', '$NUMBER']\n  level: ${NUMBER}")

    assert account.meters == ("a7b7", "${NUMBER}", "$NUMBER")
    assert account.level == 7


def test_a_variable_with_lines_is_refused(folder: Path):
    """
    A variable that holds a line break is a fault that names it.
    """

    assert faults(folder, HOME + "  window: ${BROKEN}") == (
        "#:6: accounts[0].window: wants the environment variable BROKEN, which has a line break or the like in it"
    )


def test_paths_begin_at_the_configuration(folder: Path):
    """
    A key that is a path is one from the configuration's folder.
    """

    assert home(folder, "  ca_file: certs/ca.pem").ca_file == folder / "certs/ca.pem"
    assert home(folder, "  ca_file: /certs/ca.pem").ca_file == Path("/certs/ca.pem")


@pytest.mark.parametrize("broken", ["config.yaml", "password", "ca.pem", "web.yml", "server.crt", "server.key", "ca.crt"])
def test_no_file_keeps_check_waiting(certificates: CertificateFolder, capsys: pytest.CaptureFixture[str], broken: str):
    """
    A pipe that nobody writes to, where a file is due, is a fault with its place, for each file that the configurations name.
    """
    folder = certificates.folder
    web = write_web_config(certificates, build_tls(CLIENT_CERTIFICATE))
    (folder / "password").write_text("abc")
    (folder / "ca.pem").write_bytes((folder / "ca.crt").read_bytes())
    text = HOME.replace("password: ${PASSWORD}", "password_file: password\n  ca_file: ca.pem")
    (folder / "config.yaml").write_text(text)
    (folder / broken).unlink()
    os.mkfifo(folder / broken)
    code = main(["check", f"--config.file={folder}/config.yaml", f"--web.config.file={web}"])
    place = {
        "password": "config.yaml:5: accounts[0].password_file: the file ",
        "ca.pem": "config.yaml:6: accounts[0].ca_file: the file ",
        "server.crt": "web.yml:2: tls_server_config.cert_file: the file ",
        "server.key": "web.yml:3: tls_server_config.key_file: the file ",
        "ca.crt": "web.yml:4: tls_server_config.client_ca_file: the file ",
    }.get(broken, "")
    separator = " " if place else ": "

    assert code == 1
    assert f"{place}{broken}{separator}is not a regular file" in capsys.readouterr().err.replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("mode", "holds_secret", "found"),
    [
        (0o600, True, None),
        (0o644, False, None),
        (0o640, True, "read the secrets in it; fix it with: chmod 600"),
        (0o604, True, "read the secrets in it; fix it with: chmod 600"),
        (0o622, True, "write to it; fix it with: chmod 600"),
        (0o666, True, "read the secrets in it and write to it; fix it with: chmod 600"),
        (0o664, False, "write to it; fix it with: chmod go-w"),
    ],
)
def test_files_that_others_may_read_or_write(tmp_path: Path, mode: int, holds_secret: bool, found: str | None):
    """
    A file that others may write, or a secret that they may read, is warned of with a command that ends it.
    """
    file = tmp_path / "a file"
    file.touch()
    file.chmod(mode)
    warning = find_exposure(file, holds_secret=holds_secret)

    assert warning == (found and f"{file}: others on this machine may {found} '{file}'")
    if warning:
        subprocess.run(["sh", "-c", warning.partition("fix it with: ")[2]], check=True)
    assert find_exposure(file, holds_secret=holds_secret) is None


def test_mounted_secrets_are_not_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    A secret of Kubernetes or compose has another owner, a mode of the platform's, and a read-only mount: nobody can change it.
    """
    file = tmp_path / "secret"
    file.touch(0o440)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    assert find_exposure(file, holds_secret=True) is None

    file.chmod(0o644)
    assert str(find_exposure(file, holds_secret=True)).endswith(f"chown {os.geteuid()} {file} && chmod 600 {file}")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert find_exposure(file, holds_secret=True) is None


@pytest.mark.parametrize(
    ("mode", "password", "warned"),
    [(0o600, "abc", False), (0o640, "abc", True), (0o604, "abc", True), (0o644, "${PASSWORD}", False)],
)
def test_an_open_file_with_a_password_is_warned_of(mode: int, password: str, warned: bool, folder: Path):
    """
    A file that others may read gives a warning when a secret stands in it.
    """
    file = folder / "config.yaml"
    file.write_text(HOME.replace("${PASSWORD}", password))
    file.chmod(mode)
    warnings = loader.load_config(file, ENVIRONMENT).warnings

    assert bool(warnings) is warned
    assert all("abc" not in warning for warning in warnings)


def test_what_systemd_hands_over_is_not_warned_of(folder: Path):
    """
    A credential seems to be open to a group, but the folder of credentials is the service's alone.
    """
    file = folder / "config.yaml"
    file.write_text(HOME.replace("${PASSWORD}", "abc"))
    file.chmod(0o440)

    assert loader.load_config(file, ENVIRONMENT | {"CREDENTIALS_DIRECTORY": str(folder)}).warnings == ()
    assert loader.load_config(file, ENVIRONMENT | {"CREDENTIALS_DIRECTORY": str(folder / "other")}).warnings != ()


def test_no_secret_is_shown(folder: Path):
    """
    Neither a fault nor the repr of what was read shows a secret.
    """
    output = [faults(folder, file.read_text()) for file in BAD]
    output.append(repr(load(folder, HOME)))

    assert not [text for text in output if "hunter" in text or "from-the-environment" in text]


def test_the_ways_a_portal_fails_to_load(monkeypatch: pytest.MonkeyPatch):
    """
    Of the installed portals those are found that can be imported and are portals; the others do no harm.
    """
    monkeypatch.undo()
    entries = [
        EntryPoint("brook", "tests.configurable_portal:ConfigurablePortal", loader.ENTRY_POINT_GROUP),
        EntryPoint("gone", "no_such_module:Gone", loader.ENTRY_POINT_GROUP),
        EntryPoint("other", "tests.configurable_portal:ConfiguredPoint", loader.ENTRY_POINT_GROUP),
        EntryPoint("thing", "tests.configurable_portal:no_such_thing", loader.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(loader, "entry_points", lambda group: entries)

    assert loader.load_portals() == {"brook": ConfigurablePortal}


class Plain(BaseModel):
    """A file of another kind."""

    model_config = ConfigDict(extra="forbid")

    users: dict[str, str]
    cert_file: Path | None = None


def test_another_file(tmp_path: Path):
    """
    Another YAML file is read with the same checks, its `$` left alone.
    """
    file = tmp_path / "web.yaml"
    file.write_text("users: {me: $2y$10$abc, you: '${X}'}\ncert_file: a.crt")

    assert loader.load_yaml_model(file, Plain) == Plain(users={"me": "$2y$10$abc", "you": "${X}"}, cert_file=tmp_path / "a.crt")

    file.write_text("users: {me@example.com: [hunter2]}\nuser: {}")
    with pytest.raises(ConfigError) as caught:
        loader.load_yaml_model(file, Plain)

    assert str(caught.value) == f"{file}:1: users: must be text\n{file}:2: user: unknown key; did you mean users?"


SIGNS = st.sampled_from(
    ["- ", ": ", "{", "}", "[", "]", ", ", "&a ", "*a", "!x ", "!!int ", ">", "'", '"', "|", "#", "? ", "<<: ", "~"]
)
ODDS = st.sampled_from(["${X}", "${", "\n", "\n  ", "\t", "---", "...", "%YAML 1.1", "\\U0001F600", "\\x00", "\u2028", "é"])
WORDS = st.sampled_from(
    ["accounts:", "name: a", "portal: brook", "password: x", "password_file: x", "aliases:", "1: 2", "points:"]
)
YAMLISH = st.lists(SIGNS | ODDS | WORDS, max_size=40).map("".join)
KEYS = st.one_of(st.text(max_size=5), st.sampled_from(["name", "every", "points", "password_file", "meters", "ean", "token"]))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
BROKEN = st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=200), YAMLISH.map(str.encode), BROKEN))
def test_any_bytes_are_good_or_a_config_error(folder: Path, content: bytes):
    """
    Whatever a file holds, it loads or raises ConfigError.
    """
    try:
        load(folder, content)
    except ConfigError as error:
        output = str(error)
    else:
        output = "good"

    assert all(line.isprintable() for line in output.splitlines())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(VALUES)
def test_any_account_is_good_or_a_config_error(folder: Path, data: Any):
    """
    Whatever stands under the keys of an account, it loads or raises ConfigError.
    """
    account = {"portal": "brook", "name": "a", "username": "b", "password": "hunter2"} | (
        data if isinstance(data, dict) else {"points": data}
    )
    try:
        loaded = load(folder, yaml.safe_dump({"accounts": [account]}, allow_unicode=True))
    except ConfigError as error:
        output = str(error)
    else:
        output = repr(loaded)

    assert "hunter2" not in output


def declared() -> dict[str, type[Portal]]:
    """The project's own portals whose modules exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    entries = project["project"]["entry-points"][loader.ENTRY_POINT_GROUP].items()
    return {
        name: EntryPoint(name, value, loader.ENTRY_POINT_GROUP).load()
        for name, value in entries
        if find_spec(value.partition(":")[0])
    }


def test_the_schema_of_a_portal(folder: Path):
    """
    The schema takes what the file takes, and refuses what it refuses.
    """
    schema = loader.build_schema()
    Draft202012Validator.check_schema(schema)
    account = {"name": "home", "portal": "brook", "username": "me", "password": "x"}
    valid = Draft202012Validator(schema).is_valid

    def takes(**more: Any) -> bool:
        return bool(valid({"accounts": [{key: value for key, value in (account | more).items() if value is not None}]}))

    assert takes(every="1h30m", meters=[123456], counters=[80001], points=[{"ean": 1, "token_file": "x"}], aliases={"1": "a"})
    assert takes(every="${EVERY}", personal_data="${YES}", access="${ACCESS}")
    assert takes(password=None, password_file="x")
    assert takes(password="", password_file="x", points=[{"ean": 1, "token": "x", "token_file": ""}])
    assert not takes(password="", password_file="")
    assert not takes(password_file="x")
    assert not takes(password=None)
    assert not takes(every="often")
    assert not takes(access="gateway")
    assert not takes(portal="sea")
    assert not takes(pasword="x")
    assert not takes(points=[{"ean": 1, "token": "x", "token_file": "x"}])
    assert not valid({"accounts": []})


def test_the_schema_that_ships_is_the_schema(monkeypatch: pytest.MonkeyPatch):
    """
    `config.schema.json` is what the portals' models say; `make schema` writes it anew.
    """
    monkeypatch.setattr(loader, "load_portals", declared)

    assert json.loads((ROOT / "config.schema.json").read_text()) == loader.build_schema()


def test_the_example_is_good(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """
    The example that ships can be loaded, and its editor's schema takes it.
    """
    portals = declared()
    monkeypatch.setattr(loader, "load_portals", lambda *_: portals)
    text = (ROOT / "config.example.yaml").read_text()
    example = yaml.safe_load(text.replace("/run/secrets/", f"{folder}/secrets/"))
    for account in example["accounts"]:
        for file in (value for key, value in account.items() if key.endswith("_file")):
            Path(file).write_text("secret")
    ours = [account for account in example["accounts"] if account["portal"] in portals]

    assert text.startswith("# yaml-language-server: $schema=config.schema.json\n")
    if ours:
        (folder / "config.yaml").write_text(yaml.safe_dump(example | {"accounts": ours}))
        loaded = loader.load_config(folder / "config.yaml", {"FLUVIUS_PASSWORD": "secret"})

        assert [account.name for account in loaded.accounts] == [account["name"] for account in ours]
        assert Draft202012Validator(loader.build_schema()).is_valid(example | {"accounts": ours})
