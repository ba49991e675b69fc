"""What a child process may use, and how long one that nobody asks is kept.

The rule: a limit is what the kernel holds the process to, and each process that it starts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmcp.config.quantities import seconds, size

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """``memory`` in bytes; None is no limit of ours. ``new_privileges``: programs that run as somebody else may do so.

    ``idle_stop``: seconds after which a child that is one client's alone is stopped, if he does not ask for anything.
    ``warm``: one such is always started in advance.
    """

    memory: int | None = None
    files: int = 1024
    processes: int | None = None
    new_privileges: bool = False
    idle_stop: float = 600.0
    warm: bool = False


def from_data(settings: Data) -> ProcessSpec:
    """The keys of a backend that say so, as values."""
    limits: Data = settings.get("limits", {})
    given: dict[str, Any] = {name: int(limits[name]) for name in ("files", "processes") if name in limits}
    if "memory" in limits:
        given["memory"] = size(limits["memory"])
    if "newPrivileges" in limits:
        given["new_privileges"] = limits["newPrivileges"]
    if "warm" in settings:
        given["warm"] = settings["warm"]
    if "idleStop" in settings:
        given["idle_stop"] = seconds(settings["idleStop"])
    return ProcessSpec(**given)
