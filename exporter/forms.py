"""Reading the forms and scripts of a web page: where a form posts, and what a browser would send."""

import re
from dataclasses import dataclass
from typing import Any

from lxml import etree, html
from yarl import URL

_BUTTONS = frozenset({"submit", "button", "reset", "image", "file"})
LONGEST = 1 << 19
"""No login page is longer; what stands beyond is not read."""
_BOXES = frozenset({"checkbox", "radio"})


@dataclass(frozen=True, slots=True)
class Input:
    """One named input: its type in lower case, and its value with HTML's escapes undone."""

    name: str
    kind: str
    value: str
    checked: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """One form: `action` is absolute, `method` is `get` or `post`."""

    action: str
    method: str
    inputs: tuple[Input, ...]

    @property
    def values(self) -> dict[str, str]:
        """What a browser would send before anybody typed: no buttons, and only the boxes that are ticked."""
        return {i.name: i.value for i in self.inputs if i.kind not in _BUTTONS and (i.checked or i.kind not in _BOXES)}

    def asks_for(self, kind: str) -> bool:
        """Whether the form has an input of a type, such as `password`."""
        return any(i.kind == kind for i in self.inputs)

    def stays_at(self, url: str) -> bool:
        """Whether what is typed in goes to the scheme, host and port of `url`, and nowhere else."""
        try:
            return URL(self.action).origin() == URL(url).origin()
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Page:
    """A web page: its forms, and the text a reader sees, title first, blanks run together."""

    forms: tuple[Form, ...]
    text: str


def read_page(page: str, url: str) -> Page:
    """Read a page that came from `url`; what is no HTML is a page without forms."""
    tree = _parsed(page)
    if tree is None:
        return Page((), _plain(page[:LONGEST]))
    forms = tuple(_form(form, url) for form in tree.iter("form"))
    etree.strip_elements(tree, "script", "style", "template", etree.Comment, etree.ProcessingInstruction, with_tail=False)
    return Page(forms, _plain(" ".join(tree.itertext())))


def scripts(page: str) -> list[str]:
    """Give the text of a page's scripts."""
    tree = _parsed(page)
    return [] if tree is None else [script.text or "" for script in tree.iter("script")]


def _parsed(page: str) -> Any | None:
    """Parse in time that grows with the page's length; Python's own parser takes hours for some pages."""
    parser = html.HTMLParser(encoding="utf-8")
    try:
        return html.document_fromstring(page[:LONGEST].encode(errors="replace"), parser=parser) if "<" in page else None
    except (etree.LxmlError, ValueError, AssertionError):
        return None


def _form(form: Any, url: str) -> Form:
    inputs = (_input(tag) for tag in form.iter("input") if tag.get("name") and tag.get("disabled") is None)
    method = (form.get("method") or "").lower()
    return Form(_absolute(form.get("action") or "", url), method if method == "post" else "get", tuple(inputs))


def _input(tag: Any) -> Input:
    kind = (tag.get("type") or "").lower() or "text"
    return Input(tag.get("name"), kind, tag.get("value", "on" if kind in _BOXES else ""), tag.get("checked") is not None)


def _absolute(action: str, url: str) -> str:
    """Where a form posts; one without an action posts to its own page."""
    try:
        return str(URL(url).join(URL(action.strip()))) if action.strip() else url
    except ValueError:
        return action


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
