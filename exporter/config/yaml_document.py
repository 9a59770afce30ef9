"""A YAML file as plain data, with the line number of every value and the faults found."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from exporter.errors import ConfigError
from exporter.files import FileStamps, read_file

MAX_FILE_BYTES = 1 << 20
MAX_VALUES = 100_000
"""Only nested aliases make more than this."""
MAX_DEPTH = 40

KeyPath = tuple[str | int, ...]
"""Path of a value: keys and list positions from the top, ("accounts", 1, "every")."""
Data = Any
"""A value: dict with str keys, list, str (every scalar, as written) or None."""

_KEY_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,40}")
_COMMENT = re.compile(r"[ \t]+#")
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
    """The content of a file: plain data, the line number of each value, and the faults found so far.

    Of several faults of one value the first is kept: the others mostly follow from it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.data: Data = None
        self.line_numbers: dict[KeyPath, int] = {(): 1}
        self.secret_paths: set[KeyPath] = set()
        """Values that are secrets."""
        self.secret_files: list[Path] = []
        """The files that secrets were read from."""
        self.secret_stamps: FileStamps = ()
        """Their stamps before they were read."""
        self.other_files: list[Path] = []
        """The files that other keys name, such as certificates."""
        self.holds_secret = False
        """Whether the file itself holds a secret."""
        self.environment_paths: set[KeyPath] = set()
        self.commented_paths: set[KeyPath] = set()
        """Values without quotes that a comment follows on the same line."""
        self.excused_paths: set[KeyPath] = set()
        """Keys that are not missing, but misspelt: the unknown key is the fault."""
        self.private_paths: set[KeyPath] = set()
        """Mappings whose keys are the user's own, such as usage points: no message shows them."""
        self.warnings: list[str] = []
        self._faults: dict[KeyPath, tuple[int | None, str]] = {}

    def add_fault(self, path: KeyPath, reason: str, line: int | None = None) -> None:
        """Record a fault of a value; its line is that of the nearest known parent."""
        if line is None:
            line = next(self.line_numbers[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.line_numbers)
        self._faults.setdefault(path, (line, reason))

    def add_warning(self, path: KeyPath, reason: str, line: int) -> None:
        """Record a warning."""
        self.warnings.append(self._format_fault(line, path, reason))

    def has_faults_below(self, path: KeyPath) -> bool:
        """Return whether a part of a value has a fault: what is wrong with the whole may only follow from that."""
        return any(len(fault) > len(path) and fault[: len(path)] == path for fault in self._faults)

    def raise_faults(self) -> None:
        """Raise ConfigError with every fault, in the order of the file."""
        if self._faults:
            faults = sorted(self._faults.items(), key=lambda fault: fault[1][0] or 0)
            raise ConfigError("\n".join(self._format_fault(line, path, reason) for path, (line, reason) in faults))

    def format_path(self, path: KeyPath) -> str:
        """Return a path as text: accounts[1].usage_points[0].prm."""
        text = ""
        for end, part in enumerate(path):
            if path[:end] in self.private_paths or not (isinstance(part, int) or _KEY_PATTERN.fullmatch(part)):
                break
            text += f"[{part}]" if isinstance(part, int) else f".{part}"
        return text.removeprefix(".")

    def _format_fault(self, line: int | None, path: KeyPath, reason: str) -> str:
        return ": ".join(
            part for part in (f"{self.file}:{line}" if line else str(self.file), self.format_path(path), reason) if part
        )


def read_document(file: Path, *, plain: bool = False) -> YamlDocument:
    """Return the document of a YAML file; raise ConfigError if it cannot be read or parsed at all.

    A `plain` one may be empty, and its strings may have line breaks, as a certificate has.
    """
    document = YamlDocument(file)
    try:
        text = read_text(file, MAX_FILE_BYTES)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        line, reason = _describe_syntax_error(error, text)
        raise ConfigError(f"{file}:{line}: {reason}") from None
    except (ValueError, OverflowError):  # PyYAML's own, for a \U escape or a version beyond all numbers
        raise ConfigError(f"{file}: is no YAML: it has a number or an escape that is too large") from None
    document.data = _DataBuilder(document, loader.tagged, plain=plain).build(node, ()) if node else None
    if document.data is None and plain:
        document.data = {}
    if document.data is None:
        raise ConfigError(f"{file}:1: is empty")
    return document


def read_text(file: Path, max_bytes: int) -> str:
    """Return the text of a UTF-8 file; raise ValueError that says what is wrong, without any content."""
    try:
        return read_file(file, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def parse_scalar(value: object) -> object:
    """Return the number or boolean that a text is in YAML 1.1, or the text."""
    if not isinstance(value, str):
        return value
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(yaml.ScalarNode(loader.resolve(yaml.ScalarNode, value, (True, False)), value))  # type: ignore[no-untyped-call]
    except (ValueError, yaml.YAMLError):  # the 30th of February; = and <<, which are no values
        return value


def has_control_character(text: str) -> bool:
    """Return whether a text holds a line break, another control character or a lone surrogate."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


class _Loader(yaml.SafeLoader):
    """Composes nodes, in plain Python so that depth is bounded, and records which of them have an explicit tag."""

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


class _DataBuilder:
    """Builds plain data from nodes."""

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
        data = self._build_mapping(node, path) if isinstance(node, yaml.MappingNode) else self._build_sequence(node, path)
        self._open_nodes.pop()
        return data

    def _build_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> str | None:
        """Return the text as written: the model decides what it means, and 0123 may be a serial number."""
        if node.style is None and _COMMENT.match(node.end_mark.buffer or "", node.end_mark.pointer):
            self._document.commented_paths.add(path)
        if node.tag == _NULL and node.style is None:
            return None
        if has_control_character(node.value.replace("\n", "") if self._plain else node.value):
            self._document.add_fault(path, "has a line break or another control character in it")
        return str(node.value)

    def _build_sequence(self, node: yaml.Node, path: KeyPath) -> list[Data]:
        return [self.build(item, (*path, position)) for position, item in enumerate(node.value)]

    def _build_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Data]:
        mapping: dict[str, Data] = {}
        for key, line, value in self._iterate_keys(node, path):
            if key in mapping:
                first = self._document.line_numbers[(*path, key)]
                self._document.add_fault((*path, key), f"the same key stands on line {first} already", line)
            else:
                mapping[key] = self.build(value, (*path, key), line)
        return mapping

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
    """Return line and message of a syntax error in our own words; PyYAML's could quote the beginning of a password."""
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, "has a character that no text file holds"
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    problem = f"{error.problem} {error.context}"
    plain = re.sub(r"'[^']*'", "something", error.problem or "it cannot be read")
    message = next((text for pattern, text in _SYNTAX_MESSAGES.items() if re.search(pattern, problem)), f"is no YAML: {plain}")
    return (mark.line + 1 if mark else 1), message
