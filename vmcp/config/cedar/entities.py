"""``entitiesJson``: what the operator says about callers, groups and things beside what vmcp knows itself.

The rule: an entity is of a type that there is, its attributes are plain, and it cannot give a thing an attribute that vmcp gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from vmcp.config.cedar import schema as schemas
from vmcp.config.cedar import uses
from vmcp.config.cedar.engine import Json, Malformed

Uid = tuple[str, str]
_MEMBERS: Final = frozenset({"uid", "attrs", "parents", "tags"})


@dataclass(frozen=True, slots=True)
class Given:
    """One entity: its attributes in Cedar's JSON, and what it is in."""

    attributes: Mapping[str, Any]
    parents: tuple[Uid, ...]


def read(text: str, group_type: str) -> dict[Uid, Given]:
    """The entities of ``text`` by type and id. Raises ``Malformed``."""
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Malformed(f"it is no JSON: {error}") from None
    if not isinstance(found, list):
        raise Malformed("it is no list of entities")
    types = (schemas.OWN | {group_type}) - {"Action", "FeatureType"}
    entities: dict[Uid, Given] = {}
    for each in found:
        if not isinstance(each, dict) or "uid" not in each or each.keys() - _MEMBERS or each.get("tags"):
            raise Malformed("an entity has 'uid', 'attrs' and 'parents'")
        uid = _uid(each["uid"], types)
        if uid in entities:
            raise Malformed(f'{uid[0]}::"{uid[1]}" stands there twice')
        parents = tuple(_uid(parent, types) for parent in each.get("parents", ()))
        if any(uid[0] not in ("Client", group_type) or kind != group_type for kind, _ in parents):
            raise Malformed(f"only clients and groups of them are in something, and that is a {group_type}")
        entities[uid] = Given(_attributes(uid, each.get("attrs", {})), parents)
    return entities


def _uid(value: Any, types: frozenset[str]) -> Uid:
    uid = value.get("__entity", value) if isinstance(value, dict) else {}
    match uid:
        case {"type": str(kind), "id": str(ident)} if kind in types:
            return kind, ident
        case {"type": str(kind), "id": str()}:
            raise Malformed(f"there is no entity type '{kind}'; there are: {', '.join(sorted(types))}")
        case _:
            raise Malformed("'uid' and each of 'parents' are {type, id}")


def _attributes(uid: Uid, attributes: Any) -> Mapping[str, Any]:
    if not isinstance(attributes, dict):
        raise Malformed("'attrs' is no object")
    for name, value in attributes.items():
        if name.startswith(uses.OPEN) or name in uses.CLOSED:
            raise Malformed(f"'{name}' of {uid[0]}::\"{uid[1]}\" is an attribute that vmcp gives")
        if kind_of(value) is None:
            raise Malformed(
                f"'{name}' of {uid[0]}::\"{uid[1]}\" is neither a text, a whole number, true, false nor a list of texts"
            )
    return attributes


def kind_of(value: object) -> str | None:
    """The type of an attribute; None for what cannot be one."""
    if isinstance(value, bool):
        return uses.BOOL
    if isinstance(value, int):
        return uses.LONG if -(1 << 63) <= value < 1 << 63 else None
    if isinstance(value, str):
        return uses.STRING
    plain = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return uses.set_of(uses.STRING) if plain else None


def attribute_types(entities: Mapping[Uid, Given]) -> dict[str, dict[str, str]]:
    """By entity type: attribute → type. Raises ``Malformed`` for one that has two."""
    found: dict[str, dict[str, str]] = {}
    by_name: dict[str, str] = {}
    for (kind, _), given in entities.items():
        for name, value in given.attributes.items():
            of = kind_of(value) or ""
            if by_name.setdefault(name, of) != of:
                raise Malformed(f"'{name}' is {by_name[name]} here and {of} there")
            found.setdefault(kind, {})[name] = of
    return found


def json(uid: Uid, attributes: Mapping[str, Any], parents: tuple[Uid, ...]) -> Json:
    """An entity as the engine reads it."""
    return {"uid": euid(uid), "attrs": dict(attributes), "parents": [euid(parent) for parent in parents]}


def euid(uid: Uid) -> Json:
    """Type and id as the engine reads them: as members, never in one text."""
    return {"type": uid[0], "id": uid[1]}
