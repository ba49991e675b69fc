"""The JSON text of one entry as the two eras of clients see it.

The rule: where nothing is to change, the very bytes of the backend are listed; where something is, only the members that are
ours (``name``, ``title``, ``description``, ``annotations``, ``inputSchema``) are replaced, and the others keep bytes and order.
"""

from collections.abc import Mapping

from msgspec import Raw

from vmcp.config.model import Override
from vmcp.routing import members


def edits(parts: Mapping[str, Raw], override: Override) -> dict[str, Raw]:
    """The members that an override replaces, but for the name and the arguments. Annotations are merged over the backend's."""
    made: dict[str, Raw] = {}
    if override.title is not None:
        made["title"] = members.raw(override.title)
    if override.description is not None:
        made["description"] = members.raw(override.description)
    if override.annotations is not None:
        merged = members.split(parts.get("annotations", members.EMPTY)) or {}
        merged.update({key: members.raw(value) for key, value in override.annotations.items()})
        made["annotations"] = Raw(members.join(merged))
    return made


def for_handshake(tool: Mapping[str, Raw], text: bytes) -> bytes:
    """A tool of a 2026-07-28 backend as older clients take it, or ``text`` itself if they do.

    Until 2025-11-25 an ``outputSchema`` is of type object, and each of the ``properties`` on the first level of a schema is an
    object (schema.json of that revision, Tool). SDKs of that time refuse the whole list for one boolean there. Booleans at
    other places (``additionalProperties: false``) were always allowed and stay.
    """
    changed: dict[str, Raw] = {}
    for key in ("inputSchema", "outputSchema"):
        if key in tool and (plain := _without_booleans(tool[key])) is not tool[key]:
            changed[key] = plain
    dropped = "outputSchema" in tool and not _is_of_type_object(tool["outputSchema"])
    if not changed and not dropped:
        return text
    made = {**tool, **changed}
    if dropped:
        del made["outputSchema"]
    return members.join(made)


def _is_of_type_object(schema: Raw) -> bool:
    parts = members.split(schema)
    return parts is not None and bytes(parts.get("type", b"")) == b'"object"'


def _without_booleans(schema: Raw) -> Raw:
    parts = members.split(schema) if _mentions_booleans(schema) else None
    if parts is None or not _mentions_booleans(parts.get("properties", members.EMPTY)):
        return schema
    properties = members.split(parts["properties"]) or {}
    booleans = {name: _PLAIN[text] for name, part in properties.items() if (text := bytes(part)) in _PLAIN}
    if not booleans:
        return schema
    parts["properties"] = Raw(members.join({**properties, **booleans}))
    return Raw(members.join(parts))


def _mentions_booleans(schema: Raw) -> bool:
    text = bytes(schema)
    return b"true" in text or b"false" in text


_PLAIN = {b"true": Raw(b"{}"), b"false": Raw(b'{"not":{}}')}
