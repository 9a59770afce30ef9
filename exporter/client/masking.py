"""Our own secrets, cut out of text that came from outside: a receiver or a proxy may quote what it was sent."""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from urllib.parse import quote, quote_plus

MIN_SECRET_LENGTH = 3
"""A shorter text is no secret, and is part of many words."""


def build_mask(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that replaces every secret in a text by `…`, also URL-encoded, as JSON, in base64 or in another case."""
    forms = {form for secret in secrets if len(secret) >= MIN_SECRET_LENGTH for form in _list_forms(secret)}
    if not forms:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))), re.IGNORECASE)
    return lambda text: pattern.sub("…", text)


def _list_forms(secret: str) -> Iterable[str]:
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield json.dumps(secret)[1:-1]
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(secret.encode()).decode()
        for offset in range(3):  # where the secret begins within a group of three bytes
            encoded = encode(bytes(offset) + secret.encode())
            # The characters that depend on neighbouring bytes are left out.
            part = encoded[(0, 2, 3)[offset] : len(encoded) - (0, 3, 2)[(offset + len(secret.encode())) % 3]].decode()
            if len(part) > MIN_SECRET_LENGTH:
                yield part
