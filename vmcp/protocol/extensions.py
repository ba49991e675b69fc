"""Extensions of the protocol: which of them vmcp relays, and who declared what.

The rule: an extension is promised only when a backend has it and vmcp carries all that belongs to it; a client is told of a
missing one with the code that 2026-07-28 has for it (SEP-2575, SEP-2663).
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.errors import Code, McpError
from vmcp.protocol.jsonrpc import encode, members
from vmcp.protocol.revisions import Revision

TASKS: Final = "io.modelcontextprotocol/tasks"
UI: Final = "io.modelcontextprotocol/ui"
RELAYED: Final = (TASKS, UI)
"""MCP Apps need nothing but tools and resources, whose URIs and ``_meta`` are passed on as they are."""
_REMEMBERED: Final = 4096
_NOTHING: Final = b"{}"


class _Declared(msgspec.Struct):
    extensions: dict[str, Raw] = {}


_declared = msgspec.json.Decoder(_Declared).decode


def declares(capabilities: bytes, extension: str) -> bool:
    """Whether a client with these capabilities declared ``extension``."""
    if capabilities == _NOTHING:
        return False
    # What a client says may be large, and is not worth remembering then.
    return extension in (_named if len(capabilities) <= _REMEMBERED else _named.__wrapped__)(capabilities)


@functools.lru_cache(1024)
def _named(capabilities: bytes) -> frozenset[str]:
    try:
        said = _declared(capabilities).extensions
    except (msgspec.MsgspecError, RecursionError):
        return frozenset()
    return frozenset(key for key, settings in said.items() if bytes(settings).startswith(b"{"))


def require(capabilities: bytes, extension: str) -> None:
    """Raise ``McpError`` (-32021) when a client with these capabilities did not declare ``extension``."""
    if not declares(capabilities, extension):
        data: Any = {"requiredCapabilities": {"extensions": {extension: {}}}}
        raise McpError(Code.MISSING_CAPABILITY, f"Missing required client capability: {extension}", data)


def without_tasks(capabilities: bytes) -> bytes:
    """The capabilities of a client of the handshake era as a backend may know them: tasks of 2026-07-28 are none of its."""
    if not declares(capabilities, TASKS):
        return capabilities
    told = members(Raw(capabilities))
    kept = {key: raw for key, raw in members(told["extensions"]).items() if key != TASKS}
    return encode({**told, "extensions": kept})


def offered(said: Iterable[tuple[Revision, Mapping[str, Any]]]) -> dict[str, Any]:
    """What is promised of extensions, given the revisions and capabilities of the backends.

    Tasks are an extension of 2026-07-28 alone. Settings that differ from backend to backend are left out.
    """
    found: dict[str, list[Any]] = {}
    for revision, capabilities in said:
        extensions: Any = capabilities.get("extensions")
        for key in RELAYED if isinstance(extensions, Mapping) else ():
            if isinstance(extensions.get(key), Mapping) and (revision.modern or key != TASKS):
                found.setdefault(key, []).append(extensions[key])
    return {key: all_[0] if all(one == all_[0] for one in all_) else {} for key, all_ in found.items()}
