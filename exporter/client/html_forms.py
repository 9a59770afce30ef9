"""Web pages: where a form posts and what a browser would send, scripts, and what a login page requires besides a password."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

from lxml import etree, html
from yarl import URL

_BUTTON_TYPES = frozenset({"submit", "button", "reset", "image", "file"})
MAX_PAGE_LENGTH = 1 << 19
"""No login page is longer; the rest is not read."""
MAX_MARKS, MAX_DEPTH = 20, 200
_CHECKABLE_TYPES = frozenset({"checkbox", "radio"})
UNKNOWN_STEP_HINT = "perhaps a second factor, new terms or a captcha: sign in with a browser"
"""What is said of a page that is none of those known."""


class RequiredStep(StrEnum):
    """What a login page requires besides user name and password; the value is the message."""

    CAPTCHA = "a captcha is required; sign in with a browser once"
    SECOND_FACTOR = "a second factor is required, which is not supported"
    NEW_PASSWORD = "a new password is required; sign in with a browser once"  # noqa: S105  # a message
    TERMS = "new terms must be accepted; sign in with a browser once"
    UNKNOWN = f"the login page has a further field, {UNKNOWN_STEP_HINT}"


_STEP_PATTERNS = {
    RequiredStep.CAPTCHA: (
        r"captcha|\brobot|turnstile|\btypt? (hier )?de (tekens|letters|cijfers)|tekens (over|in|uit) "
        r"|characters? (you see|shown|in the|below)|(saisi|recopi|entre)\w* les (caractères|lettres)"
    ),
    RequiredStep.SECOND_FACTOR: (
        r"(two|multi|second).?(factor|step)|verification.?code|passcode|authenticator|one.?time|\b(otp|totp|tfa|mfa|2fa)\b"
        r"|twee(staps|factor)|tweede factor|verificatie.?code|eenmalige code|(sms|beveiligings|bevestigings).?code"
        r"|(deux|double) (facteurs?|étapes|authentification)|code (de|d.) ?(vérification|sécurité|confirmation)|usage unique"
    ),
    RequiredStep.NEW_PASSWORD: (
        r"(new|change|reset|expired).{0,20}password|password.{0,30}expired|nieuw wachtwoord|wachtwoord.{0,40}(verlopen|wijzig)"
        r"|nouveau mot de passe|mot de passe.{0,40}(expiré|modifi|chang)"
    ),
    RequiredStep.TERMS: r"\bterms|voorwaarden|conditions (générales|d.utilisation)",
}
"""Patterns of pages in English, Dutch and French, the first match first."""
_MARK_PATTERNS = {
    RequiredStep.CAPTCHA: r"captcha",
    RequiredStep.SECOND_FACTOR: r"factor|otp|mfa|tfa|passcode|verif|webauthn|\bsms",
    RequiredStep.NEW_PASSWORD: r"(change|reset|new|expired|force|renew).?password|password.?(change|reset|expired)",
    RequiredStep.TERMS: r"terms|tou\b|consent|privacy|agreement",
}
PAGE_PHRASES = (*_STEP_PATTERNS.values(), *_MARK_PATTERNS.values())
"""All patterns by which pages are told apart."""
_CAPTCHA_WIDGET = re.compile(r"(^|\s)(g-recaptcha|h-captcha|cf-turnstile|frc-captcha|mtcaptcha|altcha)\b", re.IGNORECASE)
_CAPTCHA_ADDRESS = re.compile(r"captcha|turnstile", re.IGNORECASE)
_UNSEEN_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FormInput:
    """One named input: its type in lower case, and its value with HTML's escapes undone."""

    name: str
    type: str
    value: str
    checked: bool = False
    visible: bool = True
    """Whether a user would type into it: not hidden, no button, no checkbox."""
    hint: str = ""
    """What states its purpose: name, id, label and placeholder."""


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
    mark: str = ""
    """The page's own name, from its attributes `data-page`: the same in every language."""
    has_captcha: bool = False
    """Whether it shows a captcha widget, other than in a form without a password."""

    def find_required_step(self, *, by_words: bool = True) -> RequiredStep | None:
        """Return what a page after the password requires: by its mark, a widget, or its words.

        Words alone say little before the password, since every footer names terms.
        """
        marked = (step for step, pattern in _MARK_PATTERNS.items() if re.search(pattern, self.mark, re.IGNORECASE))
        if step := next(marked, RequiredStep.CAPTCHA if self.has_captcha else None):
            return step
        return recognize_step(self.text) if by_words else None

    def find_step_before_password(self, form: HtmlForm, fields: Collection[str]) -> RequiredStep | None:
        """Return what a login page requires besides the named fields: then no password may be sent.

        The words of the page do not count, since every footer names terms; those of a further field do.
        """
        if self.has_captcha:
            return RequiredStep.CAPTCHA
        further = [one for one in form.inputs if one.visible and one.name not in fields]
        if not further:
            return None
        return next((step for one in further if (step := recognize_step(one.hint))), RequiredStep.UNKNOWN)


def recognize_step(text: str) -> RequiredStep | None:
    """Return what a page, a message or a field requires, by its words."""
    return next((step for step, pattern in _STEP_PATTERNS.items() if re.search(pattern, text, re.IGNORECASE)), None)


def parse_page(html_text: str, page_url: str) -> HtmlPage:
    """Return a parsed page of `page_url`; anything but HTML is a page without forms."""
    tree = _parse_html(html_text)
    if tree is None:
        return HtmlPage((), _collapse_whitespace(html_text[:MAX_PAGE_LENGTH]))
    base_url = _find_base(tree, page_url)
    forms = tuple(_parse_form(form, page_url, base_url) for form in tree.iter("form"))
    mark = " ".join(str(tag.get("data-page")) for tag in islice(tree.iterfind(".//*[@data-page]"), MAX_MARKS))
    has_captcha = _has_captcha(tree)
    etree.strip_elements(tree, "script", "style", "template", etree.Comment, etree.ProcessingInstruction, with_tail=False)
    return HtmlPage(forms, _collapse_whitespace(" ".join(tree.itertext())), mark, has_captcha)


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


def _find_base(tree: Any, page_url: str) -> str:
    """Return the base of relative addresses: the page's first `<base href>`, else its own address."""
    base = next((tag.get("href") for tag in tree.iter("base") if tag.get("href") is not None), "")
    return _join(page_url, base)


def _parse_form(form: Any, page_url: str, base_url: str) -> HtmlForm:
    labels = {label.get("for"): label for label in form.iter("label")}
    inputs = (_parse_input(tag, labels) for tag in form.iter("input") if tag.get("name") and tag.get("disabled") is None)
    method = (form.get("method") or "").lower()
    action = form.get("action") or ""
    target = _join(base_url, action) if action.strip() else page_url
    return HtmlForm(target, method if method == "post" else "get", tuple(inputs))


def _parse_input(tag: Any, labels: Mapping[str | None, Any]) -> FormInput:
    kind = (tag.get("type") or "").lower() or "text"
    value = tag.get("value", "on" if kind in _CHECKABLE_TYPES else "")
    visible = kind not in _BUTTON_TYPES | _CHECKABLE_TYPES | {"hidden"} and _is_shown(tag)
    hint = _find_hint(tag, labels) if visible else ""
    return FormInput(tag.get("name"), kind, value, tag.get("checked") is not None, visible, hint)


def _find_hint(tag: Any, labels: Mapping[str | None, Any]) -> str:
    """Return what states the purpose of an input: its attributes, and the label around it or named after it."""
    hints = [tag.get(name) or "" for name in ("name", "id", "placeholder", "aria-label", "title", "autocomplete")]
    label = next(islice(tag.iterancestors("label"), 1), labels.get(tag.get("id")) if tag.get("id") else None)
    return " ".join([*hints, *(islice(label.itertext(), 20) if label is not None else ())])[:1000]


def _is_shown(tag: Any) -> bool:
    """Return whether neither an element nor an ancestor is hidden by its attributes; style sheets are not read."""
    return not any(
        one.get("hidden") is not None or _UNSEEN_STYLE.search(one.get("style") or "")
        for one in (tag, *islice(tag.iterancestors(), MAX_DEPTH))
    )


def _has_captcha(tree: Any) -> bool:
    """Return whether a captcha is shown; one in a form without a password, such as a newsletter's, does not count."""
    others = {form for form in tree.iter("form") if not any(_is_password(one) for one in form.iter("input"))}
    return any(
        _is_captcha(tag) and _is_shown(tag) and next(tag.iterancestors("form"), None) not in others
        for tag in tree.iter("div", "span", "section", "iframe", "img")
    )


def _is_password(tag: Any) -> bool:
    return (tag.get("type") or "").lower() == "password"


def _is_captcha(tag: Any) -> bool:
    if tag.tag in {"iframe", "img"}:
        return _CAPTCHA_ADDRESS.search(tag.get("src") or "") is not None
    return any(_CAPTCHA_WIDGET.search(tag.get(name) or "") for name in ("class", "id"))


def _join(base_url: str, address: str) -> str:
    """Return an absolute address; an invalid one is returned as it is."""
    try:
        return str(URL(base_url).join(URL(address.strip()))) if address.strip() else base_url
    except ValueError:
        return address


def _collapse_whitespace(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
