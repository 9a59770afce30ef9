"""Proof Key for Code Exchange (RFC 7636), for portals whose login is OAuth 2 for a public client."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True)
class PkcePair:
    """The code verifier of one login, and its challenge."""

    verifier: str = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """Return a pair of 64 random bytes, 86 characters."""
        return cls(_encode_base64url(secrets.token_bytes(64)))

    @property
    def challenge(self) -> str:
        """The verifier's SHA-256, the `code_challenge` of method `S256`."""
        return _encode_base64url(hashlib.sha256(self.verifier.encode()).digest())


def _encode_base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
