"""What may stand in a recording as it is: the words that a portal's client knows, and the meaning of its fields."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

MAX_WORD_LENGTH = 64
_STANDARD_WORDS = """
Bearer Basic access_token refresh_token token_type expires_in id_token error error_description grant_type authorization_code
client_credentials code state scope nonce redirect_uri client_id response_type response_mode query code_challenge
code_challenge_method code_verifier S256 invalid_grant invalid_client invalid_request access_denied server_error
temporarily_unavailable sub iss aud exp iat nbf jti alg typ JWT HS256 RS256 kid
post get submit hidden checkbox radio text email password button on
"""
STANDARD_INSTANTS = frozenset({"exp", "iat", "nbf", "auth_time", "expires_at", "ends", "made", "at"})
"""Those of tokens, and of what the clients keep themselves."""
STANDARD_DURATIONS = frozenset({"expires_in", "refresh_token_expires_in", "not_before"})
PUBLIC_WORDS = frozenset(_STANDARD_WORDS.split())
"""OAuth 2, JSON Web Tokens and HTML forms: words of standards."""


@dataclass(frozen=True, slots=True)
class RedactionRules:
    """What is safe of one portal's requests and responses; everything else is replaced.

    `amounts`, `codes` and `instants` are names of fields: numbers that are scaled, whole numbers of closed lists (at most three
    digits) that are kept, and seconds or milliseconds since 1970 that are moved. `code_patterns` match error codes and the like,
    which are kept wherever they stand; of what `phrases` match (the clients tell pages and messages apart by them) only the
    letters that make them match are kept.
    """

    package: str = ""
    """The portal's own package: texts that stand in its source are public, and are what its client knows."""
    amounts: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    instants: frozenset[str] = frozenset()
    code_patterns: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()
    words: frozenset[str] = field(default=frozenset())
    """Further texts of closed lists, such as the units of a portal that its client passes on as they are."""

    def collect_words(self) -> frozenset[str]:
        """Return every text that is kept as it is."""
        return self.words | PUBLIC_WORDS | (read_literals(self.package) if self.package else frozenset())


@cache
def read_literals(package: str) -> frozenset[str]:
    """Return the words in the texts of a package's source, docstrings aside, and the names of its models' fields."""
    spec = find_spec(package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    files = sorted(file for folder in folders for file in folder.glob("*.py"))
    if spec and not folders and spec.origin:
        files = [Path(spec.origin)]  # a module of one file
    return frozenset(word for file in files for word in _read_file(file))


def _read_file(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text("utf-8"))
    sentences = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings, and those of constants
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in sentences:
            yield from _split_words(node.value)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id  # the field of a response


def _split_words(text: str) -> Iterator[str]:
    """Return the text itself where it is one word, and the segments of a path."""
    for word in (text, *text.split("/")):
        if 0 < len(word) <= MAX_WORD_LENGTH and not any(map(str.isspace, word)):
            yield word
