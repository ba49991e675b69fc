"""A small MCP server on standard streams whose definitions are in a file: ``python changing.py FILE``.

Rule: it lists what stands there at that moment, and after every call it says that its lists have changed.
"""

import json
import sys
from pathlib import Path
from typing import Any

Json = dict[str, Any]
LISTS = {"tools/list": "tools", "prompts/list": "prompts", "resources/list": "resources"}
LISTS["resources/templates/list"] = "resourceTemplates"
CAPABILITIES = {"tools": {"listChanged": True}, "prompts": {}, "resources": {}}


def answer(file: Path, method: str) -> Json:
    """The result of a request."""
    said: Json = json.loads(file.read_text("utf-8"))
    if method == "initialize":
        about = {"serverInfo": {"name": "changing", "version": "1"}, "instructions": said.get("instructions", "")}
        return {"protocolVersion": "2025-06-18", "capabilities": CAPABILITIES, **about}
    if method in LISTS:
        return {LISTS[method]: said.get(LISTS[method], [])}
    return {"content": [{"type": "text", "text": "done"}]} if method == "tools/call" else {}


def send(message: Json) -> None:
    """One line."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def main(file: Path) -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        if message["method"] not in (*LISTS, "initialize", "ping", "tools/call"):
            send({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})
            continue
        send({"id": message["id"], "result": answer(file, message["method"])})
        if message["method"] == "tools/call":
            send({"method": "notifications/tools/list_changed"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
