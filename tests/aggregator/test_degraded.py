"""Lists while a backend has not answered yet: served with a word about it, or refused, as the config has it.

Rule: a backend is named only to whom nothing is hidden, and never with where it is or what a library said.
"""

import json

import pytest

from tests.server.clients import Door
from tests.server.peers import Asked, Notify, Server, house, tool, until
from vmcp.aggregator.listing import DEGRADED
from vmcp.config.authz import Authz
from vmcp.protocol import envelope
from vmcp.protocol.revisions import Revision

ADDRESS = "connect to 10.0.0.7:8443: connection refused"
LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


async def said(asked: Asked, notify: Notify) -> bytes:
    return b'{"resultType":"complete","content":[]}'


def broken() -> dict[str, Server]:
    return {"a": Server(tools=[tool("t")], script=said), "dead": Server(tools=[tool("d")], refusal=ADDRESS)}


@pytest.mark.parametrize("method", LISTS)
async def test_a_list_that_is_not_whole_says_so(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    async with house(monkeypatch, broken()) as running:
        answer = await Door(running.app).ask(method)
        meta = answer.result["_meta"]
        assert meta[DEGRADED] == {"missing": 1, "backends": {"dead": "unavailable"}}
        assert envelope.SERVER_INFO in meta
        assert answer.result["ttlMs"] == 0
        assert "10.0.0.7" not in json.dumps(answer.result)


async def test_a_client_of_the_handshake_era_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, broken()) as running:
        door = Door(running.app, Revision.V2025_06_18)
        await door.initialize()
        answer = await door.ask("tools/list")
        assert answer.result["_meta"] == {DEGRADED: {"missing": 1, "backends": {"dead": "unavailable"}}}
        assert [each["name"] for each in answer.result["tools"]] == ["t"]


async def test_a_backend_that_is_still_coming_up_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Server(tools=[tool("t")])
    late.up.clear()
    async with house(monkeypatch, {"late": late}, start_deadline=0.02) as running:
        door = Door(running.app)
        assert (await door.ask("tools/list")).result["_meta"][DEGRADED]["backends"] == {"late": "starting"}
        late.up.set()
        await until(lambda: not running.table.faces["/mcp"].missing)
        assert DEGRADED not in (await door.ask("tools/list")).result["_meta"]


async def test_a_list_that_is_whole_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"a": Server(tools=[tool("t")])}) as running:
        answer = await Door(running.app).ask("tools/list")
        assert DEGRADED not in answer.result["_meta"]
        door = Door(running.app, Revision.V2025_06_18)
        await door.initialize()
        assert "_meta" not in (await door.ask("tools/list")).result


@pytest.mark.parametrize("mode", ["best_effort", "fail"])
async def test_who_may_not_see_everything_learns_no_names(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    permit = "permit(principal, action, resource);"
    async with house(monkeypatch, broken(), authz=Authz((permit,)), partial_failure=mode) as running:
        answer = await Door(running.app).ask("tools/list")
        assert b"dead" not in answer.body
        if mode == "best_effort":
            assert answer.result["_meta"][DEGRADED] == {"missing": 1}
        else:
            assert "is not complete" in answer.error["message"]


@pytest.mark.parametrize("method", LISTS)
async def test_where_partial_failure_is_failure_no_list_is_given(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    servers = broken()
    monkeypatch.setattr("vmcp.upstream.control.backoff", lambda attempt, jitter: 0.01)
    async with house(monkeypatch, servers, partial_failure="fail") as running:
        door = Door(running.app)
        error = (await door.ask(method)).error
        assert error["data"]["vmcpCode"] == 2001
        assert "backend 'dead' is unavailable" in error["message"]
        assert "10.0.0.7" not in error["message"]
        assert not (await door.call("t")).result.get("isError"), "what is there may be called"
        servers["dead"].refusal = ""
        await until(lambda: not running.table.faces["/mcp"].missing)
        assert "error" not in (await door.ask(method)).message


async def test_that_nobody_is_there_has_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    only = {"dead": broken()["dead"]}
    async with house(monkeypatch, only, partial_failure="fail") as running:
        error = (await Door(running.app).ask("tools/list")).error
        assert error["data"]["vmcpCode"] == 2003
