"""What the audit log is to hold, where it goes, and what happens when it cannot be written.

The rule: the section being there turns it on, as in ToolHive's files, unless it says ``enabled: false``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from vmcp.config.quantities import size
from vmcp.config.values import Text

TYPES: Final = (
    "mcp_initialize",
    "mcp_tool_call",
    "mcp_tools_list",
    "mcp_resource_read",
    "mcp_resources_list",
    "mcp_prompt_get",
    "mcp_prompts_list",
    "mcp_notification",
    "mcp_ping",
    "mcp_logging",
    "mcp_completion",
    "mcp_roots_list_changed",
    "mcp_subscription",
    "mcp_task",
    "mcp_request",
    "sse_connection",
    "websocket_connection",
    "auth_failure",
    "http_request",
    "config_reload",
    "admin_act",
)
"""The types of events that can be chosen or left out. What concerns the log itself is always written."""

Durability = Literal["flush", "fsync"]
OnFailure = Literal["fail_closed", "fail_open"]


@dataclass(frozen=True, slots=True)
class AuditSpec:
    """``file`` None is standard output. ``only`` empty means every type; ``leave_out`` wins. Sizes are bytes.

    ``key`` makes the chain and the digests of arguments such that nobody without it can forge or guess them.
    """

    file: str | None = None
    component: str = "vmcp"
    only: frozenset[str] = frozenset()
    leave_out: frozenset[str] = frozenset()
    requests: bool = False
    responses: bool = False
    application_errors: bool = True
    max_data: int = 1024
    delegation_depth: int = 10
    on_failure: OnFailure = "fail_closed"
    durability: Durability = "flush"
    rotate_bytes: int = 100 << 20
    keep: int = 10
    key: Text | None = None


_NAMES: Final = {
    "component": "component",
    "includeRequestData": "requests",
    "includeResponseData": "responses",
    "detectApplicationErrors": "application_errors",
    "maxDelegationDepth": "delegation_depth",
    "onFailure": "on_failure",
    "durability": "durability",
}


def from_data(
    data: Mapping[str, Any] | None, resolve: Callable[[str], str], secret: Callable[[Any], Text]
) -> AuditSpec | None:
    """The section as values; None when there is to be no audit. ``resolve`` makes the path of the file absolute."""
    if data is None or not data.get("enabled", True):
        return None
    given: dict[str, Any] = {name: data[key] for key, name in _NAMES.items() if key in data}
    rotation: Mapping[str, Any] = data.get("rotation", {})
    if "maxDataSize" in data:
        given["max_data"] = size(data["maxDataSize"])
    if "maxBytes" in rotation:
        given["rotate_bytes"] = size(rotation["maxBytes"])
    if "keep" in rotation:
        given["keep"] = int(rotation["keep"])
    return AuditSpec(
        file=resolve(data["logFile"]) if "logFile" in data else None,
        only=frozenset(data.get("eventTypes", ())),
        leave_out=frozenset(data.get("excludeEventTypes", ())),
        key=secret(data["key"]) if "key" in data else None,
        **given,
    )
