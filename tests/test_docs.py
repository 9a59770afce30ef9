"""The pages: what is made from the code is what the code says, and no link leads nowhere."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from docs import build, config_keys, reference
from exporter.cli import build_parser
from exporter.config.settings import ConfigFile
from exporter.metrics.families import FAMILIES, FAMILY_GROUPS
from exporter.web.web_config import WebConfig
from tests.test_architecture import ROOT, list_portal_modules, list_tracked_files

MADE = "python -m docs.build writes it anew"
PAGES = sorted(file for file in list_tracked_files() if file.suffix == ".md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TARGET = re.compile(r"\bmake ([a-z]+)\b(?= |`|$)", re.MULTILINE)
COMMAND = re.compile(r"\butility-exporter ((?:[a-z]+ ?)+|)((?:[^`\n#|]*))")
FLAG = re.compile(r"(?<![\w-])--[a-z]+(?:[.-][a-z]+)*")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made of them: small letters, hyphens, no punctuation."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def code(page: Path) -> str:
    """What a reader may type: the blocks of code for a shell, and what stands in the letters of code."""
    text = page.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])


@pytest.mark.parametrize("name", build.GENERATED_PAGES)
def test_made_parts_are_as_the_code_says(name: str):
    """
    Tables and excerpts are what the code gives; `make reference` writes them anew.
    """
    page = (build.FOLDER / name).read_text()

    assert page == build.replace_parts(page, build.GENERATED_PAGES[name]()), MADE


def test_a_page_and_its_parts_must_match():
    """
    A part that no page has, or that nobody makes, is a mistake.
    """
    page = "<!-- made: a -->\nold\n<!-- end -->\n"

    assert build.replace_parts(page, {"a": "new"}) == "<!-- made: a -->\n\nnew\n\n<!-- end -->\n"
    with pytest.raises(ValueError, match="parts"):
        build.replace_parts(page, {"a": "new", "b": "lost"})
    with pytest.raises(ValueError, match="parts"):
        build.replace_parts(page, {})


def test_every_key_says_what_it_is_for():
    """
    Each key of the files and of each portal has a description, and every portal has its table.
    """
    models = [ConfigFile, WebConfig, *(portal.config_model for portal in config_keys.list_own_portals().values())]
    silent = [
        (model.__name__, key)
        for model in models
        for key, row in config_keys.list_key_rows(model)
        if not row[-1] and key != "portal"
    ]

    assert config_keys.list_own_portals().keys() == list_portal_modules().keys()
    assert silent == []


def test_every_family_stands_in_the_page():
    """
    Each family is in one group, and each group is a table.
    """
    names = [family.name for group in FAMILY_GROUPS.values() for family in group]

    assert sorted(names) == sorted({family.name for family in FAMILIES})
    assert reference.build_metric_tables().keys() == {*FAMILY_GROUPS, "history"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_leads_nowhere(page: Path):
    """
    Each file that a page links to is in the repository, and each heading is there.
    """
    known = set(list_tracked_files())
    lost = []
    for link in LINK.findall(page.read_text()):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        there = target in known or any(target in file.parents for file in known)
        if "://" not in link and (not there or (anchor and anchor not in anchors(target))):
            lost.append(link)

    assert lost == []


def test_every_page_is_found():
    """
    The README links to each page in docs/.
    """
    linked = set(LINK.findall((ROOT / "README.md").read_text()))

    assert {f"docs/{page.name}" for page in PAGES if page.parent == ROOT / "docs"} - linked == set()


def test_every_command_in_the_pages_exists():
    """
    Whatever a page says to type is a target of the Makefile, or a command of the program with flags that it has; and all targets
    are said.
    """
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = dict(reference.list_commands(build_parser()))
    firsts = {name.split()[0] for name in known}
    parts = {name.split()[1] for name in known if name.startswith("history ")}
    flags = {flag for made in known.values() for action in made._actions for flag in action.option_strings}
    typed = "\n".join(map(code, PAGES))
    commands_typed = [(match[1].split(), FLAG.findall(match[2])) for match in COMMAND.finditer(typed)]

    assert len(commands_typed) > 10
    assert set(TARGET.findall(typed)) == targets
    assert [words for words, _ in commands_typed if words and words[0] not in firsts] == []
    assert [words for words, _ in commands_typed if words[:1] == ["history"] and words[1] not in parts] == []
    assert {flag for _, found in commands_typed for flag in found} <= {*flags, "--version"}


@pytest.mark.parametrize("name", ["configuration.md", "portals.md"])
def test_every_portal_has_its_chapter(name: str):
    """
    Each portal has a chapter of its own in the pages about keys and about portals.
    """

    assert list_portal_modules().keys() <= anchors(ROOT / "docs" / name)


def test_every_path_stands_in_the_page():
    """
    Each address that the exporter answers, but for the parts of its own page, is in the table of paths.
    """
    sources = "".join(file.read_text() for file in (ROOT / "exporter" / "web").glob("*.py"))
    routes = set(re.findall(r'add_(?:get|post|route)\((?:"\*", )?"(/[^"]*)"', sources))
    page = (ROOT / "docs" / "command-line.md").read_text()

    assert {"/-/healthy", "/api/v1/read"} <= routes
    assert [path for path in routes if not path.startswith("/static/") and not re.search(f"`{re.escape(path)}[`?]", page)] == []
