"""The limits of time on every transport: each is enforced there, progress does what it is for, and the error names what fired.

Rule: what is asserted is which limit ended a call and which value it has, never how long that took.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.upstream.badserver import Peer
from tests.upstream.child import notice, result
from tests.upstream.fakes import Heard, WebServer, soon, spawned, wired
from tests.upstream.fakes_sse import SseServer, listening
from vmcp.config.timeouts import Timeouts
from vmcp.errors import Code, Overdue
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream import websocket
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.span import PROGRESS
from vmcp.upstream.wire import Outgoing, Wire

TRANSPORTS = ("http", "sse", "websocket", "stdio")
GAP = 0.02
STEP = notice(PROGRESS, progressToken=1, progress=1)
DONE = result({}) | {"id": 1}
Say = Callable[[Any], Awaitable[None]]
Script = Callable[[Say], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


async def mute(say: Say) -> None:
    """Nothing at all."""


async def once(say: Say) -> None:
    """One report of progress, then nothing."""
    await say(STEP)


async def restless(say: Say) -> None:
    """Progress without an end."""
    while True:
        await say(STEP)
        await asyncio.sleep(GAP)


async def chatty(say: Say) -> None:
    """Words without an end, none of which is progress."""
    while True:
        await say(notice("notifications/message", level="info", data=1))
        await asyncio.sleep(GAP)


async def diligent(say: Say) -> None:
    """Progress, and after some time a result."""
    for _ in range(20):
        await say(STEP)
        await asyncio.sleep(GAP)
    await say(DONE)


STEPS: dict[Script, list[list[Any]]] = {
    mute: [],
    once: [["say", STEP]],
    restless: [["say", STEP], ["stall", GAP]] * 35,
    chatty: [["say", notice("notifications/message", level="info", data=1)], ["stall", GAP]] * 15,
    diligent: [*([["say", STEP], ["stall", GAP]] * 20), ["say", DONE]],
}


@contextlib.asynccontextmanager
async def asked_of(transport: str, script: Script, journal: Path) -> AsyncIterator[Wire]:
    """A wire to a server that does what ``script`` says whenever it is pinged."""
    if transport == "http":
        async with wired(WebServer({"ping": _streaming(script)})) as (http, _):
            yield http
    elif transport == "sse":
        async with listening(_Scripted(script)) as sse:
            yield sse
    elif transport == "stdio":
        async with spawned(journal, {"ping": STEPS[script]}) as child:
            yield child
    else:
        async with _socket(script) as live:
            yield live


def _streaming(script: Script) -> Callable[[Peer, Heard], Awaitable[None]]:
    async def answer(peer: Peer, told: Heard) -> None:
        if script is not mute:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")

        async def say(message: Any) -> None:
            await peer.send(b"data: %b\n\n" % json.dumps(message).encode())

        with contextlib.suppress(ConnectionError):
            await script(say)
            await peer.gone()
        peer.close()

    return answer


class _Scripted(SseServer):
    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    async def _post(self, peer: Peer, told: Heard) -> None:
        await super()._post(peer, told)
        with contextlib.suppress(ConnectionError):
            await self._script(self.say)


@contextlib.asynccontextmanager
async def _socket(script: Script) -> AsyncIterator[Wire]:
    async def handler(peer: ServerConnection) -> None:
        await peer.recv()
        await script(lambda message: peer.send(json.dumps(message)))
        await peer.wait_closed()

    async with serve(handler, "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        target = endpoint(f"ws://127.0.0.1:{port}/ws")
        wire = await websocket.connect("time", target, (), within=5, max_message=1 << 20)
        try:
            yield wire
        finally:
            await wire.close()


async def ping(wire: Wire, limits: Timeouts) -> str:
    """Which limit ended it; empty when there was an answer."""

    async def on_message(message: Message) -> None:
        """Nobody wants it."""

    request = Outgoing(1, jsonrpc.request(1, "ping", {}), limits=limits)
    late: Overdue | None = None
    try:
        await wire.exchange(request, on_message, soon(limits.total))
    except Overdue as caught:
        late = caught
    if late is None:
        return ""
    assert late.vmcp_code == Code.CONNECTION_TIMEOUT
    assert f"backend '{late.backend}' did not answer in time: {late.which} is {late.seconds:g} s" == late.message
    return f"{late.which} {late.seconds:g}"


LATE = {
    "no first word": (mute, Timeouts(first_byte=0.05, total=5), "timeouts.firstByte 0.05"),
    "no word at all": (mute, Timeouts(first_byte=5, total=0.05, total_with_progress=0.05), "timeouts.total 0.05"),
    "silence after a word": (once, Timeouts(first_byte=5, total=5, idle_stream=0.05), "timeouts.idleStream 0.05"),
    "words that are no progress": (chatty, Timeouts(first_byte=5, total=0.2), "timeouts.total 0.2"),
    "progress for ever": (restless, Timeouts(total=0.5, total_with_progress=0.6), "timeouts.totalWithProgress 0.6"),
    "progress that prolongs nothing": (restless, Timeouts(total=0.2, total_with_progress=0.2), "timeouts.total 0.2"),
    "a tool of its own": (mute, Timeouts(total=0.05, place="timeouts.tools[t*]"), "timeouts.tools[t*].total 0.05"),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("script", "limits", "ended"), LATE.values(), ids=LATE.keys())
async def test_a_limit_ends_a_call_and_is_named(
    transport: str, script: Script, limits: Timeouts, ended: str, tmp_path: Path
) -> None:
    if transport == "sse" and "firstByte" in ended:
        ended = "timeouts.idleStream 0.05"  # what was posted is accepted at once; from there its stream is awaited
        limits = Timeouts(first_byte=5, total=5, idle_stream=0.05)
    async with asked_of(transport, script, tmp_path / "journal") as wire:
        assert await ping(wire, limits) == ended


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_call_that_reports_progress_may_take_longer_than_its_total(transport: str, tmp_path: Path) -> None:
    async with asked_of(transport, diligent, tmp_path / "journal") as wire:
        assert await ping(wire, Timeouts(total=0.35, total_with_progress=30)) == ""


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_answer_that_comes_in_time_is_one(transport: str, tmp_path: Path) -> None:
    async def answer(say: Say) -> None:
        await say(DONE)

    STEPS[answer] = [["say", DONE]]
    async with asked_of(transport, answer, tmp_path / "journal") as wire:
        assert await ping(wire, Timeouts(first_byte=5, total=5, idle_stream=5)) == ""
