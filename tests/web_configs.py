"""Web configuration files, whether they are accepted here, and what promtool says of them."""

from typing import NamedTuple

import bcrypt

PASSWORD_HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
DIGEST = PASSWORD_HASH[7:]
TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
SAME_AS_PROMTOOL, STRICTER, LENIENT = "as promtool", "stricter", "lenient"
SUITES = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    *(f"TLS_ECDHE_{kind}_WITH_{cipher}" for kind in ("ECDSA", "RSA") for cipher in ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384")),
    *(f"TLS_ECDHE_{kind}_WITH_CHACHA20_POLY1305_SHA256" for kind in ("ECDSA", "RSA")),
    *(f"TLS_ECDHE_{kind}_WITH_AES_{bits}_CBC_SHA" for kind in ("ECDSA", "RSA") for bits in (128, 256)),
)
OLD_SUITES = [f"TLS_RSA_WITH_AES_{cipher}" for cipher in ("128_GCM_SHA256", "256_GCM_SHA384", "128_CBC_SHA", "256_CBC_SHA")]
"""Those that toolkits built with Go 1.22 or newer refuse."""


class WebConfigCase(NamedTuple):
    """A file, whether it is accepted here, how that compares with promtool, and since or until when promtool has an opinion."""

    text: str
    is_accepted: bool
    comparison: str = SAME_AS_PROMTOOL
    since: tuple[int, ...] = (2, 42)
    until: tuple[int, ...] = (99,)


INLINE_SINCE = (3, 5)
"""Inline certificates, client_allowed_sans and rate_limit came with exporter-toolkit 0.9 to 0.14; promtool 3.5 has them."""


def build_tls(lines: str) -> str:
    return TLS + "".join(f"  {line}\n" for line in lines.splitlines())


def build_pem_block(key: str, file: str) -> str:
    """An inline PEM text; the file's content is put in when the test runs."""
    return f"  {key}: |\n    @{file}\n"


def build_user(text: str) -> str:
    return f"basic_auth_users:\n  bob: '{text}'\n"


CLIENT_CERTIFICATE = "client_ca_file: ca.crt\nclient_auth_type: RequireAndVerifyClientCert\n"
CASES_BY_KEY: dict[str, dict[str, WebConfigCase]] = {
    "the file": {
        "an empty file": WebConfigCase("", True),
        "a comment": WebConfigCase("# nothing yet\n", True),
        "a list": WebConfigCase("- tls_server_config\n", False),
        "unknown block": WebConfigCase("tls: {}\n", False),
        "unknown key in tls": WebConfigCase(build_tls("cert_path: x"), False),
        "unknown key in http": WebConfigCase("http_server_config: {foo: 1}\n", False),
        "the same key twice": WebConfigCase(build_tls("key_file: server.key"), False),
        "the same user twice": WebConfigCase(build_user(PASSWORD_HASH) + f"  bob: '{PASSWORD_HASH}'\n", False),
        "blocks with nothing in them": WebConfigCase("tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n", True),
        "a tab": WebConfigCase("tls_server_config:\n\tcert_file: server.crt\n", False),
        "a merge key": WebConfigCase("http_server_config: {<<: {http2: true}}\n", False, STRICTER),
        "a tag": WebConfigCase("http_server_config: {http2: !!bool true}\n", False, STRICTER),
        "a second document": WebConfigCase("---\n{}\n---\n{}\n", False, STRICTER),
    },
    "`cert_file`, `key_file`, `cert`, `key`": {
        "certificate and key": WebConfigCase(TLS, True),
        "certificate without key": WebConfigCase("tls_server_config: {cert_file: server.crt}\n", False),
        "key without certificate": WebConfigCase("tls_server_config: {key_file: server.key}\n", False),
        "a file that is not there": WebConfigCase("tls_server_config: {cert_file: no.crt, key_file: server.key}\n", False),
        "a folder for a file": WebConfigCase("tls_server_config: {cert_file: ., key_file: server.key}\n", False),
        "somebody else's key": WebConfigCase("tls_server_config: {cert_file: server.crt, key_file: other.key}\n", False),
        "a certificate that is none": WebConfigCase("tls_server_config: {cert_file: junk, key_file: server.key}\n", False),
        "certificate and key, all others empty": WebConfigCase(
            build_tls("client_ca_file: ''\nclient_auth_type: ''\ncert: ''\nkey: ''\nclient_ca: ''"), True, since=INLINE_SINCE
        ),
        "an empty client_ca_file": WebConfigCase(build_tls("client_ca_file: ''"), True),
        "an empty certificate and an empty key": WebConfigCase("tls_server_config: {cert_file: '', key_file: ''}\n", True),
        "an empty key": WebConfigCase("tls_server_config: {cert_file: server.crt, key_file: ''}\n", False),
        "an encrypted key": WebConfigCase("tls_server_config: {cert_file: server.crt, key_file: locked.key}\n", False),
        "inline certificate and key": WebConfigCase(
            "tls_server_config:\n" + build_pem_block("cert", "server.crt") + build_pem_block("key", "server.key"),
            True,
            since=INLINE_SINCE,
        ),
        "inline certificate, key in a file": WebConfigCase(
            "tls_server_config:\n  key_file: server.key\n" + build_pem_block("cert", "server.crt"), True, since=INLINE_SINCE
        ),
        "inline and file": WebConfigCase(TLS + build_pem_block("cert", "server.crt"), True, since=INLINE_SINCE),
        "inline certificate without key": WebConfigCase("tls_server_config:\n" + build_pem_block("cert", "server.crt"), False),
        "inline text that is no certificate": WebConfigCase("tls_server_config: {cert: abc, key: abc}\n", False),
    },
    "`client_ca_file`, `client_ca`, `client_auth_type`, `client_allowed_sans`": {
        "inline authorities": WebConfigCase(
            build_tls("client_auth_type: RequireAndVerifyClientCert") + build_pem_block("client_ca", "ca.crt"),
            True,
            since=INLINE_SINCE,
        ),
        "inline authorities nobody asks": WebConfigCase(TLS + build_pem_block("client_ca", "ca.crt"), False),
        "versions without a certificate": WebConfigCase("tls_server_config: {min_version: TLS13}\n", True),
        "client_auth_type without a certificate": WebConfigCase("tls_server_config: {client_auth_type: NoClientCert}\n", False),
        "client_ca_file without a certificate": WebConfigCase("tls_server_config: {client_ca_file: ca.crt}\n", False),
        "client_allowed_sans without a certificate": WebConfigCase(
            "tls_server_config: {client_allowed_sans: [a]}\n", False, STRICTER, INLINE_SINCE
        ),
        **{
            f"client_auth_type {kind or 'empty'}": WebConfigCase(build_tls(f"client_auth_type: '{kind}'"), True)
            for kind in ("", "NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert")
        },
        **{
            f"client_auth_type {kind}": WebConfigCase(build_tls(f"client_auth_type: {kind}"), False, STRICTER)
            for kind in ("RequireAnyClientCert", "RequireClientCert")
        },
        **{
            f"{kind} with authorities": WebConfigCase(build_tls(f"client_ca_file: ca.crt\nclient_auth_type: {kind}"), True)
            for kind in (
                "RequestClientCert",
                "RequireAnyClientCert",
                "RequireClientCert",
                "VerifyClientCertIfGiven",
                "RequireAndVerifyClientCert",
            )
        },
        "client_auth_type in small letters": WebConfigCase(build_tls("client_auth_type: noclientcert"), False),
        "authorities nobody asks": WebConfigCase(build_tls("client_ca_file: ca.crt"), False),
        "authorities, NoClientCert": WebConfigCase(build_tls("client_ca_file: ca.crt\nclient_auth_type: NoClientCert"), False),
        "authorities that are not there": WebConfigCase(
            build_tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: no.crt"), False
        ),
        "authorities without a certificate in them": WebConfigCase(
            build_tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: junk"), False, STRICTER
        ),
        "client_allowed_sans": WebConfigCase(
            build_tls(CLIENT_CERTIFICATE + "client_allowed_sans: [scraper.example, 10.0.0.1]"), True, since=INLINE_SINCE
        ),
        "client_allowed_sans that name nobody": WebConfigCase(
            build_tls(CLIENT_CERTIFICATE + "client_allowed_sans: []"), False, STRICTER, INLINE_SINCE
        ),
        "client_allowed_sans as a word": WebConfigCase(build_tls(CLIENT_CERTIFICATE + "client_allowed_sans: a"), False),
        **{
            f"client_allowed_sans with {kind}": WebConfigCase(
                build_tls(f"client_auth_type: {kind}\nclient_allowed_sans: [a]"), False, STRICTER, INLINE_SINCE
            )
            for kind in ("NoClientCert", "RequestClientCert", "VerifyClientCertIfGiven")
        },
    },
    "`min_version`, `max_version`": {
        **{
            f"min_version {version}": WebConfigCase(build_tls(f"min_version: {version}"), True)
            for version in ("TLS10", "TLS11", "TLS12", "TLS13")
        },
        **{
            f"min_version {version}": WebConfigCase(build_tls(f"min_version: {version}"), False)
            for version in ("TLS14", "tls12", "SSL3", "1.2", "''")
        },
        **{f"max_version {version}": WebConfigCase(build_tls(f"max_version: {version}"), True) for version in ("TLS12", "TLS13")},
        **{
            f"max_version {version}": WebConfigCase(build_tls(f"max_version: {version}"), False, STRICTER)
            for version in ("TLS10", "TLS11")
        },
        "min_version above max_version": WebConfigCase(build_tls("min_version: TLS13\nmax_version: TLS12"), False, STRICTER),
    },
    "`cipher_suites`": {
        **{f"cipher {suite}": WebConfigCase(build_tls(f"cipher_suites: [{suite}]"), True) for suite in SUITES},
        **{f"cipher {suite}": WebConfigCase(build_tls(f"cipher_suites: [{suite}]"), True, until=(2, 99)) for suite in OLD_SUITES},
        **{
            f"cipher {suite}": WebConfigCase(build_tls(f"cipher_suites: [{suite}]"), False)
            for suite in (
                "TLS_RSA_WITH_RC4_128_SHA",
                "TLS_RSA_WITH_NULL_SHA256",
                "TLS_ADH_WITH_AES_128_CBC_SHA",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ALL",
                "'TLS_ALL:@SECLEVEL=0'",
            )
        },
        **{
            f"cipher {suite}": WebConfigCase(build_tls(f"cipher_suites: [{suite}]"), True, LENIENT)
            for suite in ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256")
        },
        "no ciphers": WebConfigCase(build_tls("cipher_suites: []"), True),
        "ciphers as a word": WebConfigCase(build_tls("cipher_suites: TLS_AES_128_GCM_SHA256"), False),
        "ciphers of TLS 1.3, which max_version excludes": WebConfigCase(
            build_tls("cipher_suites: [TLS_AES_128_GCM_SHA256]\nmax_version: TLS12"), False, STRICTER
        ),
    },
    "`curve_preferences`": {
        **{
            f"curve {curve}": WebConfigCase(build_tls(f"curve_preferences: [{curve}]"), True)
            for curve in ("CurveP256", "CurveP384", "CurveP521", "X25519")
        },
        **{
            f"curve {curve}": WebConfigCase(build_tls(f"curve_preferences: [{curve}]"), False)
            for curve in ("P256", "x25519", "X25519MLKEM768")
        },
        "all curves": WebConfigCase(build_tls("curve_preferences: [X25519, CurveP256, CurveP384, CurveP521]"), True),
    },
    "`prefer_server_cipher_suites`": {
        **{
            f"prefer_server_cipher_suites {word or 'empty'}": WebConfigCase(
                build_tls(f"prefer_server_cipher_suites: {word}"), True
            )
            for word in ("true", "false", "yes", "No", "ON", "off", "~", "")
        },
        **{
            f"prefer_server_cipher_suites {word}": WebConfigCase(build_tls(f"prefer_server_cipher_suites: {word}"), False)
            for word in ("1", "0", "maybe")
        },
        **{
            f"prefer_server_cipher_suites {letter}": WebConfigCase(
                build_tls(f"prefer_server_cipher_suites: {letter}"), False, STRICTER
            )
            for letter in ("y", "N")
        },
    },
    "`http_server_config`": {
        "http2 off": WebConfigCase("http_server_config: {http2: false}\n", True),
        "http2 in quotes": WebConfigCase("http_server_config: {http2: 'false'}\n", True, LENIENT),
        **{
            f"header {header}": WebConfigCase(f"http_server_config: {{headers: {{{header}}}}}\n", True)
            for header in (
                "Strict-Transport-Security: max-age=31536000",
                "X-Content-Type-Options: nosniff",
                "X-Frame-Options: deny",
                "X-Frame-Options: sameorigin",
                "X-XSS-Protection: 1",
                "Content-Security-Policy: default-src 'self'",
                "Content-Security-Policy: ''",
            )
        },
        **{
            f"header {header}": WebConfigCase(f"http_server_config: {{headers: {{{header}}}}}\n", False)
            for header in (
                "X-Content-Type-Options: sniff",
                "X-Content-Type-Options: ''",
                "X-Frame-Options: DENY",
                "Server: nginx",
                "x-frame-options: deny",
                "Content-Security-Policy: [a]",
            )
        },
        "a header with a line break": WebConfigCase(
            'http_server_config: {headers: {X-XSS-Protection: "1\\nA: b"}}\n', False, STRICTER
        ),
    },
    "`basic_auth_users`": {
        **{
            f"hash {kind}": WebConfigCase(build_user(f"{kind}{DIGEST}"), True)
            for kind in ("$2a$10$", "$2b$10$", "$2x$04$", "$2y$18$", "$2$10$")
        },
        **{
            f"hash {kind}": WebConfigCase(build_user(f"{kind}{DIGEST}"), False)
            for kind in ("$3a$10$", "$2y$03$", "$2y$32$", "$2y$1a$", "y2y$10$")
        },
        **{
            f"hash {kind}": WebConfigCase(build_user(f"{kind}{DIGEST}"), False, STRICTER)
            for kind in ("$1a$10$", "$2z$10$", "$2y$19$", "$2y$31$")
        },
        "a password in plain text": WebConfigCase(build_user("secret"), False),
        "a hash with a letter too many": WebConfigCase(build_user(PASSWORD_HASH + "x"), False, STRICTER),
        "a hash with a letter too few": WebConfigCase(build_user(PASSWORD_HASH[:-1]), False, STRICTER),
        "a hash of strange letters": WebConfigCase(build_user("$2y$10$" + "!" * 53), False, STRICTER),
        "a hash with an impossible salt": WebConfigCase(build_user("$2y$10$" + "9" * 53), False, STRICTER),
        "no hash": WebConfigCase("basic_auth_users: {bob: ''}\n", False),
        "no users": WebConfigCase("basic_auth_users: {}\n", True),
        "users as a list": WebConfigCase("basic_auth_users: [bob]\n", False),
        "a user who is a number": WebConfigCase(f"basic_auth_users:\n  12: '{PASSWORD_HASH}'\n", True),
        "a user with a colon": WebConfigCase(f"basic_auth_users:\n  'a:b': '{PASSWORD_HASH}'\n", False, STRICTER),
        "a user without a name": WebConfigCase(f"basic_auth_users:\n  '': '{PASSWORD_HASH}'\n", False, STRICTER),
    },
    "`rate_limit`": {
        **{
            f"interval {text}": WebConfigCase(f"rate_limit:\n  interval: {text}\n  burst: 20\n", True, since=INLINE_SINCE)
            for text in ("1s", "500ms", "1h30m", "0s", "'1s'")
        },
        **{
            f"interval {text}": WebConfigCase(f"rate_limit:\n  interval: {text}\n  burst: 20\n", False, STRICTER, INLINE_SINCE)
            for text in ("1.5s", "1µs", "0", "1000000000", "-1s")
        },
        "interval 1d": WebConfigCase("rate_limit:\n  interval: 1d\n  burst: 20\n", True, LENIENT),
        **{
            f"interval {text}": WebConfigCase(f"rate_limit:\n  interval: {text}\n  burst: 20\n", False)
            for text in ("1 s", "1S", "''", "1m0", "1e3s", "9999999999s", "true")
        },
        **{
            f"burst {text}": WebConfigCase(f"rate_limit:\n  interval: 1s\n  burst: {text}\n", True, since=INLINE_SINCE)
            for text in ("1", "1_000", "0x10", "010", "0b11", "+5")
        },
        **{
            f"burst {text}": WebConfigCase(f"rate_limit:\n  interval: 1s\n  burst: {text}\n", False)
            for text in ("many", "true", "99999999999999999999", "=")
        },
        "burst in quotes": WebConfigCase("rate_limit: {interval: 1s, burst: '20'}\n", True, LENIENT),
        **{
            f"burst {text or 'empty'}": WebConfigCase(
                f"rate_limit:\n  interval: 1s\n  burst: {text}\n", False, STRICTER, INLINE_SINCE
            )
            for text in ("0", "-1", "", "1.0", "1e3")
        },
        "burst without interval": WebConfigCase("rate_limit: {burst: 3}\n", True, since=INLINE_SINCE),
        "unknown key in rate_limit": WebConfigCase("rate_limit: {per: 1s}\n", False),
    },
}
"""By the keys they are about; docs/web-config.md shows them so."""
CASES = {name: row for rows in CASES_BY_KEY.values() for name, row in rows.items()}
