"""The forms and scripts of a web page: where a form posts, and what a browser would send."""

import re
from dataclasses import dataclass
from typing import Any

from lxml import etree, html
from yarl import URL

_BUTTON_TYPES = frozenset({"submit", "button", "reset", "image", "file"})
MAX_PAGE_LENGTH = 1 << 19
"""No login page is longer; the rest is not read."""
_CHECKABLE_TYPES = frozenset({"checkbox", "radio"})


@dataclass(frozen=True, slots=True)
class FormInput:
    """One named input: its type in lower case, and its value with HTML's escapes undone."""

    name: str
    type: str
    value: str
    checked: bool = False


@dataclass(frozen=True, slots=True)
class HtmlForm:
    """One form: `action` is absolute, `method` is `get` or `post`."""

    action: str
    method: str
    inputs: tuple[FormInput, ...]

    @property
    def values(self) -> dict[str, str]:
        """What a browser would send before any input: no buttons, and only checked boxes."""
        return {
            i.name: i.value for i in self.inputs if i.type not in _BUTTON_TYPES and (i.checked or i.type not in _CHECKABLE_TYPES)
        }

    def has_input(self, type_: str) -> bool:
        """Return whether the form has an input of a type, such as `password`."""
        return any(i.type == type_ for i in self.inputs)

    def posts_to_origin(self, url: str) -> bool:
        """Return whether the form posts to the scheme, host and port of `url`."""
        try:
            return URL(self.action).origin() == URL(url).origin()
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """A web page: its forms, and its visible text, title first, with whitespace collapsed."""

    forms: tuple[HtmlForm, ...]
    text: str


def parse_page(html_text: str, url: str) -> HtmlPage:
    """Return a parsed page of `url`; anything but HTML is a page without forms."""
    tree = _parse_html(html_text)
    if tree is None:
        return HtmlPage((), _collapse_whitespace(html_text[:MAX_PAGE_LENGTH]))
    forms = tuple(_parse_form(form, url) for form in tree.iter("form"))
    etree.strip_elements(tree, "script", "style", "template", etree.Comment, etree.ProcessingInstruction, with_tail=False)
    return HtmlPage(forms, _collapse_whitespace(" ".join(tree.itertext())))


def extract_scripts(html_text: str) -> list[str]:
    """Return the text of a page's scripts."""
    tree = _parse_html(html_text)
    return [] if tree is None else [script.text or "" for script in tree.iter("script")]


def _parse_html(html_text: str) -> Any | None:
    """Return the parsed page, in time linear in its length; Python's own parser takes hours for some pages."""
    parser = html.HTMLParser(encoding="utf-8")
    try:
        return (
            html.document_fromstring(html_text[:MAX_PAGE_LENGTH].encode(errors="replace"), parser=parser)
            if "<" in html_text
            else None
        )
    except (etree.LxmlError, ValueError, AssertionError):
        return None


def _parse_form(form: Any, url: str) -> HtmlForm:
    inputs = (_parse_input(tag) for tag in form.iter("input") if tag.get("name") and tag.get("disabled") is None)
    method = (form.get("method") or "").lower()
    return HtmlForm(_resolve_action(form.get("action") or "", url), method if method == "post" else "get", tuple(inputs))


def _parse_input(tag: Any) -> FormInput:
    kind = (tag.get("type") or "").lower() or "text"
    return FormInput(
        tag.get("name"), kind, tag.get("value", "on" if kind in _CHECKABLE_TYPES else ""), tag.get("checked") is not None
    )


def _resolve_action(action: str, url: str) -> str:
    """Return where a form posts; one without an action posts to its own page."""
    try:
        return str(URL(url).join(URL(action.strip()))) if action.strip() else url
    except ValueError:
        return action


def _collapse_whitespace(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
