"""The listener on raw sockets: what a client may make it hold, and what of a request reaches the application.

Rule: a refused request is proved not to have reached the application, and a good neighbour beside it is served.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.server.clients import Listening, listening
from tests.server.peers import config, until
from vmcp.config.model import Config, Limits
from vmcp.server.asgi import Receive, Scope, Send
from vmcp.server.listener import GONE, LEAVES

OK = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"


@dataclass
class Recorder:
    """An application that remembers each request, as it looked after its body was read."""

    seen: list[tuple[Scope, bytes]] = field(default_factory=list)
    open: int = 0
    hold: asyncio.Event | None = None
    early: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.open += 1
        try:
            body = b"" if self.early else await self._body(receive)
            if body is None:
                return
            self.seen.append((scope, body))
            if self.hold is not None:
                await self.hold.wait()
            answer = scope["raw_path"] + b" " + body
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": answer})
        finally:
            self.open -= 1

    async def _body(self, receive: Receive) -> bytes | None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return body

    def headers(self) -> dict[bytes, bytes]:
        return dict(self.seen[-1][0]["headers"])


@contextlib.asynccontextmanager
async def recording(**limits: Any) -> AsyncIterator[tuple[Listening, Recorder]]:
    app = Recorder()
    async with listening(app, limited(**limits)) as server:
        yield server, app


def limited(**limits: Any) -> Config:
    return config({}, limits=replace(Limits(), **limits))


async def test_a_trailer_never_becomes_a_header() -> None:
    async with recording() as (server, app):
        head = CHUNKED + b"Authorization: Bearer real\r\nTrailer: Authorization\r\n\r\n"
        raw = await server.say(head, b"2\r\nab\r\n0\r\nAuthorization: Bearer forged\r\nX-New: 1\r\n\r\n")
        assert (await raw.response()).body == b"/x ab"
        assert app.headers()[b"authorization"] == b"Bearer real"
        assert b"x-new" not in app.headers()
        raw.send(OK)
        assert (await raw.response()).body == b"/x "
        assert b"x-new" not in app.headers()


async def test_headers_are_frozen_for_whoever_reads_them() -> None:
    async with recording() as (server, app):
        await (await server.say(OK)).response()
        assert isinstance(app.seen[0][0]["headers"], tuple)


BAD: list[tuple[str, bytes, int]] = [
    ("two hosts", b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("two equal hosts", b"GET /x HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400),
    ("two lengths", b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    ("equal lengths", b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", 400),
    ("two tokens", b"GET /x HTTP/1.1\r\nHost: h\r\nAuthorization: a\r\nAUTHORIZATION: b\r\n\r\n", 400),
    ("two types", b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\n", 400),
    ("two sessions", b"POST /x HTTP/1.1\r\nHost: h\r\nMcp-Session-Id: a\r\nMcp-Session-Id: b\r\n\r\n", 400),
    ("two origins", b"GET /x HTTP/1.1\r\nHost: h\r\nOrigin: http://evil\r\nOrigin: http://localhost\r\n\r\n", 400),
    ("two revisions", b"GET /x HTTP/1.1\r\nHost: h\r\nMCP-Protocol-Version: a\r\nMCP-Protocol-Version: b\r\n\r\n", 400),
    ("two methods", b"GET /x HTTP/1.1\r\nHost: h\r\nMcp-Method: ping\r\nMcp-Method: tools/call\r\n\r\n", 400),
    ("two names", b"GET /x HTTP/1.1\r\nHost: h\r\nMcp-Name: a\r\nMcp-Name: b\r\n\r\n", 400),
    ("length and chunks", CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n", 400),
    (
        "chunks and length",
        b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    ("gzip, chunked", b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    ("identity, chunked", b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400),
    ("gzip", b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    ("two codings", CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("chunks in 1.0", b"POST /x HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("space before colon", b"GET /x HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    ("folded header", b"GET /x HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 400),
    ("bare line feeds", b"GET /x HTTP/1.1\nHost: h\n\n", 400),
    ("a NUL", b"GET /x HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n", 400),
    ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("CONNECT", b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n", 400),
    ("absolute form", b"GET http://evil/x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("asterisk form", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("no slash", b"GET x HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("bad chunk size", CHUNKED + b"\r\n0x2\r\nab\r\n0\r\n\r\n", 400),
    ("negative length", b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
    ("too many headers", b"GET /x HTTP/1.1\r\nHost: h\r\n" + b"X: 1\r\n" * 100 + b"\r\n", 431),
    ("too large headers", b"GET /x HTTP/1.1\r\nHost: h\r\nX: " + b"x" * (33 << 10) + b"\r\n\r\n", 431),
    ("too long a path", b"GET /" + b"x" * (33 << 10) + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
]


@pytest.mark.parametrize(("sent", "status"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_what_two_parsers_could_read_in_two_ways_is_refused(sent: bytes, status: int) -> None:
    async with recording() as (server, app):
        good = await server.connect()
        raw = await server.say(sent)
        assert (await raw.response()).status == status
        assert await raw.rest() == b"", "one answer, and the connection is closed"
        good.send(OK)
        assert (await good.response()).status == 200
        assert [scope["headers"] for scope, _ in app.seen] == [((b"host", b"h"),)], "only the neighbour came through"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /x HTTP/1.1\r\nHost: h\r\n" + b"X: 1\r\n" * 99 + b"\r\n",
        b"GET /x HTTP/1.1\r\nHost: h\r\nX: " + b"x" * (31 << 10) + b"\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n",
        b"\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: h\r\nCookie: a\r\nCookie: b\r\n\r\n",
    ],
)
async def test_what_is_within_the_limits_is_served(sent: bytes) -> None:
    async with recording() as (server, app):
        assert (await (await server.say(sent)).response()).status == 200
        assert len(app.seen) == 1


async def test_a_head_without_end_is_cut_off_at_the_limit() -> None:
    async with recording(header_bytes=1000) as (server, app):
        raw = await server.say(b"GET /x HTTP/1.1\r\nHost: h\r\nX: ")
        for _ in range(3):
            raw.send(b"x" * 400)
            await asyncio.sleep(0)
        assert (await raw.response()).status == 431
        assert not app.seen


async def test_a_large_body_before_a_half_head_is_not_counted_as_head() -> None:
    async with recording(header_bytes=1000) as (server, app):
        post = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n" + b"b" * 5000
        raw = await server.say(post + OK[:10])
        assert (await raw.response()).status == 200
        raw.send(OK[10:])
        assert (await raw.response()).status == 200
        assert len(app.seen) == 2


@pytest.mark.parametrize("begun", [b"", b"GET /x HT", b"GET /x HTTP/1.1\r\nHost: h\r\n", b"\r\n\r\n"])
async def test_a_head_that_does_not_end_in_time_is_closed(begun: bytes) -> None:
    async with recording(header_timeout=0.05) as (server, app):
        raw = await server.say(begun)
        assert await raw.rest() == b""
        assert not app.seen
        await until(lambda: not server.state.connections)


async def test_the_next_head_on_a_kept_connection_has_its_own_time() -> None:
    async with recording(header_timeout=0.05, keep_alive=5) as (server, app):
        raw = await server.say(OK)
        assert (await raw.response()).status == 200
        raw.send(b"GET /x HT")
        assert await raw.rest() == b""
        assert len(app.seen) == 1


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_kept_connection_is_closed_when_it_is_not_used(sent: bytes) -> None:
    async with recording(keep_alive=1, header_timeout=1) as (server, _):
        raw = await server.say(OK)
        assert (await raw.response()).status == 200
        raw.send(sent)
        assert await raw.rest() == b""


async def test_who_was_answered_before_the_end_of_its_body_cannot_keep_the_connection() -> None:
    async with recording(keep_alive=1, body_timeout=0.1) as (server, app):
        app.early = True
        raw = await server.say(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n")
        assert (await raw.response()).status == 200
        raw.send(b"x")
        assert await raw.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc",
        CHUNKED + b"\r\n5\r\nab",
        CHUNKED + b"\r\n0\r\nTrailer: with",
    ],
)
async def test_a_body_that_does_not_end_in_time_is_answered_with_408(sent: bytes) -> None:
    async with recording(body_timeout=0.05) as (server, app):
        raw = await server.say(sent)
        assert (await raw.response()).status == 408
        assert await raw.rest() == b""
        await until(lambda: not app.open)
        assert not app.seen


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with recording() as (server, app):
        app.hold = asyncio.Event()
        heads = [b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(5)]
        posts = [b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab"]
        raw = await server.say(b"".join([*heads, *posts]))
        await until(lambda: app.seen)
        assert app.open == 1, "the second is not begun before the first has ended"
        app.hold.set()
        bodies = [(await raw.response()).body for _ in range(6)]
        assert bodies == [b"/0 ", b"/1 ", b"/2 ", b"/3 ", b"/4 ", b"/p ab"]


async def test_a_request_may_come_byte_by_byte() -> None:
    async with recording() as (server, _):
        raw = await server.connect()
        for byte in b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab":
            raw.send(bytes([byte]))
            await raw.writer.drain()
            await asyncio.sleep(0)
        assert (await raw.response()).body == b"/x ab"


async def test_clients_that_offer_another_protocol_are_served_in_this_one() -> None:
    # java.net.http offers h2c with every request.
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    post = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n" + offer + b"\r\nab"
    async with recording() as (server, _):
        raw = await server.say(post)
        assert (await raw.response()).body == b"/x ab"
        raw.send(post)
        assert (await raw.response()).body == b"/x ab"


async def test_a_client_that_waits_for_continue_gets_it() -> None:
    async with recording() as (server, _):
        raw = await server.say(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await raw.response()).status == 100
        raw.send(b"ab")
        assert (await raw.response()).body == b"/x ab"


@pytest.mark.parametrize("waiting", [b"", OK], ids=["alone", "with another in line"])
async def test_a_client_that_goes_away_ends_what_leaves_with_it(waiting: bytes) -> None:
    async with recording() as (server, app):
        app.hold = asyncio.Event()
        raw = await server.say(OK + waiting)
        await until(lambda: app.seen)
        scope = app.seen[0][0]
        scope[LEAVES] = True
        raw.close()
        await until(lambda: not app.open)
        assert scope[GONE], "and it can see why"


async def test_a_client_that_goes_away_leaves_the_rest_alone() -> None:
    async with recording() as (server, app):
        app.hold = asyncio.Event()
        raw = await server.say(OK)
        await until(lambda: app.seen)
        raw.close()
        await until(lambda: not server.state.connections)
        assert app.open == 1
        app.hold.set()
        await until(lambda: not app.open)
        assert GONE not in app.seen[0][0]


async def test_who_was_answered_is_not_missed() -> None:
    async with recording() as (server, app):
        raw = await server.say(OK)
        await raw.response()
        app.seen[0][0][LEAVES] = True
        raw.close()
        await until(lambda: not server.state.connections)
        assert GONE not in app.seen[0][0]
