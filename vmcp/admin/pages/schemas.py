"""A JSON Schema as people read it: a line for each argument, with its kind in words.

The rule: a schema comes from a stranger, so it may be anything: what is not understood is told as it stands, what refers to
itself ends, and there are only so many lines.
"""

import json
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from vmcp.routing.words import visible

MOST: Final = 200
DEEPEST: Final = 6
WORDS: Final = 600
SHORT: Final = 80
_CHOICES: Final = 24
_FOLLOWED: Final = 8
_WAYS: Final = 8
"""Types that a value may have, of which one of them may again have as many."""
_NESTED: Final = 3
Schema = Mapping[str, Any]
_NOTES: Final = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("multipleOf", "a multiple of {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("pattern", "like {}"),
    ("minItems", "at least {} elements"),
    ("maxItems", "at most {} elements"),
    ("default", "default {}"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One member of an object, ``depth`` levels down."""

    depth: int
    name: str
    kind: str
    required: bool
    description: str
    notes: tuple[str, ...]


def rows(schema: Any) -> tuple[Row, ...]:
    """The members of an object's schema, and theirs; as many as are shown."""
    found: list[Row] = []
    for row in _rows(schema, schema, 0):
        if len(found) == MOST:
            break
        found.append(row)
    return tuple(found)


def _rows(schema: Any, root: Any, depth: int) -> Iterator[Row]:
    required = names(schema)
    for name, part in properties(schema).items():
        below = resolved(part, root)
        notes = tuple(_notes(below))
        yield Row(
            depth,
            visible(name, SHORT),
            kind(part, root),
            name in required,
            words(below, "description"),
            notes,
        )
        inner = _object_in(below, root)
        if inner and depth < DEEPEST:
            yield from _rows(inner, root, depth + 1)


def properties(schema: Any) -> Mapping[str, Any]:
    """The members that an object may have."""
    found = schema.get("properties") if isinstance(schema, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def names(schema: Any) -> frozenset[str]:
    """Those that it must have."""
    found = schema.get("required") if isinstance(schema, Mapping) else None
    return frozenset(each for each in found if isinstance(each, str)) if isinstance(found, list) else frozenset()


def resolved(schema: Any, root: Any) -> Schema:
    """A part with its references within the same schema followed; empty where it is no object."""
    found = schema
    for _ in range(_FOLLOWED):
        if not (isinstance(found, Mapping) and isinstance(found.get("$ref"), str)):
            break
        target = _target(found["$ref"], root)
        if target is None:
            break
        # No copy of what may be long: a thousand members can refer to it.
        found = ChainMap({"$ref": target.get("$ref")}, found, target)  # type: ignore[arg-type]  # it is only read
    return _without_null(found) if isinstance(found, Mapping) else {}


def _target(reference: str, root: Any) -> Schema | None:
    found = root
    for step in reference.removeprefix("#").split("/")[1:] if reference.startswith("#") else ():
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) and reference.startswith("#") else None


def _without_null(schema: Schema) -> Schema:
    """``anyOf: [X, null]``, as Python libraries write what is optional, is X."""
    ways = schema.get("anyOf", schema.get("oneOf"))
    if not isinstance(ways, list) or len(ways) > _CHOICES:
        return schema
    real = [each for each in ways if isinstance(each, Mapping) and each.get("type") != "null"]
    if len(real) != 1 or len(real) == len(ways):
        return schema
    return ChainMap({key: real[0].get(key) for key in ("anyOf", "oneOf")}, schema, real[0])  # type: ignore[arg-type]


def types(schema: Schema) -> tuple[str, ...]:
    """The types that a value may have, without null."""
    found = schema.get("type")
    listed = found[:_WAYS] if isinstance(found, list) else [found]
    return tuple(each for each in listed if isinstance(each, str) and each != "null")


def kind(schema: Any, root: Any, depth: int = 0) -> str:
    """What a value is, in words; of what refers to itself only so much."""
    part = resolved(schema, root)
    if depth > _NESTED:
        return "…"
    for key in ("anyOf", "oneOf"):
        if isinstance(part.get(key), list):
            ways = dict.fromkeys(kind(each, root, depth + 1) for each in part[key][:_WAYS])
            return visible(" or ".join(ways), WORDS)
    if isinstance(part.get("enum"), list):
        return "choice"
    if "const" in part:
        return f"always {text(part['const'])}"
    return " or ".join(_word(each, part, root, depth) for each in types(part)) or _unsaid(part)


def _word(word: str, part: Schema, root: Any, depth: int) -> str:
    if word == "array" and "items" in part:
        return f"list of {kind(part['items'], root, depth + 1)}"
    shape = part.get("format")
    return f"{visible(word, SHORT)} ({visible(shape, SHORT)})" if isinstance(shape, str) else visible(word, SHORT)


def _unsaid(part: Schema) -> str:
    return "object" if properties(part) else "anything"


def _object_in(part: Schema, root: Any) -> Schema | None:
    """The object whose members are shown below: itself, or what a list is of."""
    inner = resolved(part["items"], root) if "array" in types(part) and "items" in part else part
    return inner if properties(inner) else None


def _notes(part: Schema) -> Iterator[str]:
    if isinstance(part.get("enum"), list):
        shown = [text(each) for each in part["enum"][:_CHOICES]]
        yield ", ".join([*shown, "…"] if len(part["enum"]) > _CHOICES else shown)
    for key, words in _NOTES:
        if key in part:
            yield words.format(text(part[key]))


def words(part: Schema, key: str) -> str:
    """What a member of a schema says, which should be a text."""
    said = part.get(key, "")
    return visible(said, WORDS) if isinstance(said, str) else text(said)


def text(value: Any) -> str:
    """A value as JSON, short."""
    return visible(json.dumps(_begun(value, 0), ensure_ascii=False), SHORT)


def _begun(value: Any, depth: int) -> Any:
    """As much of a value as could be shown."""
    if isinstance(value, str):
        return value[: SHORT * 4]
    if not isinstance(value, Mapping | list):
        return value
    if depth > _NESTED:
        return "…"
    if isinstance(value, list):
        return [_begun(each, depth + 1) for each in value[:_WAYS]]
    return {key[: SHORT * 4]: _begun(each, depth + 1) for key, each in islice(value.items(), _WAYS)}
