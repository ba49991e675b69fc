"""Bodies on the wire: too large, too many, cut off. A refusal closes the connection, and the house forgets the bytes.

Rule: the size is counted on what arrives, whatever the client announced.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.server.clients import Door, Listening, Raw, listening
from tests.server.peers import Server, config, echo, house, tool, until
from vmcp.config.model import Limits
from vmcp.server.runtime import Runtime

HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@contextlib.asynccontextmanager
async def limited(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> AsyncIterator[tuple[Runtime, Listening]]:
    given = replace(Limits(), **limits)
    backends = {"a": Server(tools=[tool("t")], script=echo)}
    running = house(monkeypatch, backends, limits=given)
    async with running as found, listening(found.app, config({}, limits=given)) as server:
        yield found, server


def initialize(size: int) -> bytes:
    """A request of exactly this size."""
    start = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","x":"'
    return start + b"x" * (size - len(start) - 3) + b'"}}'


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413), (100_000, 413)])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_has_a_limit(monkeypatch: pytest.MonkeyPatch, size: int, status: int, chunked: bool) -> None:
    async with limited(monkeypatch, body_bytes=1000) as (_, server):
        body = initialize(size)
        if chunked:
            raw = await server.say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            raw.send(*[b"%x\r\n%b\r\n" % (len(body[i : i + 300]), body[i : i + 300]) for i in range(0, size, 300)])
            raw.send(b"0\r\n\r\n")
        else:
            raw = await server.say(HEAD + b"Content-Length: %d\r\n\r\n" % size + body)
        answer = await raw.response()
        assert answer.status == status
        if status == 413:
            assert "server.limits.bodyBytes" in answer.error["message"]
            assert answer.headers["connection"] == "close"
            await raw.rest()


async def test_a_body_that_never_ends_is_refused_when_it_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited(monkeypatch, body_bytes=1000) as (running, server):
        raw = await server.say(HEAD + b"Content-Length: 1000000\r\n\r\n", b"x" * 1500)
        assert (await raw.response()).status == 413
        await raw.rest()
        await until(lambda: not server.state.tasks)
        assert running._http._intake._held == 0


async def test_all_bodies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited(monkeypatch, body_bytes=1000, in_flight_body_bytes=2000) as (running, server):
        door = running._http._intake
        half: list[Raw] = []
        for number in range(2):
            half.append(await server.say(HEAD + b"Content-Length: 1000\r\n\r\n", initialize(1000)[:900]))
            await until(lambda number=number: door._held == 900 * (number + 1))
        one_more = await server.say(HEAD + b"Content-Length: 1000\r\n\r\n", initialize(1000)[:900])
        one_more.send(b"x")
        refused = await one_more.response()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        await one_more.rest()
        for raw in half:
            raw.send(initialize(1000)[900:])
            assert (await raw.response()).status == 200
        assert door._held == 0
        again = await server.say(HEAD + b"Content-Length: 1000\r\n\r\n", initialize(1000))
        assert (await again.response()).status == 200


@pytest.mark.parametrize("sent", [b"", b"{", initialize(1000)[:999]])
async def test_a_client_that_leaves_in_its_body_is_forgotten(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    async with limited(monkeypatch) as (running, server):
        raw = await server.say(HEAD + b"Content-Length: 1000\r\n\r\n", sent)
        await until(lambda: server.state.tasks)
        raw.close()
        await until(lambda: not server.state.tasks and not server.state.connections)
        assert running._http._intake._held == 0
        assert len(running._sessions) == 0


async def test_a_body_in_many_pieces_is_one_body(monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited(monkeypatch) as (_, server):
        raw = await server.say(HEAD + b"Content-Length: 500\r\n\r\n")
        for byte in initialize(500):
            raw.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await raw.response()).result["protocolVersion"] == "2025-11-25"


async def test_a_slow_body_through_any_server_is_answered_with_408(monkeypatch: pytest.MonkeyPatch) -> None:
    async with limited(monkeypatch, body_timeout=0.02, body_rate=1 << 40) as (running, _):
        exchanged = Door(running.app).begin("POST", None, b"{")
        exchanged._incoming[0]["more_body"] = True
        forever = asyncio.Event()
        receive = exchanged._receive

        async def slowly() -> dict[str, Any]:
            if not exchanged._incoming:
                await forever.wait()
            return await receive()

        exchanged._receive = slowly  # type: ignore[method-assign]
        async with asyncio.timeout(5):
            await exchanged.run()
        assert exchanged.answer.status == 408
        assert running._http._intake._held == 0
