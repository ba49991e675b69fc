"""What one backend offers at one moment, as it said it.

The rule: an entry's ``raw`` is the backend's own JSON text, byte for byte; what is read from it is read, never rewritten.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import msgspec

from vmcp.protocol.revisions import Revision


class Kind(StrEnum):
    """The four kinds of things a server lists. The value is the key of the list in the protocol."""

    TOOL = "tools"
    PROMPT = "prompts"
    RESOURCE = "resources"
    TEMPLATE = "resourceTemplates"

    __hash__ = str.__hash__  # looked up for every request; Enum's own hash is a Python function

    @property
    def name_key(self) -> str:
        """The member of an entry that identifies it."""
        return _NAME_KEYS[self]


_NAME_KEYS = {Kind.TOOL: "name", Kind.PROMPT: "name", Kind.RESOURCE: "uri", Kind.TEMPLATE: "uriTemplate"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tool, prompt, resource or template: its original name (or URI) and the backend's JSON text for it."""

    kind: Kind
    name: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that a backend listed, the revision it was said in, and its digest (equal digest: nothing changed)."""

    backend: str
    revision: Revision
    capabilities: Mapping[str, Any]
    instructions: str
    entries: Mapping[Kind, tuple[Entry, ...]]
    digest: str
    refused: tuple[str, ...] = ()


def of(
    backend: str,
    revision: Revision,
    capabilities: Mapping[str, Any],
    instructions: str,
    lists: Mapping[Kind, Sequence[bytes]],
) -> Catalog:
    """Make a catalog of raw list entries. An entry without its name is left out and told in ``refused``."""
    entries: dict[Kind, tuple[Entry, ...]] = {}
    refused: list[str] = []
    for kind in Kind:
        entries[kind] = tuple(_read(kind, lists.get(kind, ()), refused))
    return Catalog(
        backend=backend,
        revision=revision,
        capabilities=MappingProxyType(dict(capabilities)),
        instructions=instructions,
        entries=MappingProxyType(entries),
        digest=_digest(revision, capabilities, instructions, entries),
        refused=tuple(refused),
    )


def _read(kind: Kind, raws: Sequence[bytes], refused: list[str]) -> list[Entry]:
    found: dict[str, Entry] = {}
    for number, raw in enumerate(raws):
        name = _name(kind, raw)
        if name is None:
            refused.append(f"{kind}[{number}] has no {kind.name_key}")
        elif name in found:
            refused.append(f"{kind}[{number}] repeats {name!r}")
        else:
            found[name] = Entry(kind, name, raw)
    return list(found.values())


def _name(kind: Kind, raw: bytes) -> str | None:
    try:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        return msgspec.json.decode(members[kind.name_key], type=str) or None
    except (msgspec.MsgspecError, KeyError, RecursionError):
        return None


def _digest(
    revision: Revision, capabilities: Mapping[str, Any], instructions: str, entries: Mapping[Kind, tuple[Entry, ...]]
) -> str:
    hasher = hashlib.sha256(msgspec.json.encode([str(revision), dict(capabilities), instructions]))
    for kind in Kind:
        for entry in entries[kind]:
            hasher.update(b"\0" + entry.raw)
        hasher.update(b"\1")
    return hasher.hexdigest()
