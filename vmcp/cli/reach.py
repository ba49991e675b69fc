"""Whether an MCP server answers at a URL: one request, no session kept.

The rule: five seconds, one answer, no redirect; what it says is never shown.
"""

import http.client
import json
from urllib.parse import urlsplit

_ASK = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "vmcp-connect", "version": "1"},
    },
}
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
_PATIENCE, _MOST = 5.0, 1 << 16


def answers(url: str) -> str | None:
    """What to say of a server that answers; None when none does."""
    try:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        line = kind(parts.hostname or "", parts.port, timeout=_PATIENCE)
    except (ValueError, http.client.HTTPException):
        return None
    try:
        return _asked(line, parts.path + (f"?{parts.query}" if parts.query else ""))
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        line.close()


def _asked(line: http.client.HTTPConnection, path: str) -> str | None:
    line.request("POST", path, json.dumps(_ASK), _HEADERS)
    answer = line.getresponse()
    body = answer.read(_MOST)
    if answer.status in (401, 403):
        return "answers, and wants to know who you are"
    if answer.status != 200 or b'"jsonrpc"' not in body:
        return None
    session = answer.getheader("Mcp-Session-Id")
    if session:
        line.request("DELETE", path, headers={"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"})
        line.getresponse().read(_MOST)
    return "answers"
