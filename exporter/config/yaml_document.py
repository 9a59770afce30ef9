"""A YAML file as plain data, with the line of every place in it and the faults found there."""

import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from exporter.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
MAX_VALUES = 100_000
"""More than this comes only from aliases of aliases of aliases."""
MAX_DEPTH = 40

KeyPath = tuple[str | int, ...]
"""Where in the data: keys and list positions from the top, ("accounts", 1, "every")."""
Data = Any
"""What stands there: dict with str keys, list, str (every scalar, as it was written) or None."""

_KEY_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,40}")
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_SYNTAX_MESSAGES = {
    r"character '\\t'": "has a tab; YAML is indented with spaces",
    "cannot start any token": "has text that begins with a special character; put it in quotes",
    "undefined alias": "has an alias (*) of which there is no anchor; text that begins with * needs quotes",
    "another document": "has a second document (---); one is read",
    "mapping values are not allowed": "is no YAML: a key or a colon stands where none can; text with ': ' in it needs quotes",
    "expected <block end>": "is no YAML: this line is indented unlike the lines before it",
    "expected ',' or ": "is no YAML: a comma or a bracket is missing; ${NAME} within brackets needs quotes",
    "could not find expected ':'": "is no YAML: a ':' is missing on this line or the line before it",
    "unexpected end of stream": "is no YAML: a quote is opened and never closed",
    "unknown escape": "is no YAML: a \\ within double quotes begins an escape; single quotes keep it as it is",
    "nested too deep": "is nested too deep",
}


class YamlDocument:
    """What a file holds: plain data, the line of each place, and the faults found so far.

    Of several faults at one place the first is kept: what follows from it would only confuse.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.data: Data = None
        self.line_numbers: dict[KeyPath, int] = {(): 1}
        self.secret_paths: set[KeyPath] = set()
        """Places where a secret is due."""
        self.holds_secret = False
        """Whether one stands in this very file."""
        self.is_world_readable = False
        """Whether others on this machine may read it."""
        self.environment_paths: set[KeyPath] = set()
        self.quoted_paths: set[KeyPath] = set()
        """Places of text that stands in quotes."""
        self.private_paths: set[KeyPath] = set()
        """Blocks whose keys are the user's own, such as usage points: no message shows them."""
        self._faults: dict[KeyPath, tuple[int | None, str]] = {}

    def add_fault(self, path: KeyPath, reason: str, line: int | None = None) -> None:
        """Note what is wrong at a place; the line is that of the nearest thing known above it."""
        if line is None:
            line = next(self.line_numbers[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.line_numbers)
        self._faults.setdefault(path, (line, reason))

    def raise_faults(self) -> None:
        """Raise ConfigError with every fault, in the order of the file."""
        if self._faults:
            faults = sorted(self._faults.items(), key=lambda fault: fault[1][0] or 0)
            raise ConfigError("\n".join(self._format_fault(line, place, reason) for place, (line, reason) in faults))

    def format_path(self, path: KeyPath) -> str:
        """Write a place as people do: accounts[1].usage_points[0].prm."""
        said = ""
        for end, part in enumerate(path):
            if path[:end] in self.private_paths or not (isinstance(part, int) or _KEY_PATTERN.fullmatch(part)):
                break
            said += f"[{part}]" if isinstance(part, int) else f".{part}"
        return said.removeprefix(".")

    def _format_fault(self, line: int | None, path: KeyPath, reason: str) -> str:
        return ": ".join(
            part for part in (f"{self.file}:{line}" if line else str(self.file), self.format_path(path), reason) if part
        )


def read_document(file: Path, *, plain: bool = False) -> YamlDocument:
    """Read a YAML file; raises ConfigError for what cannot be read at all.

    A `plain` one may be empty, and its texts may have line breaks, as a certificate has.
    """
    document = YamlDocument(file)
    try:
        text = read_text(file, MAX_FILE_BYTES)
        document.is_world_readable = bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{file}: {error}") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        line, reason = _describe_syntax_error(error, text)
        raise ConfigError(f"{file}:{line}: {reason}") from None
    except (ValueError, OverflowError):  # PyYAML's own, for a \U escape or a version beyond all numbers
        raise ConfigError(f"{file}: is no YAML: it has a number or an escape that is too large") from None
    document.data = _Builder(document, loader.tagged, plain=plain).build(node, ()) if node else None
    if document.data is None and plain:
        document.data = {}
    if document.data is None:
        raise ConfigError(f"{file}:1: is empty")
    return document


def read_text(file: Path, max_bytes: int) -> str:
    """Read a file of UTF-8 text; raises ValueError that says what is wrong with it, never what is in it."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise ValueError("is a folder" if file.is_dir() else "is not a regular file")
        with file.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or type(error).__name__).lower()}") from None
    if len(content) > max_bytes:
        raise ValueError(f"is larger than {max_bytes >> 10} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def has_control_character(text: str) -> bool:
    """Tell whether a text holds a line break, another control character or half a character."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


class _Loader(yaml.SafeLoader):
    """Composes nodes, in plain Python so that depth is bounded; remembers which of them a tag was written to."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tagged: set[yaml.Node] = set()
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave PyYAML's parser untyped
        if self._depth >= MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nested too deep", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and getattr(event, "tag", None) is not None:
            self.tagged.add(node)
        return node


class _Builder:
    """Makes plain data of nodes."""

    def __init__(self, document: YamlDocument, tagged: set[yaml.Node], *, plain: bool) -> None:
        self._document, self._tagged, self._plain = document, tagged, plain
        self._count = 0
        self._open_nodes: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: KeyPath, line: int | None = None) -> Data:
        self._document.line_numbers[path] = line or _line_number(node)
        self._count += 1
        if self._count > MAX_VALUES:
            raise ConfigError(f"{self._document.file}: has more than {MAX_VALUES} values; are there aliases of aliases?")
        if node in self._tagged:
            self._document.add_fault(path, "has a tag, and none is known here; text that begins with ! needs quotes")
        if isinstance(node, yaml.ScalarNode):
            return self._build_scalar(node, path)
        if node in self._open_nodes:
            return self._document.add_fault(path, "is an alias of a block it stands in itself")
        if len(self._open_nodes) == MAX_DEPTH:
            raise ConfigError(f"{self._document.file}:{self._document.line_numbers[path]}: is nested too deep")
        self._open_nodes.append(node)
        made = self._build_mapping(node, path) if isinstance(node, yaml.MappingNode) else self._build_sequence(node, path)
        self._open_nodes.pop()
        return made

    def _build_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> str | None:
        """Keep the text as written: what it means is for the model to say, and 0123 may be a serial number."""
        if node.tag == _NULL and node.style is None:
            return None
        if node.style is not None:
            self._document.quoted_paths.add(path)
        if has_control_character(node.value.replace("\n", "") if self._plain else node.value):
            self._document.add_fault(path, "has a line break or another control character in it")
        return str(node.value)

    def _build_sequence(self, node: yaml.Node, path: KeyPath) -> list[Data]:
        return [self.build(item, (*path, position)) for position, item in enumerate(node.value)]

    def _build_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Data]:
        made: dict[str, Data] = {}
        for key, line, value in self._iterate_keys(node, path):
            if key in made:
                first = self._document.line_numbers[(*path, key)]
                self._document.add_fault((*path, key), f"the same key stands on line {first} already", line)
            else:
                made[key] = self.build(value, (*path, key), line)
        return made

    def _iterate_keys(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, int, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value or has_control_character(key.value):
                self._document.add_fault((*path, ""), "a key must be a plain word", _line_number(key))
            elif key.tag == _MERGE:
                self._document.add_fault((*path, ""), "merging with << is not known here; write the keys out", _line_number(key))
            else:
                yield str(key.value), _line_number(key), value


def _line_number(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _describe_syntax_error(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Say in our words what PyYAML found; what it quotes could be the beginning of a password."""
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, "has a character that no text file holds"
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    problem = f"{error.problem} {error.context}"
    plain = re.sub(r"'[^']*'", "something", error.problem or "it cannot be read")
    said = next((said for known, said in _SYNTAX_MESSAGES.items() if re.search(known, problem)), f"is no YAML: {plain}")
    return (mark.line + 1 if mark else 1), said
