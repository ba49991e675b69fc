"""WebSocket on the product's listener. Rule: the other end is a library's client, or raw bytes where that is too polite."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.server.clients import Listening, listening, modern_meta
from tests.server.peers import Asked, Notify, Server, echo, house, said, tool, until
from vmcp.config.model import Limits, Paths, ServerSpec
from vmcp.server import websocket
from vmcp.server.runtime import Runtime

Json = dict[str, Any]
HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


class Client:
    """MCP over a WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, method: str, id: object = None, **params: Any) -> None:
        told: Json = {"jsonrpc": "2.0", "method": method, "params": params}
        await self.socket.send(json.dumps(told if id is None else {**told, "id": id}))

    async def next(self) -> Any:
        async with asyncio.timeout(5):
            text = await self.socket.recv()
        assert isinstance(text, str), "a message is a text frame"
        return json.loads(text)

    async def ask(self, method: str, id: object = 1, **params: Any) -> Any:
        await self.send(method, id, **params)
        return await self.next()

    async def initialize(self, revision: str = "2025-11-25", **capabilities: Any) -> Json:
        answer: Json = await self.ask("initialize", 0, protocolVersion=revision, capabilities=capabilities)
        await self.send("notifications/initialized")
        return answer


@contextlib.asynccontextmanager
async def served(
    monkeypatch: pytest.MonkeyPatch, server: Server | None = None, **more: Any
) -> AsyncIterator[tuple[Runtime, Listening]]:
    backend = server or Server(tools=[tool("echo")], script=echo)
    async with house(monkeypatch, {"one": backend}, **more) as running, listening(running.app, running.config) as found:
        yield running, found


def at(found: Listening, path: str = "/ws", **more: Any) -> connect:
    return connect(f"ws://localhost:{found.port}{path}", host="127.0.0.1", compression=None, **more)


async def closing(socket: ClientConnection) -> int:
    async with asyncio.timeout(5):
        await socket.wait_closed()
    assert socket.close_code is not None
    return socket.close_code


@pytest.mark.parametrize("path", ["/ws", "/g/ws", "/ws?x=1"])
async def test_both_eras_are_served_at_every_face(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async with served(monkeypatch) as (running, found), at(found, path) as socket:
        client = Client(socket)
        call = {"name": "echo", "arguments": {"x": "\u00e4\u2028"}}
        answer = await client.ask("tools/call", 1, **call, _meta=modern_meta())
        assert answer["result"]["resultType"] == "complete"
        assert (await client.initialize())["result"]["protocolVersion"] == "2025-11-25"
        answer = await client.ask("tools/call", "two", **call)
        assert answer["id"] == "two"
        assert json.loads(answer["result"]["content"][0]["text"]) == {"x": "\u00e4\u2028"}
        assert "resultType" not in answer["result"]
        assert len(running._sessions) == 1
        await socket.close()
        await until(lambda: not len(running._sessions))


async def test_a_path_of_ones_own_and_no_other_is_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ServerSpec(paths=Paths(ws="/socket"))
    async with served(monkeypatch) as (_, found):
        for path in ("/mcp", "/socket", "/ws/"):
            with pytest.raises(InvalidStatus) as refused:
                await at(found, path)
            assert refused.value.response.status_code in (404, 406)
    backend = Server(tools=[tool("echo")], script=echo)
    async with (
        house(monkeypatch, {"one": backend}, server=spec) as running,
        listening(running.app, running.config) as found,
        at(found, "/g/socket") as socket,
    ):
        assert "result" in await Client(socket).ask("ping")


async def test_the_subprotocol_is_agreed_on_when_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, found):
        async with at(found, subprotocols=["x", "mcp"]) as socket:
            assert socket.subprotocol == "mcp"
        async with at(found, subprotocols=["x"]) as socket:
            assert socket.subprotocol is None
        async with connect(f"ws://127.0.0.1:{found.port}/ws") as socket:
            assert not socket.protocol.extensions, "nothing is compressed"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Sec-WebSocket-Version": "12"}, 400),
        ({"Sec-WebSocket-Key": "x"}, 400),
    ],
)
async def test_an_upgrade_passes_the_same_checks_as_every_request(
    monkeypatch: pytest.MonkeyPatch, head: dict[str, str], status: int
) -> None:
    async with served(monkeypatch) as (_, found):
        lines = dict(line.split(": ") for line in HEAD.decode().split("\r\n")[1:-1]) | head
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        raw = await found.say(f"GET /ws HTTP/1.1\r\n{text}\r\n".encode())
        assert (await raw.response()).status == status
        assert not await raw.rest()


@pytest.mark.parametrize(
    "request_line",
    [b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", HEAD.replace(b"websocket", b"h2c") + b"\r\n"],
)
async def test_without_the_offer_of_websocket_the_path_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch, request_line: bytes
) -> None:
    async with served(monkeypatch) as (_, found):
        answer = await (await found.say(request_line)).response()
        assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")


async def test_messages_that_come_with_the_upgrade_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, found):
        ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        raw = await found.say(HEAD + b"\r\n" + frame(ping))
        assert (await raw.response(head=True)).status == 101
        async with asyncio.timeout(5):
            opcode, size = await raw.reader.readexactly(2)
            assert opcode == 0x81
            assert json.loads(await raw.reader.readexactly(size))["id"] == 1


async def test_a_head_with_a_body_is_not_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, found):
        raw = await found.say(HEAD + b"Content-Length: 2\r\n\r\nxy")
        assert (await raw.response()).status == 426


def frame(data: bytes, opcode: int = 0x81) -> bytes:
    """A frame of a client, masked with zeros."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2, "big")
    return bytes([opcode]) + size + bytes(4) + data


async def test_a_message_may_come_in_pieces_and_is_limited_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, limits=Limits(body_bytes=1000)) as (_, found):
        async with at(found) as socket:
            text = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
            await socket.send([text[:9], "", text[9:]])
            assert "result" in await Client(socket).next()
            await socket.send(["x" * 600, "x" * 600])
            assert await closing(socket) == 1009
        async with at(found) as socket:
            await socket.send("x" * 1001)
            assert await closing(socket) == 1009


async def test_binary_frames_and_broken_ones_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (running, found):
        async with at(found) as socket:
            await Client(socket).initialize()
            await socket.send(b"{}")
            assert await closing(socket) == 1003
        raw = await found.say(HEAD + b"\r\n\xff\xff")
        await raw.response(head=True)
        assert (await raw.rest())[2:4] == (1002).to_bytes(2, "big")
        await until(lambda: not len(running._sessions))


async def test_what_is_no_message_is_answered_and_the_connection_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, found), at(found) as socket:
        await socket.send("nonsense")
        assert (await Client(socket).next())["error"]["code"] == -32700
        assert "result" in await Client(socket).ask("ping")


async def test_a_client_that_goes_away_has_cancelled_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(asked: Asked, notify: Notify) -> bytes:
        await notify("notifications/progress", {"progressToken": asked.params["_meta"]["progressToken"], "progress": 1})
        await asyncio.Event().wait()
        return b""

    server = Server(tools=[tool("hang")], script=hang)
    async with served(monkeypatch, server) as (_, found):
        for polite in (True, False):
            async with at(found) as socket:
                client = Client(socket)
                await client.send("tools/call", 1, name="hang", _meta={**modern_meta(), "progressToken": "p"})
                told = await client.next()
                assert (told["method"], told["params"]["progressToken"]) == ("notifications/progress", "p")
                if not polite:
                    socket.transport.abort()
            await until(lambda polite=polite: server.cancelled == 2 - polite)


async def test_who_does_not_answer_a_ping_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING", 0.05)
    async with served(monkeypatch) as (_, found):
        async with at(found, ping_interval=None) as socket:
            await asyncio.sleep(0.3)  # several pings, which the library answers
            assert "result" in await Client(socket).ask("ping")
        raw = await found.say(HEAD + b"\r\n")
        await raw.response(head=True)
        assert await raw.rest() == b"\x89\x00", "one ping and no more"


async def test_who_pings_and_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(asked: Asked, notify: Notify) -> bytes:
        return said("x" * (8 << 20))

    server = Server(tools=[tool("large")], script=large)
    async with served(monkeypatch, server) as (_, found):
        raw = await found.say(HEAD + b"\r\n")
        await raw.response(head=True)
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        call: Json = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        call["params"] = {"name": "large", "_meta": modern_meta()}
        raw.send(frame(json.dumps(call).encode()))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(5):
                while found.state.connections:
                    raw.send(frame(b"", 0x89) * 20)
                    await asyncio.sleep(0.01)


async def test_too_many_connections_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, limits=Limits(sessions=1)) as (_, found), at(found) as socket:
        with pytest.raises(InvalidStatus) as refused:
            await at(found, open_timeout=5)
        assert refused.value.response.status_code == 503
        assert "result" in await Client(socket).ask("ping")


async def test_a_server_that_stops_answers_what_is_in_flight_and_says_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()

    async def gated(asked: Asked, notify: Notify) -> bytes:
        await gate.wait()
        return said("done")

    server = Server(tools=[tool("gated")], script=gated)
    async with served(monkeypatch, server) as (running, found), at(found) as socket:
        await Client(socket).send("tools/call", 1, name="gated", _meta=modern_meta())
        await until(server.calls)
        running.drain()
        for connection in list(found.state.connections):
            connection.shutdown()
        gate.set()
        assert (await Client(socket).next())["id"] == 1
        assert await closing(socket) == 1001


async def test_a_session_that_ends_closes_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (running, found), at(found) as socket:
        await Client(socket).initialize()
        (session,) = running._sessions._sessions.values()
        running._sessions.end(session)
        assert await closing(socket) == 1001


async def test_changes_reach_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tools=[tool("one")], script=echo, capabilities={"tools": {"listChanged": True}})
    async with served(monkeypatch, server) as (_, found), at(found) as old, at(found) as new:
        await Client(old).initialize()
        await Client(new).send("subscriptions/listen", 7, notifications={"toolsListChanged": True}, _meta=modern_meta())
        acknowledged = await Client(new).next()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        server.tools = [tool("one"), tool("two")]
        server.say("notifications/tools/list_changed")
        assert (await Client(old).next())["method"] == "notifications/tools/list_changed"
        told = await Client(new).next()
        assert told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 7


async def test_many_messages_at_once_are_all_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as (_, found):
        calls = [
            json.dumps({"jsonrpc": "2.0", "id": n, "method": "ping"}).encode() for n in range(websocket.INBOX * 10)
        ]
        raw = await found.say(HEAD + b"\r\n" + b"".join(frame(call) for call in calls))
        await raw.response(head=True)
        seen = set()
        async with asyncio.timeout(5):
            while len(seen) < len(calls):
                _, size = await raw.reader.readexactly(2)
                seen.add(json.loads(await raw.reader.readexactly(size))["id"])


async def test_a_client_that_reads_late_gets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(asked: Asked, notify: Notify) -> bytes:
        return said("x" * (8 << 20))

    server = Server(tools=[tool("large")], script=large)
    async with served(monkeypatch, server) as (_, found), at(found, max_size=None, ping_interval=None) as socket:
        socket.transport.pause_reading()
        for number in range(3):
            await Client(socket).send("tools/call", number, name="large", _meta=modern_meta())
        await until(lambda: any(connection.flow.paused for connection in found.state.connections))
        socket.transport.resume_reading()
        assert sorted([(await Client(socket).next())["id"] for _ in range(3)]) == [0, 1, 2]
