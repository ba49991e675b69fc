"""An MCP server on standard streams for the browser tests: ``python backend.py KIND [FILE]``.

Rule: standard library only. It takes its kind's tools from ``TOOLS``; with FILE it starts once and, that done, never again.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]
EVIL = '<img src=x onerror="window.evil=1"><script>window.evil=2</script></td>{{7*7}}\'\u202etxt'
PATH: Json = {
    "type": "object",
    "required": ["path"],
    "properties": {
        "path": {"type": "string", "description": "Where it is."},
        "limit": {"type": "integer", "default": 10},
    },
}
TOOLS: dict[str, tuple[tuple[str, str], ...]] = {
    "files": (
        ("read_file", "Read a file of the workspace."),
        ("write_file", "Write a file; what was there is lost."),
        ("list_directory", "List what is in a folder."),
        ("search_files", "Search names and contents."),
    ),
    "github": (
        ("create_issue", "Open an issue in a repository."),
        ("list_issues", "List the issues of a repository."),
        ("search_code", "Search the code of all repositories."),
        ("merge_pull_request", "Merge a pull request."),
    ),
    "reports": (("monthly", "Make the report of a month; it takes its time."), ("render", "Draw a chart.")),
    "weather": (("forecast", "The forecast for a place."), ("current", "The weather at this moment.")),
    "hostile": (("innocent", EVIL), ("broken", "Always fails.")),
}
DESTROYS = {"write_file", "merge_pull_request"}
WRITES = {*DESTROYS, "create_issue", "monthly"}


def tool(name: str, description: str) -> Json:
    hints = {"readOnlyHint": name not in WRITES, "destructiveHint": name in DESTROYS}
    return {"name": name, "description": description, "inputSchema": PATH, "annotations": hints}


def called(kind: str, name: str, arguments: Json) -> Json:
    if kind == "reports":
        time.sleep(0.3)
    if name == "broken" or arguments.get("path") == "/nowhere":
        print(f"warning: {name} failed: no such path", file=sys.stderr, flush=True)  # noqa: T201
        said = EVIL if name == "broken" else "no such path"
        return {"content": [{"type": "text", "text": said}], "isError": True}
    return {"content": [{"type": "text", "text": f"{name}: done"}]}


def result(kind: str, method: str, params: Json) -> Json | None:
    if method == "initialize":
        info = {"name": EVIL if kind == "hostile" else kind, "version": "1.4"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [tool(name, description) for name, description in TOOLS[kind]]}
    if method == "tools/call":
        return called(kind, params["name"], params.get("arguments") or {})
    return {} if method == "ping" else None


def main() -> None:
    kind = sys.argv[1]
    if len(sys.argv) > 2:
        once = Path(sys.argv[2])
        if once.exists():
            sys.exit("FATAL: the disk is gone")
        once.write_text(str(os.getpid()))
    careless = EVIL if kind == "hostile" else os.environ.get("TOKEN", "")
    print(f"{kind}: ready", careless, file=sys.stderr, flush=True)  # noqa: T201
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            told = result(kind, message["method"], message.get("params") or {})
            answer: Json = (
                {"error": {"code": -32601, "message": "Method not found"}} if told is None else {"result": told}
            )
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}) + "\n")
            sys.stdout.flush()


main()
