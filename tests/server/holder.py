"""A small MCP server on standard streams that holds things for its clients: ``python holder.py REVISION``.

Rule: standard library only, and quick to start. Before 2026-07-28 its tool ``ask`` asks in the middle; of 2026-07-28 it makes
tasks. Every answer has the number of its process in it, so that one sees who was asked.
"""

import json
import os
import sys
from typing import Any

Json = dict[str, Any]
MODERN = "2026-07-28"
TASKS = "io.modelcontextprotocol/tasks"


class Holder:
    """One of them. Mutable: it has calls that wait for an answer, and tasks."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.modern = revision == MODERN
        self.waiting: dict[str, object] = {}
        self.tasks: dict[str, Json] = {}

    def say(self, message: Json) -> None:
        """Write one message."""
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()

    def take(self, message: Json) -> None:
        """Do what a message wants."""
        if "method" not in message:
            asked = self.waiting.pop(message["id"], None)
            if asked is not None:
                self.say({"id": asked, "result": self.words(message.get("result"))})
        elif "id" in message:
            told = self.result(message["method"], message.get("params", {}), message["id"])
            if told is not None:
                self.say({"id": message["id"], **told})

    def result(self, method: str, params: Json, id_: object) -> Json | None:
        """The reply to a request; None when it comes later."""
        if method in ("initialize", "server/discover"):
            told: Json = {"supportedVersions": [MODERN]} if self.modern else {"protocolVersion": self.revision}
            offers: Json = {"tools": {}, **({"extensions": {TASKS: {}}} if self.modern else {})}
            return {
                "result": self.complete({**told, "capabilities": offers, "serverInfo": {"name": "h", "version": "1"}})
            }
        if method == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("pid", "ask", "begin", "tell")]
            return {
                "result": self.complete(
                    {"tools": tools, **({"ttlMs": 0, "cacheScope": "private"} if self.modern else {})}
                )
            }
        if method.startswith("tasks/"):
            known = self.tasks.get(params["taskId"])
            unknown = {"error": {"code": -32602, "message": "no such task here"}}
            return {"result": self.complete(known)} if known is not None else unknown
        return (
            self.call(params, id_)
            if method == "tools/call"
            else {"error": {"code": -32601, "message": "Method not found"}}
        )

    def call(self, params: Json, id_: object) -> Json | None:
        """Call a tool."""
        name = params["name"]
        if name == "ask":
            question = f"q{id_}"
            self.waiting[question] = id_
            form = {"type": "object", "properties": {"word": {"type": "string"}}}
            self.say(
                {"id": question, "method": "elicitation/create", "params": {"message": "?", "requestedSchema": form}}
            )
            return None
        if name == "begin":
            task: Json = {"taskId": f"task-of-{os.getpid()}-{len(self.tasks)}", "status": "working", "ttlMs": 60_000}
            self.tasks[task["taskId"]] = {**task, "createdAt": "2026-01-01T00:00:00Z", "pid": os.getpid()}
            return {"result": {"resultType": "task", **self.tasks[task["taskId"]]}}
        if name == "tell":
            self.say({"method": "notifications/tools/list_changed"})
        return {"result": self.words(len(json.dumps(params.get("arguments"))))}

    def words(self, what: object) -> Json:
        """A tool's result: our number, and something."""
        return self.complete({"content": [{"type": "text", "text": json.dumps([os.getpid(), what])}]})

    def complete(self, result: Json) -> Json:
        """A result as the revision has it."""
        return {"resultType": "complete", **result} if self.modern else result


def main(revision: str) -> None:
    """Serve until the input ends."""
    holder = Holder(revision)
    for line in sys.stdin:
        holder.take(json.loads(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
