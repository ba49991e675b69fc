"""What revision 2026-07-28 puts around every message: ``_meta`` keys, ``Mcp-*`` headers, error codes and HTTP statuses.

The rule: an incoming header may only confirm what the body says (basic/transports, "Server Validation"); outgoing headers
are computed from the outgoing body.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from msgspec import Raw

from vmcp.errors import Code, McpError
from vmcp.protocol.revisions import KNOWN, MODERN, REQUESTS, knows

RESERVED: Final = "io.modelcontextprotocol/"
VERSION: Final = RESERVED + "protocolVersion"
CAPABILITIES: Final = RESERVED + "clientCapabilities"
CLIENT_INFO: Final = RESERVED + "clientInfo"
LOG_LEVEL: Final = RESERVED + "logLevel"
SERVER_INFO: Final = RESERVED + "serverInfo"
PROGRESS_TOKEN: Final = "progressToken"
BAGGAGE: Final = "baggage"
"""Trace context (SEP-414) that may say anything about anybody, and is for nobody but us."""

SUPPORTED: Final = (str(MODERN),)
LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

_BAD_REQUEST = frozenset(
    {
        Code.HEADER_MISMATCH,
        Code.MISSING_CAPABILITY,
        Code.UNSUPPORTED_VERSION,
    }
)
_OPEN, _CLOSE = "=?base64?", "?="
_KEPT = frozenset({PROGRESS_TOKEN, BAGGAGE})
_PARAM = "mcp-param-"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,9})?")


class Malformed(McpError):
    """A request whose envelope is wrong: HTTP 400, whatever the code."""


def is_modern(headers: Mapping[str, str], tree: Mapping[str, Any]) -> bool:
    """The era of a message, from its body; the header alone only makes it a malformed message of 2026-07-28."""
    meta = tree.get("_meta")
    if isinstance(meta, dict) and VERSION in meta:
        return True
    said = headers.get("mcp-protocol-version")
    return said is not None and (said == MODERN or said not in KNOWN)


def admit(headers: Mapping[str, str] | None, method: str, tree: Mapping[str, Any]) -> None:
    """Check the envelope of a request: ``_meta``, version, headers, method, in this order. Raises ``McpError``.

    ``headers`` are None where the transport has none: then there is nothing to confirm.
    """
    meta = tree.get("_meta")
    if not isinstance(meta, dict):
        raise _missing(VERSION)
    version = meta.get(VERSION)
    if not isinstance(version, str):
        raise _missing(VERSION)
    if headers is not None:
        _confirm(headers, "mcp-protocol-version", version)
    if version not in SUPPORTED:
        data = {"supported": list(SUPPORTED), "requested": version}
        raise McpError(
            Code.UNSUPPORTED_VERSION, "Unsupported protocol version", data, vmcp_code=Code.VERSION_NOT_SUPPORTED
        )
    if not isinstance(meta.get(CAPABILITIES), dict):
        raise _missing(CAPABILITIES)
    if headers is not None:
        _confirm(headers, "mcp-method", method)
        _confirm_name(headers, method, tree)
    level = meta.get(LOG_LEVEL)
    if level is not None and level not in LEVELS:
        raise Malformed(Code.INVALID_PARAMS, f"'{LOG_LEVEL}' must be one of {', '.join(LEVELS)}")


def _missing(key: str) -> McpError:
    text = f"Invalid params: '_meta' lacks '{key}', which every request of revision {MODERN} carries"
    return Malformed(Code.INVALID_PARAMS, text, vmcp_code=Code.INVALID_MESSAGE)


def _confirm_name(headers: Mapping[str, str], method: str, tree: Mapping[str, Any]) -> None:
    # A method that this revision does not have names nothing here, and is to be refused as unknown.
    key = REQUESTS[method].name_key if knows(MODERN, method) else None
    if key is not None and isinstance(tree.get(key), str):
        _confirm(headers, "mcp-name", tree[key])


def _confirm(headers: Mapping[str, str], header: str, expected: str) -> None:
    given = headers.get(header)
    if given is None:
        raise mismatch(f"header {header} is missing")
    if (given != expected or given.startswith(_OPEN)) and decode_value(given) != expected:
        raise mismatch(f"header {header} does not say what the body says")


def mismatch(why: str) -> McpError:
    """The error of a header that is missing, ill-formed or contradicts the body (-32020)."""
    return McpError(Code.HEADER_MISMATCH, f"Header mismatch: {why}", vmcp_code=Code.INVALID_MESSAGE)


def encode_value(value: str) -> str:
    """A header value that says ``value``: as it is when it is safe, else in the base64 form of the spec."""
    safe = value.isascii() and value.isprintable() and value == value.strip() and not value.startswith(_OPEN)
    return value if safe and value else f"{_OPEN}{base64.b64encode(value.encode()).decode()}{_CLOSE}"


def decode_value(value: str) -> str | None:
    """What a header value says; None when its base64 form is broken."""
    if not (value.startswith(_OPEN) and value.endswith(_CLOSE)):
        return value
    try:
        return base64.b64decode(value[len(_OPEN) : -len(_CLOSE)], validate=True).decode()
    except ValueError:
        return None


def confirm_params(
    wanted: Iterable[tuple[str, tuple[str, ...]]], headers: Mapping[str, str], arguments: Mapping[str, Any]
) -> None:
    """Check the ``Mcp-Param-*`` among ``headers`` (lowercase) against the arguments. Raises ``McpError`` (-32020)."""
    for header, path in wanted:
        _confirm_param(header, headers.get(_PARAM + header.lower()), _at(arguments, path))


def _confirm_param(header: str, said: str | None, value: object) -> None:
    if value is None:
        if said is not None:
            raise mismatch(f"header Mcp-Param-{header} has no argument beside it")
        return
    if said is None:
        raise mismatch(f"header Mcp-Param-{header} is missing")
    text = decode_value(said)
    if text is None or not _equal(text, value):
        raise mismatch(f"header Mcp-Param-{header} does not say what the argument says")


def _equal(text: str, value: object) -> bool:
    if isinstance(value, bool):
        return text == ("true" if value else "false")
    if isinstance(value, int | float):
        return _NUMBER.fullmatch(text) is not None and Decimal(text) == value
    return text == value


def params_as_headers(
    wanted: Iterable[tuple[str, tuple[str, ...]]], arguments: Mapping[str, Any]
) -> list[tuple[bytes, bytes]]:
    """The ``Mcp-Param-*`` headers for a call with ``arguments``; null and absent ones have none."""
    found = []
    for header, path in wanted:
        value = _at(arguments, path)
        if isinstance(value, str | int | bool) or (isinstance(value, float) and value.is_integer()):
            found.append((f"mcp-param-{header}".encode(), encode_value(_text(value)).encode()))
    return found


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(int(value))


def _at(arguments: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = arguments
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def own_meta(meta: Mapping[str, Raw]) -> dict[str, Raw]:
    """The members of ``_meta`` that are not the protocol's own: what passes through unchanged."""
    return {key: value for key, value in meta.items() if not key.startswith(RESERVED) and key not in _KEPT}


def modern_meta(info: bytes, capabilities: bytes) -> dict[str, Any]:
    """What the ``_meta`` of every request to a server of 2026-07-28 has; ``info`` and ``capabilities`` are JSON texts."""
    return {VERSION: str(MODERN), CLIENT_INFO: Raw(info), CAPABILITIES: Raw(capabilities)}


def allows(level: object, minimum: str | None) -> bool:
    """Whether a log message of ``level`` passes ``minimum``; an unknown level passes, no minimum lets nothing pass."""
    if minimum is None:
        return False
    return level not in LEVELS or LEVELS.index(str(level)) >= LEVELS.index(minimum)


def status(error: McpError) -> int:
    """The HTTP status that goes with an error in 2026-07-28 (basic/transports). In earlier revisions it is always 200."""
    if error.code in _BAD_REQUEST or isinstance(error, Malformed):
        return 400
    return 404 if error.code == Code.METHOD_NOT_FOUND else 200
