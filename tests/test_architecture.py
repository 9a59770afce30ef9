"""What no linter checks of the architecture: the length of files, the words of names, what a start loads, what is published."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

MAX_LINES = 400
FORBIDDEN_WORDS = {
    "said", "say", "told", "tell", "taken", "take", "understood", "joined", "look", "give", "given", "way", "desk",
    "door", "house", "room", "face", "sheet", "leaf", "shelf", "most", "least", "longest", "roster", "estate", "tenure",
    "owed", "heard", "wish", "street", "lake", "brook",
}  # fmt: skip
"""Words of no field; the conventions for names are in CONTRIBUTING.md."""
NOT_PUBLISHED = {
    "the path of a machine": r"/(h[o]me|r[o]ot|w[o]rk|U[s]ers)/[a-z]|/tmp/(w[t]|v[e]nv)\b",
    "the host of a package registry": r"p[y]pi\.org|p[y]thonhosted\.org|n[p]mjs\.org|proxy\.g[o]lang",
    "the options of somebody's pip": r"^(-i|--(extra-)?index-url|--find-links)[ =]",
}

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "exporter").rglob("*.py"))
PORTAL_FILES = {"config", "auth", "client", "parser", "feeds", "discover", "account", "raw"}
FOLDERS = ("exporter", "grafana", "tests")
"""Whose names are checked."""


def list_tracked_files() -> list[Path]:
    """Return the files of the repository; of an unpacked archive, all files."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    return [file for file in ROOT.rglob("*") if file.is_file() and not any(part.startswith(".") for part in file.parts)]


def list_portal_modules() -> dict[str, str]:
    """Return the project's portals whose modules exist, with their modules."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["utility_exporter.portals"]
    modules = {name: target.partition(":")[0] for name, target in entry_points.items()}
    return {name: module for name, module in modules.items() if find_spec(module)}


def find_package_files(module: str) -> list[Path]:
    """Return the files of the package that a module is in."""
    return sorted((ROOT / Path(*module.split("."))).parent.glob("*.py"))


def list_defined_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name that a module defines, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.Import() | ast.ImportFrom():
                yield from ((alias.asname, node.lineno) for alias in node.names if alias.asname)


def split_name(name: str) -> set[str]:
    """Return the words of a name: parse_HTMLForm is parse, html, form."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def find_forbidden_names(file: Path) -> list[str]:
    """Return file, line and name of every name in a file, or of it, that has a forbidden word."""
    path = file.relative_to(ROOT)
    names = [(path.with_suffix("").as_posix(), 0), *list_defined_names(ast.parse(file.read_text()))]
    sentences = re.compile(r"test_\w+").fullmatch  # the name of a test is a sentence
    return [f"{path}:{line}: {name}" for name, line in names if split_name(name) & FORBIDDEN_WORDS and not sentences(name)]


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_have_no_forbidden_words(folder: str):
    """
    No module, class, function, variable, attribute or parameter has a word that the conventions forbid.
    """
    files = [file for file in list_tracked_files() if file.suffix == ".py" and file.is_relative_to(ROOT / folder)]

    assert len(files) > 5
    assert [name for file in files for name in find_forbidden_names(file)] == []


def test_forbidden_words_are_found():
    """
    Words are separated by underscores and capitals, and every kind of definition counts.
    """
    source = (
        "import os as door_os\nclass FaceOne: leaf_id: int = 1\nasync def f(house: int, *, wayOut=1): self.MOST_X = surface = 2\n"
        "try: pass\nexcept OSError as told_error: pass\nmatch 1:\n    case take_this: pass\ngiven(given=lookup.look(leafy))\n"
    )
    names = {name for name, _ in list_defined_names(ast.parse(source))}

    assert {name for name in names if split_name(name) & FORBIDDEN_WORDS} == {
        "door_os", "FaceOne", "leaf_id", "house", "wayOut", "MOST_X", "told_error", "take_this",
    }  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_file_length(file: Path):
    """
    A file has a length that can be read.
    """
    assert len(file.read_text().splitlines()) <= MAX_LINES


def test_aiohttp_client_and_server_are_separate():
    """
    Only `client` uses aiohttp's client; `web` and the simulators, its server.
    """
    client_users, server_users = set[str](), set[str]()
    for file in FILES:
        package = file.relative_to(ROOT / "exporter").parts[0]
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                if module.startswith(("aiohttp.web", "aiohttp.http_exceptions")):
                    server_users.add(package)
                elif module.partition(".")[0] == "aiohttp":
                    client_users.add(package)

    assert (client_users, server_users) == ({"client"}, {"web", "simulators"})


def test_a_start_loads_only_what_everybody_needs():
    """
    What some portals, remote write, remote read or the status page need is loaded when they do, so that a start stays small.
    """
    program = "import sys; from exporter import cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert {"aiohttp", "pydantic", "exporter.app"} <= set(loaded)
    assert {"cramjam", "google", "google_crc32c", "re2", "jinja2", "lxml", "cryptography", "rich"} & set(loaded) == set()


@pytest.mark.parametrize("what", NOT_PUBLISHED)
def test_nothing_of_a_machine(what: str):
    """
    No file in the repository contains a path of somebody's machine or the host of a registry.
    """
    pattern = re.compile(NOT_PUBLISHED[what], re.MULTILINE)
    texts = {file: file.read_bytes().decode(errors="replace") for file in list_tracked_files()}

    assert len(texts) > 20
    assert [str(file.relative_to(ROOT)) for file, text in texts.items() if pattern.search(text)] == []


def test_every_portal_has_the_same_files():
    """
    Whoever has read one portal finds the same files in every other one, beside what only it needs.
    """
    files = {name: {file.stem for file in find_package_files(module)} for name, module in list_portal_modules().items()}

    assert {name: PORTAL_FILES - found for name, found in files.items() if not found >= PORTAL_FILES} == {}


def test_every_portal_is_documented():
    """
    Each portal has its example in the example configuration and its row in the README.
    """
    example = yaml.safe_load((ROOT / "config.example.yaml").read_text())
    shown = {account["portal"] for account in example["accounts"]}
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]

    assert list_portal_modules().keys() <= shown
    assert [name for name in list_portal_modules() if not any(f"`{name}`" in row for row in rows)] == []
