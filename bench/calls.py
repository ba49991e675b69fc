"""What is asked of every subject: the tools/call of each era and size, as a plan for the generator, and the sessions.

The one rule: the bytes of a request depend on era and size alone, but for what a subject's door wants: a path, a key, its
own name for the tool.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection

HANDSHAKE = "2025-11-25"
STATELESS = "2026-07-28"
ERAS = (HANDSHAKE, STATELESS)

FILLER = "0123456789abcdef "  # as backend.c repeats it
CLIENT = {"name": "vmcp-bench", "version": "1"}
KEY = "bench-key-0123456789abcdef0123456789abcdef"
BASE_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "Authorization": f"Bearer {KEY}",
}


@dataclass(frozen=True, slots=True)
class Size:
    """A tool, its arguments and the text that has to come back."""

    tool: str
    arguments: dict[str, str]
    text: str


def _filler(length: int) -> str:
    return (FILLER * (length // len(FILLER) + 1))[:length]


SIZES = {
    "200": Size("echo", {"message": _filler(200)}, _filler(200)),
    "10k": Size("b10k", {}, _filler(10 * 1024)),
    "1m": Size("b1m", {}, _filler(1024 * 1024)),
    "b200": Size("b200", {}, _filler(200)),
} | {f"{kib}k": Size(f"b{kib}k", {}, _filler(kib * 1024)) for kib in (1, 4, 40, 100, 400)}


@dataclass(frozen=True, slots=True)
class Door:
    """Where a subject takes calls. A header that is empty here is not sent at all."""

    path: str = "/mcp"
    tool: str = "{}"
    """What it makes of the backend's name for a tool."""
    headers: Mapping[str, str] = field(default_factory=dict)
    handshake: str = HANDSHAKE
    """The revision that is agreed on in the handshake."""
    stream: bool = False
    """Whether it speaks HTTP+SSE, as of 2024-11-05: the path is that of the stream, and sessions end with it."""
    spread: Sequence[str] = ()
    """Names of tools that are called in turns instead of the size's own."""


FRONT = Door()


@dataclass(frozen=True, slots=True)
class Load:
    """How hard to ask: so many connections for so many seconds, or `limit` requests if that comes first."""

    connections: int
    seconds: float
    limit: int = 0
    check: bool = False


def _params(era: str, tool: str, arguments: dict[str, str]) -> dict[str, object]:
    params: dict[str, object] = {"name": tool, "arguments": arguments}
    if era == STATELESS:  # 2026-07-28 basic: every request says its version and capabilities
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": era,
            "io.modelcontextprotocol/clientInfo": CLIENT,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    return params


def _headers(era: str, tool: str, door: Door) -> dict[str, str]:
    headers = BASE_HEADERS | {"MCP-Protocol-Version": door.handshake if era == HANDSHAKE else era}
    if era == STATELESS:  # 2026-07-28 streamable HTTP: the headers repeat what the body says
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": tool}
    return {name: value for name, value in (headers | door.headers).items() if value}


def _hello(door: Door) -> list[str]:
    """The lines of a plan that open a session on a stream."""
    told = {"protocolVersion": door.handshake, "capabilities": {}, "clientInfo": CLIENT}
    asks = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": told}
    says = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    texts = [json.dumps(message, separators=(",", ":")) for message in (asks, says)]
    return [f"stream {door.path}", *(f"hello {text}" for text in texts)]


def plan(
    port: int, era: str, size: Size, load: Load, sessions: Sequence[str], first_id: int, door: Door = FRONT
) -> str:
    """The generator's standard input."""
    tools = door.spread or [door.tool.format(size.tool)]
    lines = [
        f"port {port}",
        f"path {door.path}",
        f"connections {load.connections}",
        f"seconds {load.seconds}",
        f"limit {load.limit}",
        "grace 60",
        f"first-id {first_id}",
        f"check {int(load.check)}",
        f"text {size.text}",
        'before {"jsonrpc":"2.0","id":',
    ]
    for tool in tools:
        params = json.dumps(_params(era, tool, size.arguments), separators=(",", ":"))
        lines.append(f'after ,"method":"tools/call","params":{params}}}')
    lines += [f"header {name}: {value}" for name, value in _headers(era, tools[0], door).items()]
    lines += [f"session {session}" for session in sessions]
    lines += _hello(door) if door.stream else []
    return "\n".join(lines) + "\n"


def _post(connection: HTTPConnection, message: object, headers: dict[str, str], door: Door) -> str | None:
    sent = {name: value for name, value in (BASE_HEADERS | headers | door.headers).items() if value}
    connection.request("POST", door.path, json.dumps(message), sent)
    response = connection.getresponse()
    body = response.read()
    if response.status not in (200, 202):
        raise RuntimeError(f"a session was refused with status {response.status}: {body[:300]!r}")
    return response.headers.get("Mcp-Session-Id")


def open_session(port: int, door: Door = FRONT) -> str | None:
    """Goes through the handshake once; gives the session's id, or None when the subject keeps no sessions."""
    hello = {"protocolVersion": door.handshake, "capabilities": {}, "clientInfo": CLIENT}
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        session = _post(connection, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, {}, door)
        known = {"MCP-Protocol-Version": door.handshake} | ({"Mcp-Session-Id": session} if session else {})
        _post(connection, {"jsonrpc": "2.0", "method": "notifications/initialized"}, known, door)
    finally:
        connection.close()
    return session
