"""An MCP server that takes its time with tools, does many at once, and keeps a ledger: begun, answered, given up.

Rule: the standard library only, as it is a child process too (``slow.py REVISION``, over its standard streams).
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Json = dict[str, Any]
Say = Callable[[Json], Awaitable[None]]
MODERN = "2026-07-28"


class Slow:
    """``begun``, ``answered`` and ``left`` are ids of calls; what was left was cancelled, or its caller was seen to go."""

    def __init__(self, revision: str) -> None:
        self.revision = revision
        self.begun: set[int] = set()
        self.answered: set[int] = set()
        self.left: set[int] = set()
        self._leaving: dict[int, asyncio.Event] = {}

    def lost(self) -> set[int]:
        """What nobody answers any more, and nobody has taken back."""
        return self.begun - self.answered - self.left

    def at_once(self, told: Json) -> Json | None:
        """What is said to all but a call; None: nothing."""
        method, id_ = told.get("method"), told.get("id")
        if method == "notifications/cancelled":
            gone = told["params"]["requestId"]
            self.left.add(gone)
            if gone in self._leaving:
                self._leaving[gone].set()
        if id_ is None:
            return None
        if method == ("server/discover" if self.revision == MODERN else "initialize"):
            return {"jsonrpc": "2.0", "id": id_, "result": self._greeting()}
        if method == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("slow", "ledger")]
            more = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if self.revision == MODERN else {}
            return {"jsonrpc": "2.0", "id": id_, "result": {"tools": tools, **more}}
        if method == "tools/call" and told["params"]["name"] == "ledger":
            return self.result(id_, json.dumps(sorted(self.lost())))
        return {"jsonrpc": "2.0", "id": id_, "error": {"code": -32601, "message": "Method not found"}}

    def _greeting(self) -> Json:
        told: Json = {"capabilities": {"tools": {}}}
        if self.revision == MODERN:
            return {
                **told,
                "resultType": "complete",
                "supportedVersions": [MODERN],
                "ttlMs": 0,
                "cacheScope": "private",
            }
        return {**told, "protocolVersion": self.revision, "serverInfo": {"name": "slow", "version": "1"}}

    def result(self, id_: int, text: str) -> Json:
        more = {"resultType": "complete"} if self.revision == MODERN else {}
        return {"jsonrpc": "2.0", "id": id_, "result": {"content": [{"type": "text", "text": text}], **more}}

    def slow(self, told: Json) -> float | None:
        """The seconds that a call takes; None for what is no such call. It has begun then."""
        if told.get("method") != "tools/call" or told["params"]["name"] != "slow":
            return None
        self.begun.add(told["id"])
        return float(told["params"]["arguments"]["seconds"])

    def close(self) -> None:
        """Nobody is there any more: let those who wait go."""
        for each in self._leaving.values():
            each.set()

    async def converse(self, told: Json, say: Say) -> None:
        """Answer on a stream that is shared by everybody."""
        seconds = self.slow(told)
        if seconds is None:
            answer = self.at_once(told)
            if answer is not None:
                await say(answer)
            return
        id_ = told["id"]
        if id_ in self.left:
            return
        self._leaving[id_] = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await self._leaving[id_].wait()
        except TimeoutError:
            self.answered.add(id_)
            await say(self.result(id_, str(id_)))
        finally:
            del self._leaving[id_]


async def main() -> None:
    server = Slow(sys.argv[1])
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def say(message: Json) -> None:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    async with asyncio.TaskGroup() as group:
        async for line in reader:
            group.create_task(server.converse(json.loads(line), say))


if __name__ == "__main__":
    asyncio.run(main())
