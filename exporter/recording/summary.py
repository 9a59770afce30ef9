"""What a person sees of a recording before it is sent to anybody."""

from collections import Counter
from datetime import datetime
from typing import Any

from exporter.recording.dates import MOVE

MAX_WORDS = 40


def summarize(document: dict[str, Any]) -> str:
    """Return a recording in some lines."""
    calls = document["calls"]
    at = datetime.fromisoformat(document["at"]) - MOVE
    failure = document["failure"]
    rows, skipped = (int(document["left_out"][name].text) for name in ("rows", "calls"))
    lines = {
        "visit": f"{at:%Y-%m-%d %H:%M} UTC at {document['config']['portal']}",
        "outcome": f"{failure['reason']}: {failure['message']}" if failure else "no failure",
        "requests": _count(call["request"]["method"] for call in calls) + (f"; {skipped} too large to record" if skipped else ""),
        "responses": _count(_describe_response(call) for call in calls),
        "left out": f"{rows} rows of long lists; those that stand for them are kept" if rows else "nothing",
        "replaced": "every text, number and address that is not listed here; dates moved, amounts times a secret factor",
        "as it was": _list_words(document["kept_words"]),
    }
    return "".join(f"  {name:<10} {text}\n" for name, text in lines.items())


def _count(words: Any) -> str:
    return ", ".join(f"{count} {word}" for word, count in Counter(words).most_common()) or "none"


def _describe_response(call: dict[str, Any]) -> str:
    if "error" in call:
        return "without a response"
    response = call["response"]
    kinds = {"json": "JSON", "html": "web page", "text": "text", "bytes": "binary", "same_as_call": "repeated"}
    kind = next((kind for name, kind in kinds.items() if name in response), "without its body")
    return f"{kind} ({response['status'].text})"


def _list_words(words: list[str]) -> str:
    shown = ", ".join(words[:MAX_WORDS])
    return f"{shown} and {len(words) - MAX_WORDS} more (kept_words)" if len(words) > MAX_WORDS else shown or "nothing"
