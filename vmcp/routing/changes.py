"""How two definitions of one thing differ, in words.

The rule: texts that say the same are no difference, however they are written; and what is told is what a caller notices: its
arguments, its hints, its words.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from vmcp.routing import canonical, members

_SCHEMAS = ("inputSchema", "outputSchema")


@dataclass(frozen=True, slots=True)
class Field:
    """A member that differs, with its JSON text (a string: itself) before and after; None: it is not there.

    ``notes`` say of a schema, or of annotations, what in it differs.
    """

    name: str
    before: str | None
    after: str | None
    notes: tuple[str, ...] = ()


def fields(before: bytes, after: bytes, without: str = "") -> tuple[Field, ...]:
    """What differs between two JSON objects, by name; the member ``without`` is not looked at."""
    if before == after:
        return ()
    was, now = canonical.members(before), canonical.members(after)
    differ = [name for name in sorted({*was, *now}) if was.get(name) != now.get(name) and name != without]
    old, new = members.split(before) or {}, members.split(after) or {}
    return tuple(_field(name, old.get(name), new.get(name)) for name in differ)


def _field(name: str, before: msgspec.Raw | None, after: msgspec.Raw | None) -> Field:
    old, new = _decoded(before), _decoded(after)
    notes: Iterator[str] = iter(())
    if name in _SCHEMAS:
        notes = _schema(_mapping(old), _mapping(new), "argument" if name == "inputSchema" else "result")
    elif name == "annotations":
        notes = _hints(_mapping(old), _mapping(new))
    elif name == "arguments":
        notes = _arguments(_named(old), _named(new))
    return Field(name, _text(before, old), _text(after, new), tuple(notes))


def _decoded(text: msgspec.Raw | None) -> Any:
    try:
        return None if text is None else msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _text(text: msgspec.Raw | None, value: Any) -> str | None:
    if text is None:
        return None
    return value if isinstance(value, str) else bytes(text).decode(errors="replace")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _schema(old: Mapping[str, Any], new: Mapping[str, Any], word: str) -> Iterator[str]:
    was, now = _mapping(old.get("properties")), _mapping(new.get("properties"))
    must, needs = _names(old.get("required")), _names(new.get("required"))
    for name in sorted({*was, *now}):
        if name not in now:
            yield f"{word} {name} removed"
        elif name not in was:
            yield f"{word} {name} added" + (", required" if name in needs else "")
        else:
            yield from _changed(f"{word} {name}", was[name], now[name])
            if (name in must) is not (name in needs):
                yield f"{word} {name} {'is required now' if name in needs else 'is not required any more'}"
    rest = sorted(key for key in {*old, *new} - {"properties", "required"} if old.get(key) != new.get(key))
    yield from (f"{key} changed" for key in rest)


def _changed(what: str, was: Any, now: Any) -> Iterator[str]:
    keys = sorted(key for key in {*_mapping(was), *_mapping(now)} if _mapping(was).get(key) != _mapping(now).get(key))
    if keys:
        yield f"{what}: {', '.join(keys)}"
    elif was != now:
        yield f"{what} changed"


def _names(value: Any) -> frozenset[str]:
    return frozenset(each for each in value if isinstance(each, str)) if isinstance(value, list) else frozenset()


def _hints(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(key for key in {*old, *new} if old.get(key) != new.get(key) or (key in old) is not (key in new)):
        was, now = (_word(side[key]) if key in side else "not said" for side in (old, new))
        yield f"{key}: {was} -> {now}"


def _word(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _named(value: Any) -> Mapping[str, Any]:
    """The arguments of a prompt by name."""
    found = value if isinstance(value, list) else []
    return {each["name"]: each for each in found if isinstance(each, dict) and isinstance(each.get("name"), str)}


def _arguments(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"argument {name} removed"
        elif name not in old:
            yield f"argument {name} added" + (", required" if new[name].get("required") is True else "")
        else:
            yield from _changed(f"argument {name}", old[name], new[name])
