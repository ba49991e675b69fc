"""A call that somebody makes from a page: a request of 2026-07-28 put to the house's own front, as a client puts it.

The rule: it is no second way. Host, credentials, policies, limits and the audit log see a caller on this machine with the
credentials that were given, and nothing else; nothing of the admin listener vouches for anybody.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp import __version__
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.revisions import MODERN
from vmcp.routing import surface
from vmcp.routing.catalog import Kind
from vmcp.server.asgi import Header, Scope
from vmcp.server.guard import ANYWHERE
from vmcp.server.runtime import Runtime

LONGEST: Final = 120.0
"""Seconds for one call."""
LARGEST: Final = 4 << 20
"""Bytes of an answer that are kept."""
HERE: Final = ("127.0.0.1", 0)
WAYS: Final[Mapping[Kind, tuple[str, str]]] = {
    Kind.TOOL: ("tools/call", "name"),
    Kind.PROMPT: ("prompts/get", "name"),
    Kind.RESOURCE: ("resources/read", "uri"),
}
"""The method, and the member that names the thing."""


NOTHING: Final = Raw(b"{}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be asked for at an endpoint. ``authorization`` is a whole header value, empty for nobody."""

    path: str
    kind: Kind
    name: str
    arguments: Raw = field(default_factory=lambda: NOTHING)
    authorization: str = ""
    agent: str = "vmcp"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came back. ``cut``: the answer was longer than what is kept."""

    status: int
    body: bytes
    seconds: float
    cut: bool = False


async def tried(house: Runtime, wanted: Wanted) -> Tried:
    """Put it, and wait for the answer, but not for ever."""
    body = message(wanted)
    heard = _Heard()
    began = perf_counter()
    try:
        async with asyncio.timeout(LONGEST):
            await house.app(_scope(house, wanted, body), _said(body), heard)
    except TimeoutError:
        late = McpError(Code.INTERNAL_ERROR, f"there was no answer in {LONGEST:.0f} seconds")
        return Tried(504, jsonrpc.failure(b"1", late), perf_counter() - began)
    return Tried(heard.status, bytes(heard.body), perf_counter() - began, heard.cut)


def message(wanted: Wanted) -> bytes:
    """The request as JSON text."""
    method, key = WAYS[wanted.kind]
    info = msgspec.json.encode({"name": "vmcp page", "version": __version__})
    told: dict[str, Any] = {key: wanted.name, "_meta": envelope.modern_meta(info, b"{}")}
    if wanted.kind is not Kind.RESOURCE:
        told["arguments"] = wanted.arguments
    return jsonrpc.request(1, method, told)


def headers(house: Runtime, wanted: Wanted) -> list[Header]:
    """Those that a client of 2026-07-28 sends."""
    found: list[Header] = [
        (b"host", _host(house).encode("latin-1", "replace")),
        (b"accept", b"application/json"),
        (b"content-type", b"application/json"),
        (b"user-agent", wanted.agent.encode("latin-1", "replace")),
        (b"mcp-protocol-version", str(MODERN).encode()),
        (b"mcp-method", WAYS[wanted.kind][0].encode()),
        (b"mcp-name", envelope.encode_value(wanted.name).encode()),
        *_repeated(house, wanted),
    ]
    if wanted.authorization:
        found.append((b"authorization", wanted.authorization.encode("latin-1", "replace")))
    return found


def _repeated(house: Runtime, wanted: Wanted) -> list[Header]:
    """The arguments that a tool wants to see in headers too."""
    current = house.current
    face = current.table.faces.get(wanted.path)
    shown = surface.seen(current.config, face)[0] if face is not None else None
    route = shown.routes[wanted.kind].get(wanted.name) if shown is not None else None
    if route is None or not route.shown_header_params:
        return []
    given = msgspec.json.decode(wanted.arguments)
    wants = [(param.header, param.path) for param in route.shown_header_params]
    found = envelope.params_as_headers(wants, given) if isinstance(given, dict) else []
    return [(name.lower(), value) for name, value in found]


def _host(house: Runtime) -> str:
    """A name by which the listener is known."""
    server = house.config.server
    if server.host not in ANYWHERE:
        return f"[{server.host}]" if ":" in server.host else server.host
    return next(iter(server.allowed_hosts), "127.0.0.1")


def _scope(house: Runtime, wanted: Wanted, body: bytes) -> Scope:
    raw = wanted.path.encode("latin-1", "replace")
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "server": ("127.0.0.1", house.config.server.port),
        "client": HERE,
        "scheme": "http",
        "root_path": "",
        "method": "POST",
        "path": wanted.path,
        "raw_path": raw,
        "query_string": b"",
        "headers": ((b"content-length", b"%d" % len(body)), *headers(house, wanted)),
    }


def _said(body: bytes) -> Any:
    """Says the body once, and then nothing more."""
    left = [{"type": "http.request", "body": body, "more_body": False}]
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop()
        await never.wait()
        return {"type": "http.disconnect"}

    return receive


class _Heard:
    """What the front sends. Mutable."""

    def __init__(self) -> None:
        self.status = 0
        self.body = bytearray()
        self.cut = False

    async def __call__(self, event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
            return
        room = LARGEST - len(self.body)
        piece = event.get("body", b"")
        self.body += piece[:room]
        self.cut = self.cut or len(piece) > room
