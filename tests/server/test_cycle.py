"""One response on a connection: how it is framed, and that a client is never left without an end of it.

Rule: what a client sees is read from the socket, byte by byte where framing is meant.
"""

import asyncio
from typing import Any

import pytest

from tests.server.clients import listening
from tests.server.peers import config, until
from vmcp.config.model import Limits
from vmcp.server.asgi import Receive, Scope, Send
from vmcp.server.listener import LEAVES

GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
HEAD = b"HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n"
Messages = list[dict[str, Any]]


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(text: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text, "more_body": more}


class Saying:
    """An application that sends these messages, and then fails if it shall."""

    def __init__(self, *messages: dict[str, Any], fails: bool = False) -> None:
        self._messages = messages
        self._fails = fails

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for message in self._messages:
            await send(message)
        if self._fails:
            raise RuntimeError("secret of the house")


async def talk(app: Any, sent: bytes) -> bytes:
    """Everything that comes back for ``sent`` until the server closes."""
    async with listening(app, config({})) as server:
        raw = await server.say(sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return await raw.rest()


@pytest.mark.parametrize(
    ("messages", "sent", "expected"),
    [
        ([start(), body(b"ab")], GET, b"200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab"),
        (
            [start(200, (b"x", b"y")), body(b"")],
            GET,
            b"200 OK\r\nx: y\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        ),
        ([start(), body(b"ab")], HEAD, b"200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"),
        ([start(204), body(b"")], GET, b"204 No Content\r\nconnection: close\r\n\r\n"),
        (
            [start(), body(b"ab", more=True), body(b"", more=True), body(b"c" * 17, more=True), body(b"")],
            GET,
            b"200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n11\r\n"
            + b"c" * 17
            + b"\r\n0\r\n\r\n",
        ),
        (
            [start(), body(b"", more=True), body(b"ab", more=True), body(b"")],
            GET,
            b"200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        ),
        (
            [start(200, (b"connection", b"Close")), body(b"")],
            GET,
            b"200 OK\r\nconnection: Close\r\ncontent-length: 0\r\n\r\n",
        ),
    ],
)
async def test_a_response_is_framed(messages: Messages, sent: bytes, expected: bytes) -> None:
    assert await talk(Saying(*messages), sent) == b"HTTP/1.1 " + expected


@pytest.mark.parametrize("messages", [[], [start()]])
async def test_an_application_that_fails_before_its_answer_is_a_500_without_words(messages: Messages) -> None:
    answer = await talk(Saying(*messages, fails=True), GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in answer


async def test_an_application_that_says_nothing_is_a_500() -> None:
    assert (await talk(Saying(), GET)).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("fails", [True, False])
async def test_a_stream_that_breaks_off_is_seen_to_break_off(fails: bool) -> None:
    answer = await talk(Saying(start(), body(b"ab", more=True), fails=fails), GET)
    assert answer.endswith(b"2\r\nab\r\n"), "no end of chunks, so nobody takes it for the whole"


@pytest.mark.parametrize(
    "header", [(b"x", b"a\r\nb: c"), (b"x y", b"a"), (b"x", b"a\0"), (b"", b"a"), (b"content-length", b"9")]
)
async def test_a_header_that_would_break_the_framing_is_never_sent(header: tuple[bytes, bytes]) -> None:
    answer = await talk(Saying(start(200, header), body(b"")), GET)
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"b: c" not in answer


async def test_two_answers_on_one_connection_do_not_mix_their_headers() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, (b"x-path", scope["raw_path"])))
        await send(body(b""))

    async with listening(app, config({})) as server:
        raw = await server.say(GET, GET.replace(b"/x", b"/y"))
        assert [(await raw.response()).headers["x-path"] for _ in range(2)] == ["/x", "/y"]


async def test_a_client_that_does_not_read_stops_who_writes_until_it_is_gone() -> None:
    written = 0
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal written
        await send(start())
        try:
            while True:
                await send(body(b"x" * 65536, more=True))
                written += 1
                await asyncio.sleep(0)
        finally:
            left.set()

    seen: list[Scope] = []

    async def remembering(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        scope[LEAVES] = True
        await app(scope, receive, send)

    async with listening(remembering, config({})) as server:
        raw = await server.connect()
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        raw.send(GET)
        await until(lambda: seen)
        before = -1
        async with asyncio.timeout(5):
            while before != written or not written:
                before = written
                for _ in range(200):
                    await asyncio.sleep(0)
        assert written < 1000, "the writer is held back"
        raw.close()
        async with asyncio.timeout(5):
            await left.wait()


async def test_a_client_that_does_not_read_for_long_is_let_go() -> None:
    done = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(1000):
            await send(body(b"x" * 65536, more=True))
        await send(body(b""))
        done.set()

    async with listening(app, config({}, limits=Limits(write_stall=0.1))) as server:
        raw = await server.connect()
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        raw.send(GET)
        async with asyncio.timeout(5):
            await done.wait()
        await until(lambda: not (server.state.tasks or server.state.connections))
