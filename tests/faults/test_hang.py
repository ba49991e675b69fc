"""R-BE-HANG through the whole house: backends that accept and never answer, as the config file limits them.

Rule: the file is a real one, and so is every socket; what is asserted is what a client is told, and what a backend saw.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.faults.slow import MODERN, Slow
from tests.server.clients import Door
from tests.upstream.badserver import Peer, serving, until
from tests.upstream.fakes import Heard, heard, response
from vmcp.config.load import load
from vmcp.server.runtime import Runtime

JSON = b"Content-Type: application/json"
FILE = """\
name: acme
groups:
  g:
    backends:
      slow:
        url: http://127.0.0.1:{slow}/mcp
        retry: idempotent
        pool: {{retryDelay: 1ms}}
        timeouts: {{total: 30s, tools: {{"hang*": {{firstByte: 50ms}}, mute: {{total: 60ms}}}}}}
      other: {{url: "http://127.0.0.1:{other}/mcp"}}
aggregation: {{conflictResolution: priority, conflictResolutionConfig: {{priorityOrder: [slow, other]}}}}
operational: {{timeouts: {{default: {{firstByte: 1s}}}}}}
"""
TOOLS = {
    "hang_here": {},
    "mute": {},
    "put": {"annotations": {"idempotentHint": True}},
    "add": {"annotations": {"idempotentHint": False}},
    "list_all": {"annotations": {"readOnlyHint": True}},
}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


class Backend(Slow):
    """Its tools hang, or lose the first answer."""

    def __init__(self, *tools: str) -> None:
        super().__init__(MODERN)
        self.tools = tools
        self.calls: list[str] = []
        self.gone = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            told = heard(await peer.request())
            if told.method == "tools/call":
                await self._tool(peer, told)
            elif told.method == "tools/list":
                await self._say(
                    peer, told, {"tools": [_tool(name) for name in self.tools], "ttlMs": 0, "cacheScope": "private"}
                )
            else:
                body = json.dumps(self.at_once(told.message)).encode()
                await peer.send(response(200, body, JSON))

    async def _say(self, peer: Peer, told: Heard, result: dict[str, Any]) -> None:
        whole = {"jsonrpc": "2.0", "id": told.message["id"], "result": {"resultType": "complete", **result}}
        await peer.send(response(200, json.dumps(whole).encode(), JSON))

    async def _tool(self, peer: Peer, told: Heard) -> None:
        name = told.message["params"]["name"]
        self.calls.append(name)
        if name in ("hang_here", "mute", "stuck"):
            await peer.gone()
            self.gone += 1
            raise ConnectionError
        if self.calls.count(name) == 1 and name in ("put", "add", "list_all"):
            peer.close()
            raise ConnectionError
        await self._say(peer, told, {"content": []})


def _tool(name: str) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **TOOLS.get(name, {})}


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[tuple[Door, Backend, Backend]]:
    slow, other = Backend(*TOOLS), Backend("stuck", "quick")
    async with serving(slow) as one, serving(other) as two:
        config, _ = load([("vmcp.yaml", FILE.format(slow=one.port, other=two.port))], {})
        async with Runtime(config) as running:
            await until(lambda: all(backend.status.state == "up" for backend in running.backends.values()))
            await until(lambda: not running.table.faces["/mcp"].missing)
            yield Door(running.app), slow, other


@pytest.mark.parametrize(
    ("tool", "limit"),
    [
        ("hang_here", "backend 'slow' did not answer in time: timeouts.tools[hang*].firstByte is 0.05 s"),
        ("mute", "backend 'slow' did not answer in time: timeouts.tools[mute].total is 0.06 s"),
        ("stuck", "backend 'other' did not answer in time: timeouts.firstByte is 1 s"),
    ],
)
async def test_a_call_that_hangs_ends_by_the_limit_that_stands_nearest(tool: str, limit: str) -> None:
    async with house() as (door, slow, other):
        error = (await door.call(tool)).error
        assert error["message"] == limit
        assert error["data"]["vmcpCode"] == 1002
        assert "127.0.0.1" not in json.dumps(error)
        await until(lambda: slow.gone + other.gone == 1)


async def test_many_that_hang_keep_nobody_else_waiting() -> None:
    async with house() as (door, _, other), asyncio.TaskGroup() as group:
        hanging = [group.create_task(door.call("stuck")) for _ in range(40)]
        assert (await door.call("put")).result["content"] == []
        assert (await door.call("quick")).result["content"] == []
        for each in hanging:
            assert "timeouts.firstByte" in (await each).error["message"]
        await until(lambda: other.gone == 40)


async def test_a_call_is_made_twice_only_where_that_was_said_twice() -> None:
    async with house() as (door, slow, _):
        assert (await door.call("put")).result["content"] == []
        assert slow.calls == ["put", "put"]
        for name in ("add", "list_all"):
            assert "the connection closed before an answer" in (await door.call(name)).error["message"]
            assert slow.calls.count(name) == 1
