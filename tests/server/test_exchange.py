"""The door: what a decoded request becomes, who waits for backends, and what of an unexpected failure gets out.

Rule: a client learns an incident's number and nothing else of it; the log has everything.
"""

import asyncio
import logging
from typing import Any

import pytest

from tests.server.clients import Door
from tests.server.peers import Asked, Notify, Server, echo, house, tool, until
from vmcp.aggregator.dispatch import Dispatch
from vmcp.call import Call, Complete
from vmcp.protocol.revisions import Revision
from vmcp.server.exchange import Exchange

SECRET = "postgres://user:hunter2@db.internal"


@pytest.mark.parametrize("revision", list(Revision))
async def test_what_nobody_expected_becomes_an_incident(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, revision: Revision
) -> None:
    async def broken(self: Dispatch, call: Call) -> Complete:
        raise ZeroDivisionError(SECRET)

    monkeypatch.setattr(Dispatch, "_tool", broken)
    async with house(monkeypatch, {"a": Server(tools=[tool("t")], script=echo)}) as running:
        door = Door(running.app, revision)
        await door.initialize()
        answer = await door.ask("tools/call", {"name": "t"}, id="x")
        assert (answer.status, answer.error["code"]) == (200, -32603)
        assert answer.json()["id"] == "x"
        assert SECRET.encode() not in answer.body
        assert b"ZeroDivision" not in answer.body
        (record,) = [record for record in caplog.records if record.message == "unexpected failure"]
        incident: Any = record.__dict__["incident"]
        assert incident in answer.error["message"]
        assert record.exc_info is not None
        assert SECRET in str(record.exc_info[1])
        assert record.levelno == logging.ERROR


async def test_two_incidents_have_two_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Dispatch, call: Call) -> Complete:
        raise KeyError("x")

    monkeypatch.setattr(Dispatch, "_tool", broken)
    async with house(monkeypatch, {"a": Server(tools=[tool("t")], script=echo)}) as running:
        door = Door(running.app)
        told = {(await door.call("t")).error["message"] for _ in range(5)}
        assert len(told) == 5


@pytest.mark.parametrize("meta", ["x", 1, [], True])
@pytest.mark.parametrize("method", ["tools/call", "ping", "tools/list"])
async def test_a_meta_that_is_no_object_is_refused(monkeypatch: pytest.MonkeyPatch, meta: object, method: str) -> None:
    backends = {"a": Server(tools=[tool("t")], script=echo)}
    async with house(monkeypatch, backends) as running:
        door = Door(running.app, Revision.V2025_11_25)
        await door.initialize()
        answer = await door.ask(method, {"name": "t", "_meta": meta})
        assert answer.error["code"] == -32602
        assert "_meta" in answer.error["message"]
        assert not backends["a"].calls()


@pytest.mark.parametrize("params", [[], "x", 1])
async def test_params_that_are_no_object_are_refused(monkeypatch: pytest.MonkeyPatch, params: object) -> None:
    async with house(monkeypatch) as running:
        answer = await Door(running.app).post({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params})
        assert (answer.status, answer.error["code"]) == (400, -32600)


async def test_lists_wait_for_slow_backends_and_greetings_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Server(tools=[tool("t")], script=echo)
    slow.up.clear()
    async with house(monkeypatch, {"a": slow}, settled=False) as running:
        door = Door(running.app, Revision.V2025_11_25)
        told = (await door.initialize()).result
        assert "tools" in told["capabilities"], "all lists are promised while a backend is missing"
        assert (await door.ask("ping")).result == {}
        raw, headers = door.message("tools/list")
        exchanged = door.begin("POST", None, raw, **headers)
        async with asyncio.TaskGroup() as group:
            group.create_task(exchanged.run())
            await until(lambda: slow.asked)
            assert not exchanged.answer.status
            slow.up.set()
        assert [entry["name"] for entry in exchanged.answer.result["tools"]] == ["t"]


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Server(tools=[tool("t")])
    never.up.clear()
    async with house(
        monkeypatch, {"a": never, "b": Server(tools=[tool("u")])}, settled=False, start_deadline=0.5
    ) as house_:
        answer = await Door(house_.app).ask("tools/list")
        assert [entry["name"] for entry in answer.result["tools"]] == ["u"]
        assert answer.result["ttlMs"] == 0, "nobody shall keep a list that is not whole"
        never.up.set()


async def test_an_exchange_waits_no_longer_than_its_own_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Server(tools=[tool("t")])
    never.up.clear()
    made: list[Exchange] = []

    class Impatient(Exchange):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments[:2], 0.01)
            made.append(self)

    monkeypatch.setattr("vmcp.server.runtime.Exchange", Impatient)
    async with house(monkeypatch, {"a": never}, settled=False, start_deadline=60.0) as running:
        assert (await Door(running.app).ask("tools/list")).result["tools"] == []
        assert not running.settled.is_set()
        never.up.set()
    assert made


@pytest.mark.parametrize("name", [1, None, [], {"a": 1}])
async def test_a_name_is_a_string(monkeypatch: pytest.MonkeyPatch, name: object) -> None:
    async with house(monkeypatch, {"a": Server(tools=[tool("t")], script=echo)}) as running:
        door = Door(running.app, Revision.V2025_11_25)
        await door.initialize()
        for method, key in (("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri")):
            answer = await door.ask(method, {key: name})
            assert answer.error["code"] == -32602
            assert f"'{key}' must be a string" in answer.error["message"]


async def test_a_call_that_waits_for_its_backend_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(asked: Asked, notify: Notify) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    backends = {"a": Server(tools=[tool("t")], script=endless)}
    async with house(monkeypatch, backends) as running:
        door = Door(running.app)
        raw, headers = door.message("tools/call", {"name": "t"})
        exchanged = door.begin("POST", None, raw, **headers)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(exchanged.run())
            await until(backends["a"].calls)
            task.cancel()
        assert task.cancelled(), "a cancellation that is not the client's is not swallowed"
        assert backends["a"].cancelled == 1
