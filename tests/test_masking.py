"""Our own secrets in what a receiver answers are cut out, however it quotes them."""

import json
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from exporter.history.config import Receiver
from exporter.history.remote_write_client import RemoteWriteClient, build_mask
from tests.conftest import InMemoryAccountStore

SECRETS = ["correct horse+battery/staple", "Tö9-geheim", "0f9ab2c4e1"]
QUOTED = {
    "plain": lambda secret: f"token {secret} is wrong",
    "upper": lambda secret: secret.upper(),
    "URL": lambda secret: f"/write?token={quote(secret)}&x=1",
    "URL, all": lambda secret: quote(secret, safe=""),
    "JSON": lambda secret: json.dumps({"token": secret}),
    "base64": lambda secret: b64encode(secret.encode()).decode(),
    "base64 of a pair": lambda secret: b64encode(f"me:{secret}".encode()).decode(),
    "base64 within a text": lambda secret: urlsafe_b64encode(f"user=alice {secret} tail".encode()).decode(),
}


@pytest.mark.parametrize("form", QUOTED)
@pytest.mark.parametrize("secret", SECRETS)
def test_no_form_of_a_secret_is_left(form, secret):
    """
    A secret that is quoted plainly, encoded or in base64 is not in what is left.
    """
    left = build_mask(SECRETS)(QUOTED[form](secret))

    assert "…" in left
    assert secret.casefold() not in left.casefold()
    assert secret[2:-2] not in left


@given(st.text(min_size=8), st.binary(max_size=7), st.binary(max_size=7))
def test_base64_at_any_place(secret, before, after):
    """
    Wherever a secret begins within base64, four of its letters in a row cannot be read from what is left.
    """
    text = b64encode(before + secret.encode() + after).decode()

    assert "…" in build_mask([secret])(text)


def test_the_whole_of_a_quoted_header_is_cut():
    """
    Of a pair in base64, as a header has it, no letter and no padding is left.
    """
    text = f"Basic {b64encode(b'me:0f9ab2c4e1').decode()} is wrong"

    assert build_mask(["0f9ab2c4e1", "me:0f9ab2c4e1"])(text) == "Basic … is wrong"


def test_short_texts_are_no_secrets():
    """
    What is too short to be a secret does not tear holes into words.
    """
    assert build_mask(["a", ""])("a banana") == "a banana"


@pytest.mark.parametrize(
    "login",
    [
        {"bearer_token": "bearer-planted-1"},
        {"basic_auth": {"username": "me", "password": "basic-planted-2"}},
        {"headers": {"X-Scope-OrgID": "header-planted-3"}},
    ],
)
async def test_a_receiver_that_echoes_what_it_was_sent(login):
    """
    An error page that quotes all headers of the request gives no secret to the log.
    """

    async def echo(request: web.Request) -> web.Response:
        return web.Response(status=400, text="\n".join(f"{name}: {value}" for name, value in request.headers.items()))

    app = web.Application()
    app.router.add_post("/write", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/write"
    try:
        async with RemoteWriteClient(
            Receiver(url=url, **login), InMemoryAccountStore(), lambda: datetime.now(UTC), "utility-exporter/1"
        ) as client:
            result = await client.send(b"")
    finally:
        await runner.cleanup()

    assert "status 400" in result.reason
    assert "…" in result.reason
    assert "planted" not in result.reason
    assert b64encode(b"me:basic-planted-2").decode() not in result.reason
