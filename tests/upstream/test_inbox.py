"""Whose a message is that comes on a stream for everybody; the stream here is one of HTTP+SSE.

Rule: a reply reaches the request that it answers and no other; the rest is attributed where that is certain.
"""

import asyncio

import pytest

from tests.upstream.badserver import until
from tests.upstream.child import notice, result
from tests.upstream.fakes import soon
from tests.upstream.fakes_sse import SseServer, listening
from vmcp.errors import Overdue
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream import inbox
from vmcp.upstream.sse import LegacySse
from vmcp.upstream.wire import Outgoing

LOG = notice("notifications/message", level="info", data=1)


def ask(id_: int, *, lasting: bool = False) -> Outgoing:
    return Outgoing(id_, jsonrpc.request(id_, "ping", {}), lasting=lasting)


async def told(wire: LegacySse, request: Outgoing) -> list[str]:
    """The methods of what came before the answer."""
    found: list[str] = []

    async def on_message(message: Message) -> None:
        found.append(message.method)

    await wire.exchange(request, on_message, soon())
    return found


async def test_what_names_no_request_is_nobodys_while_several_are_in_flight() -> None:
    strays: list[str] = []
    async with listening(server := SseServer()) as wire:
        wire.on_stray = lambda message: strays.append(message.method)
        async with asyncio.TaskGroup() as group:
            first, second = (group.create_task(told(wire, ask(number))) for number in (1, 2))
            third = group.create_task(told(wire, ask(3, lasting=True)))
            await until(lambda: len(server.messages) == 3)
            question = {"jsonrpc": "2.0", "id": 1, "method": "roots/list"}
            progress = notice("notifications/progress", progressToken=2)
            for message in (LOG, progress, question, notice("notifications/progress"), result({}) | {"id": 1}):
                await server.say(message)
            await until(first.done)
            await server.say([LOG, result({}) | {"id": 2}])  # one that lasts has no log messages of its own
            await until(second.done)
            await server.say(LOG)
            await server.say(result({}) | {"id": 3})
    assert (first.result(), third.result()) == ([], [])
    assert second.result() == ["notifications/progress", "notifications/message"]
    assert strays == ["notifications/message", "roots/list", "notifications/progress", "notifications/message"]


@pytest.mark.parametrize("id_", ["1", "x", 2, -1, None, 1.0, 10**30, [1]])
async def test_a_reply_with_an_id_that_is_none_of_ours_is_nobodys(id_: object) -> None:
    server = SseServer({"ping": [result({"wrong": True}) | {"id": id_}, result({})]})
    async with listening(server) as wire:
        answer = await wire.exchange(ask(1), None, soon())
    assert bytes(answer.message.result) == b"{}"


async def test_a_flood_costs_the_oldest_and_never_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "QUEUE", 10)
    entered, go_on = asyncio.Event(), asyncio.Event()
    found: list[str] = []

    async def slow(message: Message) -> None:
        found.append(bytes(message.params).decode())
        entered.set()
        await go_on.wait()

    server = SseServer({"ping": [LOG]})
    async with listening(server) as wire, asyncio.TaskGroup() as group:
        task = group.create_task(wire.exchange(ask(1), slow, soon()))
        await entered.wait()
        for number in range(20):
            await server.say(notice("notifications/message", data=number))
        await server.say(result({"x": 1}) | {"id": 1})
        await until(lambda: wire._pending[1]._queue[-1].method == "")  # type: ignore[attr-defined]
        go_on.set()
    assert bytes(task.result().message.result) == b'{"x": 1}'
    assert found[1:] == [f'{{"data": {number}}}' for number in range(1, 10)]


async def test_a_backend_that_does_not_read_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "WRITE_STALL", 0.05)
    async with listening(SseServer()) as wire:
        wire.pause_writing()
        with pytest.raises(Overdue, match="stall"):
            await wire._until_writable("a stall")
        wire.resume_writing()
        await wire._until_writable("a stall")
