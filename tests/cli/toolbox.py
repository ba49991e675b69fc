"""An MCP server on standard streams that does what commands have to show: progress, questions, failures: ``python toolbox.py``.

Rule: standard library only, and quick to start.
"""

import json
import sys
from typing import Any

Json = dict[str, Any]
WHOLE: Json = {"type": "integer"}
TOOLS: list[Json] = [
    {
        "name": "add",
        "description": "Add two numbers.",
        "inputSchema": {
            "type": "object",
            "properties": {"a": WHOLE, "b": WHOLE, "note": {"type": "string"}},
            "required": ["a", "b"],
        },
    },
    {"name": "fail", "inputSchema": {"type": "object"}},
    {"name": "count", "inputSchema": {"type": "object"}},
    {"name": "ask", "inputSchema": {"type": "object"}},
    {"name": "picture", "inputSchema": {"type": "object"}},
]
PROMPT: Json = {"name": "greet", "description": "Say hello.", "arguments": [{"name": "who", "required": True}]}


def say(message: Json) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(words: str) -> Json:
    return {"content": [{"type": "text", "text": words}]}


def called(name: str, arguments: Json, token: object) -> Json:
    if name == "add":
        return {**text(str(arguments["a"] + arguments["b"])), "structuredContent": arguments}
    if name == "fail":
        return {**text("it is broken\x1b[31m"), "isError": True}
    if name == "picture":
        return {"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]}
    if name == "count":
        for number in (1, 2):
            params = {"progressToken": token, "progress": number, "total": 2, "message": "counting"}
            say({"method": "notifications/progress", "params": params})
        return text("counted")
    properties = {"who": {"type": "string", "title": "Your name"}, "age": {"type": "integer"}}
    schema = {"type": "object", "properties": properties, "required": ["who", "age"]}
    say({"id": "q", "method": "elicitation/create", "params": {"message": "Who is there?", "requestedSchema": schema}})
    return text(json.dumps(json.loads(sys.stdin.readline())["result"]))


def result(method: str, params: Json) -> Json | None:
    if method == "initialize":
        capabilities: Json = {"tools": {}, "prompts": {}, "resources": {}}
        info = {"name": "toolbox", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
    if method == "tools/call":
        return called(params["name"], params.get("arguments", {}), params.get("_meta", {}).get("progressToken"))
    if method == "prompts/get":
        content = {"type": "text", "text": f"Hello {params['arguments']['who']}"}
        return {"messages": [{"role": "user", "content": content}]}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "text": "the page"}]}
    lists: Json = {
        "tools/list": {"tools": TOOLS},
        "prompts/list": {"prompts": [PROMPT]},
        "resources/list": {"resources": [{"uri": "file:///page", "name": "page"}]},
        "resources/templates/list": {"resourceTemplates": []},
        "ping": {},
    }
    found: Json | None = lists.get(method)
    return found


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            told = result(message["method"], message.get("params", {}))
            missing = {"error": {"code": -32601, "message": "Method not found"}}
            say({"id": message["id"], **(missing if told is None else {"result": told})})


if __name__ == "__main__":
    main()
