"""A form for the arguments of a tool, made from its JSON Schema, and the arguments that were written into it.

The rule: a number stays the digits that were typed; what the form has no field for is written as JSON; and what is empty and not
required is not sent.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from vmcp.admin.pages import schemas
from vmcp.admin.pages.schemas import DEEPEST, SHORT, WORDS
from vmcp.routing.words import visible

Kind = Literal["text", "long", "number", "flag", "choice", "list", "json"]
BEFORE: Final = "a."
"""What stands before the names of arguments, so that they cannot be taken for other fields."""
MOST: Final = 100
_LONG: Final = frozenset({"body", "code", "content", "html", "markdown", "message", "prompt", "script", "sql", "text"})
_SIMPLE: Final = frozenset({"string", "number", "integer", "boolean"})


@dataclass(frozen=True, slots=True)
class Field:
    """One argument. ``key`` is the name of its field, ``wanted`` its kind in words, ``example`` a value by its schema."""

    key: str
    name: str
    kind: Kind
    wanted: str
    required: bool
    description: str
    choices: tuple[str, ...] = ()
    example: str = ""
    value: str = ""
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written: the arguments as a JSON text, or what is wrong, by the name of the argument."""

    arguments: Raw
    wrong: Mapping[str, str]


def fields(schema: Any, given: Mapping[str, str] | None = None, wrong: Mapping[str, str] | None = None) -> list[Field]:
    """The fields for ``schema``; with what is in them already, and what is wrong with it."""
    required = schemas.names(schema)
    told = wrong or {}
    made: list[Field] = []
    for name, part in islice(schemas.properties(schema).items(), MOST):
        below = schemas.resolved(part, schema)
        kind = _kind(name, below, schema)
        key = BEFORE + name
        default = _written(below["default"], kind) if "default" in below else ""
        made.append(
            Field(
                key,
                visible(name, SHORT),
                kind,
                schemas.kind(part, schema),
                name in required,
                schemas.words(below, "description"),
                tuple(_choices(kind, below)),
                visible(default, SHORT),
                (given or {}).get(key, ""),
                told.get(name, ""),
            )
        )
    return sorted(made, key=lambda field: not field.required)


def filled(schema: Any, given: Mapping[str, str]) -> Filled:
    """The arguments of a form."""
    found: dict[str, Raw] = {}
    wrong: dict[str, str] = {}
    required = schemas.names(schema)
    for name, part in islice(schemas.properties(schema).items(), MOST):
        below = schemas.resolved(part, schema)
        kind = _kind(name, below, schema)
        typed = given.get(BEFORE + name, "").replace("\r\n", "\n")
        if not typed and not (name in required and kind in ("text", "long")):
            if name in required:
                wrong[name] = "is required"
            continue
        made = _read(kind, typed, below, schema)
        if isinstance(made, Raw):
            found[name] = made
        else:
            wrong[name] = made
    return Filled(Raw(msgspec.json.encode(found)), wrong)


def whole(text: str) -> Filled:
    """The arguments as one JSON text."""
    try:
        found = msgspec.json.decode(text or "{}")
    except (msgspec.MsgspecError, RecursionError) as error:
        return Filled(Raw(b"{}"), {"": str(error)})
    if not isinstance(found, dict):
        return Filled(Raw(b"{}"), {"": "must be a JSON object"})
    return Filled(Raw((text or "{}").encode()), {})


def sample(schema: Any) -> str:
    """A JSON text to begin with: what is required, with values that say what belongs there."""
    return json.dumps(_required(schema, schema, 0, iter(range(schemas.MOST))), indent=2, ensure_ascii=False)


def _kind(name: str, part: Mapping[str, Any], root: Any) -> Kind:
    if isinstance(part.get("enum"), list) and part["enum"] and _fits(part["enum"], iter(range(schemas.MOST))):
        return "choice"
    found = schemas.types(part)
    if found == ("boolean",):
        return "flag"
    if found == ("string",):
        return "long" if name.lower() in _LONG or _room(part) else "text"
    if found and set(found) <= {"number", "integer"}:
        return "number"
    if found == ("array",):
        inner = schemas.resolved(part.get("items"), root)
        return "list" if schemas.types(inner) and set(schemas.types(inner)) <= _SIMPLE else "json"
    return "json"


def _room(part: Mapping[str, Any]) -> bool:
    most = part.get("maxLength")
    return isinstance(most, int) and most > SHORT * 4


def _choices(kind: Kind, part: Mapping[str, Any]) -> Iterator[str]:
    if kind == "choice":
        yield from (each if isinstance(each, str) else json.dumps(each) for each in part["enum"])
    elif kind == "flag":
        yield from ("true", "false")


def _written(value: Any, kind: Kind) -> str:
    if kind == "list" and isinstance(value, list):
        return ", ".join(each if isinstance(each, str) else schemas.text(each) for each in value[:SHORT])
    return value if isinstance(value, str) else schemas.text(value)


def _read(kind: Kind, typed: str, part: Mapping[str, Any], root: Any) -> Raw | str:
    """The JSON text of a value, or why it is none."""
    if kind in ("text", "long"):
        return Raw(msgspec.json.encode(typed))
    if kind == "choice":
        chosen = [each for each in part["enum"] if typed in (each, json.dumps(each))]
        return Raw(msgspec.json.encode(chosen[0])) if chosen else "is none of the choices"
    if kind == "list":
        return _listed(typed, schemas.types(schemas.resolved(part.get("items"), root)))
    return _json(typed, schemas.types(part))


def _listed(typed: str, wanted: tuple[str, ...]) -> Raw | str:
    """A line for each element."""
    found: list[Raw] = []
    for line in typed.split("\n"):
        if not line.strip():
            continue
        made = Raw(msgspec.json.encode(line)) if "string" in wanted else _json(line.strip(), wanted)
        if isinstance(made, str):
            return made
        found.append(made)
    return Raw(msgspec.json.encode(found))


def _json(typed: str, wanted: tuple[str, ...]) -> Raw | str:
    try:
        value = msgspec.json.decode(typed)
    except (msgspec.MsgspecError, RecursionError):
        return f"must be {' or '.join(wanted)}" if wanted and set(wanted) <= _SIMPLE else "must be JSON"
    if wanted and not any(_is(value, each) for each in wanted):
        return f"must be {' or '.join(wanted)}"
    return Raw(typed.strip().encode())


_PYTHON: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON.get(kind, (object,)))


def _required(schema: Any, root: Any, depth: int, left: Iterator[int]) -> dict[str, Any]:
    """The members that an object must have, as long as there are any ``left`` to be made."""
    required = schemas.names(schema)
    wanted = ((name, part) for name, part in schemas.properties(schema).items() if name in required)
    return {name: _sample(part, root, depth, left) for (name, part), _ in zip(wanted, left, strict=False)}


def _sample(part: Any, root: Any, depth: int, left: Iterator[int]) -> Any:
    found = schemas.resolved(part, root)
    for key in ("default", "const"):
        if key in found and _fits(found[key], left):
            return found[key]
    for key in ("enum", "examples"):
        if isinstance(found.get(key), list) and found[key] and _fits(found[key][0], left):
            return found[key][0]
    kinds = schemas.types(found) or ("object" if schemas.properties(found) else "string",)
    if kinds[0] == "object":
        return _required(found, root, depth + 1, left) if depth < DEEPEST else {}
    plain: Mapping[str, Any] = {"array": [], "boolean": False, "integer": 0, "number": 0}
    return plain.get(kinds[0], "")


def _fits(value: Any, left: Iterator[int]) -> bool:
    """Whether a value of a stranger is small enough to stand in a form: no more parts than are ``left``, none of them long."""
    if next(left, None) is None:
        return False
    if isinstance(value, Mapping):
        return all(len(key) <= WORDS and _fits(each, left) for key, each in value.items())
    if isinstance(value, list):
        return all(_fits(each, left) for each in value)
    return not isinstance(value, str) or len(value) <= WORDS
