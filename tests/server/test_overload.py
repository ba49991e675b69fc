"""A house that is short of memory: what passes the door of messages, on every transport, and what the record says of the rest.

Rule: the same house serves what it refused as soon as it is better.
"""

import pytest

from tests.server.clients import Door
from tests.server.peers import Server, echo, house, tool
from vmcp.errors import Code
from vmcp.protocol.revisions import MODERN, Revision


@pytest.mark.parametrize("revision", [Revision.V2025_11_25, MODERN])
async def test_lists_stop_before_calls_do(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    server = Server(tools=[tool("t")], script=echo)
    async with house(monkeypatch, {"a": server}) as running:
        door = Door(running.app, revision)
        await door.initialize()
        listed = (await door.ask("tools/list")).result["tools"]
        name = listed[0]["name"]
        running.load.step = 2
        refused = (await door.ask("tools/list")).error
        assert (refused["code"], refused["data"]["retryAfter"]) == (Code.INTERNAL_ERROR, 5)
        assert "server.limits.memoryBytes" in refused["message"]
        assert (await door.call(name)).result
        running.load.step = 3
        assert (await door.call(name)).error["data"]["retryAfter"] == 5
        running.load.step = 0
        assert (await door.ask("tools/list")).result["tools"] == listed
        assert (await door.call(name)).result


async def test_what_it_is_like_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {}) as running:
        running.load.step = 1
        door = Door(running.app)
        told = (await door.ask("vmcp/metrics")).result["metrics"]
        assert told["vmcp_load_step"] == 1
        assert {"vmcp_load_shed_ratio", "vmcp_load_loop_lag_seconds", "vmcp_load_refused_total"} <= told.keys()
