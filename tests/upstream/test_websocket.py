"""A WebSocket towards a backend, against the library's own server and against one that breaks the protocol.

Rule: what is no text message of MCP ends the connection or is skipped; a connection that is gone is told once.
"""

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.upstream.badserver import Peer, serving, until
from tests.upstream.child import fill, notice, result
from tests.upstream.fakes import soon
from vmcp.errors import Code, Overdue, Unavailable, WireError
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream import websocket
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.websocket import WebSocketWire
from vmcp.upstream.wire import Outgoing

Handler = Callable[[ServerConnection], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
LIMIT = 1 << 20


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@contextlib.asynccontextmanager
async def connected(port: int, headers: Headers = (), path: str = "/ws?a=b") -> AsyncIterator[WebSocketWire]:
    target = endpoint(f"ws://127.0.0.1:{port}{path}")
    wire = await websocket.connect("live", target, headers, within=5, max_message=LIMIT)
    try:
        yield wire
    finally:
        async with asyncio.timeout(5):
            await wire.close()


@contextlib.asynccontextmanager
async def served(handler: Handler, *headers: tuple[bytes, bytes], **options: Any) -> AsyncIterator[WebSocketWire]:
    """A wire to the library's server."""
    options = {"subprotocols": [Subprotocol("mcp")]} | options
    async with (
        serve(handler, "127.0.0.1", 0, **options) as server,
        connected(next(iter(server.sockets)).getsockname()[1], headers) as wire,
    ):
        yield wire


def answering(*messages: Any) -> Handler:
    """Say these to each request."""

    async def handler(peer: ServerConnection) -> None:
        async for text in peer:
            told = json.loads(text)
            for message in messages:
                await peer.send(json.dumps(fill(message, told)))

    return handler


def ask(id_: int = 1, **params: Any) -> Outgoing:
    return Outgoing(id_, jsonrpc.request(id_, "ping", params))


async def listened(wire: WebSocketWire, id_: int = 1, **params: Any) -> tuple[list[str], Any]:
    """The methods of what came before the answer, and the result."""
    found: list[str] = []

    async def on_message(message: Message) -> None:
        found.append(message.method)

    answer = await wire.exchange(ask(id_, **params), on_message, soon())
    return found, json.loads(bytes(jsonrpc.result_of(answer.message)))


# --- conversations


async def test_a_question_and_its_answer_and_what_the_handshake_said() -> None:
    seen: list[Request] = []

    async def handler(peer: ServerConnection) -> None:
        assert peer.request is not None
        seen.append(peer.request)
        await answering(notice("notifications/message", level="info", data=1), result({"x": "\u00fc"}))(peer)

    async with served(handler, (b"authorization", b"Bearer t")) as wire:
        assert await listened(wire) == (["notifications/message"], {"x": "\u00fc"})
        assert (await wire.hear(()), wire.closing_cancels, wire.private_streams) == (False, False, False)
    (request,) = seen
    assert request.path == "/ws?a=b"
    assert request.headers["Authorization"] == "Bearer t"
    assert request.headers["Sec-WebSocket-Protocol"] == "mcp"
    assert not {"Sec-WebSocket-Extensions", "Origin", "User-Agent"} & set(request.headers)


async def test_a_server_that_knows_no_subprotocol_is_fine() -> None:
    async with served(answering(result({})), subprotocols=None) as wire:
        assert await listened(wire) == ([], {})


async def test_many_calls_at_once_get_their_own_answers() -> None:
    async with served(answering(result({}))) as wire, asyncio.TaskGroup() as group:
        tasks = [group.create_task(wire.exchange(ask(number), None, soon())) for number in range(1, 60)]
    assert [bytes(task.result().message.id) for task in tasks] == [b"%d" % number for number in range(1, 60)]


async def test_the_server_may_speak_first_and_in_fragments_and_ping() -> None:
    strays: list[str] = []

    async def handler(peer: ServerConnection) -> None:
        await peer.recv()
        await peer.send(json.dumps(notice("notifications/tools/list_changed")))
        await peer.send(['{"jsonrpc":"2.0",', '"method":"notifications/', 'x"}'])
        await (await peer.ping())
        await peer.send(json.dumps(notice("notifications/y")))
        await peer.wait_closed()

    async with served(handler) as wire:
        wire.on_stray = lambda message: strays.append(message.method)
        await wire.tell(jsonrpc.notification("notifications/initialized"), ())
        await until(lambda: len(strays) == 3)
    assert strays == ["notifications/tools/list_changed", "notifications/x", "notifications/y"]


async def test_a_message_near_the_limit_passes_both_ways() -> None:
    big = "x" * (LIMIT - 1000)

    async def handler(peer: ServerConnection) -> None:
        async for text in peer:
            told = json.loads(text)
            await peer.send(json.dumps(fill(result({"x": told["params"]["x"]}), told)))

    async with served(handler, max_size=LIMIT * 2) as wire:
        assert await listened(wire, x=big) == ([], {"x": big})


async def test_silence_ends_with_the_deadline() -> None:
    async with served(answering()) as wire:
        with pytest.raises(Overdue, match=r"timeouts\.total"):
            await wire.exchange(ask(), None, soon(0.05))


# --- how it begins


@pytest.mark.parametrize("status", [401, 404, 503])
async def test_a_refused_handshake_is_told_with_its_status(status: int) -> None:
    def refuse(peer: ServerConnection, request: Request) -> Response:
        return peer.respond(status, "no\n")

    with pytest.raises(HttpRefused) as refused:
        async with served(answering(), process_request=refuse):
            pass
    assert (refused.value.status, refused.value.text) == (status, b"no\n")


@pytest.mark.parametrize(
    "opening", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"220 mail\r\n\r\n", b"", b"\0" * 99]
)
async def test_what_is_no_such_server_is_told_as_such(opening: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(opening)
        peer.close()

    async with serving(script) as server:
        with pytest.raises(Unavailable, match=r"HTTP 200|did not agree"):
            async with connected(server.port):
                pass


async def test_a_server_that_says_nothing_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "HANDSHAKE_WAIT", 0.05)

    async def script(peer: Peer) -> None:
        await peer.gone()

    async with serving(script) as server:
        with pytest.raises(Overdue, match="WebSocket handshake"):
            async with connected(server.port):
                pass
        await until(lambda: server.open == 0)


async def test_nobody_there_and_an_accept_that_never_comes() -> None:
    with pytest.raises(Unavailable, match="connection refused") as refused:
        async with connected(1):
            pass
    assert refused.value.vmcp_code == Code.CONNECTION_FAILED
    with pytest.raises(Overdue, match=r"timeouts\.connect"):
        await websocket.connect("live", endpoint("ws://127.0.0.1:1/"), (), within=-1, max_message=LIMIT)


@pytest.mark.parametrize("header", [(b"x", b"a\r\nb: c"), (b"x\n", b"a"), (b"x", b"\0")])
async def test_a_header_that_would_break_the_handshake_is_not_sent(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        async with connected(1, (header,)):
            pass


# --- how it ends


async def _failure(wire: WebSocketWire) -> Unavailable:
    gone: list[bool] = []
    wire.on_gone = lambda: gone.append(True)
    with pytest.raises(Unavailable) as failed:
        await wire.exchange(ask(), None, soon())
    for broken in (wire.exchange(ask(2), None, soon()), wire.tell(b"{}", ())):
        with pytest.raises(Unavailable):
            await broken
    assert gone == [True]
    assert failed.value.vmcp_code == Code.TRANSPORT_CLOSED
    return failed.value


async def test_a_server_that_closes_fails_the_calls_in_flight_with_its_words() -> None:
    async def handler(peer: ServerConnection) -> None:
        await peer.recv()
        await peer.close(1001, "going\x1b away")

    async with served(handler) as wire:
        assert (await _failure(wire)).why == 'it closed the connection (1001): "going  away"'


async def test_a_connection_that_breaks_is_told_as_such() -> None:
    async def handler(peer: ServerConnection) -> None:
        await peer.recv()
        peer.transport.abort()

    async with served(handler) as wire:
        assert (await _failure(wire)).why == "the connection broke off"


async def test_binary_and_too_large_messages_end_it() -> None:
    for message, why in (
        (b"\0\1", "it sent something that is no text"),
        ("x" * (LIMIT + 1), f"more than {LIMIT} bytes"),
    ):

        async def handler(peer: ServerConnection, message: str | bytes = message) -> None:
            await peer.recv()
            await peer.send(message)
            await peer.wait_closed()

        async with served(handler) as wire:
            assert why in (await _failure(wire)).why


async def test_text_that_is_no_message_is_skipped() -> None:
    async def handler(peer: ServerConnection) -> None:
        told = json.loads(await peer.recv())
        for text in ("", "hello", "[]", "null", '{"jsonrpc"'):
            await peer.send(text)
        await peer.send(b'{"jsonrpc":"2.0","id":1,"result":"\xff"}', text=True)
        await peer.send(json.dumps([notice("notifications/message", data=1), fill(result({}), told)]))
        await peer.wait_closed()

    async with served(handler) as wire:
        assert await listened(wire) == (["notifications/message"], {})


def frames(*pieces: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A server that agrees to the handshake and then sends these bytes."""

    async def script(peer: Peer) -> None:
        request = await peer.request()
        key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
        head = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        await peer.send(head + accept + b"\r\n\r\n", *pieces)
        await peer.gone()

    return script


@pytest.mark.parametrize(
    "piece",
    [b"\xc1\x00", b"\x80\x00", b"\x83\x00", b"\x81\x80abcd", b"\x01\x00\x81\x00", b"\x89\x7e\x01\x00" + b"x" * 256],
    ids=["compressed", "continues nothing", "reserved", "masked", "begins twice", "long ping"],
)
async def test_what_breaks_the_protocol_ends_it_even_when_the_server_does_not_leave(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_WAIT", 0.02)
    async with serving(frames(piece)) as server, connected(server.port) as wire:
        gone = asyncio.Event()
        wire.on_gone = gone.set
        if not wire._ended:
            await gone.wait()
        assert wire.obituary() == "it broke the protocol"
        await until(lambda: server.open == 0)


async def test_a_silent_server_is_pinged_and_left_when_it_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING_EVERY", 0.05)
    async with serving(frames()) as server, connected(server.port) as wire:
        gone = asyncio.Event()
        wire.on_gone = gone.set
        await gone.wait()
        assert wire.obituary() == "it does not answer to pings"
    async with served(answering(result({}))) as wire:
        await asyncio.sleep(0.2)
        assert await listened(wire) == ([], {})


async def test_a_server_that_reads_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcp.upstream.inbox.WRITE_STALL", 0.05)
    async with serving(frames()) as server, connected(server.port) as wire:
        wire.pause_writing()
        with pytest.raises(Overdue, match="write stall"):
            await wire.tell(b"{}", ())
        await until(lambda: wire._ended)


async def test_closing_says_goodbye_and_twice_is_harmless() -> None:
    codes: list[int | None] = []

    async def handler(peer: ServerConnection) -> None:
        await peer.wait_closed()
        codes.append(peer.close_code)

    async with served(handler) as wire:
        await wire.close()
        await wire.close()
        await until(lambda: bool(codes))
        with pytest.raises(Unavailable):
            await wire.exchange(ask(), None, soon())
    assert codes == [1000]
