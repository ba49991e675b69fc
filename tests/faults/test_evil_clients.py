"""Clients that stop in the middle of anything, on every transport: nothing of them stays, and everybody else is served.

Rule: raw sockets against a vmcp process; each script is played many times at once, and then descriptors, sessions and calls in
flight are what they were. The limits on single connections are proved beside the listener; here it is what becomes of the rest.
"""

import asyncio
import base64
import contextlib
import json
import os
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.auth.house import META, House, serving
from tests.faults import brain
from tests.faults.brain import LATEST, MODERN
from tests.faults.chaos import reset
from tests.faults.test_chaos import descriptors
from tests.real.processes import descendants

LONG = bool(os.environ.get("VMCP_LONG"))
pytestmark = pytest.mark.timeout(300 if LONG else 60)
CROWD, ROUNDS = (40, 5) if LONG else (12, 1)
Json = dict[str, Any]
INITIALIZE: Json = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": LATEST,
        "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "e", "version": "1"},
    },
}


def call(name: str, *, modern: bool = False) -> Json:
    params: Json = {"name": name, "arguments": {}, "_meta": {**(META if modern else {}), "progressToken": "t"}}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


class Rude:
    """A connection of raw bytes."""

    def __init__(self, house: House, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.house = house
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until(self, mark: bytes) -> bytes:
        """Read until it came."""
        told = b""
        try:
            async with asyncio.timeout(10):
                while mark not in told:
                    told += await self.reader.readexactly(1)
        except (TimeoutError, asyncio.IncompleteReadError):
            raise AssertionError(f"no {mark!r} in {told!r}") from None
        return told

    def post(self, message: Json, path: str = "/mcp", **headers: str) -> bytes:
        """A request, whole."""
        body = json.dumps(message).encode()
        told = {
            "Host": "localhost",
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        }
        told |= {"Content-Length": str(len(body)), **{key.replace("_", "-"): value for key, value in headers.items()}}
        lines = "".join(f"{key}: {value}\r\n" for key, value in told.items())
        return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    def modern(self, name: str) -> bytes:
        """A call of 2026-07-28."""
        told = {"MCP_Protocol_Version": MODERN, "Mcp_Method": "tools/call", "Mcp_Name": name}
        return self.post(call(name, modern=True), **told)

    async def session(self) -> str:
        """Begin one of 2025-11-25; its id."""
        await self.send(self.post(INITIALIZE))
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        length = int(head.partition("content-length: ")[2].split("\r\n")[0])
        await self.reader.readexactly(length)
        return head.partition("mcp-session-id: ")[2].split("\r\n")[0]

    async def upgrade(self) -> None:
        """Become a WebSocket."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /ws HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Protocol: mcp", "", ""]
        await self.send("\r\n".join(lines).encode())
        assert b" 101 " in await self.until(b"\r\n\r\n")

    async def sse(self) -> str:
        """Open a stream of 2024-11-05; where to post."""
        await self.send(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        told = (await self.until(b"data: ") + await self.until(b"\n")).decode()
        return told.rpartition("data: ")[2].strip()

    async def beside(self, data: bytes) -> None:
        """Send a request over another connection and read the head of its answer."""
        async with rude(self.house) as other:
            await other.send(data)
            await other.until(b"\r\n\r\n")


def frame(message: Json | bytes, first: int = 0x81) -> bytes:
    """A frame of a client, masked with zeros."""
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
    return bytes([first]) + size + b"\0\0\0\0" + data


@contextlib.asynccontextmanager
async def rude(house: House) -> AsyncIterator[Rude]:
    """Its end is a RST."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        yield Rude(house, reader, writer)
    finally:
        reset(writer)


# --- the scripts


async def half_a_line(peer: Rude) -> None:
    await peer.send(b"POST /mc")


async def half_a_head(peer: Rude) -> None:
    await peer.send(peer.modern("b_stuck")[:60])


async def half_a_body(peer: Rude) -> None:
    await peer.send(peer.modern("b_stuck")[:-10])


async def half_a_chunk(peer: Rude) -> None:
    head = peer.post(call("b_stuck")).partition(b"\r\n\r\n")[0]
    await peer.send(head.replace(b"Content-Length", b"X-Was") + b"\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nabc")


async def body_and_the_next_head(peer: Rude) -> None:
    await peer.send(peer.modern("b_work") + peer.modern("b_work")[:40])
    await peer.until(b"\r\n\r\n")


async def gone_at_once(peer: Rude) -> None:
    await peer.send(peer.modern("b_stuck"))


async def gone_while_it_waits(peer: Rude) -> None:
    await peer.send(peer.modern("b_stuck"))
    await asyncio.sleep(0.02)


async def gone_in_the_middle_of_a_stream(peer: Rude) -> None:
    await peer.send(peer.modern("b_linger"))
    await peer.until(b"progress")


async def gone_with_a_question_open(peer: Rude) -> None:
    session = await peer.session()
    await peer.send(peer.post(call("b_ask"), Mcp_Session_Id=session))
    await peer.until(b"elicitation/create")
    await peer.beside(_delete(session))


async def gone_from_its_standing_stream(peer: Rude) -> None:
    session = await peer.session()
    head = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n"
    await peer.send(head.encode())
    await peer.until(b"text/event-stream")
    await peer.beside(_delete(session))


def _delete(session: str) -> bytes:
    return f"DELETE /mcp HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: {session}\r\n\r\n".encode()


async def reads_nothing(peer: Rude) -> None:
    await peer.send(b"".join(peer.modern("b_talk") for _ in range(50)))
    await asyncio.sleep(0.05)


async def sse_opened(peer: Rude) -> None:
    await peer.sse()


async def sse_with_a_call(peer: Rude) -> None:
    place = await peer.sse()
    await peer.beside(peer.post(INITIALIZE, place))
    await peer.until(b"serverInfo")
    await peer.beside(peer.post(call("b_stuck"), place))


async def sse_with_a_question(peer: Rude) -> None:
    place = await peer.sse()
    await peer.beside(peer.post(INITIALIZE, place))
    await peer.until(b"serverInfo")
    await peer.beside(peer.post(call("b_ask"), place))
    await peer.until(b"elicitation/create")


async def ws_half_an_upgrade(peer: Rude) -> None:
    await peer.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n")


async def ws_opened(peer: Rude) -> None:
    await peer.upgrade()


async def ws_half_a_frame(peer: Rude) -> None:
    await peer.upgrade()
    await peer.send(frame(INITIALIZE)[:9])


async def ws_half_a_message(peer: Rude) -> None:
    await peer.upgrade()
    await peer.send(frame(b'{"jsonrpc":', 0x01))


async def ws_unmasked(peer: Rude) -> None:
    await peer.upgrade()
    await peer.send(b"\x81\x02{}")


async def ws_with_a_call(peer: Rude) -> None:
    await peer.upgrade()
    await peer.send(frame(INITIALIZE) + frame(call("b_stuck")))
    await peer.until(b"serverInfo")


async def ws_with_a_question(peer: Rude) -> None:
    await peer.upgrade()
    await peer.send(frame(INITIALIZE) + frame(call("b_ask")))
    await peer.until(b"elicitation/create")


async def ws_reads_nothing(peer: Rude) -> None:
    await peer.upgrade()
    await peer.send(frame(INITIALIZE) + frame(b"", 0x89) * 500)
    for number in range(50):
        await peer.send(frame({**call("b_talk"), "id": number}))


SCRIPTS: dict[str, Callable[[Rude], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        *(half_a_line, half_a_head, half_a_body, half_a_chunk, body_and_the_next_head),
        *(gone_at_once, gone_while_it_waits, gone_in_the_middle_of_a_stream, gone_with_a_question_open),
        *(gone_from_its_standing_stream, reads_nothing, sse_opened, sse_with_a_call, sse_with_a_question),
        *(ws_half_an_upgrade, ws_opened, ws_half_a_frame, ws_half_a_message, ws_unmasked),
        *(ws_with_a_call, ws_with_a_question, ws_reads_nothing),
    )
}


# --- what is left


@dataclass
class Left:
    """What a house has in hand."""

    descriptors: int
    sessions: int
    children: int


async def left(house: House, http: httpx.AsyncClient) -> Left:
    metrics = await asked(house, http, "vmcp/metrics", {})
    return Left(
        descriptors(house),
        metrics["result"]["metrics"]["vmcp_connections_active"],
        len(descendants(house.pid)),
    )


async def asked(house: House, http: httpx.AsyncClient, method: str, params: Json) -> Json:
    """The reply to a request of a client that behaves."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    told = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Accept": "application/json, text/event-stream"}
    told |= {"Mcp-Name": params["name"]} if "name" in params else {}
    answer = await http.post(f"{house.url}/mcp", json=message, headers=told)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_who_vanishes_leaves_nothing_and_disturbs_nobody(tmp_path: Path) -> None:
    child = {"command": [sys.executable, "-S", brain.__file__, LATEST], "isolation": "session"}
    config = {
        "groups": {"all": {"backends": {"b": child}}},
        "server": {"limits": {"shutdownGrace": "2s", "processesPerPrincipal": 64}},
    }
    running = serving(config, tmp_path)
    house = await asyncio.to_thread(running.__enter__)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            await asked(house, http, "tools/call", {"name": "b_work", "arguments": {}})
            before = await left(house, http)
            for name, script in list(SCRIPTS.items()) * ROUNDS:
                await _crowd(house, http, name, script, before)
            assert "Traceback" not in house.log
            assert "never retrieved" not in house.log
            assert "unexpected failure" not in house.log
    finally:
        await asyncio.to_thread(running.__exit__, *sys.exc_info())


async def _crowd(
    house: House, http: httpx.AsyncClient, name: str, script: Callable[[Rude], Awaitable[None]], before: Left
) -> None:
    """So many at once, a good neighbour beside them; then nothing is left."""

    async def one() -> None:
        async with rude(house) as peer:
            await script(peer)

    async with asyncio.TaskGroup() as group:
        for _ in range(CROWD):
            group.create_task(one())
        told = await asked(house, http, "tools/call", {"name": "b_probe", "arguments": {"of": name}})
    assert told["result"]["content"][0]["text"] == json.dumps({"of": name}), name
    found = await left(house, http)
    try:
        async with asyncio.timeout(10):
            while found != before:
                await asyncio.sleep(0.02)
                found = await left(house, http)
    except TimeoutError:
        raise AssertionError(f"{name}: {found} is left of {before}") from None
