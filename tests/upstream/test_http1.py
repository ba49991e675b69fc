"""One connection and its responses against a server of raw bytes: framing, deadlines, leaving early.

Rule: every refusal stands beside the nearest thing that is permitted, and the pool is empty of active slots after each.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from tests.upstream.badserver import Peer, Script, ok, serving, until
from vmcp.config.model import PoolSpec, Timeouts
from vmcp.errors import Code, Overdue, Unavailable, VmcpError, WireError
from vmcp.upstream import faults, http1
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.pool import Pool
from vmcp.upstream.room import Room, room

HEADERS = [(b"content-type", b"application/json")]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
FAST = Timeouts(connect=5, first_byte=5, total=5, idle_stream=5)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@contextlib.asynccontextmanager
async def against(
    script: Script, timeouts: Timeouts = FAST, spec: PoolSpec | None = None, max_response: int = 1 << 20
) -> AsyncIterator[Pool]:
    async with serving(script) as server:
        url = f"http://127.0.0.1:{server.port}/mcp?a=b"
        pool = Pool(endpoint(url), spec or PoolSpec(), timeouts, max_response=max_response, name="time")
        try:
            yield pool
            assert pool.active == 0
            assert pool.waiting == 0
        finally:
            await pool.close()


async def post(pool: Pool, body: bytes = b"{}") -> tuple[int, bytes]:
    response = await pool.request(b"POST", HEADERS, body)
    return response.status, await response.read()


def saying(*pieces: bytes) -> Script:
    """Each request is answered with these pieces, and the connection stays open."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(*pieces)

    return script


def saying_once(*pieces: bytes) -> Script:
    """The first request is answered with these pieces, then the connection is closed."""

    async def script(peer: Peer) -> None:
        await peer.answer(*pieces)
        peer.close()

    return script


async def test_a_request_is_one_plain_http_1_1_message() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.answer(ok(b"yes")))

    async with against(script) as pool:
        assert await post(pool, b'{"a":1}') == (200, b"yes")
        await (await pool.request(b"DELETE", [], b"")).read()
        host = pool._endpoint.host_header
    assert host.startswith(b"127.0.0.1:")
    assert seen == [
        b"POST /mcp?a=b HTTP/1.1\r\nhost: " + host + b"\r\naccept-encoding: identity\r\n"
        b'content-type: application/json\r\ncontent-length: 7\r\n\r\n{"a":1}',
        b"DELETE /mcp?a=b HTTP/1.1\r\nhost: " + host + b"\r\naccept-encoding: identity\r\n\r\n",
    ]


REUSED = {
    "content length": (ok(b"hello"), b"hello"),
    "chunked": (CHUNKED + b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", b"hello"),
    "chunked with a trailer": (CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", b"hello"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified, with the length of what it does not send": (b"HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n", b""),
    "accepted": (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", b""),
    "after interim responses": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + ok(b"hello"),
        b"hello",
    ),
    "identity said aloud": (ok(b"hello", b"Content-Encoding: Identity"), b"hello"),
    "a redirect, which is not followed": (b"HTTP/1.1 307 T\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", b""),
}


@pytest.mark.parametrize("cut", [0, 1, 7], ids=["whole", "byte by byte", "in sevens"])
@pytest.mark.parametrize(("raw", "body"), REUSED.values(), ids=REUSED.keys())
async def test_a_framed_response_leaves_the_connection_for_the_next(raw: bytes, body: bytes, cut: int) -> None:
    pieces = [raw[i : i + cut] for i in range(0, len(raw), cut)] if cut else [raw]
    async with against(saying(*pieces)) as pool:
        for _ in range(3):
            _, got = await post(pool)
            assert got == body
            assert (pool.active, pool.idle) == (0, 1)


NOT_REUSED = {
    "connection close": (ok(b"hello", b"Connection: close"), b"hello"),
    "connection close, and more": (ok(b"hello", b"Connection: close") + b"HTTP/1.1 200 OK\r\n", b"hello"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "HTTP/1.0, keep-alive": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "until close": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    "a second response": (ok(b"hello") + ok(b"forged"), b"hello"),
    "the beginning of one": (ok(b"hello") + b"HTT", b"hello"),
    "garbage behind": (ok(b"hello") + b"garbage", b"hello"),
    "a body where there is none": (b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", b""),
}


@pytest.mark.parametrize(("raw", "body"), NOT_REUSED.values(), ids=NOT_REUSED.keys())
async def test_a_response_after_which_nothing_is_sure_costs_its_connection(raw: bytes, body: bytes) -> None:
    async with against(saying_once(raw)) as pool:
        _, got = await post(pool)
        assert got == body
        assert (pool.active, pool.idle) == (0, 0)
        assert (await post(pool))[1] == body


MANY = b"".join(b"X-%d: y\r\n" % i for i in range(200))
BROKEN = {
    "another protocol": (b"SSH-2.0-OpenSSH_9\r\n", "no valid HTTP"),
    "HTTP/2": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP version"),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "no valid HTTP"),
    "a folded header": (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", "no valid HTTP"),
    "a NUL in a header": (b"HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n", "no valid HTTP"),
    "length and coding": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer coding|no valid HTTP",
    ),
    "coding and length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "no valid HTTP",
    ),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "no valid HTTP"),
    "a signed length": (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "no valid HTTP"),
    "gzip as a coding": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "transfer coding"),
    "a compressed body": (ok(b"hello", b"Content-Encoding: gzip"), "compressed"),
    "a chunk size that is none": (CHUNKED + b"xyz\r\n", "no valid HTTP"),
    "an upgrade": (b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "switches protocols"),
    "interim responses without end": (b"HTTP/1.1 102 P\r\n\r\n" * 9, "no final status"),
    "a status below 100": (b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n", "no final status"),
    "201 headers": (b"HTTP/1.1 200 OK\r\n" + MANY + b"Content-Length: 0\r\n\r\n", "more than 200 headers"),
    "a long head": (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000 + b"\r\n\r\n", "65536"),
    "an endless reason": (b"HTTP/1.1 200 " + b"x" * 70_000, "65536"),
    "an endless header": (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000, "65536"),
    "an endless chunk extension": (CHUNKED + b"5;" + b"x" * 70_000, "65536"),
    "endless trailers": (CHUNKED + b"0\r\n" + b"A: b\r\n" * 12_000, "65536"),
}


@pytest.mark.parametrize(("raw", "words"), BROKEN.values(), ids=BROKEN.keys())
async def test_what_is_no_http_is_an_error_and_closes_the_connection(raw: bytes, words: str) -> None:
    async with against(saying(raw)) as pool:
        with pytest.raises(WireError, match=words) as caught:
            await post(pool)
        assert "'time'" in str(caught.value)
        assert (pool.active, pool.idle) == (0, 0)


async def test_200_headers_are_not_too_many() -> None:
    raw = b"HTTP/1.1 200 OK\r\n" + MANY.removesuffix(b"X-199: y\r\n") + b"Content-Length: 0\r\n\r\n"
    async with against(saying(raw)) as pool:
        response = await pool.request(b"POST", HEADERS, b"{}")
        assert await response.read() == b""
        assert len(response.headers) == 200
        assert response.header(b"x-7") == b"y"
        assert response.header(b"x-199") is None


CUT_OFF = {
    "in the status line": b"HTTP/1.1 2",
    "in the head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    "between chunks": CHUNKED + b"5\r\nhello\r\n",
}


@pytest.mark.parametrize("ending", ["close", "reset", "half_close"])
@pytest.mark.parametrize("raw", CUT_OFF.values(), ids=CUT_OFF.keys())
async def test_a_response_that_is_cut_off_is_an_error(raw: bytes, ending: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(raw)
        await until(lambda: next(iter(pool._open))._framer.received == len(raw))  # a RST overtakes what was sent
        getattr(peer, ending)()
        await peer.gone()

    async with against(script) as pool:
        with pytest.raises(WireError, match="was cut off"):
            await post(pool)


async def test_a_reset_ends_a_body_without_length_with_an_error() -> None:
    async def resetting(peer: Peer) -> None:
        await peer.answer(b"HTTP/1.1 200 OK\r\n\r\nhello")
        peer.reset()

    async with against(resetting) as pool:
        with pytest.raises(WireError, match="was cut off"):
            await post(pool)


@pytest.mark.parametrize("ending", ["close", "reset", "half_close"])
async def test_a_fresh_connection_closed_without_answer_says_so(ending: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        getattr(peer, ending)()
        await peer.gone()

    async with against(script) as pool:
        with pytest.raises(Unavailable, match="before an answer") as caught:
            await post(pool)
        assert caught.value.vmcp_code == Code.TRANSPORT_CLOSED
        assert not isinstance(caught.value, faults.Unsent | faults.Dropped)


async def test_a_head_request_has_no_body_whatever_its_length_says() -> None:
    async with against(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")) as pool:
        response = await pool.request(b"HEAD", [], b"")
        assert (response.status, await response.read()) == (200, b"")
        assert pool.idle == 0


@pytest.mark.parametrize("coding", ["length", "chunked", "at once", "crumbs"])
async def test_a_body_is_limited_and_one_of_exactly_the_limit_is_not_too_large(coding: str) -> None:
    def raw(size: int) -> list[bytes]:
        if coding == "at once":
            return [ok(b"x" * size)]
        if coding == "crumbs":
            return [CHUNKED, b"2\r\nxx\r\n" * (size // 2), b"1\r\nx\r\n" * (size % 2), b"0\r\n\r\n"]
        head = (
            CHUNKED + b"%x\r\n" % size
            if coding == "chunked"
            else b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        )
        return [head, b"x" * (size - 1), b"x", b"\r\n0\r\n\r\n" if coding == "chunked" else b""]

    async with against(saying(*raw(20_000)), max_response=20_000) as pool:
        assert await post(pool) == (200, b"x" * 20_000)
        assert pool.idle == 1
    async with against(saying_once(*raw(20_001)), max_response=20_000) as pool:
        with pytest.raises(WireError, match="20000 bytes"):
            await post(pool)


async def test_a_large_body_is_read_whole() -> None:
    body = bytes(range(256)) * 20_000
    async with against(saying(ok(body)), max_response=len(body)) as pool:
        for _ in range(2):
            assert await post(pool) == (200, body)
        assert pool.idle == 1


@contextlib.asynccontextmanager
async def full(limit: int = 1 << 20) -> AsyncIterator[Room]:
    """No room for anything large, as clients leave so much unread."""
    found = room()
    before, found.limit = found.limit, limit
    found.leaves_unread(limit)
    try:
        yield found
    finally:
        found.limit = before
        assert (found.used, found.wanted) == (0, False)


@pytest.mark.parametrize("coding", ["length", "chunked", "close"])
@pytest.mark.parametrize("cut", [1 << 10, 1 << 14, 1 << 20])
async def test_large_bodies_come_whole_one_after_the_other_over_one_connection(coding: str, cut: int) -> None:
    body = bytes(range(256)) * 4000
    text = {
        "length": ok(body),
        "chunked": CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
        "close": b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body),
    }[coding]
    numbers: list[int] = []

    async def script(peer: Peer) -> None:
        while True:
            numbers.append(peer.number)
            await peer.answer(*(text[at : at + cut] for at in range(0, len(text), cut)))
            if coding == "close":
                peer.close()

    async with against(script) as pool:
        for _ in range(3):
            response = await pool.request(b"POST", HEADERS, b"{}")
            assert await response.body() == body
            assert await response.body() == b"", "an idle connection does not keep it"
        assert len(set(numbers)) == (3 if coding == "close" else 1)
    await until(lambda: room().used == 0)


@pytest.mark.parametrize("coding", ["length", "chunked"])
async def test_what_is_large_is_not_read_before_there_is_room_for_it(coding: str) -> None:
    body = b"x" * (8 << 20)
    framed = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    async def script(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(ok(b"small") if b"small" in request else ok(body) if coding == "length" else framed)
        await peer.answer(ok(b"next"))

    async with against(script, max_response=len(body)) as pool, full() as rooms:
        response = await pool.request(b"POST", HEADERS, b"{}")
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(response.read())
            await until(lambda: rooms.wanted)
            assert await post(pool, b"small") == (200, b"small"), "what is small does not wait"
            assert response.size < 4 * http1.HIGH_WATER
            assert not reading.done()
            rooms.leaves_unread(-rooms.limit)
        assert reading.result() == body
        await until(lambda: rooms.used == 0)
        assert await post(pool) == (200, b"next")


@pytest.mark.parametrize("how", ["time", "cancel", "the peer"])
async def test_who_waits_for_room_can_leave(how: str) -> None:
    waits = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.answer(ok(b"x" * (8 << 20))[: 1 << 20])
        await waits.wait()
        peer.reset() if how == "the peer" else await peer.gone()

    async def read_it() -> VmcpError | None:
        try:
            await response.read()
        except VmcpError as error:
            return error
        return None

    limits = Timeouts(connect=5, first_byte=5, total=0.2 if how == "time" else 5, idle_stream=5)
    async with against(script, limits, max_response=8 << 20) as pool, full() as rooms:
        response = await pool.request(b"POST", HEADERS, b"{}")
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read_it())
            await until(lambda: rooms.wanted)
            waits.set()
            if how == "cancel":
                reading.cancel()
            elif how == "the peer":
                rooms.leaves_unread(-rooms.limit)  # nobody hears of a reset who does not read
        assert reading.cancelled() if how == "cancel" else reading.result() is not None
        await until(lambda: not rooms.wanted)
        rooms.leaves_unread(0 if how == "the peer" else -rooms.limit)
        await until(lambda: rooms.used == 0)


async def test_a_large_body_that_breaks_off_on_its_way_is_an_error() -> None:
    async with against(saying_once(ok(b"x" * 1_000_000)[:600_000])) as pool:
        with pytest.raises(WireError, match="was cut off"):
            await post(pool)
    await until(lambda: room().used == 0)


async def test_a_stream_whose_reader_gathers_much_asks_for_room_and_one_that_is_digested_does_not() -> None:
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED, *(piece for _ in range(16)), b"0\r\n\r\n")
        await peer.answer(CHUNKED, *(piece for _ in range(16)), b"0\r\n\r\n")

    async with against(script) as pool, full() as rooms:
        size = 0
        response = await pool.request(b"POST", HEADERS, b"{}")
        async for chunk in response.chunks():
            size += len(chunk)
            response.digested()
        assert size == 1 << 20
        response = await pool.request(b"POST", HEADERS, b"{}")

        async def gather() -> int:
            return sum([len(chunk) async for chunk in response.chunks()])

        async with asyncio.TaskGroup() as group:
            gathering = group.create_task(gather())
            await until(lambda: rooms.wanted)
            rooms.leaves_unread(-rooms.limit)
        assert gathering.result() == 1 << 20
        await until(lambda: rooms.used == 0)


async def test_a_large_request_arrives_whole() -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.answer(ok(b"")))

    body = bytes(range(256)) * 20_000
    async with against(script) as pool:
        assert await post(pool, body) == (200, b"")
        assert pool.idle == 1
    assert seen[0].endswith(b"\r\n\r\n" + body)


async def test_a_body_is_there_with_its_head_and_reading_it_does_not_suspend() -> None:
    async with against(saying(ok(b"hello"))) as pool:
        response = await pool.request(b"POST", HEADERS, b"{}")
        assert pool.idle == 1
        with pytest.raises(StopIteration) as done:
            response.read().send(None)  # a coroutine that ends at its first step never suspended
        assert done.value.value == b"hello"
        assert await response.read() == b"hello"


# ---- streams


async def test_a_stream_comes_piece_by_piece_and_gives_its_connection_back() -> None:
    turns: asyncio.Queue[None] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED)
        for number in range(3):
            await turns.get()
            await peer.send(b"3\r\nx=%d\r\n" % number)
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with against(script) as pool:
        response = await pool.request(b"POST", HEADERS, b"{}")
        turns.put_nowait(None)
        got = []
        async for chunk in response.chunks():
            assert pool.active == 1
            got.append(chunk)
            turns.put_nowait(None)
        assert got == [b"x=0", b"x=1", b"x=2"]
        assert (pool.active, pool.idle) == (0, 1)


async def test_a_slow_reader_stops_the_peer() -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.answer(CHUNKED)
        for _ in range(400):
            await peer.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            sent += 1
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with against(script) as pool:
        response = await pool.request(b"POST", HEADERS, b"{}")
        await until(lambda: response.size > http1.HIGH_WATER)
        held, before = response.size, -1
        while before != sent:  # until the sockets' own buffers are full as well
            before = sent
            for _ in range(200):
                await asyncio.sleep(0)
        assert sent < 400
        assert held < 4 * http1.HIGH_WATER
        assert response.size == held
        total = 0
        async for chunk in response.chunks():
            total += len(chunk)
        assert total == 400 * 0x10000
        assert pool.idle == 1


async def test_a_stream_left_early_closes_its_connection() -> None:
    closed: asyncio.Queue[int] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED, b"1\r\nx\r\n")
        await peer.gone()
        closed.put_nowait(1)

    async with against(script) as pool:
        response = await pool.request(b"POST", HEADERS, b"{}")
        stream = response.chunks()
        assert await anext(stream) == b"x"
        await response.aclose()
        assert (pool.active, pool.idle) == (0, 0)
        assert await asyncio.wait_for(closed.get(), 5) == 1
        for later in (anext(stream), response.read()):
            with pytest.raises(WireError, match="closed before its end"):
                await later


async def test_a_released_stream_keeps_its_connection_if_the_end_is_near() -> None:
    end: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(CHUNKED, b"1\r\nx\r\n")
            await peer.send(await end.get())

    async with against(script) as pool:
        for _ in range(2):
            response = await pool.request(b"POST", HEADERS, b"{}")
            async for chunk in response.chunks():
                assert chunk == b"x"
                await response.release()
                break
            assert (pool.active, pool.idle) == (1, 0)
            end.put_nowait(b"1\r\ny\r\n0\r\n\r\n")
            await until(lambda: pool.idle == 1)


@pytest.mark.parametrize("rest", [b"", b"1\r\ny\r\n", b"10001\r\n" + b"y" * 0x10001 + b"\r\n5\r\n"])
async def test_a_released_stream_that_goes_on_is_closed(rest: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED, b"1\r\nx\r\n")
        await peer.send(rest)
        await peer.gone()

    async with against(script) as pool:
        response = await pool.request(b"POST", HEADERS, b"{}")
        assert await anext(response.chunks()) == b"x"
        await response.release()
        await until(lambda: pool.active == 0)
        assert pool.idle == 0


# ---- deadlines


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def dripping(peer: Peer) -> None:
    """A head, then a piece of the body now and then, for ever."""
    await peer.answer(CHUNKED)
    while True:
        await peer.send(b"1\r\nx\r\n")
        await asyncio.sleep(0.01)


async def head_only(peer: Peer) -> None:
    await peer.answer(CHUNKED)
    await peer.gone()


async def half_head(peer: Peer) -> None:
    await peer.answer(b"HTTP/1.1 200 OK\r\nA: ")
    await peer.gone()


async def stream(pool: Pool, total: float | None = None) -> None:
    async for _ in (await pool.request(b"POST", HEADERS, b"{}", total=total)).chunks():
        pass


async def read(pool: Pool, total: float | None = None) -> None:
    await (await pool.request(b"POST", HEADERS, b"{}", total=total)).read()


LATE = {
    "no first byte": (silent, read, Timeouts(first_byte=0.03, total=5), "timeouts.firstByte", 0.03),
    "no answer at all": (silent, read, Timeouts(first_byte=5, total=0.03), "timeouts.total", 0.03),
    "a head that does not end": (half_head, read, Timeouts(first_byte=0.02, total=0.05), "timeouts.total", 0.05),
    "no body": (head_only, read, Timeouts(first_byte=0.02, total=0.05, idle_stream=0.02), "timeouts.total", 0.05),
    "a body in crumbs": (dripping, read, Timeouts(total=0.05, idle_stream=0.02), "timeouts.total", 0.05),
    "a silent stream": (head_only, stream, Timeouts(total=5, idle_stream=0.03), "timeouts.idleStream", 0.03),
    "a stream without end": (dripping, stream, Timeouts(total=0.1, idle_stream=5), "timeouts.total", 0.1),
}


@pytest.mark.parametrize(("script", "how", "timeouts", "which", "seconds"), LATE.values(), ids=LATE.keys())
async def test_a_deadline_ends_the_call_and_says_which(script, how, timeouts, which, seconds) -> None:  # type: ignore[no-untyped-def]
    loop = asyncio.get_running_loop()
    async with against(script, timeouts) as pool:
        began = loop.time()
        with pytest.raises(Overdue) as caught:
            await how(pool)
        assert (caught.value.which, caught.value.seconds) == (which, seconds)
        assert not isinstance(caught.value, faults.Unsent)
        assert seconds - 0.005 <= loop.time() - began < 3
        assert (pool.active, pool.idle) == (0, 0)


@pytest.mark.parametrize("how", [read, stream])
async def test_the_deadline_of_the_call_wins_if_it_is_earlier(how) -> None:  # type: ignore[no-untyped-def]
    loop = asyncio.get_running_loop()
    async with against(dripping, FAST) as pool:
        with pytest.raises(Overdue, match=r"timeouts\.total is 0\.0") as caught:
            await how(pool, loop.time() + 0.04)
        assert caught.value.which == "timeouts.total"
        with pytest.raises(faults.UnsentOverdue, match=r"timeouts\.total"):
            await how(pool, loop.time() - 1)


async def test_a_late_deadline_of_one_call_is_none_of_the_next() -> None:
    """The timer is lazy: it stays armed from call to call and must ring for nobody but the one it is for."""

    async def script(peer: Peer) -> None:
        await peer.answer(ok(b"1"))
        await peer.request()
        await asyncio.sleep(0.1)
        await peer.send(ok(b"2"))
        await silent(peer)

    loop = asyncio.get_running_loop()
    async with against(script, Timeouts(first_byte=0.5, total=1)) as pool:
        first = await pool.request(b"POST", HEADERS, b"{}", total=loop.time() + 0.05)
        assert await first.read() == b"1"
        assert await post(pool) == (200, b"2")
        with pytest.raises(Overdue) as caught:
            await read(pool, loop.time() + 0.05)
        assert caught.value.which == "timeouts.total"


async def test_a_stream_that_keeps_sending_is_not_idle() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(CHUNKED)
        for _ in range(12):
            await peer.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with against(script, Timeouts(total=5, idle_stream=0.15)) as pool:
        await stream(pool)
        assert pool.idle == 1


async def test_a_response_nobody_reads_ends_with_its_total_time() -> None:
    async with against(dripping, Timeouts(total=0.05)) as pool:
        forgotten = await pool.request(b"POST", HEADERS, b"{}")
        await until(lambda: pool.active == 0)
        with pytest.raises(Overdue):
            await forgotten.read()


async def test_a_response_that_lasts_takes_its_time_and_the_next_on_its_connection_does_not() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        for piece in (CHUNKED, b"1\r\nx\r\n", b"0\r\n\r\n"):
            await asyncio.sleep(0.06)
            await peer.send(piece)
        await silent(peer)

    async with against(script, Timeouts(first_byte=0.02, idle_stream=0.02, total=0.02)) as pool:
        lasting = await pool.request(b"GET", HEADERS, b"", lasting=True)
        assert [chunk async for chunk in lasting.chunks()] == [b"x"]
        (connection,) = pool._open
        assert connection.transport is not None
        raw = connection.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        with pytest.raises(Overdue):
            await post(pool)


async def test_a_response_that_lasts_ends_with_the_deadline_that_was_given() -> None:
    loop = asyncio.get_running_loop()
    async with against(dripping, Timeouts(total=5)) as pool:
        lasting = await pool.request(b"GET", HEADERS, b"", lasting=True, total=loop.time() + 0.05)
        with pytest.raises(Overdue) as caught:
            [chunk async for chunk in lasting.chunks()]
        assert caught.value.which == "timeouts.total"


async def test_a_request_that_lasts_is_sent_again_when_its_kept_connection_dropped() -> None:
    async def script(peer: Peer) -> None:
        if peer.number > 1:
            await peer.answer(CHUNKED + b"0\r\n\r\n")
            await peer.gone()
        await peer.answer(ok(b"1"))
        await peer.request()

    async with against(script) as pool:
        await post(pool)
        lasting = await pool.request(b"GET", HEADERS, b"", lasting=True, replay=True)
        assert [chunk async for chunk in lasting.chunks()] == []


async def test_a_pool_beside_another_goes_to_another_path_of_the_same_server() -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.answer(ok(b"1")))
        await peer.gone()

    async with against(script) as pool:
        other = pool.beside("/messages?x=1")
        assert await post(other) == (200, b"1")
        assert (other.name, other.max_response, pool.idle) == (pool.name, pool.max_response, 0)
        await other.close()
    assert heard[0].startswith(b"POST /messages?x=1 HTTP/1.1\r\n")


# ---- cancellation


@pytest.mark.parametrize("how", [read, stream])
@pytest.mark.parametrize("script", [silent, head_only, half_head, dripping])
async def test_a_cancelled_call_frees_its_slot_at_once(script: Script, how) -> None:  # type: ignore[no-untyped-def]
    async with against(script, spec=PoolSpec(max_size=1)) as pool:
        for ticks in range(12):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(how(pool))
                for _ in range(ticks * 2):
                    await asyncio.sleep(0)
                task.cancel()
            assert task.cancelled()
            assert (pool.active, pool.idle, pool.waiting) == (0, 0, 0)


async def test_a_cancel_in_the_moment_of_the_answer_does_not_touch_who_got_the_connection_next() -> None:
    """The answer completes, its connection goes to a waiter, and only then does the first caller learn of its cancel."""

    class Watched(Pool):
        def release(self, connection: http1.Connection) -> None:
            super().release(connection)
            first.cancel()

    async with serving(saying(ok(b"hello"))) as server:
        url = f"http://127.0.0.1:{server.port}/"
        pool = Watched(endpoint(url), PoolSpec(max_size=1), FAST, max_response=9, name="time")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(post(pool))
            second = group.create_task(post(pool))
        assert first.cancelled()
        assert second.result() == (200, b"hello")
        assert (pool.active, pool.idle, server.accepted) == (0, 1, 1)
        await pool.close()


@pytest.mark.parametrize("fault", [b"", b"hello"])
async def test_bytes_on_an_idle_connection_close_it(fault: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(ok(b"1"))
        if peer.number == 1:
            await peer.send(fault) if fault else peer.half_close()
        await peer.gone()

    async with against(script) as pool:
        await post(pool)
        await until(lambda: pool.idle == 0)
        assert await post(pool) == (200, b"1")


async def test_every_fault_is_of_the_family() -> None:
    """A smoke test over all broken responses as streams: nothing but the family of errors comes out."""
    for raw, _ in BROKEN.values():
        async with against(saying_once(raw)) as pool:
            with pytest.raises(VmcpError):
                await stream(pool)
