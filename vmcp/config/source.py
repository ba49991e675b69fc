"""YAML text → a tree of nodes with positions, from ruamel's pure event stream.

The rule: nothing is constructed that the text could blow up. No ``load``, no C extension, no anchors, aliases, merge keys
or tags; one document; bounded bytes, depth, nodes and diagnostics. Scalars are those of the YAML 1.2 core schema, so
``yes`` and ``2025-11-25`` are strings.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)
from ruamel.yaml.reader import ReaderError

from vmcp.config.rules import Rule
from vmcp.config.tree import Hole, Listing, Node, Plain, Scalar, Table, printable
from vmcp.errors import Position, Problem

MAX_BYTES = 1 << 20
MAX_LINE = 1 << 17
MAX_DEPTH = 32
MAX_NODES = 100_000
MAX_PROBLEMS = 100

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
TRUE = frozenset({"true", "True", "TRUE"})
FALSE = frozenset({"false", "False", "FALSE"})
_NUMBER = re.compile(
    r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}|[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,4})?"
)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")  # what else may be a secret at a wrong place
_MAX_INT = 1 << 62


Started = Any
"""An event that begins a node; ruamel's own annotations know less of it than it has."""


class _Stop(Exception):
    """The rest of the file is not worth reading."""


def compose(name: str, text: str) -> tuple[Table | None, tuple[Problem, ...]]:
    """The root map of one file, and what is wrong with it. No map: the file could not be read as a whole."""
    composer = _Composer(name, text)
    root = composer.root() if composer.fits() else None
    return root, tuple(composer.problems)


def typed(text: str) -> Plain:
    """The value of a plain scalar under the core schema (YAML 1.2.2, 10.3.2), infinities and NaN aside."""
    if text in NULLS:
        return None
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    return _number(text) if text[0] in "+-.0123456789" and _NUMBER.fullmatch(text) else text


def _number(text: str) -> Plain:
    digits = text.lstrip("+-")
    if digits.startswith(("0o", "0x")):
        whole = int(digits, 0)
    elif digits.isdecimal():
        whole = int(digits)
    else:
        value = float(text)
        return value if math.isfinite(value) else text
    if whole > _MAX_INT:
        return text
    return -whole if text.startswith("-") else whole


class _Composer:
    """Reads one file. Mutable, used once by ``compose``."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.problems: list[Problem] = []
        self.nodes = 0
        self.last: Event | None = None

    def fits(self) -> bool:
        """Whether the text is worth scanning at all."""
        start = Position(self.name, 1, 1)
        if len(self.text) > MAX_BYTES or len(self.text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            self.tell(
                Rule.TOO_LARGE, start, "the file is larger than 1 MiB", "split it and give --config several times"
            )
            return False
        for number, line in enumerate(self.text.split("\n"), 1):
            if len(line) > MAX_LINE:
                at = Position(self.name, number, 1)
                self.tell(Rule.TOO_LARGE, at, f"the line is longer than {MAX_LINE} characters", "break it")
                return False
        return True

    def tell(self, rule: Rule, at: Position, message: str, hint: str = "") -> None:
        self.problems.append(Problem(at, "", message, hint, "error", str(rule)))
        if len(self.problems) >= MAX_PROBLEMS:
            raise _Stop

    def at(self, event: Event) -> Position:
        start, end = event.start_mark, event.end_mark
        length = end.column - start.column if end.line == start.line else 1
        return Position(self.name, start.line + 1, start.column + 1, max(length, 1))

    def root(self) -> Table | None:
        try:
            return self.document(self.events())
        except _Stop:
            return None
        except MarkedYAMLError as error:
            self.syntax(error)
        except ReaderError as error:
            self.unprintable(error)
        except (YAMLError, ValueError, OverflowError, IndexError, RecursionError):
            at = self.at(self.last) if self.last else Position(self.name, 1, 1)
            self.problems.append(Problem(at, "", "this is not YAML", "", "error", str(Rule.BAD_YAML)))
        return None

    def events(self) -> Iterator[Event]:
        text = self.text.removeprefix("\ufeff")
        for event in YAML(typ="safe", pure=True).parse(text):
            self.last = event
            yield event

    def document(self, events: Iterator[Event]) -> Table | None:
        root: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                self.begins(event, documents)
            elif isinstance(event, NodeEvent):
                root = self.node(event, events, 1)
        if isinstance(root, Table):
            return root
        empty = root is None or (isinstance(root, Scalar) and root.value is None)
        at = Position(self.name, 1, 1) if root is None or empty else root.at
        what = "the file is empty" if empty else "the file must be a map of keys"
        self.tell(Rule.ONE_DOCUMENT, at, what, "begin with 'name: my-gateway' and 'groups:'")
        return None

    def begins(self, event: DocumentStartEvent, number: int) -> None:
        if number > 1:
            self.tell(Rule.ONE_DOCUMENT, self.at(event), "a second YAML document", "keep one document in a file")
            raise _Stop
        if event.tags or (event.version and tuple(event.version) != (1, 2)):
            self.tell(Rule.NO_TAGS, self.at(event), "directives are not accepted", "remove the lines that begin with %")

    def node(self, event: Started, events: Iterator[Event], depth: int) -> Node:
        """The node that ``event`` begins; reads its last event too."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.tell(Rule.TOO_LARGE, self.at(event), f"more than {MAX_NODES} values in one file")
            raise _Stop
        if depth > MAX_DEPTH:
            self.tell(Rule.TOO_DEEP, self.at(event), f"nested deeper than {MAX_DEPTH} levels")
            raise _Stop
        if isinstance(event, AliasEvent):
            self.tell(Rule.NO_ANCHORS, self.at(event), "an alias (*…) is not accepted", _REPEAT)
            return Hole(self.at(event))
        self.decorations(event)
        if isinstance(event, ScalarEvent):
            return self.scalar(event)
        if isinstance(event, MappingStartEvent):
            return self.table(event, events, depth)
        return self.listing(event, events, depth)

    def decorations(self, event: Started) -> None:
        if event.anchor is not None:
            self.tell(Rule.NO_ANCHORS, self.at(event), "an anchor (&…) is not accepted", _REPEAT)
        if event.ctag is not None:
            self.tell(Rule.NO_TAGS, self.at(event), "a tag (!…) is not accepted", _QUOTE)

    def scalar(self, event: ScalarEvent) -> Scalar | Hole:
        text, plain = event.value, event.style is None
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            self.tell(Rule.BAD_YAML, self.at(event), "half of a surrogate pair is no character")
            return Hole(self.at(event))
        end = event.end_mark
        return Scalar(typed(text) if plain else text, text, plain, self.at(event), (end.line + 1, end.column + 1))

    def listing(self, start: Started, events: Iterator[Event], depth: int) -> Node:
        items = []
        while not isinstance(event := next(events), SequenceEndEvent):
            items.append(self.node(event, events, depth + 1))
        return Listing(tuple(items), self.begin(start))

    def table(self, start: Started, events: Iterator[Event], depth: int) -> Node:
        entries: dict[str, tuple[Position, Node]] = {}
        partial = False
        while not isinstance(event := next(events), MappingEndEvent):
            key = self.key(event, events, depth)
            value = next(events)
            if key == "<<" and isinstance(event, ScalarEvent) and event.style is None:
                self.merged(event, value, events, depth)
                key = None
            elif key is None:
                self.node(value, events, depth + 1)
            else:
                self.put(entries, key, self.at(event), self.node(value, events, depth + 1))
            partial = partial or key is None
        return Table(entries, self.begin(start), partial)

    def merged(self, key: ScalarEvent, value: Started, events: Iterator[Event], depth: int) -> None:
        """A merge key: one problem for the key and the alias that usually follows it."""
        self.tell(Rule.NO_ANCHORS, self.at(key), "merge key '<<' is not accepted", _REPEAT)
        if not isinstance(value, AliasEvent):
            self.node(value, events, depth + 1)

    def put(self, entries: dict[str, tuple[Position, Node]], key: str, at: Position, node: Node) -> None:
        if key in entries:
            first = entries[key][0]
            name = f" '{key}'" if _NAME.fullmatch(key) else ""
            self.tell(Rule.DUPLICATE_KEY, at, f"duplicate key{name}", f"it is already given at {first}")
            return
        if isinstance(node, Scalar) and node.plain and not node.text:
            node = replace(node, at=at, end=(0, 0))  # nothing stands nowhere: it is told at its key
        entries[key] = (at, node)

    def key(self, event: Started, events: Iterator[Event], depth: int) -> str | None:
        found = self.node(event, events, depth + 1)
        if isinstance(found, Scalar):
            return found.text
        if not isinstance(found, Hole):
            self.tell(Rule.BAD_KEY, found.at, "a key must be a plain string", "quote it if it begins with '{' or '['")
        return None

    def begin(self, event: Event) -> Position:
        return Position(self.name, event.start_mark.line + 1, event.start_mark.column + 1)

    def syntax(self, error: MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        at = Position(self.name, mark.line + 1, mark.column + 1) if mark else Position(self.name, 1, 1)
        what = (error.problem or error.context or "this is not YAML").strip()
        lines = self.text.split("\n")
        line = lines[at.line - 1] if at.line <= len(lines) else ""
        self.problems.append(
            Problem(at, "", printable(what, 120), _syntax_hint(line, what), "error", str(Rule.BAD_YAML))
        )

    def unprintable(self, error: ReaderError) -> None:
        before = self.text[: error.position]
        at = Position(self.name, before.count("\n") + 1, len(before) - before.rfind("\n"))
        code = error.character if isinstance(error.character, int) else 0
        surrogate = 0xDC80 <= code <= 0xDCFF
        what = "the file is not UTF-8 here" if surrogate else f"the character U+{code:04X} may not stand in YAML"
        self.problems.append(Problem(at, "", what, "save the file as UTF-8 text", "error", str(Rule.BAD_YAML)))


_REPEAT = "write the value out, or put quotes around it if it is text; to share settings, give --config several times"
_QUOTE = "remove it, or put quotes around the value if it is text"


def _syntax_hint(line: str, what: str) -> str:
    if "${" in line:
        return 'inside {…} and […], put quotes around a value with ${…}: "${VAR}"'
    if "\t" in line and "\\t" in what:
        return "indent with spaces; YAML allows no tabs there"
    if "mapping values are not allowed" in what:
        return "put quotes around a value that has ': ' in it, or look at the indentation"
    return "look at the indentation, the quotes and the brackets here and on the line before"
