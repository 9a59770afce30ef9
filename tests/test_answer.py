"""What an answer says of itself."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from exporter.client.response import Response


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/next?a=1", "https://portal.example/next?a=1"),
        ("https://other.example/x", "https://other.example/x"),
        ("http://[bad", None),
        ("http://host:port/", None),
        ("", None),
    ],
)
def test_a_redirect_points_to_an_address_or_nowhere(location, target):
    """
    A Location that no address can be made of is none, and no error of somebody else's.
    """
    answer = Response(302, "https://portal.example/a/b", CIMultiDictProxy(CIMultiDict(Location=location)), b"", "GET /a/b")

    assert answer.location == target
