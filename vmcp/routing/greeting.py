"""What a face says of itself: its capabilities and its instructions.

The rule: nothing is promised that no backend behind the face could keep, and no backend's words are unbounded.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vmcp.config.model import Group
from vmcp.protocol.revisions import Revision
from vmcp.routing.catalog import Catalog, Kind

# What is said of each capability. Changes of lists and subscriptions are not forwarded yet.
OFFERED: Mapping[str, Mapping[str, bool]] = MappingProxyType(
    {
        "tools": MappingProxyType({"listChanged": False}),
        "prompts": MappingProxyType({"listChanged": False}),
        "resources": MappingProxyType({"subscribe": False, "listChanged": False}),
        "completions": MappingProxyType({}),
        "logging": MappingProxyType({}),
    }
)
_LISTS = {"tools": (Kind.TOOL,), "prompts": (Kind.PROMPT,), "resources": (Kind.RESOURCE, Kind.TEMPLATE)}
_ONE_BACKEND = 8 << 10
_ALL_BACKENDS = 32 << 10
_ELLIPSIS = "…"


def capabilities(present: Sequence[Catalog], missing: Sequence[str]) -> Mapping[str, Mapping[str, bool]]:
    """The merged capabilities. While a backend is missing all lists are promised: a handshake client asks only once."""
    return MappingProxyType(
        {key: dict(said) for key, said in OFFERED.items() if (missing and key in _LISTS) or _any_has(present, key)}
    )


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
