"""Web pages reduced to what a client reads of them: forms, script variables it knows, phrases it looks for."""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from exporter.client.html_forms import PAGE_PHRASES, FormInput, HtmlForm, extract_scripts, parse_page
from exporter.recording.json_text import parse_json
from exporter.recording.redaction import Redactor

MAX_VARIABLES = 50
_INPUT_TYPES = frozenset(
    {"hidden", "text", "email", "password", "tel", "number", "checkbox", "radio", "submit", "button", "reset", "image", "file"}
)
_VARIABLE = re.compile(r"\b([A-Za-z_]\w{0,60})\s*=\s*(?=\{)", re.ASCII)


def reduce_page(redactor: Redactor, text: str, url: str) -> dict[str, Any]:
    """Return a page without anything but its redacted forms, known script variables and known phrases."""
    page = parse_page(text, url)
    return {
        "forms": [_reduce_form(redactor, form) for form in page.forms],
        "scripts": {name: redactor.redact(value) for name, value in _find_variables(text) if redactor.is_word(name)},
        "phrases": redactor.redact_page_text(page.text, PAGE_PHRASES),
        "marks": redactor.redact_page_text(page.mark, PAGE_PHRASES),
        "captcha": page.has_captcha,
    }


def learn_page(redactor: Redactor, text: str, url: str) -> None:
    """Note a page's texts before anything is redacted."""
    for form in parse_page(text, url).forms:
        redactor.learn([form.action, *(part for field in form.inputs for part in (field.name, field.value))])
    for _, value in _find_variables(text):
        redactor.learn(value)


def _reduce_form(redactor: Redactor, form: HtmlForm) -> dict[str, Any]:
    inputs = [_reduce_input(redactor, field) for field in form.inputs]
    return {"action": redactor.redact_url(form.action), "method": form.method, "inputs": inputs}


def _reduce_input(redactor: Redactor, field: FormInput) -> dict[str, Any]:
    kind = field.type if field.type in _INPUT_TYPES else "text"
    reduced = {"name": redactor.redact_name(field.name), "type": kind, "value": redactor.redact_text(field.value, field.name)}
    flags = {name: True for name, is_set in (("checked", field.checked), ("visible", field.visible)) if is_set}
    hints = redactor.redact_page_text(field.hint, PAGE_PHRASES)
    return reduced | flags | ({"hints": hints} if hints else {})


def _find_variables(text: str) -> Iterator[tuple[str, Any]]:
    decoder = json.JSONDecoder()
    for script in extract_scripts(text):
        for match in islice(_VARIABLE.finditer(script), MAX_VARIABLES):
            try:
                _, end = decoder.raw_decode(script, match.end())
                yield match[1], parse_json(script[match.end() : end])
            except (ValueError, RecursionError):
                continue
