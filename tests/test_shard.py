"""Accounts divided over processes: each at exactly one, always the same one."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.app import ServeOptions
from exporter.cli import main
from exporter.sharding import Shard


@given(st.text(min_size=1), st.integers(1, 50))
def test_each_account_is_at_one_process(name, count):
    """
    Of all shards exactly one holds an account.
    """
    assert sum(Shard(index, count).contains(name) for index in range(1, count + 1)) == 1


def test_where_an_account_belongs_never_changes():
    """
    The same accounts on every machine, in every version: a ledger stays with its accounts.
    """
    names = ["home", "town", "block-of-flats", "maison", "house 7", "Straße", "village", "harbour"]

    assert [name for name in names if Shard(1, 3).contains(name)] == FIRST
    assert [name for name in names if Shard(2, 3).contains(name)] == SECOND
    assert all(Shard().contains(name) for name in names)


FIRST, SECOND = [], ["maison", "village", "harbour"]


def test_accounts_are_spread_evenly():
    """
    A thousand accounts over ten processes: none has twice its part.
    """
    parts = [sum(Shard(index, 10).contains(f"account {number}") for number in range(1000)) for index in range(1, 11)]

    assert 60 < min(parts) <= max(parts) < 140


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1/0", "1", "1/", "a/b", "1/3/5", "-1/3", " 1/3"])
def test_a_shard_that_cannot_be_is_refused(text, capsys):
    """
    Wrong usage, with the form that is meant.
    """
    with pytest.raises(SystemExit) as left:
        main(["serve", f"--shard={text}"])

    assert left.value.code == 2
    assert "is not I/N with I from 1 to N, like 2/3" in capsys.readouterr().err


def test_a_process_has_only_its_own_accounts(tmp_path: Path):
    """
    Two processes with one configuration have all accounts between them, and none twice.
    """
    accounts = [
        {"name": f"house-{number}", "portal": "cem", "username": "u", "password": "p"} for number in range(20)
    ]  # fmt: skip
    (tmp_path / "config.yaml").write_text(json.dumps({"accounts": accounts}))
    held = [
        [account.name for account in ServeOptions(tmp_path / "config.yaml", shard=Shard(index, 2)).load_config().accounts]
        for index in (1, 2)
    ]

    assert sorted(held[0] + held[1]) == sorted(account["name"] for account in accounts)
    assert all(held)
