"""stdin and stdout, as pipes and as files, and a house behind them. Rule: descriptors are real, the loop is the product's."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import modern_meta
from tests.server.peers import Asked, Notify, Server, config, echo, in_memory, said, tool, until
from vmcp.config.model import Limits
from vmcp.errors import McpError
from vmcp.server import pipes, runtime, stdio
from vmcp.server.pipes import Lines, Pipes
from vmcp.tasks import Nest

Json = dict[str, Any]


class Process:
    """The other side of stdin and stdout."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self.stdin = stdin
        self._reader = asyncio.StreamReader()
        self._stdout = stdout

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        protocol = asyncio.StreamReaderProtocol(self._reader)
        self.transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(self._stdout, "rb", 0))

    def send(self, method: str, id: object = None, **params: Any) -> None:
        told: Json = {"jsonrpc": "2.0", "method": method, "params": params}
        self.raw(json.dumps(told if id is None else {**told, "id": id}).encode() + b"\n")

    def raw(self, data: bytes) -> None:
        os.write(self.stdin, data)

    async def next(self) -> Any:
        async with asyncio.timeout(5):
            line = await self._reader.readline()
        assert line.endswith(b"\n"), "there is nothing more"
        return json.loads(line)

    async def rest(self) -> list[Any]:
        async with asyncio.timeout(10):
            return [json.loads(line) for line in (await self._reader.read()).splitlines()]

    def eof(self) -> None:
        os.close(self.stdin)
        self.stdin = -1


@contextlib.asynccontextmanager
async def other_side() -> AsyncIterator[tuple[int, int, Process]]:
    reading, stdin = os.pipe()
    stdout, writing = os.pipe()
    process = Process(stdin, stdout)
    await process.connect()
    try:
        yield reading, writing, process
    finally:
        if process.stdin >= 0:
            process.eof()
        process.transport.close()


@contextlib.asynccontextmanager
async def served(
    monkeypatch: pytest.MonkeyPatch, backend: Server, path: str = "/mcp", **more: Any
) -> AsyncIterator[tuple[Process, "asyncio.Task[None]"]]:
    monkeypatch.setattr(runtime, "Backend", in_memory({"one": backend}))
    async with Nest("test") as nest, other_side() as (reading, writing, process):
        task = nest.start(stdio.serve(config({"one": backend}, **more), path, reading, writing), "serve")
        yield process, task
        if process.stdin >= 0:
            process.eof()
        async with asyncio.timeout(10):
            await task


@pytest.mark.parametrize("path", ["/mcp", "/g/mcp"])
async def test_both_eras_are_served_until_the_end_of_stdin(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async with served(monkeypatch, Server(tools=[tool("echo")], script=echo), path) as (process, _):
        process.send("initialize", 0, protocolVersion="2025-06-18", capabilities={})
        assert (await process.next())["result"]["protocolVersion"] == "2025-06-18"
        process.send("notifications/initialized")
        call = {"name": "echo", "arguments": {"x": "\u00e4\n\u2028"}}
        process.send("tools/call", 1, **call)
        assert json.loads((await process.next())["result"]["content"][0]["text"]) == {"x": "\u00e4\n\u2028"}
        process.send("tools/call", "1", **call, _meta=modern_meta())
        answer = await process.next()
        assert (answer["id"], answer["result"]["resultType"]) == ("1", "complete")
        process.eof()
        assert await process.rest() == []


async def test_what_was_asked_before_the_end_of_stdin_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, Server(tools=[tool("echo")], script=echo)) as (process, _):
        for number in range(50):
            process.send("tools/call", number, name="echo", _meta=modern_meta())
        process.raw(b'{"jsonrpc":"2.0","id":50,"method":"ping"}')
        process.eof()
        assert sorted(answer["id"] for answer in await process.rest()) == list(range(51))


async def test_what_hangs_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(asked: Asked, notify: Notify) -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(stdio, "GRACE", 0.05)
    server = Server(tools=[tool("hang")], script=hang)
    async with served(monkeypatch, server) as (process, _):
        process.send("tools/call", 1, name="hang", _meta=modern_meta())
        await until(server.calls)
        process.eof()
        assert await process.rest() == []
    assert server.cancelled == 1


async def test_a_subscription_ends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tools=[tool("echo")], script=echo)
    async with served(monkeypatch, server) as (process, _):
        process.send("subscriptions/listen", 7, notifications={"toolsListChanged": True}, _meta=modern_meta())
        assert (await process.next())["method"] == "notifications/subscriptions/acknowledged"
        process.eof()
        result, cancelled = await process.rest()
        assert (result["id"], result["result"]["resultType"]) == (7, "complete")
        assert (cancelled["method"], cancelled["params"]) == ("notifications/cancelled", {"requestId": 7})


async def test_one_signal_ends_it_in_order_and_a_second_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(asked: Asked, notify: Notify) -> bytes:
        await asyncio.Event().wait()
        return b""

    server = Server(tools=[tool("hang")], script=hang)
    async with served(monkeypatch, server) as (process, task):
        process.send("ping", 0)
        await process.next()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await task
    async with served(monkeypatch, server) as (process, task):
        process.send("tools/call", 1, name="hang", _meta=modern_meta())
        await until(lambda: len(server.calls()) == 1)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(stdio.HURRY):
            await task


async def test_the_client_that_closes_stdout_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, Server(tools=[tool("echo")], script=echo)) as (process, task):
        process.transport.close()
        await until(process.transport.is_closing)
        async with asyncio.timeout(5):
            while not task.done():
                with contextlib.suppress(OSError):
                    process.send("ping", 0)
                await asyncio.sleep(0.01)


async def test_a_backend_that_writes_over_several_lines_is_put_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pretty(asked: Asked, notify: Notify) -> bytes:
        return json.dumps(json.loads(said("x")), indent=1).encode()

    async with served(monkeypatch, Server(tools=[tool("pretty")], script=pretty)) as (process, _):
        process.send("tools/call", 1, name="pretty", _meta=modern_meta())
        assert (await process.next())["result"]["content"][0]["text"] == "x"


async def test_a_line_that_is_too_long_is_left_out_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(body_bytes=100)
    async with served(monkeypatch, Server(tools=[tool("echo")], script=echo), limits=limits) as (process, _):
        process.raw(b"x" * 150)
        process.raw(b"x" * 150 + b"\n\r\n  \n")
        error = await process.next()
        assert (error["id"], error["error"]["code"]) == (None, -32600)
        process.raw(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\r\n')
        assert (await process.next())["id"] == 1
        process.raw(b"{\n")
        assert (await process.next())["error"]["code"] == -32700


class Held(asyncio.ReadTransport):
    """Notes who is held back."""

    def __init__(self) -> None:
        super().__init__()
        self.paused: list[bool] = []

    def pause_reading(self) -> None:
        self.paused.append(True)

    def resume_reading(self) -> None:
        self.paused.append(False)


async def test_lines_however_they_are_cut() -> None:
    text = b'{"a":1}\n\n {"b":2} \r\n{"c":3}'
    for size in range(1, len(text) + 1):
        lines = Lines(100)
        for start in range(0, len(text), size):
            lines.data_received(text[start : start + size])
        lines.eof_received()
        assert [await lines.read() for _ in range(4)] == [b'{"a":1}', b'{"b":2}', b'{"c":3}', None]


async def test_who_sends_faster_than_is_acted_on_is_held_back() -> None:
    lines, held = Lines(100), Held()
    lines.connection_made(held)
    lines.data_received(b"1\n" * (pipes.INBOX + 1))
    assert held.paused == [True]
    await lines.read()
    assert held.paused == [True]
    await lines.read()
    assert held.paused == [True, False]
    lines.connection_lost(None)


@pytest.mark.parametrize("kind", ["file", "null", "socket"])
async def test_files_and_sockets_do_as_well_as_pipes(tmp_path: Path, kind: str) -> None:
    text = b"".join(b"%d\n" % number for number in range(pipes.INBOX * 4))
    (tmp_path / "in").write_bytes(text)
    ends = socket.socketpair()
    if kind == "socket":
        ends[1].sendall(text)
        ends[1].shutdown(socket.SHUT_WR)
        reading = os.dup(ends[0].fileno())
    else:
        reading = os.open(tmp_path / "in" if kind == "file" else os.devnull, os.O_RDONLY)
    writing = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    async with asyncio.timeout(5), pipes.pipes(reading, writing, 100) as stream:
        while (line := await stream.read()) is not None:
            assert not isinstance(line, McpError)
            await stream.write(line)
    for end in ends:
        end.close()
    assert (tmp_path / "out").read_bytes() == (b"" if kind == "null" else text)


async def test_a_full_disk_is_a_client_that_is_gone() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    stream = Pipes(lines := Lines(100))
    await stream.open(full)
    await stream.write(b"x")
    await stream.write(b"x")
    assert await lines.read() is None
    await stream.close()


async def test_who_does_not_read_at_the_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "FLUSH", 0.05)
    async with other_side() as (reading, writing, process):
        process.transport.pause_reading()
        async with pipes.pipes(reading, writing, 100) as stream:
            await stream.write(b"x" * (1 << 20))


def test_stdout_belongs_to_messages_only(capfd: pytest.CaptureFixture[str]) -> None:
    kept = os.dup(0), os.dup(1)
    mine = pipes.claim()
    try:
        os.write(1, b"stray")
        assert os.read(0, 1) == b""
        os.write(mine[1], b"message")
    finally:
        os.dup2(kept[0], 0)
        os.dup2(kept[1], 1)
        for descriptor in (*kept, *mine):
            os.close(descriptor)
    assert capfd.readouterr() == ("message", "stray")
