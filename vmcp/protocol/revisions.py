"""The five revisions of MCP and, per method, who may send it, in which revisions, and which key names the target.

Source: the official ``schema.json`` of each revision, and the tasks extension of 2026-07-28 (SEP-2663).
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

    __hash__ = str.__hash__  # a member is looked up for every request; Enum's own hash is a Python function

    modern: bool
    """Stateless, with everything in ``_meta``; else it begins with ``initialize``."""

    def __init__(self, text: str) -> None:
        self.modern = text >= "2026"


MODERN = Revision.V2026_07_28
HANDSHAKE = (Revision.V2024_11_05, Revision.V2025_03_26, Revision.V2025_06_18, Revision.V2025_11_25)
LATEST_HANDSHAKE = Revision.V2025_11_25
KNOWN: Mapping[str, Revision] = MappingProxyType({str(r): r for r in Revision})

_ALL = frozenset(Revision)
_OLD = frozenset(HANDSHAKE)
_NEW = frozenset({MODERN})
_TASKS = frozenset({Revision.V2025_11_25})


@dataclass(frozen=True, slots=True)
class Method:
    """A request that a client may send: in which revisions, and the key of ``params`` that names its target."""

    revisions: frozenset[Revision]
    name_key: str | None = None
    capability: str | None = None


OWN = ("vmcp/servers/list", "vmcp/servers/info", "vmcp/servers/health", "vmcp/cache/clear", "vmcp/metrics")
"""Methods of vmcp itself, in every revision."""

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
        "resources/subscribe": Method(_OLD, "uri", "resources"),
        "resources/unsubscribe": Method(_OLD, "uri", "resources"),
        "subscriptions/listen": Method(_NEW),
        # 2025-11-25 has tasks of its own, 2026-07-28 an extension of the same name (SEP-2663): two shapes, never mixed.
        "tasks/get": Method(_TASKS | _NEW, "taskId", "tasks"),
        "tasks/cancel": Method(_TASKS | _NEW, "taskId", "tasks"),
        "tasks/result": Method(_TASKS, "taskId", "tasks"),
        "tasks/list": Method(_TASKS, capability="tasks"),
        "tasks/update": Method(_NEW, "taskId", "tasks"),
        **dict.fromkeys(OWN, Method(_ALL)),
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
