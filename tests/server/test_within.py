"""A client in the same process. Rule: it gets what other clients get, and leaves nothing behind."""

from typing import Any

import msgspec
import pytest

from tests.server.peers import Asked, Notify, Server, config, in_memory, tool
from vmcp.config.model import Config, Limits, ServerSpec
from vmcp.errors import McpError
from vmcp.server import runtime
from vmcp.server.within import Json, within


async def nobody(method: str, params: Json) -> Json:
    raise McpError(-32601, "Method not found")


def deaf(method: str, params: Json) -> None:
    return


def served(monkeypatch: pytest.MonkeyPatch, box: Server, **more: Any) -> Config:
    monkeypatch.setattr(runtime, "Backend", in_memory({"a": box}))
    return config({"a": box}, **more)


async def test_it_lists_all_pages_and_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def counted(asked: Asked, notify: Notify) -> bytes:
        await notify("notifications/progress", {"progressToken": asked.params["_meta"]["progressToken"], "progress": 1})
        return b'{"resultType":"complete","content":[]}'

    server = Server(tools=[tool(f"t{number}") for number in range(5)], script=counted)
    heard: list[tuple[str, Json]] = []
    settings = served(monkeypatch, server, server=ServerSpec(limits=Limits(page_size=2)))
    async with within(settings, "/mcp", {}, nobody, lambda method, params: heard.append((method, params))) as client:
        assert (await client.greet({}))["serverInfo"]["name"] == "test"
        assert [each["name"] for each in await client.listed("tools/list", "tools")] == [f"t{n}" for n in range(5)]
        result = msgspec.json.decode(await client.request("tools/call", {"name": "t1", "arguments": {}}))
        assert result["content"] == []
        with pytest.raises(McpError, match="t9"):
            await client.request("tools/call", {"name": "t9"})
    assert [(method, params["progress"]) for method, params in heard] == [("notifications/progress", 1)]


async def test_questions_come_to_whom_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Json] = []

    async def asking(asked: Asked, notify: Notify) -> bytes:
        if "inputResponses" not in asked.params:
            question = {
                "method": "elicitation/create",
                "params": {"message": "?", "requestedSchema": {"type": "object"}},
            }
            return msgspec.json.encode({"resultType": "input_required", "inputRequests": {"q": question}})
        answers.append(asked.params["inputResponses"]["q"])
        return b'{"resultType":"complete","content":[]}'

    async def person(method: str, params: Json) -> Json:
        assert (method, params["message"]) == ("elicitation/create", "?")
        return {"action": "decline"}

    server = Server(tools=[tool("t")], script=asking)
    async with within(served(monkeypatch, server), "/mcp", {}, person, deaf) as client:
        await client.greet({"elicitation": {"form": {}}})
        await client.request("tools/call", {"name": "t"})
    assert answers == [{"action": "decline"}]


async def test_a_question_that_is_refused_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asking(asked: Asked, notify: Notify) -> bytes:
        question = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}}
        return msgspec.json.encode({"resultType": "input_required", "inputRequests": {"q": question}})

    async with within(
        served(monkeypatch, Server(tools=[tool("t")], script=asking)), "/mcp", {}, nobody, deaf
    ) as client:
        await client.greet({"elicitation": {"form": {}}})
        with pytest.raises(McpError):
            await client.request("tools/call", {"name": "t"})
