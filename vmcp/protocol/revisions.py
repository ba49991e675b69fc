"""The five revisions of MCP and, per method, who may send it, in which revisions, and which key names the target.

Source: the official ``schema.json`` of each revision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Revision(StrEnum):
    """A revision of the protocol. They compare as strings, which is their order in time."""

    V2024_11_05 = "2024-11-05"
    V2025_03_26 = "2025-03-26"
    V2025_06_18 = "2025-06-18"
    V2025_11_25 = "2025-11-25"
    V2026_07_28 = "2026-07-28"

    @property
    def modern(self) -> bool:
        """Stateless, with everything in ``_meta``; else it begins with ``initialize``."""
        return self is Revision.V2026_07_28


MODERN = Revision.V2026_07_28
HANDSHAKE = (Revision.V2024_11_05, Revision.V2025_03_26, Revision.V2025_06_18, Revision.V2025_11_25)
LATEST_HANDSHAKE = Revision.V2025_11_25
KNOWN: Mapping[str, Revision] = MappingProxyType({str(r): r for r in Revision})

_ALL = frozenset(Revision)
_OLD = frozenset(HANDSHAKE)
_NEW = frozenset({MODERN})


@dataclass(frozen=True, slots=True)
class Method:
    """A request that a client may send: in which revisions, and the key of ``params`` that names its target."""

    revisions: frozenset[Revision]
    name_key: str | None = None
    capability: str | None = None


REQUESTS: Mapping[str, Method] = MappingProxyType(
    {
        "initialize": Method(_OLD),
        "ping": Method(_OLD),
        "server/discover": Method(_NEW),
        "tools/list": Method(_ALL, capability="tools"),
        "tools/call": Method(_ALL, "name", "tools"),
        "resources/list": Method(_ALL, capability="resources"),
        "resources/read": Method(_ALL, "uri", "resources"),
        "resources/templates/list": Method(_ALL, capability="resources"),
        "prompts/list": Method(_ALL, capability="prompts"),
        "prompts/get": Method(_ALL, "name", "prompts"),
        "completion/complete": Method(_ALL, capability="completions"),
        "logging/setLevel": Method(_OLD, capability="logging"),
    }
)


def knows(revision: Revision, method: str) -> bool:
    """Whether a client of ``revision`` may send ``method``."""
    found = REQUESTS.get(method)
    return found is not None and revision in found.revisions


def negotiate(requested: object) -> Revision:
    """What ``initialize`` answers: the requested handshake revision, else the latest of them (lifecycle, 2025-11-25)."""
    found = KNOWN.get(requested) if isinstance(requested, str) else None
    return found if found is not None and not found.modern else LATEST_HANDSHAKE
