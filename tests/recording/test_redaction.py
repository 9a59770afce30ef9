"""Redaction: structure is kept, and nothing gets through that is not known to be safe."""

import base64
import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.recording.dates import MOVE, NEVER
from exporter.recording.json_text import Number, format_compact, format_readable, parse_json, sample, to_plain
from exporter.recording.redaction import SECRET, Redactor
from exporter.recording.rules import RedactionRules

NOW = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
RULES = RedactionRules(
    amounts=frozenset({"amount", "text_amount"}),
    codes=frozenset({"kind"}),
    instants=frozenset({"at"}),
    code_patterns=(r"AADB2C\d{5}", r"ADAM[-_]ERR\d{4}"),
    phrases=(r"\blocked|vergrendel", r"password.{0,20}expired", r"twee(staps|factor)"),
    words=frozenset({"kWh", "m³", "total", "amount", "kind"}),
)


def redactor(**more: Any) -> Redactor:
    return Redactor(RULES, NOW, key=b"for tests", factor=Decimal("0.8"), **more)


def redact(text: str, name: str = "x", **more: Any) -> str:
    return redactor(**more).redact_text(text, name)


@pytest.mark.parametrize("text", ["", "kWh", "m³", "total", "0001-01-01T00:00:00", "invalid_grant"])
def test_words_of_closed_lists_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Jana Ukázková", r"[A-Z][a-z]{3} [A-Z][a-z][äëïöüčřžšň][a-z]{4}[äëïöüčřžšň]"),
        ("541448820000000042", r"[1-9]\d{17}"),
        ("01234567890123", r"0\d{13}"),
        ("SN-0042/b", r"[A-Z]{2}-0\d{3}/[a-z]"),
        ("Mill Lane 3, 2000 Antwerp", r"[A-Z][a-z]{3} [A-Z][a-z]{3} \d, \d{4} [A-Z][a-z]{6}"),
        ("lena.peeters@example.com", r"[a-z]{4}\.[a-z]{7}@[a-z]{7}\.[a-z]{3}"),
        ("💧💧💧💧", "---"),
        ("a\x00b", r"[a-z]\?[a-z]"),
    ],
)
def test_texts_become_patterns(text: str, pattern: str) -> None:
    """
    Letters become letters, digits digits, and signs stay: the pattern is there, the text is not.
    """
    assert re.fullmatch(pattern, redact(text))
    assert redact(text) != text


def test_the_same_identifier_is_the_same_everywhere() -> None:
    """
    As text, number, in a path, a query, a longer text: an identifier joins.
    """
    one = redactor()
    number = one.redact_text("80001")

    assert one.redact(Number("80001"), "var_id") == Number(number)
    assert one.redact_url(f"/api/{80001}?id=80001").split("/")[-1].split("?")[0] == number
    assert number in one.redact_text("meter 80001 is away")
    assert one.redact_text("80002") != number


def test_numbers_keep_their_order() -> None:
    """
    Lists that are sorted by number stay sorted, though no number is what it was.
    """
    one, numbers = redactor(), [Number(str(70001 + 3 * at)) for at in range(500)]
    one.learn(numbers)
    one.plan_numbers()
    invented = [number.text for number in one.redact(numbers)]

    assert invented == sorted(set(invented))
    assert not {number.text for number in numbers} & set(invented)


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("2026-11-20", "2054-11-20"),
        ("2026-10-25T02:30:00+01:00", "2054-10-25T02:30:00+01:00"),
        ("2026-11-01 00:30:00", "2054-11-01 00:30:00"),
        ("2026-11-20T06:13:42.123Z", "2054-11-20T06:13:42.123Z"),
        ("20/11/2026", "20/11/2054"),
        ("20.11.2026", "20.11.2054"),
        ("2026-02", "2054-02"),
        ("2026-Nov-02 05:00:00+0000 UTC", "2054-Nov-02 05:00:00+0000 BCD"),
    ],
)
def test_dates_are_moved_in_their_form(text: str, moved: str) -> None:
    """
    28 years later the weekday, the month's length and the night of the clock change are the same.
    """
    assert re.sub("[A-Z]{3}$", "BCD", redact(text)) == re.sub("[A-Z]{3}$", "BCD", moved)


@pytest.mark.parametrize("year", range(2024, 2041))
def test_the_calendar_repeats(year: int) -> None:
    """
    Every local midnight and both changes of the clock fall on the same days after the move.
    """
    zone = ZoneInfo("Europe/Brussels")
    for day in range(366):
        at = datetime(year, 1, 1, tzinfo=zone) + timedelta(days=day)
        later = at + MOVE
        assert (later.month, later.day, later.weekday(), later.utcoffset()) == (at.month, at.day, at.weekday(), at.utcoffset())


def test_a_day_long_ago_is_invented() -> None:
    """
    A birthday is neither kept nor moved by a number that is known.
    """
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", redact("1984-03-12"))
    assert redact("1984-03-12") not in ("1984-03-12", "2012-03-12")
    assert redact("2019-03-04T00:00:00+0100").endswith("T00:00:00+0100")


@pytest.mark.parametrize(
    ("text", "scaled"),
    [
        ("412,385", "329,908"),
        ("1.412,385", "1.129,908"),
        ("-9.50", "-7.60"),
        ("540", "432"),
        ("1", "1"),
        ("0,000", "0,000"),
        ("9 kWh", "7 kWh"),
        ("1250,5", "1000,4"),
    ],
)
def test_amounts_are_scaled_in_their_form(text: str, scaled: str) -> None:
    """
    One factor, the same digits behind the same point; what is not nothing does not become nothing.
    """
    assert redact(text, "text_amount") == scaled


def test_numbers_of_closed_lists_stay_and_others_do_not() -> None:
    one = redactor()

    assert one.redact(Number("7"), "kind") == Number("7")
    assert one.redact(Number("70001"), "kind") != Number("70001")
    assert one.redact(Number("51.2194"), "lat") != Number("51.2194")
    assert re.fullmatch(r"\d\d\.\d{4}", one.redact(Number("51.2194"), "lat").text)
    assert one.redact(Number("1795166445000"), "at") == Number(str(1795166445000 + 28 * 365_25 * 864_000))
    assert one.redact(Number("1795166445000"), "x") != one.redact(Number("1795166445000"), "at")


def test_codes_and_phrases_stay_in_longer_texts() -> None:
    """
    The words by which the client tells messages apart stay, and nothing of what stands around or between them.
    """
    assert "AADB2C90054" in redact("AADB2C90054: the password of Jana")
    assert re.search(r"vergrendel", redact("Uw account is vergrendeld, Jana"))
    kept = redact("Password of Jana has expired")
    assert re.search(r"password.{0,20}expired", kept, re.IGNORECASE)
    assert "Jana" not in kept
    assert redactor().redact_page_text("Dag Jana, tweestapsverificatie is nodig") == ["tweestaps"]


@pytest.mark.parametrize("name", ["password", "j_password", "client_secret", "heslo"])
def test_fields_of_secrets_do_not_even_show_a_length(name: str) -> None:
    assert redact("hunter2", name) == SECRET
    assert redact("x hunter2 y", "text", secret_texts={"hunter2"}) == SECRET


def test_names_of_fields_stay_unless_they_are_values() -> None:
    """
    A new field is seen by its name; a name that is somebody's value or number is none.
    """
    one = redactor()
    parsed = {
        "nieuw_veld": Number("1"),
        "541448820000000042": Number("2"),
        "Peeters": Number("3"),
        "holder": "Peeters",
        "a b": None,
    }
    one.learn(parsed)
    names = list(one.redact(parsed))

    assert names[0] == "nieuw_veld"
    assert names[3] == "holder"
    assert re.fullmatch(r"\d{18}", names[1])
    assert {"541448820000000042", "Peeters", "a b"}.isdisjoint(names)


def test_addresses() -> None:
    """
    Of an address stay the form, what the client knows, and which parts are the same.
    """
    one = redactor()
    redacted = urlsplit(
        one.redact_url("https://jana:pw@portal.example:8443/total/541448820000000042?kind=7&state=abc123def#frag")
    )

    assert redacted.netloc == "host-1.invalid"
    assert one.hosts == {"https://portal.example:8443": "https://host-1.invalid"}
    assert redacted.path.startswith("/total/")
    assert "541448820000000042" not in redacted.geturl()
    assert redacted.query.startswith("kind=7&state=")


# --- nothing gets through

SECRETS = ["geheim-Wachtwoord-7", "lena.peeters@example.com", "541448820000000042", "Dorpsstraat 12", "1SAG1100000042"]


def jwt(payload: dict[str, Any]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "HS256"}, payload)]
    return ".".join((*parts, "c2lnbmF0dXJlLW9mLWl0"))


ENCODINGS = {
    "plain": lambda text: text,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "URL-encoded": lambda text: quote(text, safe=""),
    "URL-encoded twice": lambda text: quote(quote(text, safe=""), safe=""),
    "hex": lambda text: text.encode().hex(),
    "reversed": lambda text: text[::-1],
    "upper case": str.upper,
    "JWT": lambda text: jwt({"sub": [text], "name": {"of": text}}),
    "JWT behind Bearer": lambda text: f"Bearer {jwt({'email': text})}",
    "gzip in base64": lambda text: base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode(),
    "in a sentence": lambda text: f"Beste {text}, uw account is vergrendeld (AADB2C90054).",
    "in JSON as text": lambda text: json.dumps({"deep": [text]}),
    "in an address": lambda text: f"https://portal.example/{quote(text, safe='')}/x?q={quote(text)}#{quote(text)}",
    "split by signs": lambda text: "-".join(text[at : at + 5] for at in range(0, len(text), 5)),
}


def decode_all(text: str) -> Iterator[str]:
    """Return a text and what is in it, decoded in every way that a secret could have been encoded."""
    yield from (text, unquote(text), unquote(unquote(text)), text[::-1])
    for run in re.findall(r"[A-Za-z0-9+/_=-]{8,}", text):
        try:
            raw = base64.urlsafe_b64decode(
                run.replace("+", "-").replace("/", "_").rstrip("=") + "=" * (-len(run.rstrip("=")) % 4)
            )
        except ValueError:
            continue
        yield raw.decode(errors="replace")
        if raw[:2] == b"\x1f\x8b":
            yield gzip.decompress(raw).decode(errors="replace")
    for run in re.findall(r"(?:[0-9a-f]{2}){4,}", text):
        yield bytes.fromhex(run).decode(errors="replace")


def is_in(secret: str, text: str) -> bool:
    plain = re.sub(r"\W", "", secret).lower()
    return any(plain in re.sub(r"[\W_]", "", decoded).lower() for decoded in decode_all(text))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_planted_secret_is_found_nowhere(secret: str, encoding: str) -> None:
    """
    As value, field name, in a list, in an address, split over two values: no decoding of the result has it.
    """
    planted = ENCODINGS[encoding](secret)
    half = len(planted) // 2
    body = {"a": planted, planted: 1, "list": [planted, {"b": planted}], "first": planted[:half], "second": planted[half:]}
    parsed = parse_json(json.dumps(body))
    one = redactor()
    one.learn(parsed)
    one.plan_numbers()
    result = format_readable(one.redact(parsed)) + one.redact_url(f"/x?state={quote(planted)}")

    assert is_in(secret, json.dumps(body))
    assert not is_in(secret, result)
    assert planted not in result


TEXTS = (
    st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9 .,:/@-]{0,30}", fullmatch=True) | st.sampled_from([*SECRETS, "2026-11-20"])
)
NAMES = st.text(max_size=20) | st.sampled_from(["amount", "kind", "at", "field", "nieuw_veld"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)


def leaves(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for name, part in value.items():
                yield name
                yield from leaves(part)
        case list():
            for part in value:
                yield from leaves(part)
        case str():
            yield value


def shape(value: Any) -> Any:
    match value:
        case dict():
            return [shape(part) for part in value.values()]
        case list():
            return [shape(part) for part in value], "list"
        case Number():
            return "number"
    return type(value).__name__


@given(JSON)
def test_structure_is_kept_and_no_text_leaks(value: Any) -> None:
    """
    Of any JSON the types, the nulls and the lengths stay; no text of four or more characters does that is not allowed.
    """
    parsed = parse_json(json.dumps(value))
    one = redactor()
    one.learn(parsed)
    one.plan_numbers()
    result = one.redact(parsed)
    texts = {text for text in leaves(value) if len(text) >= 4}
    allowed = {*RULES.collect_words()} | {name for name in texts if re.fullmatch(r"[A-Za-z_$@][A-Za-z0-9_$@.-]{0,39}", name)}
    values = {part for part in values_of(value) if len(part) >= 4}

    assert shape(result) == shape(parsed)
    assert parse_json(format_readable(result)) == result == parse_json(format_compact(result))
    for end in leaves(result):
        assert not [
            text for text in texts if text in end and (text in values or text not in allowed) and text not in RULES.words | NEVER
        ]


def values_of(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for part in value.values():
                yield from values_of(part)
        case list():
            for part in value:
                yield from values_of(part)
        case str():
            yield value


# --- long lists


def test_a_long_list_is_cut_to_rows_that_still_join() -> None:
    """
    First, last and odd rows stay, and with each row those of the other lists that it points to.
    """
    meters = [{"me_id": 70000 + at, "place": 9000 + at % 7} for at in range(1000)]
    counters = [{"var_id": 80000 + at, "me_id": 70000 + (at * 7) % 1000, "odd": None if at == 511 else 1} for at in range(1000)]
    values = [parse_json(json.dumps(each)) for each in (meters, {"data": counters})]
    (cut_meters, cut_counters), left_out = sample(values, 500)
    cut_meters, cut_counters = to_plain(cut_meters), to_plain(cut_counters)["data"]

    assert len(cut_meters) + len(cut_counters) + left_out == 2000
    assert left_out > 1500
    assert cut_counters[0] == counters[0]
    assert cut_counters[-1] == counters[-1]
    assert counters[511] in cut_counters
    assert {row["me_id"] for row in cut_counters} <= {row["me_id"] for row in cut_meters}
    assert cut_meters == sorted(cut_meters, key=lambda row: row["me_id"])


def test_a_week_of_half_hours_is_not_cut() -> None:
    points = parse_json(json.dumps([{"v": "412", "d": f"2026-11-{1 + at // 48:02}"} for at in range(336)]))

    assert sample([points]) == ([points], 0)
