"""What is tried again and what is not: connections that did not come about, and lists and reads whose answer was lost.

Rule: a request that may do something is seen by the server at most once, whatever happens to its connection.
"""

import asyncio
import contextlib
import errno
import itertools
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from tests.upstream.badserver import Peer, ok, until
from tests.upstream.child import failure, result
from tests.upstream.fakes import (
    FAST,
    Answer,
    Heard,
    WebServer,
    drop,
    linked,
    response,
    silence,
    single,
    soon,
    stream,
    text,
    wired,
)
from vmcp.config.model import PoolSpec, Timeouts
from vmcp.errors import Code, McpError, Overdue, Unavailable, VmcpError, WireError
from vmcp.protocol import jsonrpc
from vmcp.tasks import Nest
from vmcp.upstream import wire
from vmcp.upstream.ask import Ask
from vmcp.upstream.budget import LEAST
from vmcp.upstream.dial import passing
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.faults import CutOff, Dropped, UnsentOverdue, UnsentUnavailable, lost
from vmcp.upstream.link import MODERN_FACTS, Link
from vmcp.upstream.pool import Pool
from vmcp.upstream.wire import Headers, OnMessage, OnStray, Outgoing

SOON = PoolSpec(retry_delay=0.001)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


# --- connections


class Watched(Pool):
    """A pool to a port at which nobody listens; ``attempts`` are those that were followed by another."""

    def __init__(self, spec: PoolSpec, timeouts: Timeouts = FAST) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        super().__init__(endpoint(f"http://127.0.0.1:{self.port}/"), spec, timeouts, max_response=99, name="time")
        self.attempts: list[int] = []
        self.then: Callable[[int], Awaitable[None]] | None = None

    async def rest(self, attempt: int, until: float) -> bool:
        again = await super().rest(attempt, until)
        if again:
            self.attempts.append(attempt)
        if self.then is not None:
            await self.then(attempt)
        return again


async def test_a_connection_that_is_refused_is_tried_again_until_somebody_listens() -> None:
    pool = Watched(SOON)
    servers: list[asyncio.Server] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Peer(reader, writer, 1).answer(ok(b"here"))
        writer.close()

    async def listen(attempt: int) -> None:
        if attempt == 1:
            servers.append(await asyncio.start_server(greet, "127.0.0.1", pool.port))

    pool.then = listen
    answer = await pool.request(b"POST", [], b"{}")
    assert await answer.read() == b"here"
    assert (pool.attempts, pool.budget.taken) == ([0, 1], 2)
    await pool.close()
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("spec", "attempts"),
    [
        (SOON, [0, 1, 2]),
        (PoolSpec(retry_attempts=1, retry_delay=0.001), [0]),
        (PoolSpec(retry_attempts=0), []),
        (PoolSpec(retry_delay=60.0), []),
    ],
    ids=["as often as by default", "once", "never", "not later than the limit of connecting"],
)
async def test_attempts_end(spec: PoolSpec, attempts: Sequence[int]) -> None:
    pool = Watched(spec)
    with pytest.raises(UnsentUnavailable, match="connection refused"):
        await pool.request(b"POST", [], b"{}")
    assert pool.attempts == attempts
    assert (pool.active, pool.idle) == (0, 0)


async def test_attempts_end_when_the_budget_does() -> None:
    pool = Watched(PoolSpec(retry_attempts=100, retry_delay=0.0))
    for _ in range(3):
        with pytest.raises(UnsentUnavailable):
            await pool.request(b"POST", [], b"{}")
    assert len(pool.attempts) == LEAST
    pool.budget.requests += 100
    with pytest.raises(UnsentUnavailable):
        await pool.request(b"POST", [], b"{}")
    assert len(pool.attempts) > LEAST, "a fifth of what is asked"


async def test_a_pool_that_is_closed_meanwhile_is_not_connected_to() -> None:
    pool = Watched(PoolSpec(retry_attempts=5, retry_delay=0.0))
    pool.then = lambda attempt: pool.close()
    with pytest.raises(UnsentUnavailable):
        await pool.request(b"POST", [], b"{}")
    assert pool.attempts == [0]


async def test_who_leaves_while_it_is_tried_again_leaves_nothing_behind() -> None:
    pool = Watched(PoolSpec(retry_delay=4.0))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(pool.request(b"POST", [], b"{}"))
        await until(lambda: pool.budget.taken == 1)
        task.cancel()
    assert (pool.active, pool.attempts) == (0, [])


async def test_the_limit_of_a_tool_is_named_while_it_waits_for_a_connection(tmp_path: Path) -> None:
    server = WebServer({"ping": silence})
    own = Timeouts(total=0.05, place="timeouts.tools[t]")
    async with wired(server, spec=PoolSpec(max_size=1)) as (_, pool), asyncio.TaskGroup() as group:
        first = group.create_task(pool.request(b"POST", [], jsonrpc.request(1, "ping", {})))
        await until(lambda: bool(server.heard))
        with pytest.raises(UnsentOverdue, match=r"timeouts\.tools\[t\]\.total is 0\.05 s"):
            await pool.request(b"POST", [], b"{}", limits=own)
        first.cancel()


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), True),
        (OSError(errno.ENETUNREACH, "no"), True),
        (TimeoutError(errno.ETIMEDOUT, "no"), True),
        (socket.gaierror(socket.EAI_AGAIN, "later"), True),
        (socket.gaierror(socket.EAI_NONAME, "none"), False),
        (ssl.SSLCertVerificationError(1, "untrusted"), False),
        (ssl.SSLError(1, "no TLS there"), False),
    ],
)
def test_what_may_be_different_the_next_time(error: OSError, passes: bool) -> None:
    assert passing(error) is passes


# --- answers that were lost


@pytest.mark.parametrize(
    ("error", "was"),
    [
        (CutOff("half"), True),
        (Dropped("b", "no answer", Code.TRANSPORT_CLOSED), True),
        (Unavailable("b", "closed", Code.TRANSPORT_CLOSED), True),
        (UnsentUnavailable("b", "being closed", Code.TRANSPORT_CLOSED), False),
        (Unavailable("b", "refused", Code.CONNECTION_FAILED), False),
        (Unavailable("b", "not there"), False),
        (Overdue("b", "timeouts.total", 1.0), False),
        (WireError("nonsense"), False),
        (McpError(-32603, "no"), False),
    ],
)
def test_what_counts_as_lost(error: VmcpError, was: bool) -> None:
    assert lost(error) is was


async def cut(peer: Peer, told: Heard) -> None:
    """Half a response."""
    await peer.send(response(200, b"x" * 20, b"Content-Type: application/json")[:-10])
    peer.close()


LOST = {
    "dropped": drop,
    "cut off": cut,
    "a stream without the reply": stream(),
    "502": text(502),
    "503": text(503),
    "504": text(504),
}
ANSWERS = {
    "an error": single(failure(-32603, "no")),
    "500": text(500),
    "429": text(429),
    "404": text(404),
    "no JSON": single(b"x"),
    "something else": text(200, b"<html>", b"text/html"),
}


def first(*answers: Answer) -> Answer:
    """These in turn, and then a result."""
    left = list(answers)

    async def answer(peer: Peer, told: Heard) -> None:
        await (left.pop(0) if left else single(result({"n": 1})))(peer, told)

    return answer


async def asked(server: WebServer, *, again: bool, spec: PoolSpec = SOON, limits: Timeouts = FAST) -> bytes:
    """The result of a ping, or the kind of error."""
    async with wired(server, spec=spec) as (http, _):
        request = Outgoing(1, jsonrpc.request(1, "ping", {}), again=again, limits=limits)
        try:
            answer = await http.exchange(request, None, soon(limits.total))
            return bytes(jsonrpc.result_of(answer.message))
        except VmcpError as error:
            return type(error).__name__.encode()


@pytest.mark.parametrize("how", LOST.values(), ids=LOST.keys())
async def test_what_may_run_twice_is_asked_again_when_its_answer_was_lost(how: Answer) -> None:
    server = WebServer({"ping": first(how, how)})
    assert await asked(server, again=True) == b'{"n": 1}'
    assert server.methods == ["ping"] * 3


@pytest.mark.parametrize("how", LOST.values(), ids=LOST.keys())
async def test_what_may_not_is_asked_once(how: Answer) -> None:
    server = WebServer({"ping": first(how)})
    assert await asked(server, again=False) in (b"HttpRefused", b"CutOff", b"Unavailable")
    assert server.methods == ["ping"]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_is_an_answer_whatever_it_says(answer: Answer) -> None:
    server = WebServer({"ping": first(answer)})
    await asked(server, again=True)
    assert server.methods == ["ping"]


async def test_what_is_late_is_not_asked_again() -> None:
    server = WebServer({"ping": silence})
    assert await asked(server, again=True, limits=Timeouts(first_byte=0.05, total=5)) == b"Overdue"
    assert server.methods == ["ping"]


async def test_it_is_not_asked_for_ever() -> None:
    server = WebServer({"ping": drop})
    assert await asked(server, again=True, spec=PoolSpec(retry_attempts=2, retry_delay=0.001)) == b"Unavailable"
    assert server.methods == ["ping"] * 3
    server = WebServer({"ping": drop})
    assert await asked(server, again=True, spec=PoolSpec(retry_attempts=50, retry_delay=0.0)) == b"Unavailable"
    assert len(server.methods) == 1 + LEAST


READS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read", "prompts/get")


@pytest.mark.parametrize("method", [*READS, "completion/complete", "tools/call", "logging/setLevel", "tasks/cancel"])
async def test_a_link_asks_for_lists_and_reads_again_and_for_nothing_else(method: str, tmp_path: Path) -> None:
    async with linked("http", "2026-07-28", tmp_path, {method: [result({})]}) as rig:
        assert rig.server is not None
        reads = method in READS or method == "completion/complete"
        # Twice, as a kept-alive connection may be closed at any time: that is no reason to ask for what may act again.
        rig.server.on[method] = first(text(503), text(503))
        with _refused(not reads):
            await rig.link.request(Ask(method, {}, soon(), limits=FAST))
        assert rig.methods.count(method) == (3 if reads else 1)


async def test_a_tool_that_may_be_called_twice_is_called_again_where_that_is_wanted(tmp_path: Path) -> None:
    async with linked("http", "2026-07-28", tmp_path) as rig:
        assert rig.server is not None
        rig.server.on["tools/call"] = first(drop, text(503))
        await rig.link.request(Ask("tools/call", {"name": "t"}, soon(), limits=FAST, again=True))
        assert rig.methods.count("tools/call") == 3


class Crowded:
    """A wire on which nothing is ever sent in time; ``told`` is what was said besides."""

    closing_cancels = private_streams = False
    on_stray: OnStray | None = None

    def __init__(self, late: Overdue) -> None:
        self.late = late
        self.told: list[bytes] = []

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> wire.Answer:
        raise self.late

    async def tell(self, body: bytes, headers: Headers) -> None:
        self.told.append(body)

    async def hear(self, headers: Headers) -> bool:
        return False

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("late", "told"),
    [(Overdue("b", "timeouts.total", 1.0), 1), (UnsentOverdue("b", "pool.acquireTimeout", 1.0), 0)],
)
async def test_what_was_never_sent_is_not_taken_back(late: Overdue, told: int) -> None:
    crowded = Crowded(late)
    async with Nest("test") as nest:
        link = Link(crowded, MODERN_FACTS, nest, lambda method, params: None, itertools.count(1))
        with pytest.raises(Overdue):
            await link.request(Ask("tools/call", {"name": "t"}, soon()))
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(crowded.told) == told


def _refused(expected: bool) -> "pytest.RaisesExc[VmcpError] | contextlib.nullcontext[None]":
    return pytest.raises(VmcpError) if expected else contextlib.nullcontext()
