"""What a misspelt word may have meant."""

import difflib
from collections.abc import Iterable


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the most similar known word as `; did you mean every?`, or an empty text."""
    meant = find_similar(word, known)
    return f"; did you mean {meant}?" if meant else ""


def find_similar(word: str, known: Iterable[str]) -> str:
    """Return the most similar known word, or an empty text."""
    by_folded = {one.casefold(): one for one in known}
    matches = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else ""
