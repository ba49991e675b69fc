"""Too many, too slow and too much at the listener, on real sockets: who is refused, who is let go, and who is served beside them.

Rule: a good neighbour is served in every case, and what was refused is proved not to have reached the application.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.server.clients import Listening, listening
from tests.server.clients import Raw as Connection
from tests.server.peers import config, until
from tests.server.test_listener import CHUNKED, OK, Recorder, limited, recording
from vmcp.server import listener, vigil
from vmcp.server.asgi import Receive, Scope, Send
from vmcp.server.load import STEPS, Load
from vmcp.server.upgrade import Upgrade

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"


@contextlib.asynccontextmanager
async def watched(app: Any, **limits: Any) -> AsyncIterator[tuple[Listening, list[tuple[int, bytes]]]]:
    """A listener that tells what it refuses."""
    told: list[tuple[int, bytes]] = []

    class Told:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)

        def rejected(self, status: int, client: Any, raw_path: bytes) -> None:
            told.append((status, raw_path))

    async with listening(Told(), limited(**limits)) as server:
        yield server, told


# --- connections


async def test_a_connection_too_many_is_told_so_and_its_place_is_free_again() -> None:
    app = Recorder()
    async with watched(app, connections=2) as (server, told):
        first, second = await server.say(OK), await server.say(OK)
        assert [(await raw.response()).status for raw in (first, second)] == [200, 200]
        third = await server.connect()
        answer = await third.response()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert await third.rest() == b""
        assert told == [(503, b"")]
        second.send(OK)
        assert (await second.response()).status == 200
        first.close()
        await until(lambda: len(server.state.connections) == 1)
        assert (await (await server.say(OK)).response()).status == 200
        assert len(app.seen) == 4


async def test_one_address_too_often_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "_LOOPBACK", ())
    async with watched(Recorder(), connections_per_address=1) as (server, told):
        first = await server.say(OK)
        assert (await first.response()).status == 200
        second = await server.say(OK)
        assert (await second.response()).status == 429
        assert told == [(429, b"")]
        first.send(OK)
        assert (await first.response()).status == 200


# --- requests in line


async def test_a_line_of_requests_has_an_end() -> None:
    async with recording() as (server, app):
        app.hold = asyncio.Event()
        raw = await server.say(OK * (listener.PIPELINE + 10))
        await until(lambda: app.seen)
        app.hold.set()
        statuses = [(await raw.response()).status for _ in range(listener.PIPELINE + 2)]
        assert statuses == [200] * (listener.PIPELINE + 1) + [400]
        assert await raw.rest() == b""


async def test_nothing_is_said_in_the_midst_of_an_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while (await receive())["type"] == "http.request":
            pass

    async with listening(app, limited()) as server:
        raw = await server.say(CHUNKED + b"\r\n2\r\nab\r\n")
        assert (await raw.response(head=True)).status == 200
        raw.send(b"no size\r\n")
        assert await raw.rest() == b"5\r\nbegun\r\n"


# --- bodies


async def test_a_body_has_more_time_for_what_has_come() -> None:
    async with recording(body_timeout=0.04, body_rate=1) as (server, _):
        raw = await server.say(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n", b"a")
        watch = server.protocol.vigil
        await until(lambda: watch.now > 0.3)
        raw.send(b"bc")
        assert (await raw.response()).body == b"/x abc"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (CHUNKED + b"\r\n2\r\nab\r\n2;", b"x" * 400),
        (CHUNKED + b"\r\n2\r\nab\r\n0\r\n", b"X: y\r\n" * 80),
        (CHUNKED + b"\r\n2\r\nab\r\n0\r\nX: ", b"y" * 400),
    ],
    ids=["a name of a chunk", "trailers", "a trailer"],
)
async def test_what_is_no_body_must_not_be_more_than_a_head(begin: bytes, more: bytes) -> None:
    async with recording(header_bytes=1000) as (server, app):
        raw = await server.say(begin)
        for _ in range(5):
            raw.send(more)
            await raw.writer.drain()
            await asyncio.sleep(0.001)
        assert (await raw.response()).status == 400
        assert not app.seen


async def test_small_chunks_are_no_less_a_body() -> None:
    async with recording(header_bytes=100) as (server, _):
        raw = await server.say(CHUNKED + b"\r\n")
        for _ in range(100):
            raw.send(b"1\r\nx\r\n")
            await asyncio.sleep(0)
        raw.send(b"0\r\n\r\n")
        assert (await raw.response()).body == b"/x " + b"x" * 100


async def test_the_rest_of_a_body_that_was_answered_has_an_end() -> None:
    async with recording(body_bytes=1000) as (server, app):
        app.early = True
        raw = await server.say(CHUNKED + b"\r\n")
        assert (await raw.response()).status == 200
        for _ in range(5):
            raw.send(b"190\r\n" + b"x" * 400 + b"\r\n")
            await asyncio.sleep(0.001)
        assert await raw.rest() == b""


# --- who does not read


async def unreading(server: Listening, sent: bytes) -> Connection:
    raw = await server.connect()
    raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
    raw.send(sent)
    return raw


class Large:
    """Answers with much."""

    def __init__(self, size: int) -> None:
        self._body = b"x" * size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"" if scope["raw_path"] == b"/x" else self._body})


BIG = b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("last", [False, True], ids=["kept", "closing"])
async def test_an_answer_that_nobody_reads_is_not_kept_for_ever(last: bool) -> None:
    async with listening(Large(16 << 20), limited(write_stall=0.1)) as server:
        await unreading(server, BIG.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if last else BIG)
        await until(lambda: server.state.total_requests)
        assert (await (await server.say(OK)).response()).status == 200
        await until(lambda: len(server.state.connections) == 1)


async def test_who_does_not_read_goes_sooner_when_much_is_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vigil, "HURRY", 0.1)
    async with listening(Large(16 << 20), limited(unread_bytes=1 << 20)) as server:
        await unreading(server, BIG)
        await until(lambda: server.state.total_requests)
        await until(lambda: not server.state.connections)


# --- overload


async def test_a_request_too_many_is_turned_away_at_once_and_health_is_not() -> None:
    app = Recorder(hold=asyncio.Event())
    assert app.hold is not None
    async with watched(app, requests=1) as (server, told):
        first = await server.say(OK)
        await until(lambda: app.seen)
        second = await server.say(b"POST /y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
        answer = await second.response()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "server.limits.requests" in json.loads(answer.body)["error"]["message"]
        assert told == [(503, b"/y")]
        probe = await server.say(LIVEZ)
        await until(lambda: len(app.seen) == 2)
        app.hold.set()
        assert [(await raw.response()).status for raw in (first, probe)] == [200, 200]
        second.send(b"cde" + OK)
        assert (await second.response()).body == b"/x ", "its connection is as good as before"
        assert [scope["raw_path"] for scope, _ in app.seen] == [b"/x", b"/livez", b"/x"]


async def test_an_answer_that_has_begun_holds_nobody_up() -> None:
    done = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["method"] == "GET":
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
            await done.wait()
        await send({"type": "http.response.body", "body": b""})

    post = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    async with listening(app, limited(requests=1, header_timeout=0.1)) as server:
        stream = await server.say(OK)
        assert (await stream.response(head=True)).status == 200
        await until(lambda: server.protocol.load.ceiling == 2)
        assert (await (await server.say(post)).response()).status == 200
        done.set()


def short(server: Listening, step: int) -> Load:
    """From now on memory is short."""
    found: Load = server.protocol.load
    found.step, found.ceiling = step, 0
    return found


@pytest.mark.parametrize(
    ("sent", "step"),
    [
        (b"GET /x HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n", 1),
        (b"POST /x HTTP/1.1\r\nHost: h\r\nMcp-Method: subscriptions/listen\r\nContent-Length: 0\r\n\r\n", 1),
        (b"POST /x HTTP/1.1\r\nHost: h\r\nMcp-Method: tools/list\r\nContent-Length: 0\r\n\r\n", 2),
        (b"POST /x HTTP/1.1\r\nHost: h\r\nMcp-Method: tools/call\r\nContent-Length: 0\r\n\r\n", 3),
        (LIVEZ, 4),
    ],
    ids=["stream", "listen", "list", "call", "health"],
)
async def test_what_is_dear_is_turned_away_first(sent: bytes, step: int) -> None:
    app = Recorder()
    async with listening(
        app,
        config({}),
    ) as server:
        raw = await server.connect()
        for now in range(min(step, len(STEPS)) if step < 4 else 4):
            short(server, now)
            raw.send(sent)
            assert (await raw.response()).status == 200, now
        if step <= len(STEPS):
            short(server, step)
            raw.send(sent)
            assert (await raw.response()).status == 503


async def test_a_websocket_is_a_stream_too() -> None:
    class Door(Recorder):
        def upgrades(self, raw_path: bytes) -> bool:
            return True

        def upgrade(self, asked: Upgrade) -> None:
            asked.transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            asked.transport.close()

    upgrade = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with listening(Door(), config({})) as server:
        assert (await (await server.say(upgrade)).rest()).startswith(b"HTTP/1.1 101 ")
        short(server, 1)
        assert (await (await server.say(upgrade)).rest()).startswith(b"HTTP/1.1 503 ")


class Closing(asyncio.Transport):
    """A transport that is closing, with something left that nobody reads."""

    aborted = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        return True

    def close(self) -> None:
        """It is being closed."""

    def abort(self) -> None:
        self.aborted = True


async def test_the_little_that_is_left_when_we_close_is_not_kept_for_ever() -> None:
    async with listening(Recorder(), limited(write_stall=10.0)) as server:
        transport = Closing()
        connection = server.protocol(config=server.settings, server_state=server.state, app_state={})
        connection.connection_made(transport)
        for now, aborted in [(1.0, False), (10.9, False), (11.0, True)]:
            connection.look(now, hurry=False)
            assert transport.aborted == aborted
        connection.connection_lost(None)
