"""A backend over stdio that writes down how it was started and every line that it is sent.

The rule: it runs as ``child.py FILE``; FILE gets one JSON line for the start (environment, arguments) and one for each message.
"""

import json
import os
import sys
from pathlib import Path

FILE = Path(sys.argv[1])
TOOL = {"name": "say", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}


def note(what: object) -> None:
    with FILE.open("a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def answer(message: dict[str, object]) -> dict[str, object]:
    method = message["method"]
    if method == "initialize":
        told = {"name": "child", "version": "1"}
        return {"result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": told}}
    if method == "tools/list":
        return {"result": {"tools": [TOOL]}}
    if method == "tools/call":
        return {"result": {"content": [{"type": "text", "text": "said"}]}}
    return {"error": {"code": -32601, "message": "Method not found"}}


note({"environ": dict(os.environ), "argv": sys.argv})
for line in sys.stdin:
    received = json.loads(line)
    note(received)
    if "id" in received and "method" in received:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": received["id"], **answer(received)}) + "\n")
        sys.stdout.flush()
