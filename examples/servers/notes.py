"""A small MCP server over stdio: notes in memory, or in the file of the first argument.

Standard library only, so ``python3 notes.py [FILE]`` runs anywhere. It speaks the handshake revisions (``initialize``), one
JSON message per line. Rule: stdout belongs to the protocol alone.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

Json = dict[str, Any]

REVISIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
FILE = Path(sys.argv[1]) if len(sys.argv) > 1 else None
NOTES: dict[str, str] = {"welcome": "vmcp put this server and others behind one endpoint."}
STRING = {"type": "string"}


class Refused(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def send(message: Json) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def add(arguments: Json, _: Callable[..., None]) -> str:
    NOTES[arguments["title"]] = arguments["text"]
    if FILE:
        FILE.write_text(json.dumps(NOTES), "utf-8")
    return f"noted: {arguments['title']}"


def search(arguments: Json, _: Callable[..., None]) -> str:
    wanted = arguments["query"].casefold()
    return (
        "\n".join(title for title, text in NOTES.items() if wanted in f"{title}\n{text}".casefold()) or "nothing found"
    )


def digest(_: Json, progress: Callable[..., None]) -> str:
    lines = []
    for number, (title, text) in enumerate(NOTES.items(), 1):
        lines.append(f"{title}: {len(text.split())} words")
        progress(number, len(NOTES), f"read {title}")
    return "\n".join(lines)


def tool(description: str, required: tuple[str, ...], read_only: bool) -> Json:
    schema = {"type": "object", "properties": dict.fromkeys(required, STRING), "required": list(required)}
    return {"description": description, "inputSchema": schema, "annotations": {"readOnlyHint": read_only}}


TOOLS: dict[str, tuple[Callable[[Json, Callable[..., None]], str], Json]] = {
    "add": (add, tool("Keep a note under a title.", ("title", "text"), read_only=False)),
    "search": (search, tool("Titles of the notes that contain some words.", ("query",), read_only=True)),
    "digest": (digest, tool("Count the words of every note, and report progress.", (), read_only=True)),
}
PROMPT = {
    "name": "summarize",
    "description": "Ask for a summary of one note.",
    "arguments": [{"name": "title", "required": True}],
}


def progress_to(token: str | int | None) -> Callable[..., None]:
    """What a tool calls to say how far it is; silent when the client did not ask."""

    def report(done: int, total: int, message: str) -> None:
        if token is not None:
            params = {"progressToken": token, "progress": done, "total": total, "message": message}
            send({"method": "notifications/progress", "params": params})

    return report


ABOUT = {"serverInfo": {"name": "notes", "version": "1.0.0"}, "instructions": "Keeps short notes, each a resource too."}


def initialize(params: Json) -> Json:
    wanted = params.get("protocolVersion")
    version = wanted if wanted in REVISIONS else REVISIONS[0]
    return {"protocolVersion": version, "capabilities": {"tools": {}, "resources": {}, "prompts": {}}, **ABOUT}


def call(params: Json) -> Json:
    if params.get("name") not in TOOLS:
        raise Refused(-32602, f"Unknown tool: {params.get('name')}")
    function, shown = TOOLS[params["name"]]
    arguments = params.get("arguments") or {}
    wrong = [key for key in shown["inputSchema"]["required"] if not isinstance(arguments.get(key), str)]
    if wrong:
        return {"content": [{"type": "text", "text": f"needs a text for: {', '.join(wrong)}"}], "isError": True}
    text = function(arguments, progress_to(params.get("_meta", {}).get("progressToken")))
    return {"content": [{"type": "text", "text": text}]}


def read(params: Json) -> Json:
    uri = params.get("uri", "")
    title = unquote(uri.removeprefix("note:///"))
    if title not in NOTES:
        raise Refused(-32002, "Resource not found")
    return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": NOTES[title]}]}


def prompt(params: Json) -> Json:
    title = (params.get("arguments") or {}).get("title")
    if params.get("name") != PROMPT["name"] or title not in NOTES:
        raise Refused(-32602, "Unknown prompt, or no note of that title")
    text = f"Summarize in one sentence:\n\n{NOTES[title]}"
    return {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}


METHODS: dict[str, Callable[[Json], Json]] = {
    "initialize": initialize,
    "ping": lambda _: {},
    "tools/list": lambda _: {"tools": [{"name": name, **shown} for name, (_, shown) in TOOLS.items()]},
    "tools/call": call,
    "resources/list": lambda _: {"resources": [{"uri": f"note:///{quote(title)}", "name": title} for title in NOTES]},
    "resources/templates/list": lambda _: {"resourceTemplates": [{"uriTemplate": "note:///{title}", "name": "note"}]},
    "resources/read": read,
    "prompts/list": lambda _: {"prompts": [PROMPT]},
    "prompts/get": prompt,
}


def answer(message: Json) -> Json:
    try:
        if message["method"] not in METHODS:
            raise Refused(-32601, "Method not found")
        return {"id": message["id"], "result": METHODS[message["method"]](message.get("params") or {})}
    except Refused as error:
        return {"id": message["id"], "error": {"code": error.code, "message": str(error)}}


if __name__ == "__main__":
    if FILE and FILE.exists():
        NOTES.update(json.loads(FILE.read_text("utf-8")))
    for line in sys.stdin:
        received = json.loads(line)
        if "id" in received and "method" in received:
            send(answer(received))
