"""Catalogs in a file, so that a plan can be made where no backend can be reached.

The rule: what comes back is what was put in, byte for byte in every entry.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Raw

from vmcp.protocol.revisions import Revision
from vmcp.routing import catalog
from vmcp.routing.catalog import Catalog, Kind


class _Backend(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    revision: Revision
    capabilities: dict[str, Any] = {}
    instructions: str = ""
    tools: list[Raw] = []
    prompts: list[Raw] = []
    resources: list[Raw] = []
    resource_templates: list[Raw] = []


class _File(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    backends: dict[str, _Backend]


def text(catalogs: Mapping[str, Catalog]) -> bytes:
    """The file of these catalogs."""
    made = {name: _backend(catalogs[name]) for name in sorted(catalogs)}
    return msgspec.json.encode(_File(1, made)) + b"\n"


def _backend(found: Catalog) -> _Backend:
    tools, prompts, resources, templates = ([Raw(entry.raw) for entry in found.entries[kind]] for kind in Kind)
    said = found.revision, dict(found.capabilities), found.instructions
    return _Backend(*said, tools, prompts, resources, templates)


def parse(saved: bytes) -> dict[str, Catalog]:
    """The catalogs of a file. Raises ``ValueError`` with what is wrong."""
    try:
        backends = msgspec.json.decode(saved, type=_File).backends
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return {name: _catalog(name, each) for name, each in backends.items()}


def _catalog(name: str, each: _Backend) -> Catalog:
    lists = dict(zip(Kind, (each.tools, each.prompts, each.resources, each.resource_templates), strict=True))
    raws = {kind: [bytes(one) for one in entries] for kind, entries in lists.items()}
    return catalog.of(name, each.revision, each.capabilities, each.instructions, raws)
