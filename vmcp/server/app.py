"""The ASGI application: paths to faces, and the checks that every request passes, whatever its path.

The rule: a path is matched exactly, byte for byte, as it was sent; Host and Origin are checked before anything is looked up.
"""

from collections.abc import Mapping
from typing import Protocol

from vmcp.config.model import Config
from vmcp.errors import Code, McpError
from vmcp.protocol import jsonrpc
from vmcp.routing.table import RoutingTable
from vmcp.server.guard import Guard
from vmcp.server.http import Receive, Refused, Scope, StreamableHttp
from vmcp.server.stream import Header, Send

_READ = {
    name.encode(): name
    for name in (
        "host",
        "origin",
        "accept",
        "content-type",
        "content-encoding",
        "mcp-session-id",
        "mcp-protocol-version",
        "mcp-method",
        "mcp-name",
        "access-control-request-method",
    )
}
_PARAM = b"mcp-param-"
_ALIVE = {b"/livez", b"/healthz", b"/health", b"/ping"}
_EXPOSED = b"Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate"
_ALLOWED = (
    b"Authorization, Content-Type, Accept, Mcp-Session-Id, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID"
)


class House(Protocol):
    """What the application asks of the runtime."""

    table: RoutingTable

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Whether traffic should come, and why not."""


class App:
    """Serves every face of the table, and the two probes."""

    def __init__(self, config: Config, house: House, http: StreamableHttp) -> None:
        self._guard = Guard(config.server)
        self._house = house
        self._http = http
        self._paths = {path.encode(): path for path in house.table.faces}
        self._hosts: dict[str, bool] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        extra: list[Header] = []
        try:
            headers = _headers(scope["headers"])
            self._check(headers, extra)
            await self._route(scope, headers, receive, send, extra)
        except Refused as refused:
            await _refuse(send, refused, extra)

    def _check(self, headers: Mapping[str, str], extra: list[Header]) -> None:
        host = headers.get("host", "")
        if not self._host_allowed(host):
            raise Refused(421, "this Host is not served here; see server.allowedHosts")
        origin = headers.get("origin")
        if origin is not None:
            if not self._guard.allows_origin(origin):
                raise Refused(403, "this Origin may not talk to this server; see server.allowedOrigins")
            extra += [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"origin"),
            ]

    def _host_allowed(self, host: str) -> bool:
        known = self._hosts.get(host)
        if known is None:
            known = self._guard.allows_host(host)
            if known and len(self._hosts) < 64:
                self._hosts[host] = known
        return known

    async def _route(
        self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send, extra: list[Header]
    ) -> None:
        raw = scope["raw_path"]
        path = self._paths.get(raw)
        if path is None:
            await self._probe(scope, raw, send, extra)
        elif scope["method"] == "OPTIONS":
            await _preflight(headers, send, extra)
        else:
            await self._http.serve(scope, headers, path, receive, send, extra)

    async def _probe(self, scope: Scope, raw: bytes, send: Send, extra: list[Header]) -> None:
        if raw not in _ALIVE and raw != b"/readyz":
            served = ", ".join(sorted(self._paths.values()))
            raise Refused(404, f"there is nothing here; MCP is served at {served}")
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, "probes are read with GET", [(b"allow", b"GET, HEAD")])
        if raw == b"/readyz":
            ready, facts = self._house.readiness()
            await _json(send, 200 if ready else 503, facts, extra)
        else:
            await _json(send, 200, {"status": "ok"}, extra)


def _headers(raw: tuple[tuple[bytes, bytes], ...]) -> dict[str, str]:
    """The headers that vmcp reads, as text. uvicorn has made the names lowercase."""
    found: dict[str, str] = {}
    for name, value in raw:
        known = _READ.get(name)
        if known is not None:
            found[known] = value.decode("latin-1").strip()
        elif name.startswith(_PARAM):
            found[name.decode("latin-1")] = value.decode("latin-1").strip()
    return found


async def _preflight(headers: Mapping[str, str], send: Send, extra: list[Header]) -> None:
    if "origin" not in headers or "access-control-request-method" not in headers:
        raise Refused(405, "this endpoint takes POST and DELETE", [(b"allow", b"POST, DELETE")])
    allow = [
        (b"access-control-allow-methods", b"POST, DELETE"),
        (b"access-control-allow-headers", _ALLOWED),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": [*extra, *allow]})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(send: Send, refused: Refused, extra: list[Header]) -> None:
    error = McpError(Code.INVALID_REQUEST, refused.why, vmcp_code=Code.PROTOCOL_ERROR)
    body = jsonrpc.failure(jsonrpc.NULL, error)
    await _send(send, refused.status, body, [*refused.headers, *extra])


async def _json(send: Send, status: int, facts: Mapping[str, object], extra: list[Header]) -> None:
    await _send(send, status, jsonrpc.encode(facts), extra)


async def _send(send: Send, status: int, body: bytes, extra: list[Header]) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
