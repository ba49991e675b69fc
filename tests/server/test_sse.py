"""HTTP+SSE of 2024-11-05. Rule: streams are real sockets, as what matters happens when one of them breaks."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.server.clients import Answer, Listening, listening, modern_meta
from tests.server.clients import Raw as Connection
from tests.server.peers import Asked, Notify, Server, echo, house, said, tool, until
from vmcp.config.model import Limits, Paths, ServerSpec
from vmcp.protocol import sse as events
from vmcp.protocol.revisions import Revision
from vmcp.server import flow
from vmcp.server.runtime import Runtime

Json = dict[str, Any]


class Client:
    """One stream, and the POSTs beside it."""

    def __init__(self, found: Listening, stream: Connection) -> None:
        self.found = found
        self.stream = stream
        self.parser = events.Parser()
        self.waiting: list[events.Event] = []
        self.endpoint = ""

    async def event(self) -> events.Event:
        async with asyncio.timeout(5):
            while not self.waiting:
                size = int(await self.stream.reader.readline(), 16)
                chunk = (await self.stream.reader.readexactly(size + 2))[:-2]
                self.waiting += self.parser.feed(chunk)
        return self.waiting.pop(0)

    async def next(self) -> Any:
        event = await self.event()
        assert event.event == b"message"
        return json.loads(event.data)

    async def post(self, body: bytes, endpoint: str | None = None, *head: bytes) -> Answer:
        path = (endpoint or self.endpoint).encode()
        lines = b"\r\n".join([b"Host: localhost", b"Content-Type: application/json", *head])
        raw = await self.found.say(
            b"POST %b HTTP/1.1\r\n%b\r\nContent-Length: %d\r\n\r\n" % (path, lines, len(body)), body
        )
        return await raw.response()

    async def send(self, method: str, id: object = None, **params: Any) -> None:
        told: Json = {"jsonrpc": "2.0", "method": method, "params": params}
        answer = await self.post(json.dumps(told if id is None else {**told, "id": id}).encode())
        assert (answer.status, answer.body) == (202, b"Accepted")

    async def initialize(self, revision: str = "2024-11-05", **capabilities: Any) -> Any:
        await self.send("initialize", 0, protocolVersion=revision, capabilities=capabilities)
        answer = await self.next()
        await self.send("notifications/initialized")
        return answer


async def opened(found: Listening, path: bytes = b"/sse") -> Client:
    stream = await found.say(b"GET %b HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n" % path)
    answer = await stream.response(head=True)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    client = Client(found, stream)
    event = await client.event()
    assert event.event == b"endpoint"
    client.endpoint = event.data.decode()
    return client


@contextlib.asynccontextmanager
async def served(
    monkeypatch: pytest.MonkeyPatch, backend: Server | None = None, **more: Any
) -> AsyncIterator[tuple[Runtime, Listening]]:
    backend = backend or Server(tools=[tool("echo")], script=echo)
    async with house(monkeypatch, {"one": backend}, **more) as running, listening(running.app, running.config) as found:
        yield running, found


@pytest.mark.parametrize(
    ("path", "message", "spec"),
    [
        (b"/sse", "/message", ServerSpec()),
        (b"/g/sse", "/g/message", ServerSpec()),
        (b"/g/events", "/g/say", ServerSpec(paths=Paths(sse="/events", message="/say"))),
        (b"/sse", "/behind/proxy/message", ServerSpec(public_url="https://localhost/behind/proxy/")),
    ],
)
async def test_the_endpoint_is_named_where_clients_reach_it(
    monkeypatch: pytest.MonkeyPatch, path: bytes, message: str, spec: ServerSpec
) -> None:
    async with served(monkeypatch, server=spec) as (_, found):
        client = await opened(found, path)
        place, _, id_ = client.endpoint.partition("?sessionId=")
        assert place == message
        assert len(id_) >= 43, "256 bits"
        client.endpoint = client.endpoint.removeprefix("/behind/proxy")
        assert (await client.initialize())["result"]["protocolVersion"] == "2024-11-05"


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_session_of_every_handshake_revision(monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    async with served(monkeypatch) as (running, found):
        client = await opened(found)
        assert (await client.initialize(revision))["result"]["protocolVersion"] == revision
        await client.send("tools/call", 1, name="echo", arguments={"x": "\u00e4\u2028"})
        answer = await client.next()
        assert answer["id"] == 1
        assert json.loads(answer["result"]["content"][0]["text"]) == {"x": "\u00e4\u2028"}
        assert len(running._sessions) == 1
        client.stream.close()
        await until(lambda: not len(running._sessions))
        assert (await client.post(b"{}")).status == 404


async def test_the_newest_revision_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, found):
        client = await opened(found)
        await client.send("tools/list", 1, _meta=modern_meta())
        assert (await client.next())["error"]["code"] == -32022


async def test_a_client_is_asked_and_answers_with_a_post(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asking(asked: Asked, notify: Notify) -> bytes:
        answer = await asked.ask(
            "elicitation/create", {"message": "m", "requestedSchema": {"type": "object", "properties": {}}}
        )
        return said(json.dumps(answer), server.revision)

    server = Server(older=None, revision=Revision.V2025_11_25, tools=[tool("asking")], script=asking)
    async with served(monkeypatch, server, isolation="session") as (_, found):
        client = await opened(found)
        await client.initialize("2025-11-25", elicitation={})
        await client.send("tools/call", 1, name="asking")
        question = await client.next()
        assert question["method"] == "elicitation/create"
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        assert (await client.post(json.dumps(reply).encode())).status == 202
        assert json.loads((await client.next())["result"]["content"][0]["text"]) == {"action": "decline"}


async def test_an_address_that_was_not_given_out_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, found):
        client = await opened(found)
        id_ = client.endpoint.partition("=")[2]
        wrong = [
            "/message",
            "/message?sessionId=",
            f"/message?sessionId={id_}x",
            f"/message?sessionId={id_}&sessionId={id_}",
            f"/message?session_id={id_}",
            f"/g/message?sessionId={id_}",
        ]
        for endpoint in wrong:
            assert (await client.post(b'{"jsonrpc":"2.0","method":"x"}', endpoint)).status == 404
        assert (await client.initialize())["id"] == 0


async def test_what_is_no_message_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, limits=Limits(body_bytes=200)) as (_, found):
        client = await opened(found)
        refused = await client.post(b"{")
        assert (refused.status, refused.error["code"]) == (400, -32700)
        assert (await client.post(b"x" * 201)).status == 413
        assert (await client.post(b"{}", None, b"Origin: https://evil.example")).status == 403
        other = await found.say(b"POST %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % client.endpoint.encode())
        assert (await other.response()).status == 415


@pytest.mark.parametrize(
    ("request_line", "head", "status"),
    [
        (b"GET /sse", b"Accept: application/json\r\n", 406),
        (b"GET /sse", b"Host: evil.example\r\n", 400),
        (b"GET /sse", b"Origin: https://evil.example\r\n", 403),
        (b"POST /sse", b"Content-Length: 0\r\n", 405),
        (b"GET /message", b"", 405),
        (b"GET /h/sse", b"", 404),
        (b"OPTIONS /sse", b"Origin: http://localhost\r\nAccess-Control-Request-Method: GET\r\n", 204),
    ],
)
async def test_what_is_not_a_stream_is_refused(
    monkeypatch: pytest.MonkeyPatch, request_line: bytes, head: bytes, status: int
) -> None:
    async with served(monkeypatch) as (_, found):
        raw = await found.say(b"%b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (request_line, head))
        assert (await raw.response()).status == status


async def test_a_client_that_goes_away_has_cancelled_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(asked: Asked, notify: Notify) -> bytes:
        await asyncio.Event().wait()
        return b""

    server = Server(tools=[tool("hang")], script=hang)
    async with served(monkeypatch, server) as (running, found):
        client = await opened(found)
        await client.initialize()
        await client.send("tools/call", 1, name="hang")
        await until(server.calls)
        client.stream.close()
        await until(lambda: server.cancelled == 1)
        await until(lambda: not running._sse._open)


async def test_too_many_streams_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, limits=Limits(sessions=1)) as (_, found):
        await opened(found)
        raw = await found.say(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await raw.response()).status == 503


async def test_a_server_that_stops_answers_what_is_in_flight_and_ends_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()

    async def gated(asked: Asked, notify: Notify) -> bytes:
        await gate.wait()
        return said("done")

    server = Server(tools=[tool("gated")], script=gated)
    async with served(monkeypatch, server) as (running, found):
        client = await opened(found)
        await client.initialize()
        await client.send("tools/call", 1, name="gated")
        await until(server.calls)
        running.drain()
        refused = await found.say(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await refused.response()).status == 503
        gate.set()
        assert (await client.next())["id"] == 1
        async with asyncio.timeout(5):
            assert await client.stream.reader.readline() == b"0\r\n"


async def test_a_silent_stream_breathes_and_one_that_nobody_reads_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(asked: Asked, notify: Notify) -> bytes:
        return said("x" * (4 << 20))

    server = Server(tools=[tool("large")], script=large)
    async with served(monkeypatch, server, limits=Limits(write_stall=0.5)) as (running, found):
        client = await opened(found)
        (outlet,) = running._pulse.streams
        await outlet.breathe()
        async with asyncio.timeout(5):
            assert await client.stream.reader.readline() == b"4\r\n"
            assert await client.stream.reader.readline() == b": \n"
            assert await client.stream.reader.readexactly(3) == b"\n\r\n"
        await client.initialize()
        client.stream.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(4):
            await client.send("tools/call", number, name="large")
        await until(lambda: not len(running._sessions))


async def test_flow_lets_everybody_go_on_when_the_client_reads_or_is_gone() -> None:
    given_up: list[int] = []
    one = flow.Flow(lambda: given_up.append(1), 0.01)
    assert await one.ready()
    one.pause()
    assert one.paused
    asyncio.get_running_loop().call_soon(one.resume)
    assert await one.ready()
    one.pause()
    assert not await one.ready()
    assert given_up == [1]
    one.pause()
    assert not one.paused
