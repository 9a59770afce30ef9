"""Redaction by allow-list: structure is kept, and what is not known to be safe is replaced.

- Problem: what a portal answered is needed to fix its client, and is full of names, numbers, secrets and habits.
- Idea: a text is replaced unless it is a word that the client's own source knows. It is split into runs of letters and digits,
  and each run becomes an invented one of the same pattern, always the same for the same run: identifiers still join, also
  inside addresses and longer texts. Nobody looks for secrets: in whatever encoding one stands, it is a run like any other.
- Amounts are multiplied by one secret factor, dates moved (`dates.py`), other numbers replaced like texts.
- Whole numbers that were learned keep their order: some lists are sorted by them.
- Invariants: the type and the place of every value stay; null stays null; an invented run is never one that came in; two runs of
  four or more characters never become one; key and factor are in no file.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from exporter.recording.dates import DATE_PATTERN, DateRedaction
from exporter.recording.json_text import Number, format_compact, parse_json
from exporter.recording.rules import STANDARD_DURATIONS, STANDARD_INSTANTS, RedactionRules

SECRET = "secret"  # noqa: S105  # what stands in the place of one
MIN_LENGTH = 4
"""Shorter runs identify nobody, and there are too few of them to invent one for each."""
_RUN = re.compile(r"[^\W_]+")
_OTHER_SIGNS = re.compile(r"[\W_]{4,}")
_UNUSUAL_SIGN = re.compile(r"[^\x20-\x7e\n]")
_NUMBER_TEXT = re.compile(
    r"(?P<sign>[-+]?)(?P<whole>\d{1,3}(?:[. ]\d{3})+(?=,)|\d+)(?:(?P<point>[.,])(?P<fraction>\d+))?(?P<exponent>[eE][-+]?\d+)?",
    re.ASCII,
)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}://\S+|/[^\s/]\S*", re.IGNORECASE)
"""A whole one, or a path."""
_JWT = re.compile(r"([A-Za-z0-9_-]{8,})\.([A-Za-z0-9_-]{8,})\.([A-Za-z0-9_-]*)")
_FIELD_NAME = re.compile(r"[A-Za-z_$@][A-Za-z0-9_$@.-]{0,39}", re.ASCII)
_SECRET_FIELD = re.compile(r"pass(word|wd|phrase)?$|^pin$|secret|wachtwoord|motdepasse|heslo", re.IGNORECASE)
_LOWER, _UPPER, _ACCENTED = "bcdfghjklmnpqrstvwxz", "BCDFGHJKLMNPQRSTVWXZ", "äëïöüčřšžň"
"""No vowels: what is invented is no word."""


def draw_factor() -> Decimal:
    """Return a factor between a half and two, and never near one."""
    drawn = Decimal(secrets.randbelow(4_000_000)) / 10_000_000
    return (Decimal("0.5") + drawn) if secrets.randbelow(2) else (Decimal("1.2") + 2 * drawn)


@dataclass(slots=True)
class Redactor:
    """The redaction of one recording; `now` is the visit's instant, `hosts` fills with the hosts that had to be replaced."""

    rules: RedactionRules
    now: datetime
    secret_texts: Set[str] = frozenset()
    """The account's own secrets: nothing of them is shown, not even their length."""
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    factor: Decimal = field(default_factory=draw_factor, repr=False)
    hosts: dict[str, str] = field(default_factory=dict)
    kept_words: set[str] = field(default_factory=set)
    """The texts that were kept as they are."""
    _words: frozenset[str] = field(init=False, repr=False)
    _invented: dict[str, str] = field(default_factory=dict, repr=False)
    _used: set[str] = field(default_factory=set, repr=False)
    _replaced_texts: set[str] = field(default_factory=set, repr=False)
    _dates: DateRedaction = field(init=False, repr=False)
    _code_patterns: re.Pattern[str] | None = field(init=False, repr=False)
    _phrases: tuple[re.Pattern[str], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._words = self.rules.collect_words()
        self._dates = DateRedaction(self.now, self._draw)
        self._code_patterns = re.compile("|".join(self.rules.code_patterns)) if self.rules.code_patterns else None
        self._phrases = tuple(re.compile(pattern, re.IGNORECASE) for pattern in self.rules.phrases)

    def learn(self, value: Any) -> None:
        """Note the texts of a value before anything is redacted: none of them is invented for another."""
        match value:
            case Number():
                self._used.update(_RUN.findall(value.text))
            case str():
                self._replaced_texts.add(value)
                self._used.update(_RUN.findall(value))
            case dict():
                for name, part in value.items():
                    self._used.update(_RUN.findall(name))
                    self.learn(part)
            case list():
                for part in value:
                    self.learn(part)

    def plan_numbers(self) -> None:
        """Invent all numbers that were learned at once, so that they keep their order."""
        by_length: dict[int, list[str]] = {}
        for run in self._used:
            if run.isascii() and run.isdecimal() and run[0] != "0" and len(run) >= MIN_LENGTH:
                by_length.setdefault(len(run), []).append(run)
        for length, runs in by_length.items():
            lowest = 10 ** (length - 1)
            if len(runs) > lowest:
                continue  # too many to find others at random
            drawn: set[str] = set()
            for attempt in count():
                made = str(lowest + self._draw(f"{length} {attempt}", 9 * lowest))
                drawn |= {made} - self._used
                if len(drawn) == len(runs):
                    break
            self._invented.update(zip(sorted(runs), sorted(drawn), strict=True))
        self._used.update(self._invented.values())

    def redact(self, value: Any, name: str = "") -> Any:
        """Return a JSON value (numbers as `Number`) with its structure kept; `name` is the field it stands in."""
        match value:
            case None:
                return None
            case bool():
                return value if name in self._words else False
            case Number():
                return Number(self.redact_number(value.text, name))
            case str():
                return self.redact_text(value, name)
            case list():
                return [self.redact(part, name) for part in value]
            case dict():
                return self._redact_object(value)
        raise TypeError(f"{type(value).__name__} is not valid JSON")

    def redact_text(self, text: str, name: str = "") -> str:
        """Return a text in the form it had."""
        if text and self._is_secret(text, name):
            return SECRET
        if not text or self._is_kept(text, name):
            return text
        return self._redact_known_form(text, name) or self._redact_free_text(text)

    def _is_kept(self, text: str, name: str) -> bool:
        if not self.is_word(text.strip()) or name in self.rules.amounts:
            return False
        self.kept_words.add(text)
        return True

    def _redact_known_form(self, text: str, name: str) -> str | None:
        """Return an address, a number with or without a unit, or a token; None for any other text."""
        if _ADDRESS.fullmatch(text):
            return self.redact_url(text)
        if (match := _NUMBER_TEXT.match(text)) and (
            name in self.rules.amounts or match["whole"].strip("0") or len(text) < MIN_LENGTH
        ):
            number, unit = self._redact_number_text(match, name), text[match.end() :]
            if not unit or unit.strip() in self._words:
                return number + unit
        if (match := _JWT.fullmatch(text)) and (token := self._redact_jwt(match)):
            return token
        return None

    def redact_number(self, text: str, name: str = "") -> str:
        """Return a number in the form it had; 0 stays 0."""
        match = _NUMBER_TEXT.fullmatch(text)
        assert match is not None, "a number of JSON"
        return self._redact_number_text(match, name)

    def redact_url(self, url: str) -> str:
        """Return an address: hosts that the client does not know and unknown segments replaced, and the query's values."""
        try:
            parts = urlsplit(url)
            host = self._redact_host(parts.scheme, parts.netloc) if parts.netloc else ""
            query = parse_qsl(parts.query, keep_blank_values=True, max_num_fields=200)
        except ValueError:
            return self._redact_free_text(url)
        scheme, netloc = host.split("://", 1) if host else (parts.scheme, "")
        path = "/".join(quote(self.redact_text(unquote(segment)), safe="@:+,;=!$'()*~") for segment in parts.path.split("/"))
        pairs = [(self.redact_name(key), self.redact_text(value, key)) for key, value in query]
        return urlunsplit((scheme, netloc, path, urlencode(pairs), self._redact_free_text(unquote(parts.fragment))))

    def redact_name(self, name: str) -> str:
        """Return the name of a field: kept where the client knows it, or where it looks like a name and is nobody's value."""
        if name in self._words:
            return name
        digits = sum(map(str.isdigit, name))
        if _FIELD_NAME.fullmatch(name) and digits < MIN_LENGTH and not self._is_value(name) and not self._is_secret(name, ""):
            return name
        return self._redact_free_text(name)

    def redact_token(self, text: str) -> str | None:
        """Return a JSON Web Token with invented contents; None for what is none."""
        match = _JWT.fullmatch(text)
        return self._redact_jwt(match) if match else None

    def redact_account_text(self, text: str) -> str:
        """Return a text of the configuration: its user's name too keeps a form that is valid there."""
        return (
            text if text in self._words else self.redact_url(text) if _ADDRESS.fullmatch(text) else self._redact_free_text(text)
        )

    def redact_date_header(self, text: str) -> str:
        """Return the date of an HTTP header moved; nothing for anything else."""
        return self._dates.redact_http_date(text) or ""

    def redact_dates(self, text: str) -> str:
        """Return a text of the program's own with its dates moved."""
        return DATE_PATTERN.sub(lambda match: self._dates.redact_match(match) or match[0], text)

    def is_word(self, text: str) -> bool:
        """Return whether a text is one that the client knows."""
        return text in self._words or text.lower() in self._words  # codes are compared so

    def redact_page_text(self, text: str, phrases: Iterable[str] = ()) -> list[str]:
        """Return the phrases by which a client would know a page, without what stands around them."""
        patterns = (*self._phrases, *(re.compile(phrase, re.IGNORECASE) for phrase in phrases))
        found = [_keep_phrase(pattern, match[0]) for pattern in patterns if (match := pattern.search(text)) and match[0]]
        return list(dict.fromkeys(found))

    def _redact_object(self, value: dict[str, Any]) -> dict[str, Any]:
        redacted: dict[str, Any] = {}
        for name, part in value.items():
            new = self.redact_name(name)
            while new in redacted:
                new += "x"
            redacted[new] = self.redact(part, name)
        return redacted

    def _is_value(self, name: str) -> bool:
        return len(name) >= MIN_LENGTH and name in self._replaced_texts

    def _is_secret(self, text: str, name: str) -> bool:
        if _SECRET_FIELD.search(name):
            return True
        return any(secret in text for secret in self.secret_texts if len(secret) >= MIN_LENGTH - 1)

    def _redact_number_text(self, match: re.Match[str], name: str) -> str:
        text, is_whole = match[0], match["point"] is None and match["exponent"] is None
        max_length = 7 if name in STANDARD_DURATIONS else MIN_LENGTH - 1 if name in self.rules.codes else 0
        if is_whole and len(match["whole"]) <= max_length:
            return text
        if name in self.rules.amounts:
            return _scale(match, self.factor)
        if name in self.rules.instants | STANDARD_INSTANTS and (moved := self._dates.redact_number(text)):
            return moved
        parts = (match["sign"], match["whole"], match["point"] or "", match["fraction"] or "", "e0" if match["exponent"] else "")
        return "".join(self._redact_digits(part) if part[:1].isdigit() else part for part in parts)

    def _redact_digits(self, digits: str) -> str:
        return _RUN.sub(lambda run: run[0] if run[0] in ("0", "00", "000") else self._invent(run[0]), digits)

    def _redact_host(self, scheme: str, netloc: str) -> str:
        origin = f"{scheme}://{netloc.rpartition('@')[2]}"
        if any(word == origin or word.startswith(f"{origin}/") for word in self._words):
            return origin
        return self.hosts.setdefault(
            origin, f"{scheme if scheme in ('http', 'https') else 'other'}://host-{len(self.hosts) + 1}.invalid"
        )

    def _redact_jwt(self, match: re.Match[str]) -> str | None:
        """Return a JSON Web Token that says the same of invented people, its signature invented too."""
        parts = []
        for encoded in match.groups()[:2]:
            try:
                parsed = parse_json(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
            except ValueError:
                return None
            if not isinstance(parsed, dict):
                return None
            self.learn(parsed)
            parts.append(base64.urlsafe_b64encode(format_compact(self.redact(parsed)).encode()).decode().rstrip("="))
        return ".".join((*parts, self._redact_runs(match[3])))

    def _redact_free_text(self, text: str) -> str:
        """Return a text whose runs of letters and digits are invented; dates in it are moved, known codes and phrases kept."""
        pieces, position = [], 0
        for start, end, safe in self._find_safe_spans(text):
            if start >= position:
                pieces += [self._redact_runs(text[position:start]), safe]
                position = end
        return "".join((*pieces, self._redact_runs(text[position:])))

    def _find_safe_spans(self, text: str) -> list[tuple[int, int, str]]:
        spans = [(*match.span(), moved) for match in DATE_PATTERN.finditer(text) if (moved := self._dates.redact_match(match))]
        if self._code_patterns:
            spans += [(*match.span(), match[0]) for match in self._code_patterns.finditer(text)]
        for pattern in self._phrases:
            if (match := pattern.search(text)) and match[0]:
                spans.append((*match.span(), _keep_phrase(pattern, match[0])))
        return sorted(spans)

    def _redact_runs(self, text: str) -> str:
        text = _UNUSUAL_SIGN.sub(lambda sign: sign[0] if sign[0].isalnum() else "?", _OTHER_SIGNS.sub("---", text))
        return _RUN.sub(lambda run: self._invent(run[0]), text)

    def _invent(self, run: str) -> str:
        """Return the invented run that always stands for this one."""
        if run in self._invented:
            return self._invented[run]
        for attempt in count():
            digest = self._digest(f"{attempt} {run}", len(run))
            made = "".join(
                _swap(sign, byte, first=not at and len(run) > 1) for at, (sign, byte) in enumerate(zip(run, digest, strict=True))
            )
            if made not in self._used or (len(run) < MIN_LENGTH and attempt > 20):
                break
        self._used.add(made)
        self._invented[run] = made
        return made

    def _digest(self, text: str, length: int) -> bytes:
        return hashlib.shake_256(self.key + text.encode(errors="surrogatepass")).digest(length)

    def _draw(self, text: str, limit: int) -> int:
        return int.from_bytes(self._digest(f"draw {text}", 8)) % limit


def _keep_phrase(pattern: re.Pattern[str], text: str) -> str:
    """Return what a pattern matched, without the letters and digits that it would match without."""
    for at, sign in enumerate(text):
        if sign.isalnum() and pattern.search(without := f"{text[:at]}{'0' if sign.isdigit() else 'x'}{text[at + 1 :]}"):
            text = without
    return text


def _scale(match: re.Match[str], factor: Decimal) -> str:
    """Return a number times the factor, with as many digits behind its point; what is not 0 does not become 0."""
    whole, exponent = match["whole"].replace(".", "").replace(" ", ""), match["exponent"] or ""
    value = Decimal(f"{match['sign']}{whole}.{match['fraction'] or 0}")
    unit = Decimal(1).scaleb(-len(match["fraction"] or ""))
    scaled = (value * factor).quantize(unit, ROUND_HALF_EVEN)
    if value and not scaled:
        scaled = unit.copy_sign(value)
    digits, _, fraction = f"{abs(scaled):f}".partition(".")
    if whole != match["whole"]:
        sign = re.sub(r"\d", "", match["whole"])[0]
        digits = re.sub(r"(?<=\d)(?=(\d{3})+$)", sign, digits)
    sign = "-" if scaled < 0 else "+" * match["sign"].count("+")
    return f"{sign}{digits}{match['point'] or ''}{fraction}{exponent}"


def _swap(sign: str, byte: int, *, first: bool) -> str:
    """Return another sign of the same class: a run that is changed is changed everywhere."""
    if sign.isdigit():
        signs = ("0" if sign == "0" else "123456789") if first else "0123456789"
    elif sign.isascii():
        signs = _LOWER if sign.islower() else _UPPER
    else:
        signs = _ACCENTED
    others = signs.replace(sign, "") or sign
    return others[byte % len(others)]
