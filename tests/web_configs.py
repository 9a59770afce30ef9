"""Web configuration files, whether they are taken here, and what promtool thinks of them."""

from typing import NamedTuple

import bcrypt

from exporter.webconfig.suites import SUITES

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
DIGEST = HASH[7:]
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
SAME, STRICTER = "as promtool", "stricter"


class Row(NamedTuple):
    """A file, whether it is taken here, how that compares with promtool, and since or until when promtool has an opinion."""

    text: str
    good: bool
    why: str = SAME
    since: tuple[int, ...] = (2, 42)
    until: tuple[int, ...] = (99,)


NEW = (3, 5)
"""Inline certificates, client_allowed_sans and rate_limit came with exporter-toolkit 0.9 to 0.14; promtool 3.5 has them."""


def tls(more: str) -> str:
    return TLS + "".join(f"  {line}\n" for line in more.splitlines())


def block(key: str, file: str) -> str:
    """An inline PEM text; the file's content is put in when the test runs."""
    return f"  {key}: |\n    @{file}\n"


def user(text: str) -> str:
    return f"basic_auth_users:\n  bob: '{text}'\n"


CLIENT = "client_ca_file: ca.crt\nclient_auth_type: RequireAndVerifyClientCert\n"
KEYS: dict[str, dict[str, Row]] = {
    "the file": {
        "an empty file": Row("", True),
        "a comment": Row("# nothing yet\n", True),
        "a list": Row("- tls_server_config\n", False),
        "unknown block": Row("tls: {}\n", False),
        "unknown key in tls": Row(tls("cert_path: x"), False),
        "unknown key in http": Row("http_server_config: {foo: 1}\n", False),
        "the same key twice": Row(tls("key_file: server.key"), False),
        "the same user twice": Row(user(HASH) + f"  bob: '{HASH}'\n", False),
        "blocks with nothing in them": Row("tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n", True),
        "a tab": Row("tls_server_config:\n\tcert_file: server.crt\n", False),
        "a merge key": Row("http_server_config: {<<: {http2: true}}\n", False, STRICTER),
        "a tag": Row("http_server_config: {http2: !!bool true}\n", False, STRICTER),
        "a second document": Row("---\n{}\n---\n{}\n", False, STRICTER),
    },
    "`cert_file`, `key_file`, `cert`, `key`": {
        "certificate and key": Row(TLS, True),
        "certificate without key": Row("tls_server_config: {cert_file: server.crt}\n", False),
        "key without certificate": Row("tls_server_config: {key_file: server.key}\n", False),
        "a file that is not there": Row("tls_server_config: {cert_file: no.crt, key_file: server.key}\n", False),
        "a folder for a file": Row("tls_server_config: {cert_file: ., key_file: server.key}\n", False),
        "somebody else's key": Row("tls_server_config: {cert_file: server.crt, key_file: other.key}\n", False),
        "a certificate that is none": Row("tls_server_config: {cert_file: junk, key_file: server.key}\n", False),
        "an encrypted key": Row("tls_server_config: {cert_file: server.crt, key_file: locked.key}\n", False),
        "inline certificate and key": Row(
            "tls_server_config:\n" + block("cert", "server.crt") + block("key", "server.key"), True, since=NEW
        ),
        "inline certificate, key in a file": Row(
            "tls_server_config:\n  key_file: server.key\n" + block("cert", "server.crt"), True, since=NEW
        ),
        "inline and file": Row(TLS + block("cert", "server.crt"), True, since=NEW),
        "inline certificate without key": Row("tls_server_config:\n" + block("cert", "server.crt"), False),
        "inline text that is no certificate": Row("tls_server_config: {cert: abc, key: abc}\n", False),
    },
    "`client_ca_file`, `client_ca`, `client_auth_type`, `client_allowed_sans`": {
        "inline authorities": Row(
            tls("client_auth_type: RequireAndVerifyClientCert") + block("client_ca", "ca.crt"), True, since=NEW
        ),
        "inline authorities nobody asks": Row(TLS + block("client_ca", "ca.crt"), False),
        "versions without a certificate": Row("tls_server_config: {min_version: TLS13}\n", True),
        "client_auth_type without a certificate": Row("tls_server_config: {client_auth_type: NoClientCert}\n", False),
        "client_ca_file without a certificate": Row("tls_server_config: {client_ca_file: ca.crt}\n", False),
        "client_allowed_sans without a certificate": Row("tls_server_config: {client_allowed_sans: [a]}\n", False, STRICTER, NEW),
        **{f"client_auth_type {kind or 'empty'}": Row(tls(f"client_auth_type: '{kind}'"), True) for kind in (
            "", "NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")},
        **{f"client_auth_type {kind}": Row(tls(f"client_auth_type: {kind}"), False, STRICTER) for kind in (
            "RequireAnyClientCert", "RequireClientCert")},
        **{f"{kind} with authorities": Row(tls(f"client_ca_file: ca.crt\nclient_auth_type: {kind}"), True) for kind in (
            "RequestClientCert", "RequireAnyClientCert", "RequireClientCert", "VerifyClientCertIfGiven",
            "RequireAndVerifyClientCert")},
        "client_auth_type in small letters": Row(tls("client_auth_type: noclientcert"), False),
        "authorities nobody asks": Row(tls("client_ca_file: ca.crt"), False),
        "authorities, NoClientCert": Row(tls("client_ca_file: ca.crt\nclient_auth_type: NoClientCert"), False),
        "authorities that are not there": Row(tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: no.crt"), False),
        "authorities without a certificate in them": Row(
            tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: junk"), False, STRICTER
        ),
        "client_allowed_sans": Row(tls(CLIENT + "client_allowed_sans: [scraper.example, 10.0.0.1]"), True, since=NEW),
        "client_allowed_sans that name nobody": Row(tls(CLIENT + "client_allowed_sans: []"), False, STRICTER, NEW),
        "client_allowed_sans as a word": Row(tls(CLIENT + "client_allowed_sans: a"), False),
        **{f"client_allowed_sans with {kind}": Row(
               tls(f"client_auth_type: {kind}\nclient_allowed_sans: [a]"), False, STRICTER, NEW)
           for kind in ("NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven")},
    },
    "`min_version`, `max_version`": {
        **{f"min_version {version}": Row(tls(f"min_version: {version}"), True) for version in (
            "TLS10", "TLS11", "TLS12", "TLS13")},
        **{f"min_version {version}": Row(tls(f"min_version: {version}"), False) for version in (
            "TLS14", "tls12", "SSL3", "1.2", "''")},
        **{f"max_version {version}": Row(tls(f"max_version: {version}"), True) for version in ("TLS12", "TLS13")},
        **{f"max_version {version}": Row(tls(f"max_version: {version}"), False, STRICTER) for version in ("TLS10", "TLS11")},
        "min_version above max_version": Row(tls("min_version: TLS13\nmax_version: TLS12"), False, STRICTER),
    },
    "`cipher_suites`": {
        **{f"cipher {suite}": Row(tls(f"cipher_suites: [{suite}]"), True) for suite in SUITES if not suite.startswith("TLS_RSA")},
        **{f"cipher {suite}": Row(tls(f"cipher_suites: [{suite}]"), True, until=(2, 99))
           for suite in SUITES if suite.startswith("TLS_RSA")},
        **{f"cipher {suite}": Row(tls(f"cipher_suites: [{suite}]"), False) for suite in (
            "TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
            "ECDHE-RSA-AES128-GCM-SHA256")},
        "no ciphers": Row(tls("cipher_suites: []"), True),
        "ciphers as a word": Row(tls("cipher_suites: TLS_AES_128_GCM_SHA256"), False),
        "ciphers of TLS 1.3, which max_version excludes": Row(
            tls("cipher_suites: [TLS_AES_128_GCM_SHA256]\nmax_version: TLS12"), False, STRICTER
        ),
    },
    "`curve_preferences`": {
        **{f"curve {curve}": Row(tls(f"curve_preferences: [{curve}]"), True) for curve in (
            "CurveP256", "CurveP384", "CurveP521", "X25519")},
        **{f"curve {curve}": Row(tls(f"curve_preferences: [{curve}]"), False) for curve in ("P256", "x25519", "X25519MLKEM768")},
        "all curves": Row(tls("curve_preferences: [X25519, CurveP256, CurveP384, CurveP521]"), True),
    },
    "`prefer_server_cipher_suites`": {
        **{f"prefer_server_cipher_suites {word or 'empty'}": Row(tls(f"prefer_server_cipher_suites: {word}"), True) for word in (
            "true", "false", "yes", "No", "ON", "off", "y", "N", "~", "")},
        **{f"prefer_server_cipher_suites {word}": Row(tls(f"prefer_server_cipher_suites: {word}"), False) for word in (
            "1", "0", '"true"', "maybe")},
    },
    "`http_server_config`": {
        "http2 off": Row("http_server_config: {http2: false}\n", True),
        "http2 in quotes": Row("http_server_config: {http2: 'false'}\n", False),
        **{f"header {header}": Row(f"http_server_config: {{headers: {{{header}}}}}\n", True) for header in (
            "Strict-Transport-Security: max-age=31536000", "X-Content-Type-Options: nosniff", "X-Frame-Options: deny",
            "X-Frame-Options: sameorigin", "X-XSS-Protection: 1", "Content-Security-Policy: default-src 'self'",
            "Content-Security-Policy: ''")},
        **{f"header {header}": Row(f"http_server_config: {{headers: {{{header}}}}}\n", False) for header in (
            "X-Content-Type-Options: sniff", "X-Content-Type-Options: ''", "X-Frame-Options: DENY", "Server: nginx",
            "x-frame-options: deny", "Content-Security-Policy: [a]")},
        "a header with a line break": Row('http_server_config: {headers: {X-XSS-Protection: "1\\nA: b"}}\n', False, STRICTER),
    },
    "`basic_auth_users`": {
        **{f"hash {kind}": Row(user(f"{kind}{DIGEST}"), True) for kind in ("$2a$10$", "$2b$10$", "$2x$04$", "$2y$18$", "$2$10$")},
        **{f"hash {kind}": Row(user(f"{kind}{DIGEST}"), False) for kind in (
            "$3a$10$", "$2y$03$", "$2y$32$", "$2y$1a$", "y2y$10$")},
        **{f"hash {kind}": Row(user(f"{kind}{DIGEST}"), False, STRICTER) for kind in (
            "$1a$10$", "$2z$10$", "$2y$19$", "$2y$31$")},
        "a password in plain text": Row(user("secret"), False),
        "a hash with a letter too many": Row(user(HASH + "x"), False, STRICTER),
        "a hash with a letter too few": Row(user(HASH[:-1]), False, STRICTER),
        "a hash of strange letters": Row(user("$2y$10$" + "!" * 53), False, STRICTER),
        "no hash": Row("basic_auth_users: {bob: ''}\n", False),
        "no users": Row("basic_auth_users: {}\n", True),
        "users as a list": Row("basic_auth_users: [bob]\n", False),
        "a user who is a number": Row(f"basic_auth_users:\n  12: '{HASH}'\n", True),
        "a user with a colon": Row(f"basic_auth_users:\n  'a:b': '{HASH}'\n", False, STRICTER),
        "a user without a name": Row(f"basic_auth_users:\n  '': '{HASH}'\n", False, STRICTER),
    },
    "`rate_limit`": {
        **{f"interval {text}": Row(f"rate_limit:\n  interval: {text}\n  burst: 20\n", True, since=NEW) for text in (
            "1s", "500ms", "1.5s", "1h30m", ".5s", "1µs", "0", "0s", "1000000000", "'1s'", "+1s")},
        **{f"interval {text}": Row(f"rate_limit:\n  interval: {text}\n  burst: 20\n", False) for text in (
            "1d", "1 s", "1S", "''", "1m0", "1e3s", "9999999999s", "true")},
        "interval below 0": Row("rate_limit: {interval: -1s, burst: 20}\n", False, STRICTER, NEW),
        **{f"burst {text}": Row(f"rate_limit:\n  interval: 1s\n  burst: {text}\n", True, since=NEW) for text in (
            "1", "1_000", "0x10", "1e3", "010", "0b11", "+5", "1.0")},
        **{f"burst {text}": Row(f"rate_limit:\n  interval: 1s\n  burst: {text}\n", False) for text in (
            "'20'", "many", "true", "99999999999999999999")},
        **{f"burst {text or 'empty'}": Row(f"rate_limit:\n  interval: 1s\n  burst: {text}\n", False, STRICTER, NEW)
           for text in ("0", "-1", "")},
        "burst without interval": Row("rate_limit: {burst: 3}\n", True, since=NEW),
        "unknown key in rate_limit": Row("rate_limit: {per: 1s}\n", False),
    },
}  # fmt: skip
"""By the keys they are about; docs/web-config.md shows them so."""
ROWS = {name: row for rows in KEYS.values() for name, row in rows.items()}
