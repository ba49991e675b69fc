"""What a face says of itself: its capabilities and its instructions.

The rule: nothing is promised that no backend behind the face could keep, and no backend's words are unbounded.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from vmcp.config.model import Group
from vmcp.protocol import extensions
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog, Kind

_LISTS = {"tools": (Kind.TOOL,), "prompts": (Kind.PROMPT,), "resources": (Kind.RESOURCE, Kind.TEMPLATE)}
_ONE_BACKEND = 8 << 10
_ALL_BACKENDS = 32 << 10
_ELLIPSIS = "…"

Capabilities = Mapping[str, Mapping[str, Any]]


def capabilities(group: Group, present: Sequence[Catalog], missing: Sequence[str]) -> Capabilities:
    """The merged capabilities of all eras. While a backend is missing all lists are promised: a handshake client asks only once.

    Changes of lists are told by vmcp itself, which notices them however a backend works.
    """
    found: dict[str, Mapping[str, Any]] = {
        key: {"listChanged": True} for key in _LISTS if missing or _any_has(present, key)
    }
    if "resources" in found:
        subscribe = bool(missing) or any(_part(catalog, "resources").get("subscribe") is True for catalog in present)
        found["resources"] = {"subscribe": subscribe, "listChanged": True}
    if _any_has(present, "completions"):
        found["completions"] = {}
    if _any_has([catalog for catalog in present if group.backends[catalog.backend].allow.logging], "logging"):
        found["logging"] = {}
    if tasks := _tasks(present):
        found["tasks"] = tasks
    if offered := extensions.offered((catalog.revision, catalog.capabilities) for catalog in present):
        found["extensions"] = offered
    return MappingProxyType(found)


def shown(promised: Capabilities, revision: Revision) -> dict[str, Mapping[str, Any]]:
    """What a client of ``revision`` is told of them: tasks are in the core of 2025-11-25 alone, and an extension since."""
    told = dict(promised)
    if revision is not Revision.V2025_11_25:
        told.pop("tasks", None)
    if not revision.modern and extensions.TASKS in told.get("extensions", ()):
        told["extensions"] = {key: said for key, said in told["extensions"].items() if key != extensions.TASKS}
        if not told["extensions"]:
            del told["extensions"]
    return told


def _tasks(present: Sequence[Catalog]) -> Mapping[str, Any]:
    """The tasks of 2025-11-25: what some backend that makes them has."""
    said = [_part(catalog, "tasks") for catalog in present if catalog.revision is Revision.V2025_11_25]
    makers = [tasks for tasks in said if _calls(tasks)]
    if not makers:
        return {}
    verbs: dict[str, Any] = {
        key: {} for key in ("list", "cancel") if any(isinstance(tasks.get(key), Mapping) for tasks in makers)
    }
    return {**verbs, "requests": {"tools": {"call": {}}}}


def _calls(tasks: Mapping[str, Any]) -> bool:
    found: Any = tasks
    for key in ("requests", "tools", "call"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return isinstance(found, Mapping)


def _part(catalog: Catalog, key: str) -> Mapping[str, Any]:
    said = catalog.capabilities.get(key)
    return said if isinstance(said, Mapping) else {}


def _any_has(present: Sequence[Catalog], key: str) -> bool:
    return any(_has(catalog, key) for catalog in present)


def _has(catalog: Catalog, key: str) -> bool:
    if catalog.capabilities.get(key) is not None or any(catalog.entries.get(kind) for kind in _LISTS.get(key, ())):
        return True
    # 2024-11-05 has completion/complete, but no capability to declare it.
    undeclared = key == "completions" and catalog.revision is Revision.V2024_11_05
    return undeclared and any(catalog.entries.get(kind) for kind in (Kind.PROMPT, Kind.TEMPLATE))


def instructions(group: Group, present: Sequence[Catalog]) -> str:
    """The group's description, then the words of each backend under its name: 8 KiB for one, 32 KiB in all."""
    said = [(catalog.backend, catalog.instructions.strip()) for catalog in present]
    sections = [f"## {backend}\n{cut(text, _ONE_BACKEND)}" for backend, text in said if text]
    description = group.description.strip()
    return cut("\n\n".join([description, *sections] if description else sections), _ALL_BACKENDS)


def cut(text: str, size: int) -> str:
    """``text`` in at most ``size`` bytes of UTF-8, cut between characters; an ellipsis shows that something is gone."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= size:
        return text
    return encoded[: size - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS
