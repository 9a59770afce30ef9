"""Signing in: the page flow of Azure AD B2C with e-mail and password, by plain HTTP.

Each step raises LoginError when a person is refused and ResponseError when the step is not what it was; the message names
the step. The password is only ever sent to the host of `identity_url`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from exporter.answer import Answer
from exporter.errors import ResponseError
from exporter.pkce import Proof
from exporter.portals.fluvius import grant, page, refusal
from exporter.portals.fluvius.client import Client, absolute, metadata, origin, same_host
from exporter.portals.fluvius.keys import Keys
from exporter.portals.fluvius.said import step
from exporter.session import Session
from exporter.tokens import Token

MOST_REDIRECTS = 8


async def sign_in(keys: Keys, session: Session) -> Token:
    """Walk through all five steps; gives an access token, with what renews it in its `more`."""
    await session.forget_cookies()
    with step("sign-in, metadata"):
        client = await metadata(keys, session)
    flow = _Flow(keys, session, client, Proof.new(), secrets.token_urlsafe(32))
    with step("sign-in, page"):
        form = await flow.page()
    with step("sign-in, e-mail and password"):
        await flow.send_credentials(form)
    with step("sign-in, confirmation"):
        code = await flow.confirm(form)
    with step("sign-in, token"):
        return await grant.redeem(keys, session, client, code, flow.proof)


@dataclass(frozen=True, slots=True)
class _Form:
    """The sign-in page: its own address, how it wants to be answered, and where."""

    url: str
    settings: page.Settings
    user: str
    password: str
    base: str

    def query(self) -> dict[str, str]:
        """What goes along with every answer to the page."""
        return {"tx": self.settings.transaction, "p": self.settings.hosts.policy}


@dataclass(frozen=True, slots=True)
class _Flow:
    keys: Keys
    session: Session
    client: Client
    proof: Proof
    state: str

    async def page(self) -> _Form:
        """Ask for the sign-in page and read its two variables."""
        answer = await self._walk(self.client.url("authorize"), self._authorize())
        if not isinstance(answer, Answer):
            raise refusal.redirected(answer)
        if answer.status != 200:
            raise ResponseError(f"{answer.what} answered with status {answer.status}")
        html = answer.text()
        settings, (user, password) = page.settings(html), page.form_fields(html)
        base = absolute(answer.url, settings.hosts.tenant).rstrip("/")
        return _Form(answer.url, settings, user, password, same_host(base, self.keys.identity_url, "the page"))

    async def send_credentials(self, form: _Form) -> None:
        """Send e-mail and password; the verdict is in the body, with status 200 and any content type."""
        assert self.keys.username
        assert self.keys.password
        answer = await self.session.post(
            f"{form.base}/SelfAsserted",
            params=form.query(),
            headers={
                **self.keys.headers(),
                "X-CSRF-TOKEN": form.settings.csrf,
                "X-Requested-With": "XMLHttpRequest",
                "Accept": "application/json, text/javascript, */*; q=0.01",
                "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
                "Origin": form.base.removesuffix(urlsplit(form.base).path),
                "Referer": form.base,
            },
            data={
                "request_type": "RESPONSE",
                form.user: self.keys.username,
                form.password: self.keys.password.get_secret_value(),
            },
        )
        refusal.verdict(answer.json())

    async def confirm(self, form: _Form) -> str:
        """Follow the redirects home and catch the code there; the page at home itself is never asked for."""
        url = f"{form.base}/api/{form.settings.api}/confirmed"
        query = {"rememberMe": "false", "csrf_token": form.settings.csrf, **form.query()}
        home = await self._walk(url, query)
        if isinstance(home, Answer):
            raise refusal.further_step(home)
        if home.get("state") != self.state:
            raise ResponseError("the state that came back is not the one that was sent")
        if "code" not in home:
            raise refusal.redirected(home)
        return home["code"]

    async def _walk(self, url: str, query: Mapping[str, str]) -> Answer | dict[str, str]:
        """Ask, and follow redirects on the login host: gives the page they end at, or the query that was sent home."""
        answer = await self.session.get(url, params=query, headers=self.keys.headers())
        for _ in range(MOST_REDIRECTS):
            location = answer.headers.get("Location")
            if not 300 <= answer.status < 400 or location is None:
                return answer
            target = absolute(answer.url, location)
            if (sent := self._home(target)) is not None:
                return sent
            same_host(target, self.keys.identity_url, "a redirect")
            answer = await self.session.get(target, headers=self.keys.headers())
        raise ResponseError("the login service redirects without end")

    def _home(self, target: str) -> dict[str, str] | None:
        """Give the query of a redirect to the portal, None for one within the login service."""
        home = self.client.redirect
        if origin(target) != origin(home):
            return None
        there = urlsplit(target)
        sent = dict(parse_qsl(there.query))
        return sent if {"code", "error"} & sent.keys() or there.path == urlsplit(home).path else None

    def _authorize(self) -> dict[str, str]:
        return {
            "client_id": self.client.id,
            "redirect_uri": self.client.redirect,
            "response_type": "code",
            "response_mode": "query",
            "scope": self.client.scope,
            "code_challenge": self.proof.challenge,
            "code_challenge_method": "S256",
            "state": self.state,
            "nonce": secrets.token_urlsafe(32),
            "prompt": "login",
            "client_info": "1",
        }
