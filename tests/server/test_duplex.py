"""The loop of two-way streams. Rule: a conversation is messages in and messages out, as they would be on the wire."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import Raw

from tests.server.clients import modern_meta
from tests.server.peers import until
from vmcp.call import Client, Origin, Peer
from vmcp.config.model import Limits
from vmcp.errors import McpError
from vmcp.protocol import envelope
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import Revision
from vmcp.server import duplex
from vmcp.server.duplex import Duplex
from vmcp.server.sessions import Session, Sessions

Json = dict[str, Any]
Answer = Callable[[Request, Peer, Client], Awaitable[bytes]]


@dataclass
class Talk:
    """A house that answers what a test says, and one client of it."""

    answer: Answer
    said: list[Any] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    away: list[int] = field(default_factory=list)
    writable: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0
    cancelled: int = 0

    def __post_init__(self) -> None:
        self.writable.set()
        self.sessions = Sessions(Limits(), asyncio.get_running_loop().time, self._on_end, self._on_told)

    def _on_told(self, session: Session, method: str) -> None:
        self.told.append(method)

    def _on_end(self, session: Session) -> None:
        self.ended.append(session.id)

    def turned_away(self, method: str, error: McpError, origin: Origin | None, identity: object) -> None:
        self.away.append(error.code)

    async def result(self, request: Request, peer: Peer, path: str, client: Client) -> bytes:
        assert path == "/mcp"
        if request.method == "initialize":
            return b'{"protocolVersion":"%b"}' % str(peer.revision).encode()
        self.begun += 1
        try:
            return await self.answer(request, peer, client)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def join(self, session_id: str, ear: Duplex) -> None:
        self.joined.append(session_id)

    async def write(self, text: bytes) -> None:
        await self.writable.wait()
        self.said.append(json.loads(text))

    def line(self, *, modern: bool = True) -> Duplex:
        exchange: Any = self
        return Duplex(exchange, self.sessions, self, Limits(), "/mcp", self.write, modern=modern)

    async def last(self, count: int = 1) -> Any:
        await until(lambda: len(self.said) >= count)
        return self.said[-1]


async def echo(request: Request, peer: Peer, client: Client) -> bytes:
    return b'{"method":"%b","revision":"%b"}' % (request.method.encode(), str(peer.revision).encode())


async def hang(request: Request, peer: Peer, client: Client) -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


def message(method: str, id: object = None, **params: Any) -> bytes:
    told: Json = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(told if id is None else {**told, "id": id}).encode()


@contextlib.asynccontextmanager
async def talking(
    answer: Answer = echo, revision: Revision = Revision.V2025_11_25, **capabilities: Any
) -> AsyncIterator[tuple[Talk, Duplex]]:
    """A client that has initialized."""
    talk = Talk(answer)
    async with talk.line() as line:
        await line.take(
            message("initialize", 0, protocolVersion=str(revision), capabilities=capabilities, clientInfo={"name": "t"})
        )
        assert talk.said.pop() == {"jsonrpc": "2.0", "id": 0, "result": {"protocolVersion": str(revision)}}
        await line.take(message("notifications/initialized"))
        yield talk, line


@pytest.mark.parametrize("revision", [revision for revision in Revision if not revision.modern])
async def test_a_session_begins_with_initialize_and_ends_with_the_stream(revision: Revision) -> None:
    async with talking(revision=revision) as (talk, line):
        await line.take(message("tools/list", "a"))
        expected = {"method": "tools/list", "revision": str(revision)}
        assert await talk.last() == {"jsonrpc": "2.0", "id": "a", "result": expected}
        assert line.session is not None
        assert talk.joined == [line.session.id]
        assert not talk.ended
    assert talk.ended == talk.joined


async def test_before_initialize_only_ping_is_answered_and_it_comes_once_only() -> None:
    async with talking() as (talk, line):
        await line.take(message("initialize", 5, protocolVersion="2025-06-18", capabilities={}))
        assert (await talk.last())["error"]["code"] == -32600
    talk = Talk(echo)
    async with talk.line() as line:
        await line.take(message("tools/list", 1))
        assert (await talk.last())["error"]["code"] == -32600
        await line.take(message("ping", 2))
        assert (await talk.last(2))["result"]["method"] == "ping"
        await line.take(message("initialize", 3, capabilities={}))
        assert (await talk.last(3))["error"]["code"] == -32602
        await line.take(message("initialize", 4, protocolVersion="2025-06-18", capabilities={}))
        assert (await talk.last(4))["id"] == 4
        assert "result" in talk.said[-1]


async def test_a_request_of_2026_needs_no_session_and_both_eras_share_a_stream() -> None:
    async with talking() as (talk, line):
        await line.take(message("tools/list", 1, _meta=modern_meta()))
        assert (await talk.last())["result"]["revision"] == "2026-07-28"
        await line.take(message("tools/list", 2))
        assert (await talk.last(2))["result"]["revision"] == "2025-11-25"
        await line.take(message("initialize", 3, _meta=modern_meta()))
        assert (await talk.last(3))["result"] == {"protocolVersion": "2026-07-28"}, "the exchange refuses it, not we"
        broken = {envelope.VERSION: "2026-07-28"}
        await line.take(message("tools/list", 4, _meta=broken))
        assert (await talk.last(4))["error"]["code"] == -32602


async def test_where_2026_is_not_spoken_it_is_refused_by_name() -> None:
    talk = Talk(echo)
    async with talk.line(modern=False) as line:
        await line.take(message("tools/list", 1, _meta=modern_meta()))
        error = (await talk.last())["error"]
    assert error["code"] == -32022
    assert error["data"]["requested"] == "2026-07-28"
    assert "2026-07-28" not in error["data"]["supported"]


async def test_requests_are_worked_on_at_once_and_ids_are_typed() -> None:
    async with talking(hang) as (talk, line):
        for id_ in (1, "1", "\u00e9"):
            await line.take(message("tools/call", id_))
        await line.take(message("tools/call", 1))
        assert await talk.last() == {**talk.said[0], "id": 1}
        assert talk.said[0]["error"]["code"] == -32600
        await line.take(b'{"jsonrpc":"2.0","id":"\\u00E9","method":"tools/call"}')
        assert (await talk.last(2))["error"]["code"] == -32600
        await until(lambda: talk.begun == 3)
    assert talk.cancelled == 3


async def test_too_many_requests_in_flight_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplex, "MAX_IN_FLIGHT", 2)
    async with talking(hang) as (talk, line):
        for id_ in range(3):
            await line.take(message("tools/call", id_))
        last = await talk.last()
        assert (last["id"], last["error"]["code"]) == (2, -32603)
        assert "2 requests in flight" in last["error"]["message"]


@pytest.mark.parametrize("meta", [{}, {"_meta": modern_meta()}])
async def test_a_cancelled_request_is_not_answered_and_others_are(meta: Json) -> None:
    async with talking(hang) as (talk, line):
        await line.take(message("tools/call", 1, **meta))
        await line.take(message("tools/call", "1", **meta))
        await until(lambda: talk.begun == 2)
        await line.take(message("notifications/cancelled", requestId=1))
        await until(lambda: talk.cancelled == 1)
        await line.take(message("notifications/cancelled", requestId=7))
        await line.take(message("notifications/cancelled"))
        await line.take(message("tools/call", 1, **meta))
        await line.take(message("tools/call", "1", **meta))
        assert (await talk.last())["id"] == "1", "it is in flight still"
        assert talk.cancelled == 1


async def test_what_is_no_message_gets_an_error_without_id() -> None:
    talk = Talk(echo)
    async with talk.line() as line:
        for text, code in ((b"{", -32700), (b"[]", -32600), (b'{"jsonrpc":"1.0","id":1,"method":"x"}', -32600)):
            await line.take(text)
            assert talk.said[-1]["id"] is None
            assert talk.said[-1]["error"]["code"] == code


async def test_a_batch_is_answered_as_one_when_its_last_reply_is_there() -> None:
    gate = asyncio.Event()

    async def slow_one(request: Request, peer: Peer, client: Client) -> bytes:
        if request.id == b"1":
            await gate.wait()
        return b"{}"

    async with talking(slow_one, Revision.V2025_03_26) as (talk, line):
        parts = [message("a", 1), message("b", 2), message("initialize", 3), message("notifications/x")]
        await line.take(b"[%b]" % b",".join(parts))
        await line.take(message("c", 4))
        assert (await talk.last())["id"] == 4
        gate.set()
        replies = await talk.last(2)
        assert {reply["id"]: "result" in reply for reply in replies} == {1: True, 2: True, 3: False}
        await line.take(b"[%b]" % message("notifications/x"))
        await line.take(b"[%b]" % message("initialize", 9))
        assert [reply["id"] for reply in await talk.last(3)] == [9]


async def test_a_cancelled_member_of_a_batch_does_not_hold_up_the_others() -> None:
    async def one_hangs(request: Request, peer: Peer, client: Client) -> bytes:
        return await (hang if request.id == b"1" else echo)(request, peer, client)

    async with talking(one_hangs, Revision.V2025_03_26) as (talk, line):
        await line.take(b"[%b,%b]" % (message("a", 1), message("b", 2)))
        await line.take(b"[%b]" % message("notifications/cancelled", requestId=1))
        assert [reply["id"] for reply in await talk.last()] == [2]


async def test_batches_of_other_revisions_and_long_ones_are_refused() -> None:
    for revision in (Revision.V2024_11_05, Revision.V2025_03_26, Revision.V2025_06_18):
        async with talking(revision=revision) as (talk, line):
            count = duplex.MAX_BATCH + (revision < Revision.V2025_06_18)
            await line.take(b"[%b]" % b",".join(message("ping", id_) for id_ in range(count)))
            last = await talk.last()
            assert (last["id"], last["error"]["code"]) == (None, -32600)


async def test_what_belongs_to_a_call_is_said_until_it_is_answered() -> None:
    clients = []

    async def chatty(request: Request, peer: Peer, client: Client) -> bytes:
        clients.append(client)
        await client.notify("notifications/progress", {"progressToken": Raw(b'"t"'), "progress": 1})
        for level in (b'"debug"', b'"error"'):
            await client.notify("notifications/message", {"level": Raw(level), "data": 1})
        return b"{}"

    async with talking(chatty) as (talk, line):
        await line.take(message("tools/call", 1))
        await talk.last(3)
        assert [said.get("method", said.get("id")) for said in talk.said] == [
            "notifications/progress",
            "notifications/message",
            1,
        ]
        await clients[0].notify("notifications/progress", {"progress": 2})
        await line.take(message("tools/call", 2, _meta=modern_meta()))
        await talk.last(5)
        assert [said.get("method", said.get("id")) for said in talk.said[3:]] == ["notifications/progress", 2]
        assert not clients[1].can_ask
        with pytest.raises(McpError, match="cannot be asked"):
            await clients[1].ask(Question("roots/list"))


async def test_the_level_is_kept_for_the_session() -> None:
    async with talking() as (talk, line):
        await line.take(message("logging/setLevel", 1, level="error"))
        await talk.last()
        line.tell("notifications/message", {"level": "warning", "data": 1})
        line.tell("notifications/message", {"level": "critical", "data": 2})
        assert (await talk.last(2))["params"] == {"level": "critical", "data": 2}


async def test_a_client_of_the_handshake_era_is_asked_between_its_calls_too() -> None:
    async with talking(roots={}) as (talk, line), asyncio.TaskGroup() as group:
        assert line.session is not None
        task = group.create_task(line.session.ask(Question("roots/list")))
        question = await talk.last()
        assert question["method"] == "roots/list"
        await line.take(json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}).encode())
        assert bytes(await task) == b'{"roots":[]}'.replace(b":", b": ")


async def test_a_client_of_the_handshake_era_is_asked_during_its_call() -> None:
    async def asking(request: Request, peer: Peer, client: Client) -> bytes:
        assert client.can_ask
        answer = await client.ask(Question("roots/list"))
        return b'{"got":%b}' % bytes(answer)

    async with talking(asking, roots={}) as (talk, line):
        await line.take(message("tools/call", 1))
        question = await talk.last()
        assert question["method"] == "roots/list"
        await line.take(json.dumps({"jsonrpc": "2.0", "id": 987654, "result": {}}).encode())
        await line.take(json.dumps({"jsonrpc": "2.0", "id": question["id"], "result": {"roots": []}}).encode())
        assert (await talk.last(2))["result"] == {"got": {"roots": []}}
        await line.take(message("tools/call", 2))
        question = await talk.last(3)
        error = {"code": -1, "message": "no"}
        await line.take(json.dumps({"jsonrpc": "2.0", "id": question["id"], "error": error}).encode())
        assert (await talk.last(4))["error"] == error


async def test_what_the_client_tells_of_itself_goes_to_its_session() -> None:
    async with talking() as (talk, line):
        talk.told.clear()
        await line.take(message("notifications/roots/list_changed"))
        assert talk.told == ["notifications/roots/list_changed"]


async def test_a_reply_without_a_session_is_nobodys() -> None:
    talk = Talk(echo)
    async with talk.line() as line:
        await line.take(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        await line.take(message("notifications/roots/list_changed"))
        line.tell("notifications/tools/list_changed", {})
    assert not talk.said


async def test_news_wait_for_a_client_that_reads_slowly_and_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplex, "MAX_TOLD", 2)
    async with talking() as (talk, line):
        talk.writable.clear()
        line.tell("notifications/resources/updated", {"uri": "z:0"})
        await asyncio.sleep(0)
        for _ in range(2):
            line.tell("notifications/resources/updated", {"uri": "a:1"})
            line.tell("notifications/resources/updated", {"uri": "a:2"})
            line.tell("notifications/resources/updated", {"uri": "a:3"})
            line.tell("notifications/tools/list_changed", {})
        talk.writable.set()
        await talk.last(4)
        assert [said["params"].get("uri", "list") for said in talk.said] == ["z:0", "a:1", "a:2", "list"]
        line.tell("notifications/tools/list_changed", {})
        await talk.last(5)


async def test_a_session_that_ends_by_itself_hangs_up() -> None:
    async with talking() as (talk, line):
        hung: list[int] = []
        line.hang_up = lambda: hung.append(1)
        assert line.session is not None
        assert line.session.held == 1
        talk.sessions.end(line.session)
        assert hung == [1]
    async with talking() as (talk, line):
        line.hang_up = lambda: hung.append(2)
    assert hung == [1]


async def test_settling_waits_for_what_is_in_flight_but_not_for_ever() -> None:
    gate = asyncio.Event()

    async def gated(request: Request, peer: Peer, client: Client) -> bytes:
        await gate.wait()
        return b"{}"

    async with talking(gated) as (talk, line):
        await line.settle(0)
        await line.take(message("tools/call", 1))
        await line.settle(0)
        assert not talk.said
        gate.set()
        await line.settle(5)
        assert talk.said
        await line.close()
        await line.take(message("tools/call", 2))
        assert "error" in talk.said[-1]


async def test_a_stream_that_ends_during_initialize_opens_no_session() -> None:
    talk = Talk(echo)
    line = talk.line()
    await line.close()
    await line.take(message("initialize", 1, protocolVersion="2025-06-18", capabilities={}))
    assert not talk.said
    assert not len(talk.sessions)
