"""What a small MCP server says, in either era: it answers, tells of progress, asks its user, and lets itself be listened to.

Rule: it knows no transport; whoever has one hands in what was told and passes on what is said. The standard library only, as it
is a child process too (``brain.py REVISION``, over its standard streams).
"""

import asyncio
import itertools
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Json = dict[str, Any]
Say = Callable[[Json], Awaitable[None]]
MODERN, LATEST = "2026-07-28", "2025-11-25"
TOOLS = ("work", "probe", "talk", "ask", "stuck", "linger")
LISTS: Json = {
    "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]},
    "resources/list": {"resources": [{"name": "r", "uri": "r://one"}]},
    "resources/templates/list": {"resourceTemplates": []},
}
CAPABILITIES: Json = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}}
FORM: Json = {"mode": "form", "message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}
TAG = "io.modelcontextprotocol/subscriptionId"


class Brain:
    """``log``: every method that it was asked, in order. ``held``: requests that it has not answered, by their ids."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.modern = revision == MODERN
        self.log: list[str] = []
        self.held: dict[Any, asyncio.Task[Any]] = {}
        self.subscribed: list[str] = []
        self._numbers = itertools.count(1)
        self._asked: dict[Any, asyncio.Future[Json]] = {}

    async def hear(self, told: Json, say: Say) -> None:
        """Deal with one message; it is over when whoever waits may stop waiting."""
        method, id_ = told.get("method"), told.get("id")
        self.log.append(method or "reply")
        if method is None:
            self._replied(told)
        elif method == "notifications/cancelled":
            self._cancelled(told["params"]["requestId"])
        elif id_ is not None:
            await self._answered(told, say)

    def _replied(self, told: Json) -> None:
        waiting = self._asked.pop(told["id"], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(told)

    def _cancelled(self, id_: Any) -> None:
        task = self.held.pop(id_, None)
        if task is not None:
            task.cancel()

    async def _answered(self, told: Json, say: Say) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.held[told["id"]] = task
        try:
            found = await self._result(told, say)
        finally:
            self.held.pop(told["id"], None)
        if found is None:
            answer: Json = {"error": {"code": -32601, "message": "Method not found"}}
        else:
            answer = {"result": {"resultType": "complete", **found} if self.modern else found}
        await say({"jsonrpc": "2.0", "id": told["id"], **answer})

    async def _result(self, told: Json, say: Say) -> Json | None:
        method, params = told["method"], told.get("params", {})
        if method == ("server/discover" if self.modern else "initialize"):
            return self._greeting()
        if method in LISTS:
            return self._cached(LISTS[method])
        if method in ("ping", "logging/setLevel"):
            return {}
        if method in ("resources/subscribe", "resources/unsubscribe") and not self.modern:
            self.subscribed = [*self.subscribed, params["uri"]] if method.endswith("/subscribe") else []
            return {}
        if method == "subscriptions/listen" and self.modern:
            return await self._listened(told, say)
        if method == "tools/call":
            return await getattr(self, params["name"])(told, say)
        return None

    def _greeting(self) -> Json:
        if self.modern:
            return self._cached({"capabilities": CAPABILITIES, "supportedVersions": [MODERN]})
        info = {"name": "brain", "version": "1"}
        return {"capabilities": CAPABILITIES, "protocolVersion": self.revision, "serverInfo": info}

    def _cached(self, found: Json) -> Json:
        return {**found, "ttlMs": 0, "cacheScope": "private"} if self.modern else found

    async def _listened(self, told: Json, say: Say) -> Json:
        uris = told["params"]["notifications"].get("resourceSubscriptions", [])
        meta = {"_meta": {TAG: told["id"]}}
        acknowledged = {"notifications": told["params"]["notifications"], **meta}
        self.subscribed.extend(uris)
        try:
            method = "notifications/subscriptions/acknowledged"
            await say({"jsonrpc": "2.0", "method": method, "params": acknowledged})
            await asyncio.Event().wait()
        finally:
            for uri in uris:
                self.subscribed.remove(uri)
        return meta

    # --- tools

    async def work(self, told: Json, say: Say) -> Json:
        """Its own words come back."""
        words = json.dumps(told["params"].get("arguments"), sort_keys=True)
        return {"content": [{"type": "text", "text": words}]}

    probe = work

    async def talk(self, told: Json, say: Say) -> Json:
        """Progress before the answer, if somebody wants to hear of it."""
        token = told["params"].get("_meta", {}).get("progressToken")
        if token is not None:
            for step in (1, 2):
                params = {"progressToken": token, "progress": step}
                await say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        return await self.work(told, say)

    async def ask(self, told: Json, say: Say) -> Json:
        """The answer needs an answer, which is put into it."""
        arguments = told["params"].get("arguments")
        if not self.modern:
            key = f"q{next(self._numbers)}"
            self._asked[key] = asyncio.get_running_loop().create_future()
            try:
                await say({"jsonrpc": "2.0", "id": key, "method": "elicitation/create", "params": FORM})
                said = (await self._asked[key]).get("result")
            finally:
                self._asked.pop(key, None)
        elif "inputResponses" in told["params"]:
            said = told["params"]["inputResponses"]["who"]
        else:
            questions = {"who": {"method": "elicitation/create", "params": FORM}}
            return {"resultType": "input_required", "inputRequests": questions, "requestState": "s"}
        return {"content": [{"type": "text", "text": json.dumps(arguments, sort_keys=True)}], "said": said}

    async def linger(self, told: Json, say: Say) -> Json:
        """Progress, and then no answer at all."""
        await self.talk(told, say)
        return await self.stuck(told, say)

    async def stuck(self, told: Json, say: Say) -> Json:
        """No answer at all."""
        await asyncio.Event().wait()
        return {}


async def serve(brain: Brain) -> None:
    """Serve on the standard streams until the input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def say(message: Json) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    async with asyncio.TaskGroup() as group:
        async for line in reader:
            group.create_task(brain.hear(json.loads(line), say))


if __name__ == "__main__":
    asyncio.run(serve(Brain(sys.argv[1])))
