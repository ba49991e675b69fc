"""Personas through the whole house: lists and calls, every way of choosing, both eras, and no way out.

Rule: everything a persona hides is called as well as listed, and the backend is asked whether it heard of it.
"""

from dataclasses import replace
from typing import Any

import pytest

from tests.server import peers
from tests.server.clients import Door
from tests.server.peers import Server, echo, house, tool
from tests.server.test_websocket import Client, at, served
from vmcp.call import Identity
from vmcp.config.personas import Persona
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.server.gate import Gate

OLD = Revision.V2025_11_25
READER = Persona("reader", include=("read*",))
ANALYST = Persona("analyst", include=("read*",), exclude=("read_salaries",), claims={"groups": frozenset({"analysts"})})
TOOLS = ["read_rows", "read_salaries", "drop_rows"]


def backend() -> Server:
    return Server(tools=[tool(name) for name in TOOLS], script=echo)


class Dressed(Door):
    """A client that asks for a persona."""

    def __init__(self, app: Any, revision: Revision = MODERN, path: str = "/mcp", persona: str | None = None) -> None:
        super().__init__(app, revision, path)
        self.persona = persona

    def scope(self, method: str, path: str | None = None, **headers: str | None) -> Any:
        return super().scope(method, path, **{"x_vmcp_persona": self.persona, **headers})


async def seen(door: Door) -> list[str]:
    return [entry["name"] for entry in (await door.ask("tools/list")).result["tools"]]


async def callable_(door: Door) -> list[str]:
    answers = {name: await door.ask("tools/call", {"name": name}) for name in TOOLS}
    return [name for name, answer in answers.items() if "result" in answer.message]


@pytest.mark.parametrize("revision", [OLD, MODERN])
@pytest.mark.parametrize(
    ("path", "persona", "expected"),
    [
        ("/mcp", None, TOOLS),
        ("/mcp", "reader", TOOLS[:2]),
        ("/g/mcp", "reader", TOOLS[:2]),
        ("/persona/reader/mcp", None, TOOLS[:2]),
    ],
)
async def test_what_is_listed_is_what_can_be_called(
    monkeypatch: pytest.MonkeyPatch, revision: Revision, path: str, persona: str | None, expected: list[str]
) -> None:
    server = backend()
    async with house(monkeypatch, {"a": server}, personas={"reader": READER, "analyst": ANALYST}) as running:
        door = Dressed(running.app, revision, path, persona)
        await door.initialize()
        assert await seen(door) == expected
        assert await callable_(door) == expected
        called = [asked.params["name"] for asked in server.asked if asked.method == "tools/call"]
        assert called == expected, "what is hidden never reached the backend"


@pytest.mark.parametrize("revision", [OLD, MODERN])
@pytest.mark.parametrize(
    ("path", "persona"), [("/mcp", "nothing"), ("/mcp", "analyst"), ("/persona/analyst/mcp", None)]
)
async def test_a_persona_that_is_not_for_the_caller_is_not_found(
    monkeypatch: pytest.MonkeyPatch, revision: Revision, path: str, persona: str | None
) -> None:
    async with house(monkeypatch, {"a": backend()}, personas={"analyst": ANALYST}) as running:
        door = Dressed(running.app, revision, path, persona)
        method = "tools/list" if revision.modern else "initialize"
        answer = await door.ask(method, {} if revision.modern else {"protocolVersion": str(OLD), "capabilities": {}})
        assert answer.error["code"] == 3001
        assert answer.error["message"] == f"Persona not found: {persona or 'analyst'}"
        assert "mcp-session-id" not in answer.headers


async def test_within_a_session_each_request_is_judged_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"a": backend()}, personas={"reader": READER}) as running:
        door = Dressed(running.app, OLD)
        await door.initialize()
        assert await seen(door) == TOOLS
        door.persona = "reader"
        assert await seen(door) == TOOLS[:2]
        door.persona = "nothing"
        assert (await door.ask("tools/list")).error["code"] == 3001


async def test_claims_decide_and_asking_for_another_is_no_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ann = Identity("https://idp", "ann", {"groups": ["analysts"]})
    monkeypatch.setattr(Gate, "known", lambda *_: ann)
    known = {"reader": READER, "analyst": ANALYST}
    async with house(monkeypatch, {"a": backend()}, personas=known) as running:
        assert await seen(Dressed(running.app)) == ["read_rows"]
        assert await callable_(Dressed(running.app)) == ["read_rows"]
        assert await callable_(Dressed(running.app, path="/persona/analyst/mcp")) == ["read_rows"]
        for door in (Dressed(running.app, persona="reader"), Dressed(running.app, path="/persona/reader/mcp")):
            assert (await door.ask("tools/list")).error["code"] == 3001
            assert (await door.ask("tools/call", {"name": "read_salaries"})).error["code"] == 3001


async def test_a_group_that_the_persona_does_not_see_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = replace(READER, groups=("other",))
    given = peers.config({"a": backend()}, personas={"reader": narrow})
    both = replace(given, groups={**given.groups, "other": replace(given.groups["g"], name="other", backends={})})
    monkeypatch.setattr(peers, "config", lambda *_, **__: both)
    async with house(monkeypatch, {"a": backend()}) as running:
        for method, params in (("tools/list", {}), ("tools/call", {"name": "read_rows"}), ("server/discover", {})):
            answer = await Dressed(running.app, persona="reader").ask(method, params)
            assert answer.error["code"] == 3002
            assert answer.error["message"] == "Server not allowed: persona 'reader' does not see 'g'"
        assert await seen(Dressed(running.app, path="/persona/reader/mcp")) == []


@pytest.mark.parametrize(("path", "more"), [("/ws", {"X-VMCP-Persona": "reader"}), ("/persona/reader/ws", {})])
async def test_a_websocket_has_the_persona_that_it_was_opened_with(
    monkeypatch: pytest.MonkeyPatch, path: str, more: dict[str, str]
) -> None:
    async with served(monkeypatch, backend(), personas={"reader": READER}) as (_, found):
        async with at(found, path, additional_headers=more) as socket:
            client = Client(socket)
            await client.initialize()
            answer = await client.ask("tools/list")
            assert [each["name"] for each in answer["result"]["tools"]] == TOOLS[:2]
            assert (await client.ask("tools/call", name="drop_rows"))["error"]["data"]["vmcpCode"] == 2002
        async with at(found, "/ws", additional_headers={"X-VMCP-Persona": "nothing"}) as socket:
            assert (await Client(socket).initialize())["error"]["code"] == 3001
