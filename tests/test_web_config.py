"""The web configuration file: the same files are valid as for promtool, and errors name their place."""

import re
import shutil
import ssl
import subprocess
from functools import cache

import pytest

from exporter.cli import main
from exporter.config.settings import Config
from exporter.errors import ConfigError
from exporter.web.access_control import find_warnings
from exporter.web.tls import CURVES
from tests.certificates import build_access_control, write_web_config
from tests.web_configs import CASES, PASSWORD_HASH, SAME_AS_PROMTOOL, TLS, build_tls, build_user


@cache
def promtool() -> tuple[str, tuple[int, ...]]:
    program = shutil.which("promtool") or pytest.skip("there is no promtool")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return program, tuple(map(int, re.search(r"version (\d+)\.(\d+)", version.stdout + version.stderr).groups()))


def supports(curve: str) -> bool:
    """Return whether this Python can offer a curve alone; that of Debian 12 does not have X25519."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(curve)
    except (ssl.SSLError, ValueError):
        return False
    return True


def test_a_curve_that_this_python_does_not_have(certificates, monkeypatch):
    """
    A curve that cannot be offered is a fault of the configuration, not a crash.
    """
    monkeypatch.setitem(CURVES, "CurveP521", "no-such-curve")
    with pytest.raises(ConfigError, match="curve_preferences: this Python cannot offer CurveP521; name CurveP256 too"):
        build_access_control(certificates, build_tls("curve_preferences: [CurveP521]"))


@pytest.mark.parametrize("name", CASES)
def test_the_same_files_as_promtool(certificates, name):
    """
    A file that promtool accepts is accepted, one that it refuses is refused, except where the table notes that we are stricter.
    """
    row = CASES[name]
    try:
        build_access_control(certificates, row.text)
        good = True
    except ConfigError:
        good = False

    assert good is (row.is_accepted and (name != "curve X25519" or supports("X25519")))

    program, version = promtool()
    if row.since <= version <= row.until:
        theirs = subprocess.run(
            [program, "check", "web-config", certificates.folder / "web.yml"], capture_output=True, check=False
        )
        assert (theirs.returncode == 0) is (row.is_accepted if row.comparison == SAME_AS_PROMTOOL else not row.is_accepted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (build_tls("min_version: TLS9"), "web.yml:4: tls_server_config.min_version: must be TLS10, TLS11, TLS12 or TLS13"),
        (
            build_tls("cipher_suites: [TLS_FOO]"),
            "web.yml:4: tls_server_config.cipher_suites: TLS_FOO is not a supported cipher suite",
        ),
        (build_tls("cert_fil: x"), "web.yml:4: tls_server_config.cert_fil: unknown key; did you mean cert_file?"),
        (build_user("secret"), "web.yml:2: basic_auth_users: is not a bcrypt hash; create one with: htpasswd -nBC 10 NAME"),
        (
            "tls_server_config: {cert_file: server.crt, key_file: other.key}\n",
            "web.yml: tls_server_config: the key does not belong to the certificate",
        ),
        (
            "tls_server_config: {cert_file: no.crt, key_file: server.key}\n",
            "web.yml: tls_server_config.cert_file: no.crt cannot be read: no such file or directory",
        ),
        (
            "tls_server_config: {cert_file: server.crt, key_file: locked.key}\n",
            "web.yml: tls_server_config.key: the key is encrypted; a server needs one without a passphrase",
        ),
    ],
)
def test_faults_name_their_place(certificates, text, message):
    """
    A fault says file, line, key and reason, and never a password.
    """
    with pytest.raises(ConfigError) as raised:
        build_access_control(certificates, text)

    assert str(raised.value).replace(f"{certificates.folder}/", "") == message


def test_warnings(certificates):
    """
    What is accepted and means something else here is output.
    """
    several = "curve_preferences: [X25519, CurveP256]\nmin_version: TLS10\n"
    several += "client_ca_file: ca.crt\nclient_auth_type: RequireAnyClientCert"

    assert find_warnings(build_access_control(certificates, "tls_server_config: {min_version: TLS13}\n").config) == [
        "tls_server_config has no certificate: TLS is off"
    ]
    assert [line.split()[0] for line in find_warnings(build_access_control(certificates, build_tls(several)).config)] == [
        "min_version",
        "RequireAnyClientCert",
        "this",
    ]
    assert find_warnings(build_access_control(certificates, TLS).config) == []


def test_check_says_every_fault(certificates, capsys):
    """
    `check` reads the web configuration too, and says the faults of both files at once.
    """
    (certificates.folder / "config.yaml").write_text("accounts: []\n")
    file = write_web_config(certificates, build_tls("min_version: TLS9"))
    code = main(["check", f"--config.file={certificates.folder}/config.yaml", f"--web.config.file={file}"])

    output = capsys.readouterr()
    assert (code, output.out) == (1, "")
    assert "accounts: must not be empty" in output.err
    assert "tls_server_config.min_version: must be TLS10" in output.err


def test_check_finds_no_fault(certificates, capsys, monkeypatch):
    """
    `check` says what a good web configuration has.
    """
    monkeypatch.setattr("exporter.commands.serve.load_config", lambda _: Config(accounts=()))
    code = main(["check", f"--web.config.file={write_web_config(certificates, TLS + build_user(PASSWORD_HASH))}"])

    assert code == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{certificates.folder}/web.yml: TLS, 1 user(s), no faults"
