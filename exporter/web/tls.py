"""The TLS context of a web configuration."""

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
from exporter.files import read_pem
from exporter.web.web_config import VERIFYING_AUTH_TYPES, Curve, TlsConfig

CURVES: dict[Curve, str] = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
"""OpenSSL's names of the curves."""


def make_context(tls: TlsConfig) -> ssl.SSLContext:
    """Build the context of a configuration; raise ConfigError that names the key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    _set_versions(context, tls)
    if tls.prefer_server_cipher_suites is False:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if tls.ciphers:
        context.set_ciphers(":".join(tls.ciphers))
    _set_curves(context, tls.curve_preferences or ())
    _set_certificate(context, tls)
    _set_client_auth(context, tls)
    return context


def read_alternative_names(certificate: Mapping[str, Any] | None) -> set[str]:
    """Return the subject alternative names of a client's certificate (DNS, e-mail, IP, URI) as Go writes them."""
    names = set()
    for kind, name in (certificate or {}).get("subjectAltName", ()):
        if kind == "IP Address":
            names.add(str(ip_address(name.strip())))
        elif kind in ("DNS", "email", "URI"):
            names.add(name)
    return names


def choose_curve(curves: tuple[Curve, ...]) -> Curve:
    """Choose the one curve to offer if only one is possible: CurveP256, which every client has, if configured."""
    return "CurveP256" if "CurveP256" in curves else curves[0]


def _set_versions(context: ssl.SSLContext, tls: TlsConfig) -> None:
    only_newest = tls.cipher_suites and not tls.ciphers
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "TLS13" or only_newest else ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if tls.max_version == "TLS12" else ssl.TLSVersion.TLSv1_3


def _set_curves(context: ssl.SSLContext, curves: tuple[Curve, ...]) -> None:
    if not curves:
        return
    if sys.version_info >= (3, 15):
        context.set_groups(":".join(CURVES[curve] for curve in curves))
    else:
        chosen = choose_curve(curves)
        try:
            context.set_ecdh_curve(CURVES[chosen])
        except (ssl.SSLError, ValueError):  # Debian 12's Python does not accept X25519
            raise ConfigError(
                f"tls_server_config.curve_preferences: this Python cannot offer {chosen}; name CurveP256 too"
            ) from None


def _set_certificate(context: ssl.SSLContext, tls: TlsConfig) -> None:
    certificate = _read_pem("cert", tls.cert, tls.cert_file)
    key = _read_pem("key", tls.key.get_secret_value() if tls.key else None, tls.key_file)
    if "-----BEGIN CERTIFICATE-----" not in certificate:
        raise ConfigError("tls_server_config.cert: there is no PEM certificate in it")
    if "PRIVATE KEY-----" not in key:
        raise ConfigError("tls_server_config.key: there is no PEM key in it")
    with _open_as_file(f"{key}\n{certificate}\n") as file:
        try:
            context.load_cert_chain(file, password=_refuse_encrypted_key)
        except ssl.SSLError as error:
            raise ConfigError(f"tls_server_config: {_describe_error(error)}") from None


def _set_client_auth(context: ssl.SSLContext, tls: TlsConfig) -> None:
    if not tls.verifies_client:
        return
    if tls.client_ca or tls.client_ca_file:
        authorities = _read_pem("client_ca", tls.client_ca, tls.client_ca_file)
        try:
            context.load_verify_locations(cadata=authorities)
        except (ssl.SSLError, ValueError):
            raise ConfigError("tls_server_config.client_ca: there is no PEM certificate in it") from None
    else:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    context.verify_mode = ssl.CERT_REQUIRED if tls.client_auth_type in VERIFYING_AUTH_TYPES else ssl.CERT_OPTIONAL


def _read_pem(key: str, text: str | None, file: Path | None) -> str:
    """Return the content of the file or, without one, of the configuration itself."""
    if file is None:
        return text or ""
    try:
        return read_pem(file)
    except ValueError as error:
        raise ConfigError(f"tls_server_config.{key}_file: {file} {error}") from None


@contextmanager
def _open_as_file(text: str) -> Iterator[str]:
    """Provide a text as a file, as `ssl` requires; in memory if possible, for it contains a private key."""
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


def _refuse_encrypted_key() -> str:
    raise ConfigError("tls_server_config.key: the key is encrypted; a server needs one without a passphrase")


def _describe_error(error: ssl.SSLError) -> str:
    known = {
        "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
        "EE_KEY_TOO_SMALL": "the certificate's key is too short",
        "CA_MD_TOO_WEAK": "the certificate's signature is too weak",
    }
    return known.get(error.reason or "", f"the certificate or the key cannot be used ({(error.reason or 'unreadable').lower()})")
