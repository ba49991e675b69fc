"""A small MCP server on standard streams, of the revision in its first argument: ``python child.py REVISION [WORDS]``.

Rule: standard library only, and quick to start. A second argument makes it complain with these words and exit.
"""

import json
import os
import sys
from typing import Any

Json = dict[str, Any]
MODERN = "2026-07-28"


def result(revision: str, method: str, params: Json) -> Json | None:
    """What it answers; None when it does not know the method."""
    first: Json = {"resultType": "complete"} if revision == MODERN else {}
    if method == ("server/discover" if revision == MODERN else "initialize"):
        told = {"supportedVersions": [MODERN]} if revision == MODERN else {"protocolVersion": revision}
        return {**first, **told, "capabilities": {"tools": {}}, "serverInfo": {"name": "child", "version": "1"}}
    if method == "tools/list":
        names = ("echo", "pid", "hang")
        cached = {"ttlMs": 0, "cacheScope": "private"} if first else {}
        return {**first, **cached, "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}
    if method == "tools/call":
        words = str(os.getpid()) if params["name"] == "pid" else json.dumps(params.get("arguments"))
        return {**first, "content": [{"type": "text", "text": words}]}
    return None


def reply(revision: str, message: Json) -> Json | None:
    """The reply to a message; None for a notification and for a call that hangs."""
    params = message.get("params", {})
    if "id" not in message or params.get("name") == "hang":
        return None
    told = result(revision, message["method"], params)
    answer = {"error": {"code": -32601, "message": "Method not found"}} if told is None else {"result": told}
    return {"jsonrpc": "2.0", "id": message["id"], **answer}


def main(revision: str, *words: str) -> None:
    """Serve until the input ends."""
    if words:
        sys.exit(words[0])
    for line in sys.stdin:
        answer = reply(revision, json.loads(line))
        if answer is not None:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
