"""The login of Fluvius: once in the life of a token, and every failure has its name."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.client.token_cache import Token
from exporter.errors import LoginError, PortalError, RateLimitError, ResponseError, UnreachableError
from exporter.portals.fluvius import auth
from exporter.portals.fluvius.account import Fluvius
from exporter.portals.fluvius.config import FluviusConfig
from exporter.simulators.fluvius import login_service
from exporter.simulators.fluvius.simulation import GAS_EAN
from tests.conftest import FakeClock, InMemoryAccountStore, OpenSession
from tests.portals.fluvius_account import StoredAccount, build_amounts, list_errors, run_account, run_visit

METERS = [{"ean": "541448820000000024", "serial": "1SAG3200000024", "commodity": "electricity"}]


def account(**more: Any) -> Fluvius:
    return Fluvius(
        FluviusConfig(
            **({"name": "home", "portal": "fluvius", "username": "a@example.com", "password": "p", "meters": METERS} | more)
        )
    )


async def test_one_login_for_the_life_of_a_token(clock: FakeClock, visit: OpenSession) -> None:
    """
    A token is kept over restarts until a minute before its end, and no visit in between signs in.
    """
    async with run_account(clock) as (simulation, home):
        for minutes in (0, 20, 20, 18):
            clock.advance(minutes=minutes)
            async with visit() as session:
                await run_visit(home, session)

        assert (simulation.login_service.login_count, simulation.login_service.renewal_count) == (1, 0)


async def test_an_ended_token_is_renewed_without_the_password(clock: FakeClock, visit: OpenSession) -> None:
    """
    Hours later the refresh token gives another access token, each time a new one.
    """
    async with run_account(clock) as (simulation, home):
        for _ in range(4):
            async with visit() as session:
                await run_visit(home, session)
            clock.advance(hours=1)

        assert (simulation.login_service.login_count, simulation.login_service.renewal_count) == (1, 3)
        assert sum(seen.path.endswith("/SelfAsserted") for seen in simulation.requests) == 1


@pytest.mark.parametrize("refuse", ["refuses", "too old", "gone"])
async def test_a_refused_renewal_falls_back_to_the_password(refuse: str, clock: FakeClock, visit: OpenSession) -> None:
    """
    When the refresh token is refused, has ended or is unknown, a whole login follows, and nobody notices.
    """
    async with run_account(clock) as (simulation, home):
        async with visit() as session:
            await run_visit(home, session)
        simulation.login_service.allows_refresh = refuse != "refuses"
        simulation.login_service.refresh_tokens.clear() if refuse == "gone" else None
        clock.advance(hours=26 if refuse == "too old" else 2)
        async with visit() as session:
            results = await run_visit(home, session)

        assert build_amounts(results)
        assert (simulation.login_service.login_count, simulation.login_service.renewal_count) == (2, 0)


@pytest.mark.parametrize("stored", [None, "client", {}, {"authority": "a", "client_id": "b", "redirect": "c", "scope": "d"}])
async def test_a_token_stored_in_another_form_falls_back_to_the_password(
    stored: object, clock: FakeClock, visit: OpenSession
) -> None:
    """
    What a newer or older version has stored with a token costs one login, and no visit.
    """
    extra = {"refresh_token": "made up", "client": stored}
    async with run_account(clock) as (_, home), visit() as session:
        expired = Token("made up", session.now - timedelta(hours=1), extra)

        assert await auth.renew_token(home.config, session, expired) is None


async def test_a_withdrawn_token_is_made_anew_once(clock: FakeClock, visit: OpenSession) -> None:
    """
    A 401 on data before the token's end: one whole login, and the visit goes on.
    """
    async with run_account(clock) as (simulation, home):
        async with visit() as session:
            await run_visit(home, session)
        simulation.login_service.tokens.clear()
        clock.advance(minutes=15)
        async with visit() as session:
            results = await run_visit(home, session)

        assert build_amounts(results)
        assert (simulation.login_service.login_count, simulation.login_service.renewal_count) == (2, 0)


async def test_a_portal_that_refuses_every_token(clock: FakeClock, visit: OpenSession) -> None:
    """
    A fresh token that is refused means that the portal changed: no login follows upon another.
    """
    async with run_account(clock) as (simulation, home):
        simulation.faults.add("/verbruik/api/", "expired")
        async with visit() as session:
            errors = list_errors(await run_visit(home, session))

        assert {type(one) for one in errors} == {ResponseError}
        assert all("a new login" in str(one) or "so soon" in str(one) for one in errors), errors
        assert simulation.login_service.login_count == 1


@pytest.mark.parametrize(
    ("where", "fault", "error", "message"),
    [
        ("/msal/config", "status:503", UnreachableError, "login, metadata: .* status 503"),
        ("/msal/config", "html", ResponseError, "login, metadata: .* returned HTML"),
        ("/msal/config", "empty", ResponseError, "login, metadata: "),
        ("/authorize", "renamed", ResponseError, "login, page: .* no script variable SETTINGS"),
        ("/authorize", "html", ResponseError, "login, page: .* no script variable SA_FIELDS"),
        ("/authorize", "denied", LoginError, "login, page: the portal refuses .access_denied, AADB2C90091."),
        ("/authorize", "elsewhere", ResponseError, "login, page: a redirect points to another host"),
        ("/authorize", "status:404", ResponseError, "login, page: .* status 404"),
        ("/SelfAsserted", "locked", LoginError, "login, e-mail and password: .*locked for a while.* .AADB2C90114."),
        ("/SelfAsserted", "professional", LoginError, "login, e-mail and password: .*professional account.*itsme"),
        ("/SelfAsserted", "captcha", LoginError, "login, e-mail and password: .*captcha"),
        ("/SelfAsserted", "verdictless", ResponseError, "login, e-mail and password: .*has changed: status: field required"),
        ("/SelfAsserted", "object", ResponseError, "login, e-mail and password: .*has changed: status: field required"),
        ("/SelfAsserted", "garbage", ResponseError, "login, e-mail and password: .*expected JSON"),
        ("/SelfAsserted", "status:400", ResponseError, "login, e-mail and password: .*status 400"),
        ("/SelfAsserted", "retry:600", RateLimitError, "login, e-mail and password: .*status 429"),
        ("/authorize", "captcha-widget", LoginError, "login, page: .*captcha.*; no password was sent"),
        ("/authorize", "captcha-box", LoginError, "login, page: .*captcha.*; no password was sent"),
        ("/authorize", "field:captchaResponse", LoginError, "login, page: .*captcha.*; no password was sent"),
        ("/authorize", "field:verificationCode", LoginError, "login, page: .*second factor.*; no password was sent"),
        ("/authorize", "field:strongAuthenticationPhoneNumber", LoginError, "login, page: .*second factor.*; no password"),
        ("/authorize", "field:klantnummer", LoginError, "login, page: .*further field.*; no password was sent"),
        ("/confirmed", "second-factor", LoginError, "login, confirmation: .*second factor"),
        ("/confirmed", "factor-fr", LoginError, "login, confirmation: .*second factor"),
        ("/confirmed", "factor-mark", LoginError, "login, confirmation: .*second factor"),
        ("/confirmed", "terms-nl", LoginError, "login, confirmation: .*new terms"),
        ("/confirmed", "terms-fr", LoginError, "login, confirmation: .*new terms"),
        ("/confirmed", "terms-mark", LoginError, "login, confirmation: .*new terms"),
        ("/confirmed", "conditions", LoginError, "login, confirmation: .*further step"),
        ("/confirmed", "html", ResponseError, "login, confirmation: .*the login has changed"),
        ("/confirmed", "nowhere", ResponseError, "login, confirmation: returned an invalid URL"),
        ("/api/home", "circle", ResponseError, "login, confirmation: too many redirects"),
        ("/confirmed", "elsewhere", ResponseError, "login, confirmation: a redirect points to another host"),
        ("/api/home", "other-state", ResponseError, "login, confirmation: state mismatch"),
        ("/oauth2/v2.0/token", "status:400", ResponseError, "login, token: .*status 400"),
        ("/oauth2/v2.0/token", "object", ResponseError, "login, token: .*access_token"),
        ("/oauth2/v2.0/token", "reset", UnreachableError, "login, token: "),
        ("/oauth2/v2.0/token", "hang", UnreachableError, "login, token: .*timed out after"),
    ],
)
async def test_each_failure_names_its_step(
    where: str, fault: str, error: type[PortalError], message: str, clock: FakeClock, visit: OpenSession
) -> None:
    """
    Whatever goes wrong, the message names the step and the reason; it contains neither password nor e-mail address nor EAN.
    """
    async with run_account(clock) as (simulation, home):
        simulation.faults.add(where, fault)
        async with visit(timeout=timedelta(seconds=0.3 if fault == "hang" else 5)) as session:
            with pytest.raises(error, match=message) as caught:
                await run_visit(home, session)

        sent = any(seen.path.endswith("/SelfAsserted") for seen in simulation.requests)
        assert sent == (where not in ("/msal/config", "/authorize"))
        assert type(caught.value) is error
        assert not any(secret in _everything(caught.value) for secret in _secrets(simulation))


async def test_a_page_that_asks_for_no_more_gets_the_password(clock: FakeClock, visit: OpenSession) -> None:
    """
    A box to stay signed in and a footer with terms are on every login page.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        simulation.faults.add("/authorize", "remember-me")

        assert build_amounts(await run_visit(home, session))


@pytest.mark.parametrize("fault", ["status:403", "login-page", "html"])
async def test_a_dead_session(fault: str, clock: FakeClock, visit: OpenSession) -> None:
    """
    A token that is good by its date, answered with 403, a redirect to the login or a web page: one new login, and all is read.
    """
    async with run_account(clock) as (simulation, home):
        async with visit() as session:
            await run_visit(home, session)
        clock.advance(hours=6, minutes=10)
        async with visit() as session:
            await home.fetch_latest(session)
        clock.advance(minutes=10)
        logins = simulation.login_service.login_count
        simulation.faults.add("/verbruik/api/", fault, times=1)
        async with visit() as session:
            results = await run_visit(home, session)

        assert list_errors(results) == []
        assert simulation.login_service.login_count == logins + 1


async def test_a_meter_that_is_refused_to_everybody(clock: FakeClock, visit: OpenSession) -> None:
    """
    A meter that answers 403 whatever the token costs no login at each visit; the message names the last digits to check.
    """
    messages = set()
    async with run_account(clock) as (simulation, home):
        simulation.faults.add(GAS_EAN, "status:403")
        stored = StoredAccount()
        for _ in range(24):
            async with visit() as session:
                results = await run_visit(home, session, stored)
            messages |= {str(one) for one in list_errors(results)}
            clock.advance(hours=1)

        assert messages == {"meters[2]: EAN …0031 or serial …0031 refused (403): check the configuration"}
        assert simulation.login_service.login_count <= 2


async def test_a_wrong_password_is_tried_once(clock: FakeClock, visit: OpenSession) -> None:
    """
    One wrong password, one try; after too many the portal locks, and that has another message.
    """
    messages = []
    async with run_account(clock, password="geraden") as (simulation, home):
        for _ in range(login_service.MAX_WRONG_PASSWORDS + 1):
            async with visit() as session:
                with pytest.raises(LoginError) as caught:
                    await run_visit(home, session)
                messages.append(str(caught.value))

        assert sum(seen.path.endswith("/SelfAsserted") for seen in simulation.requests) == login_service.MAX_WRONG_PASSWORDS + 1
        assert messages[0] == "login, e-mail and password: wrong password (AADB2C90054)"
        assert "locked for a while" in messages[-1]


async def test_the_password_goes_to_no_other_host(clock: FakeClock, visit: OpenSession) -> None:
    """
    Metadata that name another login host do not get the password there.
    """
    async with run_account(clock) as (simulation, home):
        simulation.login_service.origin = home.config.portal_url.replace("127.0.0.1", "localhost")
        async with visit() as session:
            with pytest.raises(ResponseError, match="login, metadata: the authority points to another host"):
                await run_visit(home, session)

        assert {seen.path for seen in simulation.requests} == {"/api/global/msal/config"}


async def test_a_login_host_of_its_own(clock: FakeClock, visit: OpenSession) -> None:
    """
    Portal and login may be two hosts, as in reality.
    """
    async with run_account(clock) as (simulation, one):
        login = one.config.portal_url.replace("127.0.0.1", "localhost")
        simulation.login_service.origin = login
        home = Fluvius(one.config.model_copy(update={"identity_url": login}))
        async with visit() as session:
            results = await run_visit(home, session)

        assert build_amounts(results)
        assert "/" not in {seen.path for seen in simulation.requests}


async def test_a_configured_token(clock: FakeClock, visit: OpenSession, memory: InMemoryAccountStore) -> None:
    """
    With a token there is no login, and none is kept.
    """
    async with run_account(clock, token="eyJ.hand", username=None, password=None) as (simulation, home):
        simulation.login_service.tokens["eyJ.hand"] = clock() + timedelta(hours=1)
        async with visit() as session:
            results = await run_visit(home, session)

        assert build_amounts(results)
        assert simulation.login_service.issued_numbers == 0
        assert "token" not in memory.values


async def test_a_refused_configured_token(clock: FakeClock, visit: OpenSession) -> None:
    """
    A token that has ended suspends the account: only a person can bring another.
    """
    async with run_account(clock, token="eyJ.hand") as (simulation, home), visit() as session:
        [error] = list_errors(await run_visit(home, session))

        assert isinstance(error, LoginError)
        assert "the configured token is refused" in str(error)
        assert len(simulation.requests) == 1
        assert "eyJ" not in _everything(error)


async def test_cookies_go_back_as_they_came(clock: FakeClock, visit: OpenSession) -> None:
    """
    A client that quotes its cookies is refused by the simulation, as by the portal: so ours does not.
    """
    async with run_account(clock) as (simulation, home), visit() as session:
        await run_visit(home, session)

        assert "=/==" in next(iter(simulation.login_service.transactions.values())).cookie
        assert simulation.login_service.login_count == 1


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"clientId": "c"},
            ("https://login.fluvius.be/klanten.onmicrosoft.com/B2C_1A_customer_signup_signin", "https://mijn.fluvius.be/"),
        ),
        (
            {"clientId": "c", "authority": "https://login.fluvius.be/t/p/", "redirectUri": "/home"},
            ("https://login.fluvius.be/t/p", "https://mijn.fluvius.be/home"),
        ),
        (
            {"auth": {"clientId": "c", "authority": "https://login.fluvius.be/t/p", "redirectUri": "https://mijn.fluvius.be/x"}},
            ("https://login.fluvius.be/t/p", "https://mijn.fluvius.be/x"),
        ),
    ],
)
def test_forms_of_the_metadata(config: dict[str, Any], expected: tuple[str, str]) -> None:
    """
    Client, authority and redirect address are found flat or under `auth`; what is missing has its default.
    """
    found = auth.parse_client(config, account().config)

    assert (found.client_id, found.authority, found.redirect_uri) == ("c", *expected)


def test_scopes_of_the_metadata() -> None:
    """
    Scopes are gathered wherever they stand, each once, and the three that are needed are there.
    """
    config = {
        "clientId": "c",
        "scopes": ["openid", "https://x/one"],
        "apiScopes": "https://x/two openid",
        "authRequest": {"scopes": ["profile"]},
        "protectedResourceMap": {
            "https://api": [{"httpMethod": "GET", "scopes": ["https://x/three"]}],
            "https://b": "https://x/four",
        },
    }

    assert auth.parse_client(config, account().config).scope.split() == [
        "openid",
        "https://x/one",
        "https://x/two",
        "profile",
        "https://x/three",
        "https://x/four",
        "offline_access",
        "https://klanten.onmicrosoft.com/MijnFluvius/user_impersonation",
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "expected an object"),
        ({}, "clientId: field required"),
        ({"clientId": "c", "authority": "http://login.fluvius.be/t/p"}, "the authority points to another host"),
        ({"clientId": "c", "authority": "https://login.fluvius.be:444/t/p"}, "the authority points to another host"),
        ({"clientId": "c", "authority": "https://login.fluvius.be@evil.example/t/p"}, "the authority points to another host"),
        ({"clientId": "c", "authority": "t/p"}, "returned an invalid URL"),
        ({"clientId": "c", "redirectUri": "https://evil.example/"}, "the redirect address points to another host"),
    ],
)
def test_metadata_that_are_not_followed(config: Any, message: str) -> None:
    """
    Metadata without a client, or with addresses on foreign hosts, are refused.
    """
    with pytest.raises(ResponseError, match=message):
        auth.parse_client(config, account().config)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"password": None}, "needs username and password, or a token"),
        ({"meters": []}, "at least 1 item"),
        ({"meters": [METERS[0] | {"ean": 541448820000000024.0}]}, "must be the 18 digits of an EAN; write it in quotes"),
        ({"meters": [METERS[0] | {"ean": "54144882000000002"}]}, "an EAN has 18 digits; this has 17"),
        ({"meters": [METERS[0] | {"serial": 12345678}]}, "as a number it would lose its leading zeros"),
        ({"meters": [METERS[0] | {"serial": "1SAG 32"}]}, "no blanks inside"),
        ({"meters": [METERS[0] | {"serial": ["1SAG32", "1SAG32 "]}]}, "names the same serial number twice"),
        ({"meters": [METERS[0] | {"serial": []}]}, "at least 1 item"),
        ({"meters": [METERS[0] | {"commodity": "water"}]}, "'electricity'.* or .*'gas'"),
        ({"meters": METERS * 2}, r"meters\[1\] has the EAN of meters\[0\]; list both serials there"),
        ({"api": 2024, "meters": [METERS[0] | {"intervals": True}]}, "the API of 2024 has no intervals"),
        ({"every": "10m"}, "must be 15m to 1d"),
        ({"portal_url": "mijn.fluvius.be"}, "must be an address like"),
        ({"granularity": {"week": 5}}, "not permitted"),
    ],
)
def test_keys_that_are_refused(keys: dict[str, Any], message: str) -> None:
    """
    A key that cannot be right is refused with a reason, which holds no number of a meter.
    """
    with pytest.raises(ValidationError, match=message) as caught:
        account(**keys)

    assert "5414488" not in str(caught.value).replace('"541448820000000000"', "")


def test_accepted_keys() -> None:
    """
    EANs may come as numbers, serials with blanks around them, alone or as a list; the defaults are those of the contract.
    """
    serials = [{"ean": 541448820000000024, "serial": " 1SAG3200000024\t", "commodity": "electricity"}]
    home = account(meters=[*serials, {"ean": " 541448820000000031 ", "serial": ["7FLO1", "7FLO2"], "commodity": "gas"}])

    assert [(meter.ean, meter.serial, meter.intervals) for meter in home.config.meters] == [
        ("541448820000000024", ("1SAG3200000024",), False),
        ("541448820000000031", ("7FLO1", "7FLO2"), False),
    ]
    assert home.config.meters[1].usage_point.meter == "7FLO2"
    assert (home.config.every, home.config.portal_url, home.config.identity_url) == (
        timedelta(hours=1),
        "https://mijn.fluvius.be",
        "https://login.fluvius.be",
    )
    codes = home.config.granularity
    assert (codes.day, codes.electricity_interval, codes.gas_interval) == (4, 1, 2)
    assert [account(api=2024, **keys).config.get_day_granularity() for keys in ({}, {"granularity": {"day": 5}})] == [3, 5]


@pytest.mark.parametrize("key", FluviusConfig.login_keys)
def test_what_lifts_a_suspension(key: str) -> None:
    """
    Any of the login keys makes it another login, and no other key does.
    """
    assert account(**{key: "https://other.example"}).config.build_login_digest() != account().config.build_login_digest()
    assert account(days=3).config.build_login_digest() == account().config.build_login_digest()


def _secrets(simulation: Any) -> list[str]:
    names = [login_service.USERNAME, simulation.login_service.password, "eyJ.", "Kwartier"]
    return [
        *names,
        *(place.ean for place in simulation.usage_points),
        *(d.serial for place in simulation.usage_points for d in place.meters),
    ]


def _everything(error: BaseException | None) -> str:
    """All that a traceback could show of an error's texts."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    return " ".join(texts)
