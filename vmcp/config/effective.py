"""Every value that counts in a configuration, with where it comes from: a file, the environment, or the schema's default.

The rule: a value is told as ``shown`` tells it; and a default is told only where it has an effect, so not for a feature that is
not there, nor where a file says something.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from vmcp.config.schema import Shape, schema, shape
from vmcp.config.shown import HIDDEN
from vmcp.config.tree import Document, Path, label
from vmcp.config.unbuilt import TABLE
from vmcp.config.veil import starred

Source = Literal["file", "environment", "default"]
_ALWAYS: Final = frozenset({"server", "operational", "aggregation", "admin"})
"""Sections that have an effect although nobody wrote them down."""
_UNBUILT: Final = frozenset(each.place for each in TABLE)


@dataclass(frozen=True, slots=True)
class Value:
    """One value. ``at`` is its place in a file, empty for a default; ``hidden``: it is not told."""

    path: str
    value: Any
    source: Source
    at: str
    hidden: bool = False


def effective(document: Document) -> Iterator[Value]:
    """The values of the files in their order, and then the defaults."""
    yield from _written(document, (), document.data)
    for path, value in _defaults(shape(schema()), document.data, ()):
        yield Value(label(path), value, "default", "")


def _written(document: Document, path: Path, value: Any) -> Iterator[Value]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _written(document, (*path, key), below)
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        for number, below in enumerate(value):
            yield from _written(document, (*path, number), below)
    else:
        yield _leaf(document, path, value)


def _leaf(document: Document, path: Path, value: Any) -> Value:
    """A list of single values is one value; what is secret of it stays so."""
    told = (
        [_told(document, (*path, number), each) for number, each in enumerate(value)] if isinstance(value, list) else []
    )
    hidden = path in document.hidden or set(told) == {HIDDEN}
    shown = HIDDEN if path in document.hidden else told if isinstance(value, list) else _told(document, path, value)
    below = (path, *((*path, number) for number in range(len(told))))
    used = any(each in document.substituted for each in below)
    return Value(document.label(path), shown, "environment" if used else "file", str(document.at_value(path)), hidden)


def _told(document: Document, path: Path, value: Any) -> Any:
    if path in document.hidden:
        return HIDDEN
    return starred(value) if isinstance(value, str) else value


def _defaults(place: Shape, data: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    """Of what ``place`` knows and ``data`` does not say."""
    for key, part in place.known.items():
        below = place.member(key)
        if ".".join(map(str, (*path, key))) in _UNBUILT or below is None:
            continue
        if isinstance(data.get(key), dict):
            yield from _defaults(below, data[key], (*path, key))
        elif key in data:
            continue
        elif "default" in part:
            yield (*path, key), part["default"]
        elif below.known and (*path, key)[0] in _ALWAYS:
            yield from _defaults(below, {}, (*path, key))
