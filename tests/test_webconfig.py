"""The web configuration's file: the same ones as promtool takes, and faults that name their place."""

import re
import shutil
import ssl
import subprocess
from functools import cache

import pytest

from exporter.__main__ import main
from exporter.config import Config
from exporter.errors import ConfigError
from exporter.webconfig import warnings
from exporter.webconfig.suites import CURVES
from tests.pem import made, written
from tests.web_configs import HASH, ROWS, SAME, TLS, tls, user


@cache
def promtool() -> tuple[str, tuple[int, ...]]:
    program = shutil.which("promtool") or pytest.skip("there is no promtool")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return program, tuple(map(int, re.search(r"version (\d+)\.(\d+)", said.stdout + said.stderr).groups()))


def knows(curve: str) -> bool:
    """Tell whether this Python can offer a curve alone; that of Debian 12 does not have X25519."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(curve)
    except (ssl.SSLError, ValueError):
        return False
    return True


def test_a_curve_that_this_python_does_not_have(pem, monkeypatch):
    """
    A curve that cannot be offered is a fault of the configuration, not a crash.
    """
    monkeypatch.setitem(CURVES, "CurveP521", "no-such-curve")
    with pytest.raises(ConfigError, match="curve_preferences: this Python cannot offer CurveP521; name CurveP256 too"):
        made(pem, tls("curve_preferences: [CurveP521]"))


@pytest.mark.parametrize("name", ROWS)
def test_the_same_files_as_promtool(pem, name):
    """
    A file that promtool takes is taken, one that it refuses is refused; where we are stricter, the table says so.
    """
    row = ROWS[name]
    try:
        made(pem, row.text)
        good = True
    except ConfigError:
        good = False

    assert good is (row.good and (name != "curve X25519" or knows("X25519")))

    program, version = promtool()
    if row.since <= version <= row.until:
        theirs = subprocess.run([program, "check", "web-config", pem.folder / "web.yml"], capture_output=True, check=False)
        assert (theirs.returncode == 0) is (row.good if row.why == SAME else not row.good)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (tls("min_version: TLS9"), "web.yml:4: tls_server_config.min_version: must be TLS10, TLS11, TLS12 or TLS13"),
        (tls("cipher_suites: [TLS_FOO]"), "web.yml:4: tls_server_config.cipher_suites: TLS_FOO is no cipher suite known here"),
        (tls("cert_fil: x"), "web.yml:4: tls_server_config.cert_fil: unknown key; did you mean cert_file?"),
        (user("secret"), "web.yml:2: basic_auth_users: is no bcrypt hash; make one with: htpasswd -nBC 10 NAME"),
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
def test_faults_name_their_place(pem, text, message):
    """
    A fault says file, line, key and reason, and never a password.
    """
    with pytest.raises(ConfigError) as raised:
        made(pem, text)

    assert str(raised.value).replace(f"{pem.folder}/", "") == message


def test_warnings(pem):
    """
    What is accepted and means something else here is said.
    """
    several = "curve_preferences: [X25519, CurveP256]\nmin_version: TLS10\n"
    several += "client_ca_file: ca.crt\nclient_auth_type: RequireAnyClientCert"

    assert warnings(made(pem, "tls_server_config: {min_version: TLS13}\n").config) == [
        "tls_server_config has no certificate: TLS is off"
    ]
    assert [line.split()[0] for line in warnings(made(pem, tls(several)).config)] == [
        "min_version",
        "RequireAnyClientCert",
        "this",
    ]
    assert warnings(made(pem, TLS).config) == []


def test_check_says_every_fault(pem, capsys):
    """
    `check` reads the web configuration too, and says the faults of both files at once.
    """
    (pem.folder / "config.yaml").write_text("accounts: []\n")
    file = written(pem, tls("min_version: TLS9"))
    code = main(["check", f"--config.file={pem.folder}/config.yaml", f"--web.config.file={file}"])

    said = capsys.readouterr()
    assert (code, said.out) == (1, "")
    assert "accounts: must not be empty" in said.err
    assert "tls_server_config.min_version: must be TLS10" in said.err


def test_check_finds_no_fault(pem, capsys, monkeypatch):
    """
    `check` says what a good web configuration has.
    """
    monkeypatch.setattr("exporter.__main__.load", lambda _: Config(accounts=()))
    code = main(["check", f"--web.config.file={written(pem, TLS + user(HASH))}"])

    assert code == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{pem.folder}/web.yml: TLS, 1 user(s), no faults"
