"""Certificates of portals: verified, by authorities of one's own where the configuration names them, or not at all."""

import json
import os
import ssl

import pytest
import trustme

from exporter.client.session import Session
from exporter.clock import WallClock
from exporter.config.loader import load_config
from exporter.errors import UnreachableError
from exporter.ledger.ledger import Ledger
from exporter.metrics.cache import MetricsPage
from exporter.poller import AccountPoller
from exporter.simulators.base import run_simulation
from exporter.simulators.cem.simulation import CemSimulation
from tests.conftest import InMemoryAccountStore


@pytest.fixture
async def visited(tmp_path):
    """Visit a CEM behind TLS: `await visited(host="127.0.0.1", ca_file=...)` gives the account's state."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def visit(host="127.0.0.1", **keys):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(host).configure_cert(context)
        portal = CemSimulation()
        async with run_simulation(portal, tls=context) as url:
            (tmp_path / "config.yaml").write_text(json.dumps({"accounts": [portal.build_accounts(url)[0] | keys]}))
            (account,) = load_config(tmp_path / "config.yaml").accounts
            with Ledger(tmp_path / "data") as ledger:
                poller = AccountPoller(account, ledger, MetricsPage(ledger, WallClock().now, "0"), WallClock())
                await poller.open()
                await poller.visit()
            return poller.state, portal

    return visit


@pytest.mark.parametrize(
    ("host", "keys", "up"),
    [
        ("127.0.0.1", {"ca_file": "ca.pem"}, True),
        ("127.0.0.1", {}, False),
        ("portal.example", {"ca_file": "ca.pem"}, False),
        ("portal.example", {"verify_tls": False}, True),
    ],
)
async def test_certificates(visited, host, keys, up):
    """
    A certificate of an authority that is trusted, for the right host, is accepted; another only without verification.
    """
    state, portal = await visited(host, **keys)

    assert (state.up, state.reason) == (up, "" if up else "unreachable"), state.message
    assert ("certificate" in state.message) is not up
    assert bool(portal.requests) is up


async def test_a_file_that_is_none(visited, tmp_path):
    """
    A `ca_file` that is missing or no certificate is a failure that names it, not a bug.
    """
    (tmp_path / "text.pem").write_text("no certificate")
    for name in ("missing.pem", "text.pem"):
        state, portal = await visited(ca_file=name)

        assert (state.reason, name in state.message) == ("unreachable", True)
        assert not portal.requests


@pytest.mark.parametrize("content", ["", "no certificate", None], ids=["empty", "text", "a pipe"])
async def test_a_file_that_became_none(tmp_path, content):
    """
    A `ca_file` that is emptied, or a pipe by now, keeps nobody waiting, and the system's authorities do not step in.
    """
    file = tmp_path / "ca.pem"
    if content is None:
        os.mkfifo(file)
    else:
        file.write_text(content)
    with pytest.raises(UnreachableError, match=r"ca\.pem"):
        async with Session(store=InMemoryAccountStore(), clock=WallClock().now, ca_file=str(file)):
            pass
