"""The house: who may import whom, where each package has its door, and what every file keeps to."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

FLOORS = [
    {"__main__", "flags", "serve", "oneoff", "demo.runner"},
    {"config", "housekeeping", "past", "poller", "server", "status"},
    {"portals", "metrics", "history", "webconfig"},
    {"session", "answer", "ledger", "pkce", "tokens", "duration", "forms", "colour"},
    {"sync"},
    {"errors", "model", "clock", "logs", "heap", "shard", "demo", "early", ""},
]
"""From the roof down; each imports from its own floor and those below. `demo` stands on its own ground."""

APART = {
    "portals": {"ledger", "config", "poller", "demo", "metrics", "history"},
    "metrics": {"portals"},
    "history": {"portals"},
    "demo": {"errors", "model"},
}
"""Who does not know whom, whatever the floor."""

DOORS = {
    "aiohttp": {"session"},
    "bcrypt": {"webconfig"},
    "jinja2": {"status"},
    "aiohttp.web": {"server", "demo", "demo.runner"},
    "prometheus_client": {"metrics"},
    "lxml": {"forms"},
    "sqlite3": {"ledger"},
    "yaml": {"config"},
}
"""Packages that only these import."""

SPEAKERS = {"__main__", "demo.runner"}
"""Who may print."""

LONGEST = 400
LONG: dict[str, str] = {}
"""Longer files, and why they are not divided."""

NOT_OURS = {
    "the path of a machine": r"/(h[o]me|r[o]ot|w[o]rk|U[s]ers)/[a-z]|/tmp/(w[t]|v[e]nv)\b",
    "the host of a package registry": r"p[y]pi\.org|p[y]thonhosted\.org|n[p]mjs\.org|proxy\.g[o]lang",
    "the options of somebody's pip": r"^(-i|--(extra-)?index-url|--find-links)[ =]",
}

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "exporter").rglob("*.py"))


class Import(NamedTuple):
    """`importer` and `imported` are whole names of modules."""

    importer: str
    imported: str


def module(file: Path) -> str:
    """exporter/portals/base.py is exporter.portals.base; a package's __init__ has the package's name."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(file): file for file in FILES}


def room(name: str) -> str:
    """The name by which a module stands in the tables: exporter.portals.fluvius.login is portals."""
    inside = name.removeprefix("exporter").removeprefix(".")
    return inside if inside in SPEAKERS else inside.partition(".")[0]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@cache
def imports() -> frozenset[Import]:
    return frozenset(Import(name, imported) for name, file in MODULES.items() for imported in imported_by(file))


def imported_by(file: Path) -> Iterator[str]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in MODULES or alias.name.startswith("web") else str(node.module)


def ours() -> list[Import]:
    return sorted(one for one in imports() if one.imported.partition(".")[0] == "exporter")


def floor(name: str) -> int:
    return next((number for number, rooms in enumerate(FLOORS) if room(name) in rooms), len(FLOORS))


def portal_of(name: str) -> str | None:
    """exporter.portals.fluvius.login is a part of the portal fluvius; base belongs to all."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["exporter", "portals"] and len(parts) > 2 and parts[2] != "base" else None


def tracked() -> list[Path]:
    """The files of the repository; of an unpacked archive, all of them."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    return [file for file in ROOT.rglob("*") if file.is_file() and not any(part.startswith(".") for part in file.parts)]


def entry_points() -> dict[str, str]:
    """The portals of the project whose modules exist, with their modules."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["utility_exporter.portals"]
    modules = {name: target.partition(":")[0] for name, target in named.items()}
    return {name: target for name, target in modules.items() if find_spec(target)}


def test_every_module_has_a_floor():
    """
    Each module stands in the table of floors.
    """
    known = set().union(*FLOORS)

    assert len(MODULES) > 10
    assert [name for name in MODULES if room(name) not in known] == []


def test_imports_run_down():
    """
    No module imports from a floor above its own.
    """

    assert len(ours()) > 15
    assert [one for one in ours() if floor(one.imported) < floor(one.importer)] == []


def test_no_circles():
    """
    No module imports itself by way of others.
    """
    below: dict[str, set[str]] = {}
    for one in ours():
        below.setdefault(one.importer, set()).add(one.imported)
    while leaves := {name for names in below.values() for name in names} - below.keys():
        below = {name: names - leaves for name, names in below.items() if names - leaves}

    assert below == {}


def test_rooms_kept_apart():
    """
    Portals, simulations and what shows the readings do not know each other.
    """

    assert [one for one in ours() if room(one.imported) in APART.get(room(one.importer), ())] == []


def test_simulations_share_nothing():
    """
    A simulation imports from the demo and from nowhere else in the house.
    """

    assert [one for one in ours() if room(one.importer) == "demo" and room(one.imported) != "demo"] == []


def test_portals_do_not_import_each_other():
    """
    What two portals share is no part of either.
    """
    pairs = [(portal_of(one.importer), portal_of(one.imported)) for one in ours()]

    assert [pair for pair in pairs if all(pair) and pair[0] != pair[1]] == []
    assert not [one for one in ours() if one.importer == "exporter.portals.base" and portal_of(one.imported)]


@pytest.mark.parametrize("package", DOORS)
def test_each_package_has_its_door(package: str):
    """
    A package is imported only where its door is.
    """

    def enters(name: str) -> bool:
        if package == "aiohttp" and name.startswith("aiohttp.web"):
            return False
        return name == package or name.startswith((f"{package}.", f"{package}_"))

    assert {room(one.importer) for one in imports() if enters(one.imported)} <= DOORS[package]


@pytest.mark.parametrize("file", FILES, ids=module)
def test_each_file_is_of_the_house(file: Path):
    """
    A file opens with one sentence, prints nothing, and has a length that can be read.
    """
    sentence = (ast.get_docstring(tree(file)) or "").split("\n\n")[0]
    calls = [node.func for node in ast.walk(tree(file)) if isinstance(node, ast.Call)]
    prints = any(isinstance(called, ast.Name) and called.id == "print" for called in calls)
    length = len(file.read_text().splitlines())

    assert re.fullmatch(r"[^\n]+\.", sentence)
    assert not prints or room(module(file)) in SPEAKERS
    assert (length > LONGEST) == (str(file.relative_to(ROOT)) in LONG), f"it has {length} lines"


def test_a_start_loads_only_what_everybody_needs():
    """
    What some portals, remote write, remote read or the page for people need is loaded when they do: a home starts small.
    """
    looks = "import sys; from exporter import __main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, check=True).stdout.split()

    assert {"aiohttp", "pydantic", "exporter.app"} <= set(loaded)
    assert {"cramjam", "google", "re2", "jinja2", "lxml", "cryptography", "rich"} & set(loaded) == set()


@pytest.mark.parametrize("what", NOT_OURS)
def test_nothing_of_a_machine(what: str):
    """
    No file in the repository names a path of somebody's machine or the host of a registry.
    """
    pattern = re.compile(NOT_OURS[what], re.MULTILINE)
    texts = {file: file.read_bytes().decode(errors="replace") for file in tracked()}

    assert len(texts) > 20
    assert [str(file.relative_to(ROOT)) for file, text in texts.items() if pattern.search(text)] == []


def test_every_portal_is_shown():
    """
    Each portal has its example in the example configuration and its row in the README.
    """
    example = yaml.safe_load((ROOT / "config.example.yaml").read_text())
    shown = {account["portal"] for account in example["accounts"]}
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]

    assert entry_points().keys() <= shown
    assert [name for name in entry_points() if not any(f"`{name}`" in row for row in rows)] == []
