"""What is asked of every subject: the tools/call of each era and size, as a plan for the generator, and the sessions.

The one rule: the bytes of a request depend on era and size alone, never on the subject.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
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
}


@dataclass(frozen=True, slots=True)
class Load:
    """How hard to ask: so many connections for so many seconds, or `limit` requests if that comes first."""

    connections: int
    seconds: float
    limit: int = 0
    check: bool = False


def _params(era: str, size: Size) -> dict[str, object]:
    params: dict[str, object] = {"name": size.tool, "arguments": size.arguments}
    if era == STATELESS:  # 2026-07-28 basic: every request says its version and capabilities
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": era,
            "io.modelcontextprotocol/clientInfo": CLIENT,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    return params


def _headers(era: str, size: Size) -> dict[str, str]:
    headers = BASE_HEADERS | {"MCP-Protocol-Version": era}
    if era == STATELESS:  # 2026-07-28 streamable HTTP: the headers repeat what the body says
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": size.tool}
    return headers


def plan(port: int, era: str, size: Size, load: Load, sessions: Sequence[str], first_id: int) -> str:
    """The generator's standard input."""
    params = json.dumps(_params(era, size), separators=(",", ":"))
    lines = [
        f"port {port}",
        "path /mcp",
        f"connections {load.connections}",
        f"seconds {load.seconds}",
        f"limit {load.limit}",
        "grace 60",
        f"first-id {first_id}",
        f"check {int(load.check)}",
        f"text {size.text}",
        'before {"jsonrpc":"2.0","id":',
        f'after ,"method":"tools/call","params":{params}}}',
    ]
    lines += [f"header {name}: {value}" for name, value in _headers(era, size).items()]
    lines += [f"session {session}" for session in sessions]
    return "\n".join(lines) + "\n"


def _post(connection: HTTPConnection, message: object, headers: dict[str, str]) -> str | None:
    connection.request("POST", "/mcp", json.dumps(message), BASE_HEADERS | headers)
    response = connection.getresponse()
    body = response.read()
    if response.status not in (200, 202):
        raise RuntimeError(f"a session was refused with status {response.status}: {body[:300]!r}")
    return response.headers.get("Mcp-Session-Id")


def open_session(port: int) -> str | None:
    """Goes through the handshake once; gives the session's id, or None when the subject keeps no sessions."""
    hello = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": CLIENT}
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        session = _post(connection, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, {})
        known = {"MCP-Protocol-Version": HANDSHAKE} | ({"Mcp-Session-Id": session} if session else {})
        _post(connection, {"jsonrpc": "2.0", "method": "notifications/initialized"}, known)
    finally:
        connection.close()
    return session
