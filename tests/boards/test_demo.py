"""The demo's accounts: as many as homes and buildings, each named as a person would."""

import json
from pathlib import Path

import pytest

from exporter.commands.demo import build_simulations
from exporter.config.loader import load_config


@pytest.fixture
def accounts(tmp_path: Path):
    """What `demo` is configured with."""
    config = tmp_path / "config.yaml"
    entries = [simulation.demo_account("http://127.0.0.1:1") for simulation in build_simulations()]
    config.write_text(json.dumps({"accounts": entries}))
    config.chmod(0o600)
    return load_config(config).accounts


def test_each_portal_has_one_account(accounts):
    """
    No home is there twice, so sums and costs over all accounts are true.
    """

    assert sorted(account.name for account in accounts) == ["block-of-flats", "home-power", "home-water", "maison"]


def test_every_usage_point_has_a_name(accounts):
    """
    Each usage point that an account names has an alias of its own, and no alias is a number.
    """
    for account in accounts:
        assert account.config.configured_usage_points() <= account.config.aliases.keys()
        assert len(set(account.config.aliases.values())) == len(account.config.aliases)
        assert not [alias for alias in account.config.aliases.values() if alias.isdigit()]
