"""Connections on their way between workers: two listeners in one process, each with the inbox of a worker.

Rule: the sockets are real, and so is the client; only the application behind the listeners is a small one, which answers with the
number of its worker and what it got.
"""

import asyncio
import contextlib
import functools
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from uvicorn.server import ServerState

from tests.server.clients import Behind, Raw
from tests.server.peers import until
from tests.server.test_connect import ADA, Logs, fields
from tests.server.test_listener import limited
from tests.upstream.authorizing import visited, world
from vmcp.call import Origin
from vmcp.errors import ConsentRequired
from vmcp.protocol import jsonrpc
from vmcp.server import handover, serving
from vmcp.server.acceptor import Acceptor
from vmcp.server.asgi import ORIGIN, Receive, Refused, Scope, Send
from vmcp.server.connect import Connect
from vmcp.server.handover import Relay, mated, named
from vmcp.server.post import CONNECTION, Post
from vmcp.state.crew import AWAY, Common, Crew
from vmcp.tasks import Nest

LIMIT = 4_000_000
HELD = b"POST /x?a=1 HTTP/1.1\r\nHost: h\r\nX-Held: %b\r\n"


@dataclass
class Worker:
    """One listener, and the application behind it: what is named in ``X-Held`` is asked where it is held."""

    index: int
    relay: Relay
    state: ServerState
    acceptor: Acceptor
    port: int
    seen: list[tuple[Scope, bytes]] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)
    large: int = 0
    asked: int = 0
    pages: Connect | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        if self.pages is not None:
            await self.pages.serve(scope, receive, send)
            return
        scope[ORIGIN] = Origin("test")
        self.origins.append(scope[ORIGIN])
        headers = dict(scope["headers"])
        body = b"" if scope["method"] == "GET" else await _body(receive)
        if body is None:
            return
        status, more = 200, []
        try:
            if await self.relay.passes(scope, body, headers.get(b"x-held", b"").decode()):
                return
        except Refused as refused:
            status, more = refused.status, refused.headers
        self.seen.append((scope, body))
        told = {"worker": self.index, "target": f"{scope['raw_path'].decode()}?{scope['query_string'].decode()}"}
        answer = json.dumps({**told, "size": len(body), "filling": "x" * self.large}).encode()
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": answer})


async def _body(receive: Receive) -> bytes | None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        more = message["more_body"]
    return body


@contextlib.asynccontextmanager
async def working(common: Common, index: int, **limits: Any) -> AsyncIterator[Worker]:
    relay = Relay(Crew(common, index), LIMIT)
    relay.post = Post(Crew(common, index))
    found: list[Worker] = []
    settings = serving._settings(limited(**limits), Behind(functools.partial(_to, found)))  # type: ignore[arg-type]
    settings.load()
    state = ServerState()
    made: Any = mated(settings.http_protocol_class, relay)  # type: ignore[arg-type]
    protocol = functools.partial(made, config=settings, server_state=state, app_state={})
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    listening.setblocking(False)
    async with Nest("test") as nest:
        acceptor = Acceptor(listening, made.vigil, protocol, nest, relay=relay)
        relay.start(acceptor, state.connections)
        acceptor.start()
        found.append(Worker(index, relay, state, acceptor, listening.getsockname()[1]))
        try:
            yield found[0]
        finally:
            relay.post.stop()
            acceptor.stop()
            await acceptor.settle()
            listening.close()
            for connection in list(state.connections):
                connection.transport.abort()
            await until(lambda: not (state.connections or state.tasks))


async def _to(found: list[Worker], scope: Scope, receive: Receive, send: Send) -> None:
    await found[0](scope, receive, send)


@pytest.fixture
def common() -> Iterator[Common]:
    made = Common.of(2)
    yield made
    made.close()


@contextlib.asynccontextmanager
async def two(common: Common, **limits: Any) -> AsyncIterator[tuple[Worker, Worker]]:
    async with working(common, 0, **limits) as one, working(common, 1, **limits) as other:
        for worker in (one, other):
            common.counts[worker.index] = 0
            worker.relay.gives = lambda descriptor, opening: False  # type: ignore[method-assign] # only what is handed over
        yield one, other


@contextlib.asynccontextmanager
async def client(worker: Worker, *pieces: bytes) -> AsyncIterator[Raw]:
    raw = Raw(*await asyncio.open_connection("127.0.0.1", worker.port))
    try:
        raw.send(*pieces)
        yield raw
    finally:
        raw.close()


def post(held: bytes, body: bytes = b"{}", more: bytes = b"") -> bytes:
    return HELD % held + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def heard(raw: Raw) -> Any:
    return (await raw.response()).json()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def settled(one: Worker, other: Worker) -> int:
    """How many there are once everything is open that stays so."""
    async with client(one, post(b"1.a")) as raw:
        await heard(raw)
    await until(lambda: not (one.state.connections or other.state.connections))
    return descriptors()


# --- a request on its way


async def test_a_request_is_answered_by_who_holds_what_it_names_and_so_are_those_after_it(
    common: Common, caplog: pytest.LogCaptureFixture
) -> None:
    async with two(common) as (one, other), client(one, post(b"1.abc")) as raw:
        told = await heard(raw)
        assert (told["worker"], told["target"], told["size"]) == (1, "/x?a=1", 2)
        raw.send(post(b"1.def"))
        assert (await heard(raw))["worker"] == 1
        assert (one.asked, other.asked) == (1, 2), "it went there once, with its connection"
        await until(lambda: not one.state.connections)
        raw.send(post(b"0.def"))
        assert (await heard(raw))["worker"] == 0, "and back, as often as one likes"
        assert [origin.told for origin in one.origins] == [True, False], (
            "what is answered elsewhere is not recorded here"
        )
    assert not caplog.records, "and nobody misses an answer here"


@pytest.mark.parametrize("held", [b"", b"abc", b"0.abc", b"2.abc", b"-1.abc", b"1", b"0001.abc", "\u0661.abc".encode()])
async def test_what_names_nobody_else_stays(held: bytes, common: Common) -> None:
    async with two(common) as (one, _), client(one, post(held)) as raw:
        assert (await heard(raw))["worker"] == 0


async def test_nothing_is_sent_to_a_worker_that_is_away(common: Common) -> None:
    async with working(common, 0) as one, client(one, post(b"1.abc")) as raw:
        assert common.counts[1] == AWAY
        assert (await heard(raw))["worker"] == 0


async def test_it_arrives_as_it_was_but_for_how_it_came(common: Common) -> None:
    more = b"Transfer-Encoding: chunked\r\nTrailer: x-late\r\nX-Twice: 1\r\nX-Twice: \xff2\r\n\r\n"
    async with two(common) as (one, other), client(one, HELD % b"1.a" + more) as raw:
        await until(lambda: one.asked == 1)
        raw.send(b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\nX-Late: 1\r\n\r\n")
        assert (await heard(raw))["size"] == 5
        scope, body = other.seen[0]
        assert body == b"abcde"
        assert [value for name, value in scope["headers"] if name == b"x-twice"] == [b"1", b"\xff2"]
        names = {name for name, _ in scope["headers"]}
        assert names == {b"host", b"x-held", b"x-twice", b"content-length"}
        assert scope["client"] == raw.writer.get_extra_info("sockname"), "and from whom it was"


async def test_a_large_body_arrives_whole(common: Common) -> None:
    body = os.urandom(1_000_000)
    async with two(common) as (one, other), client(one, post(b"1.a", body)) as raw:
        assert (await heard(raw))["size"] == len(body)
        assert other.seen[0][1] == body


async def test_who_waits_to_be_told_to_go_on_is_told_once(common: Common) -> None:
    async with two(common) as (one, other):
        head = HELD % b"1.a" + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        async with client(one, head) as raw:
            assert (await raw.response()).status == 100
            raw.send(b"{}")
            assert (await heard(raw))["worker"] == 1
        async with client(one, head + b"{}") as raw:
            assert (await raw.response()).status == 100, "what was said before comes before"
            assert (await heard(raw))["worker"] == 1
        assert other.asked == 2


async def test_a_body_that_nobody_wants_comes_to_its_end_first(common: Common) -> None:
    get = b"GET /x HTTP/1.1\r\nHost: h\r\nX-Held: 1.a\r\nContent-Length: 10\r\n\r\n"
    async with two(common) as (one, other), client(one, get) as raw:
        await until(lambda: one.asked == 1)
        raw.send(b"0123456789")
        assert (await heard(raw))["size"] == 0
        assert b"content-length" not in dict(other.seen[0][0]["headers"])


async def test_a_body_without_end_is_refused(common: Common) -> None:
    get = b"GET /x HTTP/1.1\r\nHost: h\r\nX-Held: 1.a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with two(common) as (one, _), client(one, get, b"%x\r\n" % (LIMIT + 1), b"x" * (LIMIT + 1), b"\r\n") as raw:
        assert (await raw.response()).status == 413


# --- what stands behind it


async def test_those_in_line_go_along_in_their_order(common: Common) -> None:
    line = post(b"1.a", b"1") + post(b"", b"22") + post(b"0.a", b"333") + post(b"1.a", b"4444")
    async with two(common) as (one, other), client(one, line) as raw:
        told = [await heard(raw) for _ in range(4)]
        assert [(each["worker"], each["size"]) for each in told] == [(1, 1), (1, 2), (0, 3), (1, 4)]
        assert (one.asked, other.asked) == (3, 4)


@pytest.mark.parametrize("behind", [b"PO", b"POST /x HTTP/1.1\r\nHost", post(b"", b"{}")[:-1]])
async def test_half_a_request_behind_it_is_not_lost_but_refused(behind: bytes, common: Common) -> None:
    async with two(common) as (one, other), client(one, post(b"1.a") + behind) as raw:
        answer = await raw.response()
        assert (answer.status, answer.headers["retry-after"]) == (503, "0")
        assert await raw.rest() == b""
        assert other.asked == 0
        assert not one.origins[0].told, "and that is recorded here"


async def test_an_answer_that_is_not_read_yet_comes_first(common: Common) -> None:
    async with two(common) as (one, other):
        one.large = 8_000_000
        async with client(one) as raw:
            await until(lambda: bool(one.state.connections))
            next(iter(one.state.connections)).transport.set_write_buffer_limits(64_000_000)  # nobody is told to wait
            raw.send(post(b"") + post(b"1.a"))
            await until(lambda: one.asked == 2)
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert other.asked == 0
            assert len((await heard(raw))["filling"]) == one.large
            assert (await heard(raw))["worker"] == 1


# --- the pages of a login


async def test_a_login_goes_on_where_it_began_whoever_is_asked_for_its_pages(common: Common) -> None:
    async with two(common) as (one, other), world() as there, httpx.AsyncClient() as browser:
        consents = [there.consent(), there.consent()]
        for worker, consent in zip((one, other), consents, strict=True):
            worker.pages = Connect([Logs(consent)], worker.relay)
        here, elsewhere = f"http://127.0.0.1:{one.port}", f"http://127.0.0.1:{other.port}"
        needed = await consents[1].asks(ADA)
        assert isinstance(needed, ConsentRequired)
        query = needed.url.partition("?")[2]
        assert query.startswith("invitation=1.")
        page = await browser.get(f"{here}/oauth/start?{query}")
        leaving = await browser.post(f"{here}/oauth/start", data=fields(page.text))
        answer = await visited(leaving.headers["location"], there.authority)
        assert answer["state"].startswith("1.")
        forged = {**answer, "state": f"0{answer['state'][1:]}"}
        assert (await browser.get(f"{elsewhere}/oauth/callback", params=forged)).status_code == 403
        assert (await browser.get(f"{here}/oauth/callback", params=answer)).status_code == 200
        assert (await browser.get(f"{here}/oauth/callback", params=answer)).status_code == 403, "once"
        assert await consents[1].login_of(ADA) is not None
        for consent in consents:
            await consent.close()


# --- what goes wrong


async def test_a_full_inbox_is_waited_for(common: Common) -> None:
    async with two(common) as (one, other):
        other.relay.post.stop()
        while one.relay.post.send(1, b"?", b"x" * 1000, []):
            pass
        async with client(one, post(b"1.a")) as raw:
            await until(lambda: one.asked == 1)
            raw.send(post(b"1.b", b"later"))
            for _ in range(20):
                await asyncio.sleep(0.001)
            other.relay.post.start()
            assert [(await heard(raw))["size"] for _ in range(2)] == [2, 5], "what came meanwhile is read there"
            assert (one.asked, other.asked) == (1, 2)


async def test_one_that_stays_full_is_told_to_the_client(common: Common, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "WAIT", 0.0)
    async with two(common) as (one, other):
        other.relay.post.stop()
        while one.relay.post.send(1, b"?", b"x" * 1000, []):
            pass
        async with client(one, post(b"1.a")) as raw:
            answer = await raw.response()
            assert (answer.status, answer.headers["retry-after"]) == (503, "0")
            assert await raw.rest() == b""


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(common: Common) -> None:
    async with two(common) as (one, other):
        before = await settled(one, other)
        async with client(one, HELD % b"1.a" + b"Content-Length: 10\r\n\r\n123") as raw:
            await until(lambda: one.asked == 2)
            raw.close()
            await until(lambda: not (one.state.connections or one.state.tasks))
        other.relay.post.stop()
        while one.relay.post.send(1, b"?", b"x" * 1000, []):
            pass
        async with client(one, post(b"1.a")) as raw:
            await until(lambda: one.asked == 3)
            raw.close()
            await until(lambda: not (one.state.connections or one.state.tasks))
        assert other.asked == 1
        assert descriptors() == before


async def test_many_of_them_leave_no_descriptor(common: Common) -> None:
    async with two(common) as (one, other):
        before = await settled(one, other)
        for _ in range(100):
            async with client(one, post(b"1.a") + post(b"0.a")) as raw:
                assert [(await heard(raw))["worker"] for _ in range(2)] == [1, 0]
        await until(lambda: not (one.state.connections or other.state.connections))
        assert descriptors() == before
        assert list(common.counts) == [0, 0]


async def test_who_arrives_when_all_is_over_is_told_to_come_again(common: Common) -> None:
    async with two(common) as (one, other):
        other.relay.stop()
        async with client(one, post(b"1.a")) as raw:
            answer = await raw.response()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert await raw.rest() == b""
        here, there = socket.socketpair()
        there.close()
        assert one.relay.post.send(1, CONNECTION, b"", [here.fileno()])
        here.close()
        async with client(one, post(b"1.a")) as raw:
            assert (await raw.response()).status == 503, "one that has gone meanwhile harms nobody"


async def test_there_are_no_more_connections_than_there_may_be(common: Common) -> None:
    async with two(common, connections=1) as (one, other), client(other, post(b"")) as here:
        assert (await heard(here))["worker"] == 1
        async with client(one, post(b"1.a")) as raw:
            assert (await raw.response()).status == 503
            assert other.asked == 1


# --- new connections


async def test_new_connections_are_shared_out(common: Common) -> None:
    async with working(common, 0) as one, working(common, 1) as other:
        async with contextlib.AsyncExitStack() as stack:
            raws = [await stack.enter_async_context(client(one, post(b""))) for _ in range(40)]
            told = [(await heard(raw))["worker"] for raw in raws]
            assert 16 <= told.count(0) <= 24, told
            assert sorted(common.counts) == sorted((told.count(0), told.count(1)))
        await until(lambda: not (one.state.connections or other.state.connections))
        assert list(common.counts) == [0, 0]


async def test_of_two_connections_each_gets_one(common: Common) -> None:
    async with working(common, 0) as one, working(common, 1), client(one, post(b"")) as first:
        here = (await heard(first))["worker"]
        async with client(one, post(b"")) as second:
            assert (await heard(second))["worker"] == 1 - here


async def test_a_crowd_that_comes_at_once_is_shared_out_too(common: Common) -> None:
    async with working(common, 0) as one, working(common, 1) as other:
        with crowd(one, 60) as count:
            await until(lambda: len(one.state.connections) + len(other.state.connections) == count)
            assert 24 <= len(other.state.connections) <= 36


async def test_nobody_is_given_to_a_worker_that_ends(common: Common) -> None:
    async with working(common, 0) as one, working(common, 1) as other:
        other.relay.stop()
        with crowd(one, 4) as count:
            await until(lambda: len(one.state.connections) == count)


async def test_who_finds_no_room_elsewhere_stays(common: Common) -> None:
    async with working(common, 0) as one, working(common, 1) as other:
        other.relay.post.stop()
        while one.relay.post.send(1, b"?", b"x" * 1000, []):
            pass
        with crowd(one, 10) as count:
            await until(lambda: len(one.state.connections) == count)


@contextlib.contextmanager
def crowd(worker: Worker, count: int) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", worker.port)))
        yield count


# --- what a message names

META = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/call", {"requestState": "1.a", "taskId": "2.b"}, "1.a"),
        ("prompts/get", {"requestState": "1.a"}, "1.a"),
        ("tools/call", {"requestState": 1}, None),
        ("tools/call", {}, None),
        ("tasks/get", {"taskId": "1.a", "requestState": "2.b"}, "1.a"),
        ("tasks/cancel", {"taskId": ["1.a"]}, None),
        ("subscriptions/listen", {"notifications": {"taskIds": ["1.a", "2.b"]}}, "1.a"),
        ("subscriptions/listen", {"notifications": {"taskIds": []}}, None),
        ("subscriptions/listen", {"notifications": []}, None),
        ("tools/list", {"requestState": "1.a", "taskId": "1.a"}, None),
    ],
)
def test_a_modern_message_is_told_by_what_it_brings_back(method: str, params: Any, name: str | None) -> None:
    message = jsonrpc.parse(json.dumps(request(method, {**params, **META})).encode(), 64, 10_000)
    assert named({"mcp-session-id": "0.s"}, message) == name


@pytest.mark.parametrize("shape", ["request", "notification", "reply", "batch"])
def test_all_others_are_told_by_their_session(shape: str) -> None:
    asked = request("tools/call", {"requestState": "1.a"})
    shapes: dict[str, Any] = {
        "request": asked,
        "notification": {"jsonrpc": "2.0", "method": "notifications/initialized"},
        "reply": {"jsonrpc": "2.0", "id": 1, "result": {}},
        "batch": [asked, asked],
    }
    message = jsonrpc.parse(json.dumps(shapes[shape]).encode(), 64, 10_000)
    assert named({"mcp-session-id": "0.s"}, message) == "0.s"
    assert named({}, message) is None


def request(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
