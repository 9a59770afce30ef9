"""A YAML file as plain data, with the line number of every value and the problems found."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from exporter.errors import ConfigError
from exporter.files import FileStamps, read_file, stamp_files

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
    "mapping values are not allowed": "is not valid YAML: a key or colon is not allowed here; text with ': ' in it needs quotes",
    "expected <block end>": "is not valid YAML: this line is indented unlike the lines before it",
    "expected ',' or ": "is not valid YAML: a comma or a bracket is missing; ${NAME} within brackets needs quotes",
    "could not find expected ':'": "is not valid YAML: a ':' is missing on this line or the line before it",
    "unexpected end of stream": "is not valid YAML: a quote is opened and never closed",
    "unknown escape": "is not valid YAML: a \\ within double quotes begins an escape; single quotes keep it as it is",
    "nested too deep": "is nested too deep",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A fault of a value, or a warning about it."""

    path: KeyPath
    reason: str
    line: int | None = None
    """Where it stands; None: on the line of the value, or of its nearest parent that has one."""
    is_warning: bool = False


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """The content of a file: plain data, the line number of each value, and the problems found in it."""

    file: Path
    stamps: FileStamps
    """The file's stamp before it was read."""
    data: Data
    line_numbers: Mapping[KeyPath, int]
    commented_paths: frozenset[KeyPath]
    """Values without quotes that a comment follows on the same line."""
    problems: tuple[Problem, ...]
    environment_paths: frozenset[KeyPath] = frozenset()
    """Values that an environment variable stood in."""

    def find_line(self, path: KeyPath) -> int:
        """Return the line of a value, or of its nearest parent that has one."""
        return next(self.line_numbers[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.line_numbers)

    def format_problem(self, problem: Problem, private_paths: Set[KeyPath]) -> str:
        """Return a line for people: `config.yaml:7: accounts[1].every: must be 15m to 1d`."""
        line = self.find_line(problem.path) if problem.line is None else problem.line
        place = format_path(problem.path, private_paths)
        return ": ".join(part for part in (f"{self.file}:{line}" if line else str(self.file), place, problem.reason) if part)

    def format_faults(self, problems: Iterable[Problem], private_paths: Set[KeyPath]) -> list[str]:
        """Return the faults in the order of the file. Of several of one value the first is kept: others mostly follow from it."""
        faults: dict[KeyPath, Problem] = {}
        for problem in problems:
            if not problem.is_warning:
                faults.setdefault(problem.path, problem)
        ordered = sorted(faults.values(), key=lambda one: self.find_line(one.path) if one.line is None else one.line)
        return [self.format_problem(fault, private_paths) for fault in ordered]


def read_document(file: Path, *, plain: bool = False) -> YamlDocument:
    """Return the document of a YAML file; raise ConfigError if it cannot be read or parsed at all.

    A `plain` one may be empty, and its strings may have line breaks, as a certificate has.
    """
    stamps = stamp_files([file])
    try:
        return _parse_document(file, read_text(file, MAX_FILE_BYTES), stamps, plain=plain)
    except ValueError as error:
        raise ConfigError(f"{file}: {error}", stamps) from None
    except ConfigError as error:
        raise ConfigError(str(error), stamps) from None


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


def format_path(path: KeyPath, private_paths: Set[KeyPath]) -> str:
    """Return a path as text, accounts[1].usage_points[0].prm, without the keys of `private_paths`: those are the user's own."""
    text = ""
    for end, part in enumerate(path):
        if path[:end] in private_paths or not (isinstance(part, int) or _KEY_PATTERN.fullmatch(part)):
            break
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _parse_document(file: Path, text: str, stamps: FileStamps, *, plain: bool) -> YamlDocument:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except (yaml.reader.ReaderError, yaml.MarkedYAMLError) as error:
        line, reason = _describe_syntax_error(error, text)
        raise ConfigError(f"{file}:{line}: {reason}") from None
    except (ValueError, OverflowError):  # PyYAML's own, for a \U escape or a version beyond all numbers
        raise ConfigError(f"{file}: is not valid YAML: it has a number or an escape that is too large") from None
    builder = _DataBuilder(file, loader.tagged, plain=plain)
    data = builder.build(node, ()) if node else None
    if data is None and not plain:
        raise ConfigError(f"{file}:1: is empty")
    return YamlDocument(
        file,
        stamps,
        {} if data is None else data,
        builder.line_numbers,
        frozenset(builder.commented_paths),
        tuple(builder.problems),
    )


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
    """Builds plain data from the nodes of a file, with what is known of each value."""

    def __init__(self, file: Path, tagged: Set[yaml.Node], *, plain: bool) -> None:
        self.line_numbers: dict[KeyPath, int] = {(): 1}
        self.commented_paths: set[KeyPath] = set()
        self.problems: list[Problem] = []
        self._file, self._tagged, self._plain = file, tagged, plain
        self._count = 0
        self._open_nodes: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: KeyPath, line: int | None = None) -> Data:
        self.line_numbers[path] = line or _line_number(node)
        self._count += 1
        if self._count > MAX_VALUES:
            raise ConfigError(f"{self._file}: has more than {MAX_VALUES} values; are there aliases of aliases?")
        if node in self._tagged:
            self._add_fault(path, "has a tag, and none is known here; text that begins with ! needs quotes")
        if isinstance(node, yaml.ScalarNode):
            return self._build_scalar(node, path)
        if node in self._open_nodes:
            self._add_fault(path, "is an alias of a block it stands in itself")
            return None
        if len(self._open_nodes) == MAX_DEPTH:
            raise ConfigError(f"{self._file}:{self.line_numbers[path]}: is nested too deep")
        self._open_nodes.append(node)
        data = self._build_mapping(node, path) if isinstance(node, yaml.MappingNode) else self._build_sequence(node, path)
        self._open_nodes.pop()
        return data

    def _add_fault(self, path: KeyPath, reason: str, line: int | None = None) -> None:
        self.problems.append(Problem(path, reason, line))

    def _build_scalar(self, node: yaml.ScalarNode, path: KeyPath) -> str | None:
        """Return the text as written: the model decides what it means, and 0123 may be a serial number."""
        if node.style is None and _COMMENT.match(node.end_mark.buffer or "", node.end_mark.pointer):
            self.commented_paths.add(path)
        if node.tag == _NULL and node.style is None:
            return None
        if has_control_character(node.value.replace("\n", "") if self._plain else node.value):
            self._add_fault(path, "has a line break or another control character in it")
        return str(node.value)

    def _build_sequence(self, node: yaml.Node, path: KeyPath) -> list[Data]:
        return [self.build(item, (*path, position)) for position, item in enumerate(node.value)]

    def _build_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Data]:
        mapping: dict[str, Data] = {}
        for key, line, value in self._iterate_keys(node, path):
            if key in mapping:
                first = self.line_numbers[(*path, key)]
                self._add_fault((*path, key), f"the same key stands on line {first} already", line)
            else:
                mapping[key] = self.build(value, (*path, key), line)
        return mapping

    def _iterate_keys(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, int, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value or has_control_character(key.value):
                self._add_fault((*path, ""), "a key must be a plain word", _line_number(key))
            elif key.tag == _MERGE:
                self._add_fault((*path, ""), "merging with << is not known here; write the keys out", _line_number(key))
            else:
                yield str(key.value), _line_number(key), value


def _line_number(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _describe_syntax_error(error: yaml.reader.ReaderError | yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """Return line and message of a syntax error in our own words; PyYAML's could quote the beginning of a password."""
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, "has a character that no text file holds"
    mark = error.problem_mark or error.context_mark
    problem = f"{error.problem} {error.context}"
    plain = re.sub(r"'[^']*'", "something", error.problem or "it cannot be read")
    message = next(
        (text for pattern, text in _SYNTAX_MESSAGES.items() if re.search(pattern, problem)), f"is not valid YAML: {plain}"
    )
    return (mark.line + 1 if mark else 1), message
