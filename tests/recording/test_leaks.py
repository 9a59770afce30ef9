"""Nothing of an account gets into its recording: planted secrets in every part of a visit, and everything a portal ever sent."""

import gzip
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import SecretStr

from exporter.client.response import Response
from exporter.client.session import Exchange, Request
from exporter.commands.report import record_visit
from exporter.errors import ResponseError
from exporter.portals.cem.account import Cem
from exporter.portals.cem.config import CemConfig
from exporter.recording.json_text import parse_json
from exporter.recording.recorder import FreshStore, Recorder
from exporter.recording.recording import DESCRIPTION, Recording, build_recording
from exporter.simulators.base import run_simulation
from tests.conftest import NOW, FakeClock
from tests.fault_proxy import list_simulation_types
from tests.recording.test_redaction import ENCODINGS, SECRETS, is_in
from tests.recording.test_replay import ACCOUNTS, make_account

RUN = re.compile(r"[^\W_]{4,}")
HARMLESS = {
    "Path",
    "charset",
    "http",
    "null",
    "true",
    "false",
    "application",
    "JSESSIONID",
    "SESSION",
    "cpim",
    "trans",
    "octet",
    "stream",
    "Terms",
}
"""Parts of HTTP and JSON, names of cookies, and a phrase by which pages are told apart."""


def exchange(body: bytes, url: str, answered: dict[str, str], **request: Any) -> Exchange:
    response = Response(200, url, CIMultiDictProxy(CIMultiDict(answered)), body, "GET /x")
    return Exchange(Request("GET", url, "GET /x", **request), response, error=None, seconds=0.1)


def plant(text: str) -> list[Exchange]:
    """Return a visit that has a text in every part of its requests and responses."""
    half, page = len(text) // 2, quote(text).replace("%", "&#37;")
    html = (
        f"<html><head><title>{text}</title><script>var meters = {json.dumps({'id': text, text: 1})}; var x = '{text}'</script>"
        f"</head><!-- {text} --><body data-page='{page}' onload='{page}'>Dag {text}, captcha!"
        f"<form action='/{quote(text, safe='')}?q={quote(text)}'><label for='a'>{text} captcha</label>"
        f"<input id='a' name='{page}' value='{page}' type='{page}'><input name='x' type='hidden' value='{page}'></form>"
    )
    url = f"https://portal.example/{quote(text, safe='')}/{text[:half]}"
    cookie = {
        "Set-Cookie": f"{quote(text, safe='')}={text}; Path=/{quote(text)}",
        "Location": f"/{quote(text)}?state={quote(text)}#{text}",
    }
    odd = {"Content-Type": f"text/{quote(text)}; charset={quote(text)}", "Retry-After": text, "X-User": text}
    body = {"a": text, text: {"b": [text, {text: text}]}, "first": text[:half], "second": text[half:]}
    body |= {"value": text, "timestamp": text}
    authorized = {"Authorization": f"Bearer {text}"}
    return [
        exchange(json.dumps(body).encode(), url, cookie, params={"q": text, text: "1"}, headers=authorized),
        exchange(html.encode(), url, odd, data={"user": text, "pass": text, text: text}),
        exchange(f"error for {text}: no".encode(), url, odd, json=[{text: text}], headers={"Authorization": text}),
        exchange(f'{{"cut off": ["{text}", '.encode(), url, odd, data=text.encode()),
        exchange(gzip.compress(text.encode()), url, odd),
        exchange(f"<xml>{text}</xml>".encode("utf-16"), url, odd),
        exchange(b"", url, {}),
    ]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_planted_secret_is_in_no_part_of_a_recording(secret: str, encoding: str) -> None:
    """
    Bodies, pages, addresses, headers, forms, what was kept, the configuration, the message of the failure.
    """
    planted = ENCODINGS[encoding](secret)
    recorder = Recorder(NOW, 1 << 30)
    for one in plant(planted):
        recorder.observe(one)
    recorder.kept = {"token": {"value": planted, "ends": 1795166445.5}, f"contract:{planted}": json.dumps([{"me_id": planted}])}
    aliases = {"70001": secret, "70002": "Kitchen"}
    account = Cem(CemConfig(name=secret, portal="cem", username=secret, password=SecretStr(planted), aliases=aliases))
    failure = ResponseError(f"GET /{quote(planted)} of {secret}: no")
    recording = build_recording(account.config, account.redaction, recorder, failure)

    assert not is_in(secret, recording.format())
    assert planted not in recording.format()
    assert len(recording.document["calls"]) == len(recorder.exchanges)


@pytest.mark.parametrize("name", ACCOUNTS)
async def test_nothing_that_a_portal_sent_is_in_a_recording(name: str, clock: FakeClock) -> None:
    """
    Of all words and long numbers that went over the network only names of fields and words of the client's source are there.
    """
    portal_name, number, more = ACCOUNTS[name]
    recorders: list[Recorder] = []

    def build(*arguments: Any) -> Recording:
        recorders.append(arguments[2])
        return build_recording(*arguments)

    simulation = list_simulation_types()[portal_name](clock)
    async with run_simulation(simulation) as url:
        account = make_account(simulation, url, number, **more)
        visit = await record_visit(account, clock, FreshStore(), build=build)
    text = visit.recording.format()
    names = {run for field in list_names(parse_json(text)) for run in RUN.findall(field)}
    known = {run for word in account.redaction.collect_words() for run in RUN.findall(word)}
    network = " ".join(list_sent(recorders[0]))
    known |= {
        run for codes in account.redaction.code_patterns for code in re.findall(codes, network) for run in RUN.findall(code)
    }
    sent = {run for run in RUN.findall(network) if is_telling(run)}

    assert len(sent) > 50
    assert sent & set(RUN.findall(text)) - names - known - set(RUN.findall(DESCRIPTION)) - HARMLESS == set()


def is_telling(run: str) -> bool:
    """Return whether a run says something: scaled amounts of a few digits coincide, and so do days with their hour."""
    return len(run) >= 9 if run.isdecimal() else not re.fullmatch(r"\d\dT\d\d", run)


def list_sent(recorder: Recorder) -> Iterator[str]:
    for one in recorder.exchanges:
        sent = one.request
        yield f"{sent.url} {sent.params} {sent.headers} {sent.data!r} {sent.json}"
        if one.response:
            yield one.response.body.decode(errors="replace")
            yield " ".join(f"{name}: {value}" for name, value in one.response.headers.items())


def list_names(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for name, part in value.items():
                yield name
                yield from list_names(part)
        case list():
            for part in value:
                yield from list_names(part)
