"""Valid and invalid configurations of Enedis accounts."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from exporter.portals.enedis.account import Enedis
from exporter.portals.enedis.config import EnedisConfig
from exporter.simulators.enedis.gateways import build_token
from tests.conftest import NOW

PRM, OTHER = "04445556667778", "12345678901234"
TOKEN = build_token([PRM], NOW + timedelta(days=90))
POINTS = [{"prm": PRM}]
CONSO = {"name": "maison", "portal": "enedis", "access": "conso", "token": TOKEN}
DATACONNECT = {
    "name": "maison",
    "portal": "enedis",
    "access": "dataconnect",
    "client_id": "c",
    "client_secret": "planted-secret",
    "usage_points": POINTS,
}
MED = {"name": "maison", "portal": "enedis", "access": "myelectricaldata", "token": "planted-secret", "usage_points": POINTS}
MED_V1 = {
    "name": "maison",
    "portal": "enedis",
    "access": "myelectricaldata",
    "api": "v1",
    "usage_points": [{"prm": PRM, "token": "planted-secret"}],
}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (CONSO | {"token": None}, "token: is needed with access conso"),
        (CONSO | {"token": "no-json-web-token"}, "token: this is no complete Conso API token; copy it again"),
        (CONSO | {"client_id": "c"}, "client_id: is of no use with access conso"),
        (CONSO | {"client_secret": "planted-secret"}, "client_secret: is of no use with access conso"),
        (CONSO | {"api": "v1"}, "api: with access conso it is 2026 or v5"),
        (CONSO | {"access": "gateway"}, "access"),
        (CONSO | {"usage_points": [{"prm": PRM}, {"prm": PRM}]}, "contains the same prm twice"),
        (CONSO | {"usage_points": [{"prm": 1234567890123}]}, "may have lost its zeros"),
        (CONSO | {"usage_points": [{"prm": "1234"}]}, "is not a PRM"),
        (CONSO | {"usage_points": [{"prm": PRM, "token": "planted-secret"}]}, r"usage_points\[0\].token: is of use only with"),
        (CONSO | {"usage_points": [{"prm": PRM, "prod": True}]}, "prod"),
        (CONSO | {"base_url": "conso.boris.sh"}, "must be an address like"),
        (CONSO | {"usage_points": [{"prm": PRM, "consumption": False}]}, "nothing is read of a point without"),
        (CONSO | {"window": "20:00-05:00"}, "must last an hour or more"),
        (CONSO | {"window": "5-20"}, "write it like 05:00-20:00"),
        (CONSO | {"minute": 60}, "minute"),
        (CONSO | {"contact": "me\r\nX: y"}, "goes into a header"),
        (CONSO | {"every": "10m"}, "must be 30m to 1d"),
        (DATACONNECT | {"client_id": None}, "client_id: is needed with access dataconnect"),
        (DATACONNECT | {"client_secret": None}, "client_secret: is needed with access dataconnect"),
        (DATACONNECT | {"usage_points": []}, "usage_points: is needed with access dataconnect"),
        (DATACONNECT | {"token": "planted-secret"}, "token: is of no use with access dataconnect"),
        (DATACONNECT | {"api": "v2"}, "api: with access dataconnect it is 2026 or v5"),
        (MED | {"token": None}, "token: is needed with access myelectricaldata"),
        (MED | {"usage_points": []}, "usage_points: is needed with access myelectricaldata"),
        (MED | {"api": "2026"}, "api: with access myelectricaldata it is v2 or v1"),
        (MED_V1 | {"token": "planted-secret"}, "token: is of no use with access myelectricaldata and api v1"),
        (MED_V1 | {"usage_points": POINTS}, r"usage_points\[0\].token: is needed with access myelectricaldata and api v1"),
    ],
)
def test_unusable_combinations_name_their_key(keys: dict[str, Any], message: str) -> None:
    """
    What cannot work is refused with a reason that names the key, and without the secrets and numbers in it.
    """
    with pytest.raises(ValidationError, match=message) as error:
        EnedisConfig(**keys)
    assert "planted-secret" not in str(error.value)
    assert PRM not in str(error.value)


@pytest.mark.parametrize("keys", [CONSO, DATACONNECT, MED, MED_V1, CONSO | {"api": 2026}, CONSO | {"api": "v5"}])
def test_usable_combinations(keys: dict[str, Any]) -> None:
    """
    Each access has its own keys; YAML's 2026 is a number, and meant.
    """
    calls, per = Enedis(EnedisConfig(**keys)).list_quotas()["calls"]

    assert calls < 100 if keys["access"] == "conso" else calls < 1000
    assert per <= timedelta(days=1)


def test_a_number_of_fourteen_digits_has_lost_nothing() -> None:
    """
    A PRM without leading zero may stand without quotes.
    """
    assert EnedisConfig(**CONSO | {"usage_points": [{"prm": 12345678901234}]}).usage_points[0].prm == OTHER


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (CONSO, CONSO | {"token": build_token([PRM], NOW)}),
        (DATACONNECT, DATACONNECT | {"client_secret": "another"}),
        (MED, MED | {"base_url": "https://example.org/api"}),
        (MED_V1, MED_V1 | {"usage_points": [{"prm": PRM, "token": "another"}]}),
    ],
)
def test_a_changed_login_is_another_login(before: dict[str, Any], after: dict[str, Any]) -> None:
    """
    A new token, secret or address lifts a suspension, also the token of one usage point; a window does not.
    """
    assert EnedisConfig(**before).build_login_digest() != EnedisConfig(**after).build_login_digest()
    assert EnedisConfig(**before).build_login_digest() == EnedisConfig(**before | {"window": "06:00-10:00"}).build_login_digest()


def test_the_program_names_itself_and_a_contact() -> None:
    """
    The gateways ask for a name and somebody to write to.
    """
    assert EnedisConfig(**CONSO).build_user_agent() == "utility-exporter"
    assert (
        EnedisConfig(**CONSO | {"contact": "https://example.org"}).build_user_agent() == "utility-exporter (https://example.org)"
    )


def test_five_calls_a_second_at_the_maximum() -> None:
    """
    Enedis counts calls per second for a whole gateway; the distance between ours is a fraction of it.
    """
    assert EnedisConfig(**CONSO).min_request_gap == timedelta(seconds=1)
    assert EnedisConfig(**CONSO | {"calls_per_second": 5}).min_request_gap == timedelta(seconds=0.2)
    with pytest.raises(ValidationError):
        EnedisConfig(**CONSO | {"calls_per_second": 6})
