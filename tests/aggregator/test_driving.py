"""Tools that run as tasks only, for clients who know no tasks. Rule: such a client sees nothing of a task."""

import asyncio
from typing import Any

import pytest

from tests.aggregator.tasked import INNER, OFFERS, STATE
from tests.server.clients import Door
from tests.server.peers import Asked, Json, Notify, Server, house, text, tool, until
from tests.upstream.test_sending import SPEC
from tests.upstream.test_sending import call as some_call
from vmcp.aggregator.driving import Driven
from vmcp.call import Call, Complete
from vmcp.errors import McpError
from vmcp.protocol import envelope
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.protocol.tasks import RELATED
from vmcp.tasks import Nest
from vmcp.upstream.ask import Asker, Outgoing

OLD = Revision.V2025_11_25
STRANGERS = [MODERN, Revision.V2025_06_18]


def strict(result: Any = None, *, asks: bool = False) -> Server:
    """A server whose tool runs as a task only."""
    related: Json = {"_meta": {RELATED: {"taskId": INNER}}}

    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.method == "tools/call":
            if "task" not in asked.params:
                raise McpError(-32601, "only as a task")
            return text({"task": STATE})
        if asked.method == "tasks/result" and asks:
            form = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}, **related}
            answer = await asked.ask("elicitation/create", form)
            return text({"content": [{"type": "text", "text": answer["action"]}], **related})
        if isinstance(result, asyncio.Event) and asked.method == "tasks/result":
            await result.wait()
        if isinstance(result, bytes):
            return result
        return text({"content": [{"type": "text", "text": "1.0"}], **related})

    tools = [tool("t", execution={"taskSupport": "required"})]
    return Server(OLD, tools=tools, capabilities=OFFERS[False], script=script)


@pytest.mark.parametrize("client", STRANGERS)
async def test_a_task_is_made_and_waited_for(monkeypatch: pytest.MonkeyPatch, client: Revision) -> None:
    server = strict()
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app, client)
        await door.initialize()
        result = (await door.call("t", {"a": 1})).result
        assert result["content"] == [{"type": "text", "text": "1.0"}]
        assert "_meta" not in result
        made, waited = server.calls()
        assert made.params == {"name": "t", "arguments": {"a": 1}, "task": {}}
        assert (waited.method, waited.params) == ("tasks/result", {"taskId": INNER})


async def test_who_knows_tasks_decides_for_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    server = strict()
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app, OLD)
        await door.initialize()
        assert (await door.call("t")).error["message"] == "only as a task"
        assert "task" in (await door.ask("tools/call", {"name": "t", "task": {}})).result


@pytest.mark.parametrize("client", STRANGERS)
async def test_what_the_task_asks_reaches_the_user(monkeypatch: pytest.MonkeyPatch, client: Revision) -> None:
    server = strict(asks=True)
    async with house(monkeypatch, {"b": server}, isolation="session") as running:
        door = Door(running.app, client)
        await door.initialize(capabilities={"elicitation": {}})
        if client.modern:
            asked: Json = {"name": "t", "_meta": {envelope.CAPABILITIES: {"elicitation": {}}}}
            first = (await door.ask("tools/call", asked)).result
            assert first["resultType"] == "input_required"
            (key,) = first["inputRequests"]
            answers = {"inputResponses": {key: {"action": "decline"}}, "requestState": first["requestState"]}
            result = (await door.ask("tools/call", {**asked, **answers})).result
        else:
            async with asyncio.timeout(5), door.calling().running() as exchanged:
                await until(lambda: [m for m in exchanged.heard() if "method" in m])
                await door.reply(exchanged.heard()[0]["id"], {"action": "decline"})
                await until(lambda: len(exchanged.heard()) > 1)
            result = exchanged.answer.message["result"]
        assert result["content"][0]["text"] == "decline"
        assert INNER not in str(result)
        assert [call.method for call in server.calls()] == ["tools/call", "tasks/result"]


@pytest.mark.parametrize("agrees", [True, False])
async def test_whoever_leaves_has_the_task_cancelled(monkeypatch: pytest.MonkeyPatch, agrees: bool) -> None:
    server = strict(asyncio.Event())
    obey = server.script
    assert obey is not None

    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.method == "tasks/cancel" and not agrees:
            raise McpError(-32602, "it is over")
        return await obey(asked, notify)

    server.script = script
    async with house(monkeypatch, {"b": server}) as running:
        async with Door(running.app).calling().running():
            await until(lambda: len(server.calls()) == 2)
        await until(lambda: len(server.calls()) == 3)
        assert (server.calls()[-1].method, server.calls()[-1].params) == ("tasks/cancel", {"taskId": INNER})


async def test_a_backend_that_answers_at_once_or_with_nonsense_is_no_riddle(monkeypatch: pytest.MonkeyPatch) -> None:
    server = strict(text({"content": []}))
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app)
        assert (await door.call("t")).result["content"] == []
        server.script = _nonsense
        assert (await door.call("t")).error["data"]["vmcpCode"] == 5001
        server.script = _at_once
        assert (await door.call("t")).result["content"] == []


async def _nonsense(asked: Asked, notify: Notify) -> bytes:
    return text({"task": STATE}) if asked.method == "tools/call" else b'{"_meta":7}'


async def _at_once(asked: Asked, notify: Notify) -> bytes:
    return text({"content": []})


class _Recorder:
    """A backend that makes a task, and notes for which tool each of its requests takes its time."""

    def __init__(self) -> None:
        self.spec = SPEC
        self.asked: list[tuple[str, str | None, str | None]] = []

    def speaks(self, call: Call) -> Revision | None:
        return OLD

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        self.asked.append((call.method, outgoing.name, outgoing.tool))
        made: Json = {"task": STATE} if call.method == "tools/call" else {"content": []}
        return Complete(text(made), OLD)


async def test_the_result_of_a_task_has_the_time_of_its_tool() -> None:
    backend = _Recorder()
    async with Nest("test") as nest:
        await Driven(backend, nest).send(some_call(), Outgoing({"name": "t"}, "t"))
    assert backend.asked == [("tools/call", "t", None), ("tasks/result", INNER, "t")]
