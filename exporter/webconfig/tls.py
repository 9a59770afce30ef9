"""TLS contexts out of a web configuration: new ones for new connections whenever the files change."""

import os
import ssl
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from exporter.errors import ConfigError
from exporter.webconfig.shape import VERIFIED, Tls
from exporter.webconfig.suites import CURVES, ciphers_of

LARGEST_FILE = 1 << 20


class Switch(ssl.SSLContext):
    """The context a listener is given: each new connection gets the one that is in force then."""

    inner: ssl.SSLContext

    def wrap_bio(self, *arguments: Any, **more: Any) -> ssl.SSLObject:
        """Begin a connection."""
        return self.inner.wrap_bio(*arguments, **more)


def switch_to(context: ssl.SSLContext) -> Switch:
    """Make a switch that gives a context."""
    made = Switch(ssl.PROTOCOL_TLS_SERVER)
    made.inner = context
    return made


def make_context(tls: Tls) -> ssl.SSLContext:
    """Make the context of a configuration; raises ConfigError, a fault a line, that names the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    _set_versions(context, tls)
    if tls.prefer_server_cipher_suites is False:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if ciphers := ciphers_of(tls.cipher_suites or ()):
        context.set_ciphers(":".join(ciphers))
    _set_curves(context, tls.curve_preferences or ())
    _set_certificate(context, tls)
    _set_client_auth(context, tls)
    return context


def names_of(certificate: Mapping[str, Any] | None) -> set[str]:
    """Give the subject's alternative names of a client's certificate (DNS, e-mail, IP, URI) as Go writes them."""
    names = set()
    for kind, name in (certificate or {}).get("subjectAltName", ()):
        if kind == "IP Address":
            names.add(str(ip_address(name.strip())))
        elif kind in ("DNS", "email", "URI"):
            names.add(name)
    return names


def one_curve(curves: tuple[str, ...]) -> str:
    """Choose the curve to offer where only one can be: the one every client has, if it is among them."""
    return "CurveP256" if "CurveP256" in curves else curves[0]


def _set_versions(context: ssl.SSLContext, tls: Tls) -> None:
    only_newest = tls.cipher_suites and not ciphers_of(tls.cipher_suites)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "TLS13" or only_newest else ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if tls.max_version == "TLS12" else ssl.TLSVersion.TLSv1_3


def _set_curves(context: ssl.SSLContext, curves: tuple[str, ...]) -> None:
    if not curves:
        return
    if sys.version_info >= (3, 15):
        context.set_groups(":".join(CURVES[curve] for curve in curves))
    else:
        chosen = one_curve(curves)
        try:
            context.set_ecdh_curve(CURVES[chosen])
        except (ssl.SSLError, ValueError):  # X25519 is none for the Python of Debian 12
            raise ConfigError(
                f"tls_server_config.curve_preferences: this Python cannot offer {chosen}; name CurveP256 too"
            ) from None


def _set_certificate(context: ssl.SSLContext, tls: Tls) -> None:
    certificate = _pem("cert", tls.cert, tls.cert_file)
    key = _pem("key", tls.key.get_secret_value() if tls.key else None, tls.key_file)
    if "-----BEGIN CERTIFICATE-----" not in certificate:
        raise ConfigError("tls_server_config.cert: there is no PEM certificate in it")
    if "PRIVATE KEY-----" not in key:
        raise ConfigError("tls_server_config.key: there is no PEM key in it")
    with _as_file(f"{key}\n{certificate}\n") as file:
        try:
            context.load_cert_chain(file, password=_no_password)
        except ssl.SSLError as error:
            raise ConfigError(f"tls_server_config: {_words(error)}") from None


def _set_client_auth(context: ssl.SSLContext, tls: Tls) -> None:
    if not tls.asks_for_certificate:
        return
    if tls.client_ca or tls.client_ca_file:
        authorities = _pem("client_ca", tls.client_ca, tls.client_ca_file)
        try:
            context.load_verify_locations(cadata=authorities)
        except (ssl.SSLError, ValueError):
            raise ConfigError("tls_server_config.client_ca: there is no PEM certificate in it") from None
    else:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED if tls.client_auth_type in VERIFIED else ssl.CERT_OPTIONAL


def _pem(key: str, text: str | None, file: Path | None) -> str:
    """Give what a file or, without one, the configuration itself holds."""
    if file is None:
        return text or ""
    place = f"tls_server_config.{key}_file"
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{place}: {file} cannot be read: {(error.strerror or 'error').lower()}") from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{place}: {file} is larger than {LARGEST_FILE >> 10} KiB")
    return content.decode("ascii", "replace").replace("\ufffd", "?")


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """Lend a text as a file, which is what `ssl` wants; in memory where the system can, for it holds a private key."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("tls", os.MFD_CLOEXEC), "w") as memory:
            memory.write(text)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(text)
            file.flush()
            yield file.name


def _no_password() -> str:
    raise ConfigError("tls_server_config.key: the key is encrypted; a server needs one without a passphrase")


def _words(error: ssl.SSLError) -> str:
    known = {
        "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
        "EE_KEY_TOO_SMALL": "the certificate's key is too short",
        "CA_MD_TOO_WEAK": "the certificate's signature is too weak",
    }
    return known.get(error.reason or "", f"the certificate or the key cannot be used ({(error.reason or 'unreadable').lower()})")
