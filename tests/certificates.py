"""Certificates made for a test, and web configurations that name them."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from exporter.web.access_control import AccessControl, load_access_control


class CertificateFolder(NamedTuple):
    """What a test signs certificates with, and the folder they are in."""

    ca: trustme.CA
    folder: Path

    def issue_server_certificate(self, name: str = "server") -> trustme.LeafCert:
        """Write new NAME.crt and NAME.key for 127.0.0.1; return the certificate."""
        made = self.ca.issue_cert("127.0.0.1", "localhost")
        for suffix, parts in (("key", [made.private_key_pem]), ("crt", made.cert_chain_pems)):
            (self.folder / f"{name}.new").write_bytes(b"".join(part.bytes() for part in parts))
            (self.folder / f"{name}.new").replace(self.folder / f"{name}.{suffix}")
        return made


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificates(tmp_path: Path, authority: trustme.CA) -> CertificateFolder:
    made = CertificateFolder(authority, tmp_path)
    made.issue_server_certificate("other")
    made.issue_server_certificate()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "junk").write_text("no certificate\n")
    key = serialization.load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.key").write_bytes(key.private_bytes(*form))
    return made


def write_web_config(certificates: CertificateFolder, text: str) -> Path:
    """Write a web configuration; @server.crt stands for the file's text, indented."""

    def inline(match: re.Match[str]) -> str:
        return "".join(f"    {line}\n" for line in (certificates.folder / match[1]).read_text().splitlines())

    file = certificates.folder / "web.yml"
    file.write_text(re.sub(r"    @(\S+)\n", inline, text))
    return file


def build_access_control(certificates: CertificateFolder, text: str) -> AccessControl:
    access_control = load_access_control(write_web_config(certificates, text))
    access_control.close()
    return access_control
