"""The JSON Schema of the file: where it lies, and what it knows about a place in a configuration.

The rule: the schema is read once and never changed. It needs no ``oneOf`` and ``anyOf``: a union is a list of types, a
discriminator is ``if``/``then``; so a wrong value has one cause, and every place has one shape.
"""

import functools
import importlib.resources
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from vmcp.config.source import typed
from vmcp.config.tree import Listing, Node, Path, Scalar, Table
from vmcp.errors import Position

NAME = "vmcp.schema.json"
Schema = Mapping[str, Any]


@functools.cache
def text() -> str:
    """The schema as it is published: from the installed package, else from the checkout."""
    packaged = importlib.resources.files("vmcp") / "_schemas" / NAME
    if packaged.is_file():
        return packaged.read_text("utf-8")
    return (FilePath(__file__).parents[2] / "schemas" / NAME).read_text("utf-8")


@functools.cache
def schema() -> Schema:
    """The schema as data."""
    found: dict[str, Any] = json.loads(text())
    return found


class Shape:
    """What the schema says about one place. Children are made when asked for and kept."""

    __slots__ = ("_children", "extra", "free", "known", "parts", "secret", "types")

    def __init__(self, parts: tuple[Schema, ...]) -> None:
        self.parts = parts
        self._children: dict[str, Shape | None] = {}
        self.known: Mapping[str, Schema] = {
            k: v for part in reversed(parts) for k, v in part.get("properties", {}).items()
        }
        self.extra = next((p["additionalProperties"] for p in parts if "additionalProperties" in p), None)
        self.free = not self.known and self.extra is None
        self.secret = any(part.get("x-vmcp-secret") for part in parts)
        types = next((part["type"] for part in parts if "type" in part), ())
        self.types = frozenset({types} if isinstance(types, str) else types)

    def member(self, key: str) -> "Shape | None":
        """The shape of the value of ``key``; None where the schema has no such key."""
        if key not in self._children:
            self._children[key] = self._member(key)
        return self._children[key]

    def _member(self, key: str) -> "Shape | None":
        found = self.known.get(key, self.extra)
        return shape(found) if isinstance(found, Mapping) else None

    def element(self) -> "Shape | None":
        """The shape of the elements of a list."""
        if "" not in self._children:
            items = next((part["items"] for part in self.parts if "items" in part), None)
            self._children[""] = shape(items) if isinstance(items, Mapping) else None
        return self._children[""]

    def takes(self, value: object) -> bool:
        """Whether a value of this type may stand here; everything may where no type is given."""
        return not self.types or any(isinstance(value, _TYPES[kind]) and fits(kind, value) for kind in self.types)


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
}


_SCALARS = frozenset({"string", "integer", "number", "boolean"})


def fits(kind: str, value: object) -> bool:
    """A Python bool is an int, a JSON boolean is no number."""
    return kind == "boolean" or not isinstance(value, bool)


_SHAPES: dict[int, Shape] = {}


def shape(part: Schema) -> Shape:
    """The shape that a part of the one schema describes, its references followed. Parts live for ever, so ids are names."""
    found = _SHAPES.get(id(part))
    if found is None:
        found = _SHAPES[id(part)] = Shape(tuple(_followed(part)))
    return found


def _followed(part: Schema | None) -> Iterator[Schema]:
    while part is not None:
        yield part
        target = part.get("$ref")
        part = schema()["$defs"][target.removeprefix("#/$defs/")] if target else None


def camel(key: str) -> str:
    """``prefix_format`` → ``prefixFormat``."""
    head, *rest = key.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def canonical(node: Node, place: Shape | None) -> tuple[Node, tuple[tuple[str, Position, Position], ...]]:
    """The tree with snake_case names of known properties in camelCase, and keys that are then there twice.

    User data keeps its keys: they are never among the known ones.
    """
    twice: list[tuple[str, Position, Position]] = []
    return _canonical(node, place, twice), tuple(twice)


def _canonical(node: Node, place: Shape | None, twice: list[tuple[str, Position, Position]]) -> Node:
    if place is None or (place.free and not isinstance(node, Listing)):
        return node
    if isinstance(node, Listing):
        element = place.element()
        return Listing(tuple(_canonical(item, element, twice) for item in node.items), node.at) if element else node
    if not isinstance(node, Table):
        return node
    entries: dict[str, tuple[Position, Node]] = {}
    for key, (at, child) in node.entries.items():
        name = key
        if key not in place.known and "_" in key and camel(key) in place.known:
            name = camel(key)
        if name in entries:
            twice.append((name, at, entries[name][0]))
            continue
        entries[name] = (at, _canonical(child, place.member(name), twice))
    return Table(entries, node.at, node.partial)


def settle(node: Node, place: Shape | None) -> Node:
    """Give substituted values the type that their place wants: digits of a secret stay text where text belongs, and a
    number in quotes becomes one where no text may stand (inside braces YAML wants quotes around ``${…}``)."""
    if isinstance(node, Table):
        member = place.member if place else _nothing
        return Table(
            {k: (at, settle(child, member(k))) for k, (at, child) in node.entries.items()}, node.at, node.partial
        )
    if isinstance(node, Listing):
        element = place.element() if place else None
        return Listing(tuple(settle(item, element) for item in node.items), node.at)
    if isinstance(node, Scalar) and node.substituted and place and not place.takes(node.value):
        value = next((each for each in (typed(node.text), node.text) if place.takes(each)), node.value)
        return Scalar(value, node.text, node.plain, node.at, node.end, node.hidden, True)
    return node


def _nothing(_key: str) -> None:
    return None


def secret_paths(data: object, place: Shape, path: Path = ()) -> Iterator[Path]:
    """The paths of plain values in secret positions."""
    if place.secret and not isinstance(data, dict):
        yield path
    if isinstance(data, dict):
        for key, value in data.items():
            child = place.member(key)
            if child is not None:
                yield from secret_paths(value, child, (*path, key))
    elif isinstance(data, list):
        element = place.element()
        if element is not None:
            for number, value in enumerate(data):
                yield from secret_paths(value, element, (*path, number))


_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


def veiled_keys(node: Node, place: Shape | None, path: Path = ()) -> Iterator[Path]:
    """The keys beside secrets that look like one themselves: no name, or no value (``env: {TOKEN=hush}``)."""
    if isinstance(node, Table) and place is not None:
        for key, (_, child) in node.entries.items():
            below = place.member(key)
            empty = isinstance(child, Scalar) and child.value is None and not child.substituted
            if below is not None and below.secret and key not in place.known and (empty or not _NAME.fullmatch(key)):
                yield (*path, key)
            yield from veiled_keys(child, below, (*path, key))
    elif isinstance(node, Listing) and place is not None:
        for number, item in enumerate(node.items):
            yield from veiled_keys(item, place.element(), (*path, number))


def open_scalars(node: Node, place: Shape | None) -> Iterator[Scalar]:
    """The scalars that stand at known places which are not secret: what an error message may show of a file."""
    if isinstance(node, Scalar) and place is not None and not place.secret and place.types & _SCALARS:
        yield node
    elif isinstance(node, Table) and place is not None:
        for key, (_, child) in node.entries.items():
            yield from open_scalars(child, place.member(key))
    elif isinstance(node, Listing) and place is not None:
        element = place.element()
        for item in node.items:
            yield from open_scalars(item, element)
