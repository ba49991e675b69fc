"""The few words of ASGI that the files of the server share, and how a request is refused before it is a message.

The rule: whatever is refused here has one HTTP status and one sentence; nothing of the request comes back in it.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from vmcp.call import Trail
from vmcp.errors import Code, McpError
from vmcp.middleware.naming import fresh, name
from vmcp.protocol import jsonrpc

log = logging.getLogger("vmcp.server")

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
REQUEST = "vmcp.request"
"""Key of the scope: what a request that was refused is called."""

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
        self.request = fresh()
        """What it is called in the answer and in logs."""


def error_of(refused: Refused) -> McpError:
    """A refusal as a JSON-RPC error; those with a challenge are about who is calling."""
    challenged = any(name == b"www-authenticate" for name, _ in refused.headers)
    code = {401: Code.UNAUTHORIZED, 403: Code.INSUFFICIENT_PERMISSIONS}.get(refused.status) if challenged else None
    told = {"requestId": refused.request}
    return McpError(Code.INVALID_REQUEST, refused.why, told, vmcp_code=code or Code.PROTOCOL_ERROR)


def failure(id_: bytes, error: McpError, scope: Scope | None = None) -> bytes:
    """An error reply as bytes, which says what the request is called; with ``scope`` the logs say it too."""
    called = name(Trail(), error)
    if scope is not None:
        scope[REQUEST] = called
        log.debug("request refused", extra={"code": error.code, "request_id": called})
    return jsonrpc.failure(id_, error)


async def empty(send: Send, status: int, extra: list[Header]) -> None:
    """Answer without a body."""
    await send({"type": "http.response.start", "status": status, "headers": extra})
    await send({"type": "http.response.body", "body": b""})
