"""Web pages reduced to what a client reads of them: forms, script variables it knows, phrases it looks for."""

import html
import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from exporter.client.html_forms import HtmlForm, extract_scripts, parse_page
from exporter.recording.json_text import format_compact, parse_json
from exporter.recording.redaction import Redactor

MAX_VARIABLES = 50
_VARIABLE = re.compile(r"\b([A-Za-z_]\w{0,60})\s*=\s*(?=\{)", re.ASCII)


def reduce_page(redactor: Redactor, text: str, url: str) -> dict[str, Any]:
    """Return a page without anything but its redacted forms, known script variables and known phrases."""
    page = parse_page(text, url)
    return {
        "forms": [_reduce_form(redactor, form) for form in page.forms],
        "scripts": {name: redactor.redact(value) for name, value in _find_variables(text) if redactor.is_word(name)},
        "phrases": redactor.redact_page_text(page.text),
    }


def learn_page(redactor: Redactor, text: str, url: str) -> None:
    """Note a page's texts before anything is redacted."""
    for form in parse_page(text, url).forms:
        redactor.learn([form.action, *(part for field in form.inputs for part in (field.name, field.value))])
    for _, value in _find_variables(text):
        redactor.learn(value)


def render_page(page: dict[str, Any]) -> str:
    """Return a web page that a client reads as it read the one that was reduced."""
    variables = "".join(f"var {name} = {format_compact(value)};" for name, value in page["scripts"].items())
    forms = "".join(_render_form(form) for form in page["forms"])
    phrases = "".join(f"<p>{html.escape(phrase)}</p>" for phrase in page["phrases"])
    return f"<!DOCTYPE html><html><head><script>{variables}</script></head><body>{forms}{phrases}</body></html>"


def _reduce_form(redactor: Redactor, form: HtmlForm) -> dict[str, Any]:
    inputs = [
        {
            "name": redactor.redact_name(field.name),
            "type": redactor.redact_text(field.type),
            "value": redactor.redact_text(field.value, field.name),
        }
        | ({"checked": True} if field.checked else {})
        for field in form.inputs
    ]
    return {"action": redactor.redact_url(form.action), "method": form.method, "inputs": inputs}


def _find_variables(text: str) -> Iterator[tuple[str, Any]]:
    decoder = json.JSONDecoder()
    for script in extract_scripts(text):
        for match in islice(_VARIABLE.finditer(script), MAX_VARIABLES):
            try:
                _, end = decoder.raw_decode(script, match.end())
                yield match[1], parse_json(script[match.end() : end])
            except (ValueError, RecursionError):
                continue


def _render_form(form: dict[str, Any]) -> str:
    inputs = "".join(
        f'<input name="{html.escape(field["name"])}" type="{html.escape(field["type"])}" value="{html.escape(field["value"])}"'
        f"{' checked' if field.get('checked') else ''}>"
        for field in form["inputs"]
    )
    return f'<form action="{html.escape(form["action"])}" method="{form["method"]}">{inputs}</form>'
