"""The few words of ASGI that the files of the server share, and how a request is refused before it is a message.

The rule: whatever is refused here has one HTTP status and one sentence; nothing of the request comes back in it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from vmcp.errors import Code, McpError

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

ORIGIN = "vmcp.origin"
"""Key of the scope: where the request comes from (``call.Origin``); only there when it is to be recorded."""
IDENTITY = "vmcp.identity"
"""Key of the scope: who is calling (``call.Identity``); set at the door before any transport sees the request."""
WHY = "vmcp.why"
"""Key of the scope: why it was refused, for the record."""

AS_JSON: tuple[Header, ...] = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
AS_EVENTS: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)
CLOSE: list[Header] = [(b"connection", b"close")]


class Refused(Exception):
    """A request that is refused before it is a message: an HTTP status and one sentence."""

    def __init__(self, status: int, why: str, headers: list[Header] | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.headers = headers or []


def error_of(refused: Refused) -> McpError:
    """A refusal as a JSON-RPC error; those with a challenge are about who is calling."""
    challenged = any(name == b"www-authenticate" for name, _ in refused.headers)
    code = {401: Code.UNAUTHORIZED, 403: Code.INSUFFICIENT_PERMISSIONS}.get(refused.status) if challenged else None
    return McpError(Code.INVALID_REQUEST, refused.why, vmcp_code=code or Code.PROTOCOL_ERROR)


async def empty(send: Send, status: int, extra: list[Header]) -> None:
    """Answer without a body."""
    await send({"type": "http.response.start", "status": status, "headers": extra})
    await send({"type": "http.response.body", "body": b""})
