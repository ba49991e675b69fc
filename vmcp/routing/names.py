"""The advertised name of a tool or prompt.

The rule: it depends on nothing but the configuration and (backend, original name) – never on which other backends are there
or on the order in which they answered. Policies, bookmarks and prompts of users are bound to names; a name that moves is a hole.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

from vmcp.config.model import Aggregation

RESERVED = "vmcp_"
_ALLOWED = re.compile(r"[A-Za-z0-9_-]*")
_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_HASH = 8


def prefix(aggregation: Aggregation, backend: str) -> str:
    """What stands before the names of ``backend``. Under ``priority`` only the backends of the order are bare."""
    bare = aggregation.strategy == "manual" or (
        aggregation.strategy == "priority" and backend in aggregation.priority_order
    )
    return "" if bare else aggregation.prefix_format.replace("{workload}", backend)


def fit(name: str, limit: int) -> str:
    """``name`` if clients take it as it is; else with ``_`` for other characters, its tail, and a hash of the whole.

    The hash is there whenever a character was replaced or cut, so that two names do not become one.
    """
    if len(name) <= limit and _ALLOWED.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    room = max(limit - _HASH - 1, 0)
    safe = _OTHER.sub("_", name)
    return f"{safe[max(len(safe) - room, 0) :]}_{digest}"[-limit:]


def reserved(name: str) -> bool:
    """Whether only vmcp itself may have this name, in whatever case."""
    return name[: len(RESERVED)].lower() == RESERVED


def ranks(aggregation: Aggregation, backends: Iterable[str]) -> Mapping[str, int]:
    """Who wins a name that two backends claim: the lower number. First ``priorityOrder``, then the order of the file."""
    order = dict.fromkeys((*aggregation.priority_order, *backends))
    return {backend: number for number, backend in enumerate(order)}
