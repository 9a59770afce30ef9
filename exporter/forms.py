"""Reading the forms of a web page: where they post, and what a browser would send."""

import re
import warnings
from dataclasses import dataclass

from bs4 import BeautifulSoup, Tag, XMLParsedAsHTMLWarning
from bs4.exceptions import ParserRejectedMarkup
from yarl import URL

_BUTTONS = frozenset({"submit", "button", "reset", "image", "file"})
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


def read_page(html: str, url: str) -> Page:
    """Read a page that came from `url`; what is no HTML is a page without forms."""
    if "<" not in html:
        return Page((), _plain(html))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)  # XHTML is read as a browser reads it
        try:
            page = BeautifulSoup(html, "html.parser")
        except ParserRejectedMarkup:
            return Page((), _plain(html))
    return Page(tuple(_form(form, url) for form in page.find_all("form")), _plain(page.get_text(" ")))


def _form(form: Tag, url: str) -> Form:
    inputs = (_input(tag) for tag in form.find_all("input") if tag.get("name") and not tag.has_attr("disabled"))
    method = _attribute(form, "method").lower()
    return Form(_absolute(_attribute(form, "action"), url), method if method == "post" else "get", tuple(inputs))


def _input(tag: Tag) -> Input:
    kind = _attribute(tag, "type").lower() or "text"
    empty = "on" if kind in _BOXES else ""
    value = _attribute(tag, "value") if tag.has_attr("value") else empty
    return Input(_attribute(tag, "name"), kind, value, tag.has_attr("checked"))


def _absolute(action: str, url: str) -> str:
    """Where a form posts; one without an action posts to its own page."""
    try:
        return str(URL(url).join(URL(action.strip()))) if action.strip() else url
    except ValueError:
        return action


def _attribute(tag: Tag, name: str) -> str:
    return str(tag.get(name) or "")


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
