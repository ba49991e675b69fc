"""A configuration as a tree of nodes that know where they stand, and as the document that checks and builders read.

The rule: nodes are never changed; merging, renaming and substituting make new ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vmcp.config.rules import Rule
from vmcp.errors import Position, Problem

Plain = str | int | float | bool | None
Step = str | int
Path = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. ``text`` is how it is written; ``hidden`` says that its value came from the environment."""

    value: Plain
    text: str
    plain: bool
    at: Position
    end: tuple[int, int]
    hidden: bool = False
    substituted: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """A YAML sequence."""

    items: tuple["Node", ...]
    at: Position


@dataclass(frozen=True, slots=True)
class Table:
    """A YAML mapping: key → (where the key stands, value). ``partial`` when some of it could not be read."""

    entries: Mapping[str, tuple[Position, "Node"]]
    at: Position
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Hole:
    """A value that could not be read; its problem is told already."""

    at: Position


Node = Scalar | Listing | Table | Hole


def merge(base: Node, over: Node) -> Node:
    """``over`` on top of ``base``: maps deeply, everything else replaced; each value keeps its own position."""
    if not (isinstance(base, Table) and isinstance(over, Table)):
        return over
    entries = dict(base.entries)
    for key, (at, node) in over.entries.items():
        entries[key] = (at, merge(entries[key][1], node)) if key in entries else (at, node)
    return Table(entries, base.at, base.partial or over.partial)  # what is missing, is missing where the map begins


@dataclass(slots=True)
class Document:
    """Plain data beside the positions of its keys and values. Filled by ``flatten`` only.

    ``hidden`` are paths whose value is never printed, ``substituted`` those whose value came from the environment,
    ``broken`` those whose value is unknown, ``partial`` maps of which some keys are; ``veiled`` are keys never printed.
    """

    data: dict[str, Any]
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    hidden: set[Path] = field(default_factory=set)
    substituted: set[Path] = field(default_factory=set)
    broken: set[Path] = field(default_factory=set)
    partial: set[Path] = field(default_factory=set)
    veiled: set[Path] = field(default_factory=set)

    def at_key(self, path: Path) -> Position:
        """Where the key of ``path`` stands (its value, for an element of a list; the parent's, where it is not)."""
        while path and path not in self.keys and path not in self.values:
            path = path[:-1]
        return self.keys.get(path) or self.values[path]

    def at_value(self, path: Path) -> Position:
        """Where the value of ``path`` stands, or its nearest parent's key."""
        return self.values.get(path) or self.at_key(path)

    def damaged(self, path: Path) -> bool:
        """Whether something at or below ``path`` was taken out because it is wrong."""
        return any(each[: len(path)] == path for each in self.broken | self.partial)

    def show(self, path: Path, value: object) -> str:
        """How a message may name the value at ``path``."""
        if path in self.hidden or not isinstance(value, str | int | float | bool):
            return "the value (hidden)" if path in self.hidden else "the value"
        text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
        return f"'{printable(text)}'"

    def problem(
        self,
        rule: Rule,
        path: Path,
        message: str,
        hint: str = "",
        *,
        key: bool = False,
        severity: Literal["error", "warning"] = "error",
    ) -> Problem:
        """A problem at the value of ``path``, or at its key."""
        at = self.at_key(path) if key else self.at_value(path)
        return Problem(at, self.label(path), message, hint, severity, str(rule))

    def label(self, path: Path) -> str:
        """The path in words, without keys that may be secrets."""
        if not self.veiled:
            return label(path)
        return label(tuple("…" if path[: end + 1] in self.veiled else step for end, step in enumerate(path)))


def flatten(root: Node) -> Document:
    """Plain data and positions of a tree."""
    document = Document({})
    data = _plain(root, (), document)
    if isinstance(data, dict):
        document.data = data
    return document


def _plain(node: Node, path: Path, document: Document) -> object:
    document.values[path] = node.at
    if isinstance(node, Scalar):
        if node.hidden:
            document.hidden.add(path)
            document.substituted.add(path)
        return node.value
    if isinstance(node, Table):
        return _plain_table(node, path, document)
    if isinstance(node, Listing):
        return [_plain(item, (*path, number), document) for number, item in enumerate(node.items)]
    document.broken.add(path)
    return None


def _plain_table(node: Table, path: Path, document: Document) -> dict[str, object]:
    if node.partial:
        document.partial.add(path)
    found: dict[str, object] = {}
    for key, (at, child) in node.entries.items():
        below = (*path, key)
        document.keys[below] = at
        found[key] = _plain(child, below, document)
    return found


def label(path: Path) -> str:
    """A path as people write it: ``groups.code.backends[0]["odd key"]``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("-", "").replace("_", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f'["{printable(step)}"]'
    return text


def printable(text: str, most: int = 60) -> str:
    """Text that is safe in one line of a terminal: no control characters, not endless."""
    safe = "".join(char if char.isprintable() else "?" for char in text[: most + 1])
    return safe if len(safe) <= most else f"{safe[:most]}…"
