"""The ASGI application: paths to faces, and the checks that every request passes, whatever its path.

The rule: a path is matched exactly, byte for byte, as it was sent; Host and Origin are checked before anything is looked up, and
where something is served, the gate decides who is calling before anything else is read.
"""

import logging
from collections.abc import Awaitable, Iterable, Mapping
from typing import Final, Literal, Protocol

from vmcp.call import Identity
from vmcp.config.model import Config
from vmcp.protocol import jsonrpc
from vmcp.routing.table import RoutingTable
from vmcp.server import visit
from vmcp.server.asgi import AS_JSON, IDENTITY, ORIGIN, REQUEST, WHY, Header, Receive, Refused, Scope, Send, error_of
from vmcp.server.connect import Connect
from vmcp.server.gate import Gate
from vmcp.server.guard import Guard
from vmcp.server.http import METHODS, StreamableHttp
from vmcp.server.sse import LegacySse
from vmcp.server.upgrade import Upgrade
from vmcp.server.websocket import Watch, WebSockets, refuse

log = logging.getLogger("vmcp.server")

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
        "last-event-id",
        "user-agent",
        visit.PERSONA,
        "traceparent",
        "tracestate",
        "access-control-request-method",
    )
}
_LEFT = ("authorization", "content-length", "connection", "accept-encoding", "accept-language")
_READ |= {name.encode(): "" for name in _LEFT}
_PARAM = b"mcp-param-"
_UNKNOWN: Final[Literal[False]] = False
LONGEST_AGENT = 256
"""Characters that are kept of what a client says that it is."""
_ALIVE = {b"/livez", b"/healthz", b"/health", b"/ping"}
METRICS = b"/metrics"
PROBES = frozenset(_ALIVE | {b"/readyz"})
"""What is asked all the time, and tells nothing about anybody."""
_EXPOSED = b"Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate"
_ALLOWED = (
    b"Authorization, Content-Type, Accept, Mcp-Session-Id, MCP-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID, "
    b"X-VMCP-Persona"
)


class Page(Protocol):
    """What is shown at ``/metrics``."""

    async def show(self, accept: str) -> tuple[bytes, bytes]:
        """The content type and the text."""


class House(Protocol):
    """What the application asks of the runtime."""

    table: RoutingTable

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Whether traffic should come, and why not."""


class App:
    """Serves every face of the table, and the two probes."""

    def __init__(
        self,
        config: Config,
        house: House,
        http: StreamableHttp,
        gate: Gate,
        sse: LegacySse | None = None,
        sockets: WebSockets | None = None,
        connect: Connect | None = None,
    ) -> None:
        self._guard = Guard(config.server)
        self._house = house
        self._http = http
        self._gate = gate
        self._sse = sse
        self._sockets = sockets
        self._connect = connect
        self.page: Page | None = None
        """What is shown at ``/metrics``, if anything is."""
        self._paths = {path.encode(): path for path in house.table.faces}
        self._hosts: dict[str, bool] = {}
        self._read: dict[bytes, str | None] = {**_READ, **dict.fromkeys(gate.names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        extra: list[Header] = []
        try:
            await self.begin(scope, receive, send, extra)
        except Refused as refused:
            await refuse_with(scope, send, refused, extra)

    def begin(self, scope: Scope, receive: Receive, send: Send, extra: list[Header]) -> Awaitable[None]:
        """Answer one HTTP request. Raises ``Refused``, at once or when it is awaited; ``extra`` then has what goes with it."""
        shown: list[Header] = []
        headers = _headers(scope["headers"], self._read, shown)
        origin = scope.get(ORIGIN)
        if origin is not None:
            agent = headers.get("user-agent")
            if agent is not None:
                origin.agent = agent[:LONGEST_AGENT]
        self._check(headers, extra)
        return self._route(scope, headers, shown, receive, send, extra)

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

    def _route(
        self,
        scope: Scope,
        headers: Mapping[str, str],
        shown: list[Header],
        receive: Receive,
        send: Send,
        extra: list[Header],
    ) -> Awaitable[None]:
        raw = scope["raw_path"]
        path = self._paths.get(raw)
        if path is None:
            return self._beside(scope, headers, receive, send, extra)
        if scope["method"] == "OPTIONS":
            return _preflight(headers, send, extra)
        identity = self._gate.known(scope["headers"], scope.get("client"), shown)
        if identity is None:
            return self._asked(scope, headers, path, receive, send, extra)
        scope[IDENTITY] = visit.asking(identity, headers)
        return self._http.serve(scope, headers, path, receive, send, extra)

    async def _asked(
        self, scope: Scope, headers: Mapping[str, str], path: str, receive: Receive, send: Send, extra: list[Header]
    ) -> None:
        """The same, once it is known who it is."""
        await self._prove(scope, headers)
        await self._http.serve(scope, headers, path, receive, send, extra)

    async def _admit(self, scope: Scope, headers: Mapping[str, str]) -> None:
        identity = self._gate.known(scope["headers"], scope.get("client"))
        if identity is None:
            await self._prove(scope, headers)
        else:
            scope[IDENTITY] = visit.asking(identity, headers)

    async def _prove(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Find out who it is, where the gate could not say at once."""
        raw, path = scope["headers"], scope["raw_path"].decode("latin-1")
        identity = await self._gate.admit(raw, path, scope.get("client"), headers.get("host", ""))
        scope[IDENTITY] = visit.asking(identity, headers)

    async def _beside(
        self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send, extra: list[Header]
    ) -> None:
        """What is not streamable HTTP."""
        raw = scope["raw_path"]
        if self.upgrades(raw):
            await self._admit(scope, headers)
            raise Refused(426, "this path speaks WebSocket", [(b"upgrade", b"websocket"), (b"connection", b"upgrade")])
        if self._connect is not None and self._connect.serves(raw):
            await self._connect.serve(scope, receive, send)
        elif self.page is not None and raw == METRICS:
            await self._admit(scope, headers)
            await self._numbers(scope, headers, self.page, send, extra)
        elif self._sse is None or not self._sse.serves(raw):
            await self._probe(scope, raw, headers.get("host", ""), send, extra)
        elif scope["method"] == "OPTIONS":
            await _preflight(headers, send, extra)
        else:
            await self._admit(scope, headers)
            await self._sse.serve(scope, headers, receive, send, extra)

    async def _numbers(
        self, scope: Scope, headers: Mapping[str, str], page: Page, send: Send, extra: list[Header]
    ) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise Refused(405, "metrics are read with GET", [(b"allow", b"GET, HEAD")])
        kind, text = await page.show(headers.get("accept", ""))
        told = [(b"content-type", kind), (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": 200, "headers": [*told, *extra]})
        await send({"type": "http.response.body", "body": text})

    def upgrades(self, raw_path: bytes) -> bool:
        """See ``listener.Door``."""
        return self._sockets is not None and self._sockets.wants(raw_path)

    def upgrade(self, asked: Upgrade, watch: Watch | None = None) -> None:
        """See ``listener.Door``: a WebSocket passes the same checks as every request, and the gate."""
        sockets = self._sockets
        assert sockets is not None
        transport, headers = asked.transport, asked.headers
        client = transport.get_extra_info("peername")

        def open_for(identity: Identity) -> None:
            status = sockets.upgrade(asked, identity, watch)
            if watch is not None:
                watch.identity = identity
                watch.answered(status, None)

        def turn_away(refused: Refused) -> None:
            refuse(transport, refused)
            if watch is not None:
                watch.answered(refused.status, refused.why)

        async def decide(host: str) -> None:
            try:
                identity = await self._gate.admit(headers, asked.raw_path.decode("latin-1"), client, host)
                if transport.is_closing():
                    return
                transport.resume_reading()
                open_for(visit.asking(identity, read))
            except Refused as refused:
                turn_away(refused)

        try:
            read = _headers(headers, _READ, [])
            self._check(read, [])
            identity = self._gate.known(headers, client)
            if identity is not None:
                open_for(visit.asking(identity, read))
            else:
                sockets.wait(transport, decide(read.get("host", "")))
        except Refused as refused:
            turn_away(refused)

    def drain(self) -> None:
        """The server is stopping: let the streams of HTTP+SSE end. (uvicorn tells the WebSockets.)"""
        if self._sse is not None:
            self._sse.drain()

    async def _probe(self, scope: Scope, raw: bytes, host: str, send: Send, extra: list[Header]) -> None:
        metadata = self._gate.metadata
        if metadata is not None and metadata.serves(raw):
            if scope["method"] not in ("GET", "HEAD"):
                raise Refused(405, "metadata are read with GET", [(b"allow", b"GET, HEAD")])
            await _send(send, 200, metadata.document(raw, host), extra)
            return
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


def _headers(raw: Iterable[Header], read: Mapping[bytes, str | None], shown: list[Header]) -> dict[str, str]:
    """The headers that vmcp reads, as text. The listener has made the names lowercase.

    Those for which ``read`` has None show who it is: they are appended to ``shown``, as all headers are looked at once only.
    """
    found: dict[str, str] = {}
    for name, value in raw:
        known = read.get(name, _UNKNOWN)
        if known:
            found[known] = value.decode("latin-1").strip()
        elif known is None:
            shown.append((name, value))
        elif known is _UNKNOWN and name.startswith(_PARAM):
            found[name.decode("latin-1")] = value.decode("latin-1").strip()
    return found


async def _preflight(headers: Mapping[str, str], send: Send, extra: list[Header]) -> None:
    if "origin" not in headers or "access-control-request-method" not in headers:
        raise Refused(405, "this endpoint takes POST, GET and DELETE", [(b"allow", METHODS)])
    allow = [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-allow-headers", _ALLOWED),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": [*extra, *allow]})
    await send({"type": "http.response.body", "body": b""})


async def refuse_with(scope: Scope, send: Send, refused: Refused, extra: list[Header]) -> None:
    """Answer a request that ``begin`` has refused."""
    scope[WHY], scope[REQUEST] = refused.why, refused.request
    facts = {"status": refused.status, "why": refused.why, "request_id": refused.request}
    log.debug("request refused", extra=facts)
    await _refuse(send, refused, extra)


async def _refuse(send: Send, refused: Refused, extra: list[Header]) -> None:
    body = jsonrpc.failure(jsonrpc.NULL, error_of(refused))
    await _send(send, refused.status, body, [*refused.headers, *extra])


async def _json(send: Send, status: int, facts: Mapping[str, object], extra: list[Header]) -> None:
    await _send(send, status, jsonrpc.encode(facts), extra)


async def _send(send: Send, status: int, body: bytes, extra: list[Header]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*AS_JSON, *extra]})
    await send({"type": "http.response.body", "body": body})
