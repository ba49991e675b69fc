"""The pool: reuse, waiting in line, limits, replay, closing, what is sent, and exact accounting under cancellation.

Rule: after whatever happened, the counters are what they were before.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from tests.upstream.badserver import BadServer, Peer, Script, ok, serving, until
from vmcp.config.model import PoolSpec, Timeouts
from vmcp.errors import Code, Overdue, Unavailable, WireError
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.faults import Dropped, Unsent, UnsentOverdue, UnsentUnavailable
from vmcp.upstream.http1 import Connection
from vmcp.upstream.pool import Pool

FAST = Timeouts(connect=5, first_byte=5, total=5, idle_stream=5)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class Watched(Pool):
    """A pool with something to do in the very moment when a connection has been released."""

    then: Callable[[Connection], object] = staticmethod(lambda connection: None)

    def release(self, connection: Connection) -> None:
        super().release(connection)
        self.then(connection)


@contextlib.asynccontextmanager
async def against(
    script: Script, spec: PoolSpec | None = None, timeouts: Timeouts = FAST
) -> AsyncIterator[tuple[Watched, BadServer]]:
    async with serving(script) as server:
        url = f"http://127.0.0.1:{server.port}/mcp"
        pool = Watched(endpoint(url), spec or PoolSpec(), timeouts, max_response=1 << 20, name="time")
        try:
            yield pool, server
        finally:
            await pool.close()


async def post(pool: Pool, body: bytes = b"{}", *, replay: bool = False) -> bytes:
    return await (await pool.request(b"POST", [], body, replay=replay)).read()


async def echo(peer: Peer) -> None:
    """Answer each request with its body and the number of the connection."""
    while True:
        _, _, body = (await peer.request()).partition(b"\r\n\r\n")
        await peer.send(ok(b"%b on %d" % (body, peer.number)))


class Gate:
    """A server that answers when told to."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[bytes] = asyncio.Queue()
        self.turns: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, peer: Peer) -> None:
        while True:
            _, _, body = (await peer.request()).partition(b"\r\n\r\n")
            self.asked.put_nowait(body)
            await self.turns.get()
            await peer.send(ok(body))


async def test_the_connection_used_last_is_used_next() -> None:
    gate = Gate()
    async with against(gate) as (pool, server):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(post(pool))
                await gate.asked.get()
            assert (pool.active, pool.idle) == (3, 0)
            for _ in range(3):
                gate.turns.put_nowait(None)
        assert (pool.active, pool.idle, server.accepted) == (0, 3, 3)
        last = pool._idle[-1]
        gate.turns.put_nowait(None)
        await post(pool)
        assert pool._idle[-1] is last
        assert server.accepted == 3


async def test_who_waits_gets_a_connection_in_the_order_of_coming() -> None:
    gate = Gate()
    async with against(gate, PoolSpec(max_size=2)) as (pool, server):
        order = []
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(post(pool, b"%d" % number))
                await asyncio.sleep(0)
            await until(lambda: pool.waiting == 6 and gate.asked.qsize() == 2)
            assert pool.active == 2
            for _ in range(8):
                gate.turns.put_nowait(None)
                order.append(await gate.asked.get())
        assert order[2:] == [b"2", b"3", b"4", b"5", b"6", b"7"]
        assert (server.accepted, pool.idle, pool.waiting) == (2, 2, 0)


async def test_a_new_call_does_not_overtake_one_that_waits() -> None:
    gate = Gate()
    async with against(gate, PoolSpec(max_size=1)) as (pool, _):
        loop, taken = asyncio.get_running_loop(), []
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(post(pool))
            await until(lambda: pool.waiting == 1)
            pool.then = lambda _: taken.append(pool._take(loop.time(), loop)) if not taken else None
            gate.turns.put_nowait(None)
            gate.turns.put_nowait(None)
        assert taken == [None]
        assert pool._take(loop.time(), loop) is not None


async def test_waiting_for_a_slot_has_a_limit() -> None:
    gate = Gate()
    async with against(gate, PoolSpec(max_size=1, acquire_timeout=0.03)) as (pool, _):
        async with asyncio.TaskGroup() as group:
            group.create_task(post(pool))
            await gate.asked.get()
            with pytest.raises(UnsentOverdue, match=r"pool.acquireTimeout is 0.03 s"):
                await post(pool)
            with pytest.raises(UnsentOverdue, match=r"timeouts.total is 0.0\d+ s"):
                await pool.request(b"POST", [], b"{}", total=asyncio.get_running_loop().time() + 0.02)
            assert (pool.active, pool.waiting) == (1, 0)
            gate.turns.put_nowait(None)
        gate.turns.put_nowait(None)
        assert await post(pool) == b"{}"


async def test_the_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcp.upstream.pool.MAX_WAITING", 1)
    gate = Gate()
    async with against(gate, PoolSpec(max_size=1)) as (pool, _):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(post(pool)) for _ in range(2)]
            await until(lambda: pool.waiting == 1)
            with pytest.raises(UnsentUnavailable, match="too many calls wait"):
                await post(pool)
            gate.turns.put_nowait(None)
            gate.turns.put_nowait(None)
        assert [task.result() for task in tasks] == [b"{}", b"{}"]


async def test_a_connection_that_was_discarded_cannot_come_back() -> None:
    async with against(echo) as (pool, _):
        await post(pool)
        connection = pool._idle[0]
        for _ in range(2):
            pool.discard(connection)
            pool.release(connection)
            assert (pool.active, pool.idle) == (0, 0)


async def test_a_waiter_cancelled_with_a_connection_in_hand_passes_it_on() -> None:
    gate = Gate()
    async with against(gate, PoolSpec(max_size=1)) as (pool, server):
        async with asyncio.TaskGroup() as group:
            group.create_task(post(pool))
            await gate.asked.get()
            cancelled = group.create_task(post(pool))
            lucky = group.create_task(post(pool, b"lucky"))
            await until(lambda: pool.waiting == 2)
            pool.then = lambda _: cancelled.cancel()
            gate.turns.put_nowait(None)
            gate.turns.put_nowait(None)
        assert cancelled.cancelled()
        assert lucky.result() == b"lucky"
        assert (pool.active, pool.idle, pool.waiting, server.accepted) == (0, 1, 0, 1)


async def test_a_waiter_cancelled_with_a_free_slot_in_hand_passes_it_on() -> None:
    gate = Gate()
    async with against(gate, PoolSpec(max_size=1)) as (pool, server):
        async with asyncio.TaskGroup() as group:
            first = group.create_task(post(pool))
            await gate.asked.get()
            second, third = group.create_task(post(pool)), group.create_task(post(pool, b"third"))
            await until(lambda: pool.waiting == 2)
            pool.discard(next(iter(pool._open)))  # the slot goes to the second
            second.cancel()
            first.cancel()
            gate.turns.put_nowait(None)
            gate.turns.put_nowait(None)
        assert third.result() == b"third"
        assert (pool.active, pool.idle, pool.waiting, server.accepted) == (0, 1, 0, 2)


@pytest.mark.parametrize("behind", [0, 1, 2])
async def test_a_waiter_whose_connection_dies_in_its_hand_is_served_all_the_same(behind: int) -> None:
    gate = Gate()
    async with against(gate, PoolSpec(max_size=1)) as (pool, server):
        died: list[Connection] = []

        def dies(connection: Connection) -> None:
            if not died:
                died.append(connection)
                connection.eof_received()

        async with asyncio.TaskGroup() as group:
            group.create_task(post(pool))
            await gate.asked.get()
            waiting = [group.create_task(post(pool, b"%d" % number)) for number in range(behind + 1)]
            await until(lambda: pool.waiting == behind + 1)
            pool.then = dies
            for _ in range(behind + 2):
                gate.turns.put_nowait(None)
        assert [task.result() for task in waiting] == [b"0", b"1", b"2"][: behind + 1]
        assert (pool.active, pool.idle, server.accepted) == (0, 1, 2)
        # The slot went to the next in line; who had lost it came right after that one.
        order = [gate.asked.get_nowait() for _ in waiting]
        assert order == {0: [b"0"], 1: [b"1", b"0"], 2: [b"1", b"0", b"2"]}[behind]


async def test_a_failed_attempt_to_connect_gives_its_slot_to_the_next() -> None:
    async with serving(echo) as server:
        port = server.port
    pool = Pool(endpoint(f"http://127.0.0.1:{port}/"), PoolSpec(max_size=1), FAST, max_response=9, name="time")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_refused(pool)) for _ in range(5)]
    assert [task.result() for task in tasks] == ["connection refused"] * 5
    assert (pool.active, pool.waiting) == (0, 0)


async def _refused(pool: Pool) -> str:
    with pytest.raises(UnsentUnavailable) as caught:
        await post(pool)
    assert caught.value.vmcp_code == Code.CONNECTION_FAILED
    assert "127.0.0.1" not in caught.value.message
    return caught.value.why


async def test_idle_connections_are_closed_after_their_time_and_used_ones_are_not() -> None:
    async with against(echo, PoolSpec(idle_timeout=0.1)) as (pool, server):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(post(pool))
        assert pool.idle == 3
        keeper = pool._idle[-1]

        def one_left() -> bool:
            return pool.idle == 1

        async with asyncio.timeout(5):
            while not one_left():
                assert await post(pool) == b"{} on " + b"%d" % server.accepted or pool.idle
                await asyncio.sleep(0.01)
        assert pool._idle == [keeper]
        await until(lambda: pool.idle == 0)
        await until(lambda: server.open == 0)
        assert await post(pool) == b"{} on 4"


async def test_a_peer_that_says_how_long_it_keeps_connections_is_believed() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.answer(ok(b"", b"Keep-Alive: timeout=1, max=100"))

    async with against(script) as (pool, server):
        await post(pool)
        connection = pool._idle[0]
        assert connection.usable(connection.idle_since + 0.4)
        assert not connection.usable(connection.idle_since + 0.6)
        connection.idle_since -= 0.6
        await post(pool)
        assert server.accepted == 2
        assert pool.idle == 1


# ---- a connection that the peer has closed


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_a_lost_request_is_sent_again_only_where_that_is_allowed(ending: str) -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.request())
        await peer.send(ok(b"1"))
        if peer.number < 3:
            asked.append(await peer.request())
            getattr(peer, ending)()
        await peer.gone()

    async with against(script) as (pool, server):
        await post(pool, b"a")
        with pytest.raises(Dropped, match="before an answer") as caught:
            await post(pool, b"b")
        assert caught.value.vmcp_code == Code.TRANSPORT_CLOSED
        assert not isinstance(caught.value, Unsent)
        assert len(asked) == 2
        await post(pool, b"c")
        assert await post(pool, b"d", replay=True) == b"1"
        assert [request[-1:] for request in asked] == [b"a", b"b", b"c", b"d", b"d"]
        assert (server.accepted, pool.active, pool.idle) == (3, 0, 1)


async def test_a_request_that_got_a_byte_of_answer_is_never_sent_again() -> None:
    asked: list[bytes] = []

    async def script(peer: Peer) -> None:
        asked.append(await peer.answer(ok(b"1")))
        asked.append(await peer.answer(b"H"))
        peer.close()

    async with against(script) as (pool, _):
        await post(pool)
        with pytest.raises(WireError, match="cut off"):
            await post(pool, replay=True)
        assert len(asked) == 2


async def test_before_sending_again_the_idle_connections_of_the_same_age_are_closed() -> None:
    async def script(peer: Peer) -> None:
        await peer.answer(ok(b"%d" % peer.number))
        if peer.number > 2:
            await peer.gone()
        await peer.request()
        peer.close()

    async with against(script) as (pool, server):
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(post(pool))
        assert pool.idle == 2
        assert await post(pool, replay=True) == b"3"
        assert (server.accepted, pool.active, pool.idle) == (3, 0, 1)


async def test_a_request_is_sent_again_but_once() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.answer(ok(b"1"))
        await peer.request()
        peer.close()

    async with against(script) as (pool, server):
        await post(pool)
        with pytest.raises(Unavailable, match="before an answer"):
            await post(pool, replay=True)
        assert server.accepted == 2


# ---- what is sent


BAD_HEADERS = {
    "CR LF in a value": [(b"a", b"b\r\nx: y")],
    "LF in a value": [(b"a", b"b\nx: y")],
    "CR in a value": [(b"a", b"b\rx")],
    "NUL in a value": [(b"a", b"b\0c")],
    "two wrongs": [(b"a", b"b\r"), (b"c", b"\nd")],
    "an empty name": [(b"", b"b")],
    "a space in a name": [(b"a b", b"c")],
    "a colon in a name": [(b"a:", b"c")],
    "a line end in a name": [(b"a\r\nb", b"c")],
    "a length": [(b"Content-Length", b"0")],
    "a coding": [(b"transfer-encoding", b"chunked")],
    "a host": [(b"HOST", b"elsewhere")],
    "an encoding": [(b"accept-encoding", b"gzip")],
}


@pytest.mark.parametrize("headers", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
async def test_a_header_that_would_change_the_message_is_not_sent(headers: list[tuple[bytes, bytes]]) -> None:
    async with against(echo) as (pool, server):
        for _ in range(2):
            with pytest.raises(WireError, match="header"):
                await pool.request(b"POST", headers, b"{}")
        assert (server.accepted, pool.active) == (0, 0)


async def test_other_headers_are_sent_as_they_are() -> None:
    async def script(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(ok(request))

    async with against(script) as (pool, _):
        headers = [(b"Mcp-Name", b"a: b, \xe2\x82\xac"), (b"x!#$%&'*+.^_`|~9", b"")]
        got = await (await pool.request(b"POST", headers, b"")).read()
    assert b"\r\nMcp-Name: a: b, \xe2\x82\xac\r\nx!#$%&'*+.^_`|~9: \r\ncontent-length: 0\r\n\r\n" in got


async def test_a_method_that_is_none_is_not_sent() -> None:
    async with against(echo) as (pool, server):
        with pytest.raises(WireError, match="method"):
            await pool.request(b"GET / HTTP/1.1\r\nX: ", [], b"")
        assert server.accepted == 0


# ---- closing


async def test_closing_ends_calls_in_flight_and_in_line_and_refuses_new_ones() -> None:
    gate = Gate()
    async with against(gate, PoolSpec(max_size=1)) as (pool, server):
        async with asyncio.TaskGroup() as group:
            busy = group.create_task(_ended(pool))
            await gate.asked.get()
            queued = group.create_task(_ended(pool))
            await until(lambda: pool.waiting == 1)
            await pool.close()
        assert not isinstance(busy.result(), Unsent)
        assert isinstance(queued.result(), Unsent)
        assert isinstance(await _ended(pool), Unsent)
        assert (pool.active, pool.idle, pool.waiting) == (0, 0, 0)
        gate.turns.put_nowait(None)
        await until(lambda: server.open == 0)
        await pool.close()


@pytest.mark.parametrize("ticks", range(8))
async def test_closing_while_a_call_connects_leaves_no_connection(ticks: int) -> None:
    async with against(echo) as (pool, server):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_ended_or_answered(pool))
            for _ in range(ticks):
                await asyncio.sleep(0)
            await pool.close()
        assert task.done()
        assert (pool.active, pool.idle, len(pool._live)) == (0, 0, 0)
        await until(lambda: server.open == 0)


async def _ended_or_answered(pool: Pool) -> None:
    with contextlib.suppress(Unavailable):
        await post(pool)


async def _ended(pool: Pool) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await post(pool)
    return caught.value


# ---- exact accounting


class Flaky(asyncio.Protocol):
    """A fast server that answers after 0–5 ms, in one piece or in two, framed by length or in chunks."""

    def __init__(self, dice: random.Random, everyone: "set[Flaky]") -> None:
        self.dice = dice
        self.everyone = everyone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.everyone.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.everyone.discard(self)

    def data_received(self, data: bytes) -> None:
        raw = ok(b"hello") if self.dice.random() < 0.5 else CHUNKS
        cut = self.dice.choice([0, 10, len(raw) - 2])
        loop, delay = asyncio.get_running_loop(), self.dice.random() * 0.005
        pieces = [raw[:cut], raw[cut:]] if cut else [raw]
        loop.call_later(delay / len(pieces), self.say, pieces, delay / 2)

    def say(self, pieces: list[bytes], pause: float) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(pieces.pop(0))
        if pieces:
            asyncio.get_running_loop().call_later(pause, self.say, pieces, pause)


CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


async def _call(pool: Pool, dice: random.Random) -> bytes:
    response = await pool.request(b"POST", [], b"{}")
    if dice.random() < 0.5:
        return await response.read()
    return b"".join([chunk async for chunk in response.chunks()])


async def _worker(pool: Pool, dice: random.Random, calls: int, outcomes: dict[str, int]) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        for _ in range(calls):
            task = group.create_task(_call(pool, dice))
            if dice.random() < 0.7:
                if dice.random() < 0.3:
                    for _ in range(dice.randrange(6)):
                        await asyncio.sleep(0)
                    task.cancel()
                else:
                    loop.call_later(dice.random() * 0.02, task.cancel)
            await asyncio.wait([task])
            outcomes["cancelled" if task.cancelled() else "answered"] += 1
            assert task.cancelled() or task.result() == b"hello"


@pytest.mark.timeout(120)
async def test_20000_calls_of_which_many_are_cancelled_cost_no_slot() -> None:
    dice = random.Random(20260728)  # noqa: S311 - a seed, not a secret
    outcomes = {"cancelled": 0, "answered": 0}
    peers: set[Flaky] = set()
    server = await asyncio.get_running_loop().create_server(lambda: Flaky(dice, peers), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
    pool = Pool(endpoint(url), PoolSpec(max_size=10), FAST, max_response=1000, name="time")
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(_worker(pool, dice, 500, outcomes))
        assert sum(outcomes.values()) == 20_000
        assert min(outcomes.values()) > 5_000
        assert (pool.active, pool.waiting) == (0, 0)
        assert pool.idle <= 10
        async with asyncio.TaskGroup() as group:
            probes = [group.create_task(post(pool)) for _ in range(100)]
        assert [probe.result() for probe in probes] == [b"hello"] * 100
        assert (pool.active, pool.waiting) == (0, 0)
    finally:
        await pool.close()
        await until(lambda: not peers)
        server.close()


async def test_a_deadline_that_passes_frees_the_slot_for_who_waits() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.gone()
        await peer.send(ok(b"2"))

    async with against(script, PoolSpec(max_size=1), Timeouts(first_byte=0.05)) as (pool, _):
        async with asyncio.TaskGroup() as group:
            group.create_task(_overdue(pool))
            await asyncio.sleep(0)
            second = group.create_task(post(pool))
        assert second.result() == b"2"


async def _overdue(pool: Pool) -> None:
    with pytest.raises(Overdue, match=r"timeouts.firstByte is 0.05 s"):
        await post(pool)
