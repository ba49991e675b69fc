"""A backend's question to the user, through the whole house: two eras of clients, two of backends.

Rule: one tool asks who is there and greets him; whoever asks how, the client is greeted, and the tool ran once.
"""

import asyncio
import json
from typing import Any

import pytest

from tests.server.clients import Door, modern_meta
from tests.server.peers import Asked, Json, Notify, Server, house, said, tool, until
from vmcp.config.model import Allow
from vmcp.errors import McpError
from vmcp.protocol.envelope import CAPABILITIES
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import MODERN, Revision

OLD = Revision.V2025_11_25
FORM = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
ALL = {"elicitation": {"form": {}}, "roots": {}}
ANN = {"action": "accept", "content": {"name": "Ann"}}
ALLOW = Allow(sampling=True, roots=True)


class Greeter:
    """Asks as its revision does; ``ran`` counts how often it began."""

    def __init__(self, revision: Revision) -> None:
        self.ran = 0
        self.states: list[Any] = []
        self.server = Server(revision, tools=[tool("t")], script=self._modern if revision.modern else self._inline)

    async def _inline(self, asked: Asked, notify: Notify) -> bytes:
        self.ran += 1
        answer = await asked.ask("elicitation/create", FORM)
        return said(f"hello {answer['content']['name']}", OLD)

    async def _modern(self, asked: Asked, notify: Notify) -> bytes:
        self.states.append(asked.params.get("requestState"))
        assert asked.params["_meta"][CAPABILITIES] == ALL
        if "inputResponses" in asked.params:
            return said(f"hello {asked.params['inputResponses']['who']['content']['name']}")
        self.ran += 1
        asks = {"who": {"method": "elicitation/create", "params": FORM}}
        return json.dumps({"resultType": "input_required", "inputRequests": asks, "requestState": "s"}).encode()


def modern_call(**more: Any) -> Json:
    arguments = more.pop("arguments", {})
    return {"name": "t", "arguments": arguments, "_meta": {**modern_meta(), CAPABILITIES: ALL}, **more}


@pytest.mark.parametrize("backend", [MODERN, OLD])
async def test_a_modern_client_is_asked_by_a_result_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, backend: Revision
) -> None:
    greeter = Greeter(backend)
    async with house(monkeypatch, {"a": greeter.server}, isolation="session", allow=ALLOW) as running:
        door = Door(running.app)
        told = (await door.ask("tools/call", modern_call(), id=1)).result
        assert told["resultType"] == "input_required"
        ((key, question),) = told["inputRequests"].items()
        assert question == {"method": "elicitation/create", "params": FORM}
        back = {"inputResponses": {key: ANN}, "requestState": told["requestState"]}
        other = await door.ask("tools/call", modern_call(**back, arguments={"x": 1}), id=2)
        assert other.error["code"] == -32602
        answer = (await door.ask("tools/call", modern_call(**back), id=3)).result
        assert answer["content"][0]["text"] == "hello Ann"
        assert answer["resultType"] == "complete"
        assert greeter.ran == 1
        assert greeter.states == ([None, "s"] if backend.modern else [])


@pytest.mark.parametrize("backend", [MODERN, OLD])
async def test_an_older_client_is_asked_in_the_middle(monkeypatch: pytest.MonkeyPatch, backend: Revision) -> None:
    greeter = Greeter(backend)
    async with house(monkeypatch, {"a": greeter.server}, isolation="session", allow=ALLOW) as running:
        door = Door(running.app, OLD)
        await door.initialize(capabilities=ALL)
        async with door.calling(id="x").running() as calling:
            await until(lambda: any("id" in message for message in calling.heard()))
            (question,) = [message for message in calling.heard() if "id" in message]
            assert (question["method"], question["params"]) == ("elicitation/create", FORM)
            assert (await door.reply(question["id"], ANN)).status == 202
            await until(lambda: any("result" in message for message in calling.heard()))
        told = calling.heard()[-1]
        assert (told["id"], told["result"]["content"][0]["text"]) == ("x", "hello Ann")
        assert greeter.ran == 1
        assert greeter.states == ([None, "s"] if backend.modern else [])


@pytest.mark.parametrize("listens", [True, False])
async def test_what_is_asked_between_calls_reaches_the_clients_own_stream(
    monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    async def script(asked: Asked, notify: Notify) -> bytes:
        return said("done", OLD)

    server = Server(OLD, tools=[tool("t")], script=script)
    async with (
        house(monkeypatch, {"a": server}, isolation="session", allow=ALLOW) as running,
        asyncio.TaskGroup() as group,
    ):
        door = Door(running.app, OLD)
        await door.initialize(capabilities=ALL)
        await door.call("t")
        if not listens:
            with pytest.raises(McpError, match="no stream open"):
                await server.wires[1].ask("roots/list", None, None)
            return
        async with door.begin("GET", accept="text/event-stream").running() as standing:
            task = group.create_task(server.wires[1].ask("roots/list", {"_meta": {"progressToken": 1}}, None))
            await until(lambda: [message for message in standing.heard() if "id" in message])
            (question,) = [message for message in standing.heard() if "id" in message]
            assert (question["method"], question["params"]) == ("roots/list", {})
            await door.reply(question["id"], {"roots": [{"uri": "file:///a"}]})
            assert await task == {"roots": [{"uri": "file:///a"}]}
        with pytest.raises(McpError, match="Method not found"):
            await running.ask("unknown", Question("roots/list"))


async def test_a_modern_client_that_does_not_come_back_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcp.upstream.parking.Parking.__init__.__defaults__", (0.0, 16, 0.0))
    ended: list[Any] = []

    async def script(asked: Asked, notify: Notify) -> bytes:
        ended.append(await asked.ask("elicitation/create", FORM))
        return said("nobody", OLD)

    server = Server(OLD, tools=[tool("t")], script=script)
    async with house(monkeypatch, {"a": server}, isolation="session", allow=ALLOW) as running:
        told = (await Door(running.app).ask("tools/call", modern_call())).result
        await until(lambda: ended)
        assert ended == [{"action": "cancel"}]
        back = {"inputResponses": {"q1": ANN}, "requestState": told["requestState"]}
        assert (await Door(running.app).ask("tools/call", modern_call(**back))).error["code"] == -32602
