"""The bridge from pipes to a URL. Rule: behind it is a house on a socket, or scripted bytes where a house is too good."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.server.clients import Listening, listening, modern_meta
from tests.server.peers import Asked, Notify, Server, echo, house, said, tool, until
from tests.server.test_stdio import Process, other_side
from vmcp.server import bridge_stdio
from vmcp.server.bridge_headers import Known
from vmcp.server.bridge_stdio import BadEndpoint, Bridge
from vmcp.server.runtime import Runtime
from vmcp.tasks import Nest

Json = dict[str, Any]


@contextlib.asynccontextmanager
async def bridged(url: str, *headers: tuple[bytes, bytes]) -> AsyncIterator[Process]:
    async with Nest("test") as nest, other_side() as (reading, writing, process):
        task = nest.start(bridge_stdio.serve(Bridge(url, list(headers)), reading, writing), "serve")
        yield process
        if process.stdin >= 0:
            process.eof()
        async with asyncio.timeout(10):
            await task


@contextlib.asynccontextmanager
async def served(
    monkeypatch: pytest.MonkeyPatch, backend: Server | None = None, **more: Any
) -> AsyncIterator[tuple[Runtime, Listening, Process]]:
    backend = backend or Server(tools=[tool("echo")], script=echo)
    async with (
        house(monkeypatch, {"one": backend}, **more) as running,
        listening(running.app, running.config) as found,
        bridged(f"http://127.0.0.1:{found.port}/mcp") as process,
    ):
        yield running, found, process


async def initialized(process: Process, revision: str = "2025-11-25", **capabilities: Any) -> Any:
    process.send("initialize", 0, protocolVersion=revision, capabilities=capabilities)
    answer = await process.next()
    process.send("notifications/initialized")
    return answer


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_session_of_every_handshake_revision(monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    async with served(monkeypatch) as (running, _, process):
        assert (await initialized(process, revision))["result"]["protocolVersion"] == revision
        words = {"x": "\u00e4\u2028", "n": 2**60 + 1}
        process.send("tools/call", "a", name="echo", arguments=words)
        answer = await process.next()
        assert answer["id"] == "a"
        assert json.loads(answer["result"]["content"][0]["text"]) == words
        assert len(running._sessions) == 1
        process.eof()
        await until(lambda: not len(running._sessions))
        assert await process.rest() == []


async def test_the_newest_revision_gets_the_headers_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"type": "string", "x-mcp-header": "Place"}
    annotated = tool("weather", inputSchema={"type": "object", "properties": {"place": place}})
    server = Server(tools=[annotated], script=echo)
    async with served(monkeypatch, server) as (_, _, process):
        for number in (1, 2):
            process.send("tools/call", number, name="weather", arguments={"place": "K\u00f6ln"}, _meta=modern_meta())
            answer = await process.next()
            assert answer.get("result", answer).get("resultType") == "complete", answer
        process.send("tools/list", 3, _meta=modern_meta())
        assert (await process.next())["id"] == 3
        process.send("tools/call", 4, name="unknown", _meta=modern_meta())
        answer = await process.next()
        assert (answer["id"], answer["error"]["code"]) == (4, -32602)
        process.send("nonsense", 5, _meta=modern_meta())
        assert (await process.next())["error"]["code"] == -32601
        process.send("tools/list", 6, _meta={**modern_meta(), "io.modelcontextprotocol/protocolVersion": "2099-01-01"})
        assert (await process.next())["error"]["code"] == -32022


async def test_progress_comes_before_the_reply_and_cancelling_leaves_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def slow(asked: Asked, notify: Notify) -> bytes:
        token = asked.params["_meta"]["progressToken"]
        await notify("notifications/progress", {"progressToken": token, "progress": 1})
        if asked.params["arguments"]:
            await asyncio.Event().wait()
        return said("done", server.revision)

    server = Server(tools=[tool("slow")], script=slow)
    async with served(monkeypatch, server) as (_, _, process):
        meta = {**modern_meta(), "progressToken": "p"}
        process.send("tools/call", 1, name="slow", arguments={}, _meta=meta)
        assert (await process.next())["params"]["progressToken"] == "p"
        assert (await process.next())["id"] == 1
        process.send("tools/call", 2, name="slow", arguments={"x": 1}, _meta=meta)
        await process.next()
        process.send("notifications/cancelled", requestId=2, _meta=modern_meta())
        await until(lambda: server.cancelled == 1)
        await initialized(process)
        process.send("tools/call", 3, name="slow", arguments={"x": 1}, _meta={"progressToken": 7})
        assert (await process.next())["params"]["progressToken"] == 7
        process.send("notifications/cancelled", requestId=3)
        await until(lambda: server.cancelled == 2)


async def test_what_belongs_to_no_request_comes_on_the_standing_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tools=[tool("one")], script=echo, capabilities={"tools": {"listChanged": True}})
    async with served(monkeypatch, server) as (running, _, process):
        await initialized(process)
        (session,) = running._sessions._sessions.values()
        await until(lambda: len(session.standing))
        server.tools = [tool("one"), tool("two")]
        server.say("notifications/tools/list_changed")
        assert (await process.next())["method"] == "notifications/tools/list_changed"


async def test_a_server_that_forgot_the_session_is_greeted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (running, _, process):
        await initialized(process)
        (session,) = running._sessions._sessions.values()
        running._sessions.end(session)
        for number in range(3):
            process.send("ping", number)
        answers = [await process.next() for _ in range(3)]
        assert sorted(answer["id"] for answer in answers) == [0, 1, 2]
        assert all("result" in answer for answer in answers)
        assert len(running._sessions) == 1


async def test_what_is_no_message_and_what_is_refused_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, found, process):
        process.raw(b"{\n")
        assert (await process.next())["error"]["code"] == -32700
        process.send("tools/list", 1)
        answer = await process.next()
        assert (answer["id"], answer["error"]["code"]) == (1, -32600), "there is no session yet"
        process.send("notifications/nonsense")
        async with bridged(f"http://127.0.0.1:{found.port}/elsewhere") as lost:
            lost.send("ping", "x")
            assert (await lost.next())["id"] == "x"
    async with bridged("http://127.0.0.1:1/mcp") as lost:
        lost.send("initialize", 0, protocolVersion="2025-11-25", capabilities={})
        lost.send("notifications/initialized")
        lost.send("ping", 1)
        answers = [await lost.next(), await lost.next()]
        assert [answer["id"] for answer in answers] == [0, 1]
        assert "connection refused" in answers[0]["error"]["message"]


async def test_a_batch_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, _, process):
        await initialized(process, "2025-03-26")
        one = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        process.raw(json.dumps([one, {**one, "id": 2}]).encode() + b"\n")
        assert [reply["id"] for reply in await process.next()] == [1, 2]


async def test_too_many_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(asked: Asked, notify: Notify) -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(bridge_stdio, "MAX_IN_FLIGHT", 1)
    monkeypatch.setattr(bridge_stdio, "GRACE", 0.05)
    server = Server(tools=[tool("hang")], script=hang)
    async with served(monkeypatch, server) as (_, _, process):
        process.send("tools/call", 1, name="hang", _meta=modern_meta())
        process.send("tools/call", 2, name="hang", _meta=modern_meta())
        answer = await process.next()
        assert (answer["id"], answer["error"]["code"]) == (2, -32603)
        await until(server.calls)
    assert server.cancelled == 1


# --- servers of scripted bytes


@contextlib.asynccontextmanager
async def scripted(answer: Callable[[str, Json, bytes], bytes]) -> AsyncIterator[str]:
    """``answer`` gets method, headers and body, and gives the whole response, after which the connection is closed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:-2])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            writer.write(answer(lines[0].split(" ")[0], headers, body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


def response(body: bytes, kind: str = "application/json", status: str = "200 OK", *more: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *more]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def events(*parts: str) -> bytes:
    return response("".join(f"{part}\n\n" for part in parts).encode(), "text/event-stream")


GREETED = response(
    b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}',
    "application/json",
    "200 OK",
    "Mcp-Session-Id: s1",
)
ACCEPTED = response(b"", "text/plain", "202 Accepted")
NO_STREAM = response(b"", "text/plain", "405 Method Not Allowed")


async def test_a_stream_that_breaks_is_taken_up_where_it_broke() -> None:
    resumed: list[Json] = []

    def answer(method: str, headers: Json, body: bytes) -> bytes:
        if method == "GET" and "last-event-id" not in headers:
            return NO_STREAM
        if method == "GET":
            resumed.append(headers)
            if len(resumed) == 1:
                return events('id: e2\ndata: {"jsonrpc":"2.0","method":"notifications/x"}')
            return events('data: {"jsonrpc":"2.0","id":1,"result":{"x":1}}')
        if b'"initialize"' in body:
            return GREETED
        return events("id: e1\nretry: 1\ndata: ") if b'"id": 1' in body else ACCEPTED

    async with scripted(answer) as url, bridged(url, (b"x-key", b"secret")) as process:
        await initialized(process)
        process.send("tools/call", 1, name="x")
        assert (await process.next())["method"] == "notifications/x"
        assert (await process.next())["result"] == {"x": 1}
    assert [headers["last-event-id"] for headers in resumed] == ["e1", "e2"]
    assert {headers["mcp-session-id"] for headers in resumed} == {"s1"}
    assert {headers["x-key"] for headers in resumed} == {"secret"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (events("data: {}"), "closed the stream"),
        (events("id: e1\nretry: 1\ndata: "), "closed the stream"),
        (response(b"<html>", "text/html", "502 Bad Gateway"), "HTTP 502"),
        (response(b'{"jsonrpc":"2.0","id":9,"result":{}}'), "HTTP 200"),
        (response(b'{"jsonrpc":"2.0","error":{"code":-5,"message":"as said"}}', status="400 Bad Request"), "as said"),
        (b"nonsense\r\n\r\n", "valid HTTP"),
    ],
)
async def test_what_the_server_does_not_answer_is_an_error(given: bytes, words: str) -> None:
    def answer(method: str, headers: Json, body: bytes) -> bytes:
        return NO_STREAM if method == "GET" else given

    async with scripted(answer) as url, bridged(url) as process:
        process.send("ping", 1)
        while "id" not in (told := await process.next()):
            assert told == {}
        assert told["id"] == 1
        assert words in told["error"]["message"] or words == "valid HTTP"


async def test_a_standing_stream_is_taken_up_again_and_given_up_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bridge_stdio, "backoff", lambda attempt, jitter: 0.01)
    asked: list[str] = []
    given = [
        events('id: e1\nretry: 1\ndata: {"jsonrpc":"2.0","method":"a"}'),
        response(b"", "text/plain", "400 Bad Request"),
        response(b"", "text/plain", "503 Service Unavailable"),
        b"nonsense\r\n\r\n",
        events('retry: 1\ndata: {"jsonrpc":"2.0",\ndata: "method":"b"}'),
        NO_STREAM,
    ]

    def answer(method: str, headers: Json, body: bytes) -> bytes:
        if method == "GET":
            asked.append(headers.get("last-event-id", ""))
            return given[len(asked) - 1]
        return GREETED if b'"initialize"' in body else ACCEPTED

    async with scripted(answer) as url, bridged(url) as process:
        await initialized(process)
        assert (await process.next())["method"] == "a"
        assert (await process.next())["method"] == "b"
        await until(lambda: len(asked) == len(given))
    assert asked == ["", "e1", "", "", "", ""]


async def test_a_server_that_has_become_another_is_not_taken_for_the_same() -> None:
    greetings = [GREETED, GREETED.replace(b"2025-11-25", b"2025-06-18")]

    def answer(method: str, headers: Json, body: bytes) -> bytes:
        if method == "GET":
            return NO_STREAM
        if b'"initialize"' in body:
            return greetings.pop(0)
        return response(b"", status="404 Not Found") if b'"id"' in body else ACCEPTED

    async with scripted(answer) as url, bridged(url) as process:
        await initialized(process)
        process.send("ping", 1)
        assert "ended our session" in (await process.next())["error"]["message"]


def test_lists_that_cannot_be_read_teach_nothing() -> None:
    known = Known()
    for text in (
        b"{}",
        b"[]",
        b'{"result":{"tools":[{"name":"x-mcp-header"}]}}',
        b'{"result":{"tools":1,"x-mcp-header":1}}',
    ):
        assert known.learn(text) is None
    schema = '{"type":"object","properties":{"a":{"type":"array","x-mcp-header":"A"}}}'
    assert (
        known.learn(b'{"result":{"tools":[{"name":"a","inputSchema":%b}],"nextCursor":"c"}}' % schema.encode()) == "c"
    )
    assert known.learn(b'{"result":{"tools":[],"nextCursor":5}}') is None
    assert not known.params


def test_a_url_that_cannot_be_reached_is_said_at_once() -> None:
    for url in ("ftp://x", "http://user:pass@x/", "x"):
        with pytest.raises(BadEndpoint):
            Bridge(url, [])
