"""How a call has ended, in one word that telemetry can count by.

The rule: the words are a closed set, whatever a backend or client says. On our side a request that could not be served as it was
sent is the caller's mistake and no error (OpenTelemetry, semantic conventions for MCP); towards a backend every error is one.
"""

import re
from typing import Final

import msgspec

from vmcp.errors import Code, ConsentRequired, McpError, Overdue, SessionLost, Throttled, VmcpError, WireError
from vmcp.protocol.jsonrpc import LARGE, ending

CANCELLED: Final = "cancelled"
INTERNAL: Final = "internal"
OTHER: Final = "other"
TOOL_ERROR: Final = "tool_error"
_CALLERS: Final = frozenset(
    {
        *(Code.PARSE_ERROR, Code.INVALID_REQUEST, Code.METHOD_NOT_FOUND),
        *(Code.INVALID_PARAMS, Code.RESOURCE_NOT_FOUND),
    }
)
_KINDS: Final[tuple[tuple[type[VmcpError], str], ...]] = (
    (Overdue, "timeout"),
    (Throttled, "rate_limited"),
    (ConsentRequired, "consent_required"),
    (WireError, "protocol_error"),
    (SessionLost, "session_lost"),
)
_WORDS: Final = {int(code): code.name.lower() for code in Code}
_MARK: Final = re.compile(rb'"isError"\s*:\s*true')
_KEY: Final = b'"isError"'
_NOT: Final = b'"isError":false'
_NOT_AT_THE_END: Final = _NOT + b"}"


class _Marks(msgspec.Struct):
    is_error: bool = msgspec.field(default=False, name="isError")


_marks = msgspec.json.Decoder(_Marks).decode


def error_type(error: VmcpError) -> str:
    """What went wrong."""
    for kind, word in _KINDS:
        if isinstance(error, kind):
            return word
    if not isinstance(error, McpError):
        return OTHER
    return _WORDS.get(error.code if error.vmcp_code is None else error.vmcp_code, OTHER)


def fault(error: McpError) -> str:
    """What went wrong on our side; empty when that is how the caller asked."""
    return "" if error.code in _CALLERS else error_type(error)


def tool_failed(result: msgspec.Raw | bytes) -> bool:
    """Whether the result of a tool says of itself that it is an error."""
    if type(result) is not bytes:
        result = bytes(result)
    # (``in`` takes bytes for a number first, and finds out by an exception that they are none.)
    if result.endswith(_NOT_AT_THE_END):
        return False
    if len(result) > LARGE:
        return _says_so(result)
    at = result.find(_KEY)
    if at < 0 or (result.startswith(_NOT, at) and result.find(_KEY, at + 1) < 0) or _MARK.search(result, at) is None:
        return False
    return _of_all(result)


def _says_so(result: bytes) -> bool:
    """The same of a large one, which is not looked through where its end says enough."""
    end = ending(result, _KEY)
    try:
        if end is not None:
            return _marks(end).is_error
    except msgspec.MsgspecError:
        return _of_all(result)  # that mark is deeper inside
    return result.rfind(_KEY) >= 0 and _of_all(result)


def _of_all(result: bytes) -> bool:
    try:
        return _marks(result).is_error
    except msgspec.MsgspecError:
        return False
