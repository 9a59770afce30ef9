"""The simulated Water-Link is strict: it refuses what the real provider refuses."""

from datetime import timedelta

import pytest

from exporter.client.html_forms import parse_page
from exporter.client.pkce import PkcePair
from exporter.simulators.base import run_simulation
from exporter.simulators.water_link.simulation import WaterLinkSimulation

QUERY = {
    "client_id": "07967700-64cf-4f26-825c-b13042574400",
    "redirect_uri": "https://portaaldigitalemeters.water-link.be",
    "response_type": "code",
    "scope": "openid",
    "state": "s-1",
    "code_challenge_method": "S256",
    "response_mode": "query",
}


class LoginClient:
    """The steps of a login, each of which can be changed."""

    def __init__(self, simulation, url, session):
        self.simulation, self.url, self.session = simulation, url, session
        self.pkce = PkcePair.generate()

    async def page(self, **changed):
        query = {name: value for name, value in (self.query | changed).items() if value is not None}
        return await self.session.get(f"{self.url}/identity/oauth2/authorize", params=query)

    @property
    def query(self):
        return QUERY | {"code_challenge": self.pkce.challenge}

    async def form(self):
        response = await self.page()
        return parse_page(response.text(), response.url).forms[1]

    async def send(self, form, **changed):
        right = {
            "j_username": self.simulation.identity_provider.username,
            "j_password": self.simulation.identity_provider.password,
        }
        form_data = {name: value for name, value in (form.values | right | changed).items() if value is not None}
        return await self.session.post(form.action, data=form_data)

    async def code(self):
        response = await self.send(await self.form())
        return response.location.partition("code=")[2].partition("&")[0]

    async def token(self, authorization_code, **changed):
        data = {
            "grant_type": "authorization_code",
            "code": authorization_code,
            "code_verifier": self.pkce.verifier,
            "redirect_uri": QUERY["redirect_uri"],
            "client_id": QUERY["client_id"],
        }
        return await self.session.post(f"{self.url}/identity/oauth2/token", data=data | changed)


@pytest.fixture
async def client(clock, visit):
    simulation = WaterLinkSimulation(clock)
    async with run_simulation(simulation) as url, visit() as session:
        yield LoginClient(simulation, url, session)


@pytest.mark.parametrize("name", [*QUERY, "code_challenge"])
@pytest.mark.parametrize("value", [None, ""])
async def test_the_login_page_requires_each_parameter(client, name, value):
    """
    Without one there is an error page, and no form.
    """
    response = await client.page(**{name: value})

    assert response.status == 400
    assert "<form" not in response.text()


@pytest.mark.parametrize("name", ["authenticity_token", "xsrfProtection", "RelayState", "spId", "targetUrl"])
async def test_the_password_requires_each_hidden_input(client, name):
    """
    The password is not checked at all.
    """
    response = await client.send(await client.form(), **{name: None})

    assert response.status in (400, 403)
    assert client.simulation.login_count == 0


async def test_a_form_works_once_and_with_its_cookie(client):
    """
    A form sent again, or after the cookie is gone, is refused.
    """
    form = await client.form()

    assert (await client.send(form, j_password="wrong")).status == 200
    assert (await client.send(form)).status == 403

    form = await client.form()
    await client.session.clear_cookies()

    assert (await client.send(form)).status == 403


async def test_a_live_session_gets_no_form(client, clock):
    """
    For twelve hours the cookie of a login leads straight to a code.
    """
    await client.code()

    assert (await client.page()).status == 302
    clock.advance(hours=12)
    assert (await client.page()).status == 200


async def test_a_code_works_once(client):
    """
    The token response is JSON without blanks.
    """
    code = await client.code()
    response = await client.token(code)

    assert response.json()["expires_in"] == 3600
    assert b": " not in response.body
    assert (await client.token(code)).status == 400


async def test_a_code_works_for_two_minutes(client, clock):
    """
    Not a second longer.
    """
    code = await client.code()
    clock.at += timedelta(minutes=2)

    assert (await client.token(code)).status == 400


@pytest.mark.parametrize("name", ["code_verifier", "redirect_uri", "client_id", "grant_type", "code"])
async def test_a_code_requires_its_verifier_and_its_client(client, name):
    """
    A code that somebody else intercepted is of no use.
    """
    assert (await client.token(await client.code(), **{name: "other"})).status == 400


@pytest.mark.parametrize("path", ["meters/204417", "measurements/day?from=2026-11-01&meterNumber=204417", "alarms/204417"])
async def test_the_api_requires_a_valid_token(client, clock, path):
    """
    None, a wrong one and one of an hour ago are refused.
    """
    token = (await client.token(await client.code())).json()["access_token"]

    async def status(header):
        headers = {"Authorization": header} if header else None
        return (await client.session.get(f"{client.url}/portal/api/{path}", headers=headers)).status

    assert [await status(header) for header in (None, "Bearer x", token)] == [401] * 3
    assert await status(f"Bearer {token}") in (200, 400)
    clock.advance(hours=1)
    assert await status(f"Bearer {token}") == 401
