"""The pages: what is made from the code is what the code says, and no link leads nowhere."""

import pytest

from docs import build, families, keys
from exporter.config import File
from exporter.metrics.families import FAMILIES, GROUPS
from exporter.webconfig import WebConfig
from tests.test_house import entry_points

MADE = "python -m docs.build writes it anew"


@pytest.mark.parametrize("name", build.PAGES)
def test_made_parts_are_as_the_code_says(name: str):
    """
    Tables and excerpts are what the code gives; `make reference` writes them anew.
    """
    page = (build.FOLDER / name).read_text()

    assert page == build.renewed(page, build.PAGES[name]()), MADE


def test_a_page_and_its_parts_must_match():
    """
    A part that no page has, or that nobody makes, is a mistake.
    """
    page = "<!-- made: a -->\nold\n<!-- end -->\n"

    assert build.renewed(page, {"a": "new"}) == "<!-- made: a -->\n\nnew\n\n<!-- end -->\n"
    with pytest.raises(ValueError, match="parts"):
        build.renewed(page, {"a": "new", "b": "lost"})
    with pytest.raises(ValueError, match="parts"):
        build.renewed(page, {})


def test_every_key_says_what_it_is_for():
    """
    Each key of the files and of each portal has a description, and every portal has its table.
    """
    models = [File, WebConfig, *keys.ours().values()]
    silent = [(model.__name__, key) for model in models for key, row in keys.rows(model) if not row[-1] and key != "portal"]

    assert keys.ours().keys() == entry_points().keys()
    assert silent == []


def test_every_family_stands_in_the_page():
    """
    Each family is in one group, and each group is a table.
    """
    names = [family.name for group in GROUPS.values() for family in group]

    assert sorted(names) == sorted({family.name for family in FAMILIES})
    assert families.parts().keys() == {*GROUPS, "true-time"}
