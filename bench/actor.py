"""Both ends of the reliability runs: MCP backends that can be told to hang, refuse or vanish, and clients of one connection.

The one rule: plain asyncio streams, so that a fault is on the wire exactly when a scenario says so, and thousands of clients fit.
"""

import asyncio
import contextlib
import json
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
VERSION = "2025-11-25"
Mode = Literal["well", "hang", "refuse", "error"]


def _respond(status: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of the next request or response; responses in chunks are not read here."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    return head, await reader.readexactly(length)


@dataclass
class Backend:
    """A server of 2025-11-25 with some tools, each of which waits ``delay`` and answers with its argument ``word``."""

    tools: list[str] = field(default_factory=lambda: ["echo"])
    mode: Mode = "well"
    delay: float = 0.0
    port: int = 0
    calls: int = 0
    cancelled: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _streams: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> "Backend":
        """Listen, at the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Vanish as a killed process does: every connection is reset."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            raw: socket.socket = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def change(self, tools: list[str]) -> None:
        """Offer other tools, and say so on every standing stream."""
        self.tools = tools
        note = json.dumps({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        for writer in self._streams:
            writer.write(f"data: {note}\n\n".encode())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            self._streams.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head, body = await _message(reader)
        if self.mode == "hang":
            await reader.read()
            return False
        if self.mode == "error":
            writer.write(_respond("503 Service Unavailable"))
        elif head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
            self._streams.add(writer)
            await reader.read()
            return False
        elif head.startswith(b"POST"):
            await self._answer(reader, writer, json.loads(body))
        else:
            writer.write(_respond("200 OK"))
        return True

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Json) -> None:
        if "id" not in asked:
            self.cancelled += asked["method"] == "notifications/cancelled"
            writer.write(_respond("202 Accepted"))
            return
        told = await self._told(asked)
        error: Json = {"error": {"code": -32601, "message": "Method not found"}}
        reply = {"jsonrpc": "2.0", "id": asked["id"], **(error if told is None else {"result": told})}
        writer.write(_respond("200 OK", json.dumps(reply).encode()))

    async def _told(self, asked: Json) -> Json | None:
        match asked["method"]:
            case "initialize":
                offers = {"tools": {"listChanged": True}}
                return {"protocolVersion": VERSION, "capabilities": offers, "serverInfo": {"name": "b", "version": "1"}}
            case "tools/list":
                return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools]}
            case "ping":
                return {}
            case "tools/call":
                self.calls += 1
                if self.delay:
                    await asyncio.sleep(self.delay)
                return {"content": [{"type": "text", "text": asked["params"]["arguments"].get("word", "")}]}
        return None


class Client:
    """One connection to vmcp; of 2026-07-28 unless it opened a session."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.session: str | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._id = 0

    async def connect(self) -> None:
        """Open the connection, if it is not."""
        if self._writer is None or self._writer.is_closing():
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)

    def _head(self, verb: str, length: int, **more: str) -> bytes:
        fields = {"Host": f"127.0.0.1:{self.port}", "Content-Type": "application/json", **more}
        fields.setdefault("Accept", "application/json, text/event-stream")
        if self.session is not None:
            fields |= {"Mcp-Session-Id": self.session, "MCP-Protocol-Version": VERSION}
        if verb == "POST":
            fields["Content-Length"] = str(length)
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{verb} /mcp HTTP/1.1\r\n{lines}\r\n".encode()

    async def post(self, message: Json, **more: str) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer. Raises ``ConnectionError``, ``asyncio.IncompleteReadError``."""
        await self.connect()
        assert self._reader is not None
        assert self._writer is not None
        body = json.dumps(message).encode()
        self._writer.write(self._head("POST", len(body), **more) + body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            told = await self._chunks()
        else:
            length = next((int(line[15:]) for line in lowered.split(b"\r\n") if line.startswith(b"content-length:")), 0)
            told = await self._reader.readexactly(length)
        return int(head[9:12]), head, told

    async def _chunks(self) -> bytes:
        assert self._reader is not None
        found = b""
        while size := int(await self._reader.readline(), 16):
            found += await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()
        return found

    async def open(self) -> "Client":
        """A session of 2025-11-25."""
        self._id += 1
        told = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
        asked = {"jsonrpc": "2.0", "id": self._id, "method": "initialize", "params": told}
        status, head, _ = await self.post(asked)
        while status == 503:  # thousands come at once, and are told to come again
            await asyncio.sleep(0.2)
            status, head, _ = await self.post(asked)
        assert status == 200, head
        self.session = next(
            line[16:].decode() for line in head.split(b"\r\n") if line.lower().startswith(b"mcp-session-id: ")
        )
        await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def ask(self, method: str, params: Json | None = None) -> Json:
        """The reply. A refusal by status comes as ``{"status": …}``."""
        self._id += 1
        status, _, body = await self.post({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params or {}})
        if status != 200:
            return {"status": status}
        if body.startswith(b"{"):
            return dict(json.loads(body))
        lines = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and len(line) > 6]
        return dict(json.loads(lines[-1]))

    async def call(self, name: str, word: str = "w") -> tuple[Json, float]:
        """The reply of a tool, and the seconds that it took."""
        began = time.perf_counter()
        return await self.ask("tools/call", {"name": name, "arguments": {"word": word}}), time.perf_counter() - began

    async def listen(self) -> None:
        """Turn the connection into the standing stream of the session; thousands at once are told to come again."""
        while True:
            await self.connect()
            assert self._reader is not None
            assert self._writer is not None
            self._writer.write(self._head("GET", 0, Accept="text/event-stream"))
            head = await self._reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 503"):
                break
            self.close()
            await asyncio.sleep(0.5)
        assert head.startswith(b"HTTP/1.1 200"), head

    async def heard(self, what: bytes) -> float:
        """When ``what`` came on the standing stream. Raises ``ConnectionError`` when that has ended."""
        assert self._reader is not None
        while what not in (line := await self._reader.readline()):
            if not line:
                raise ConnectionError("the stream has ended")
        return time.perf_counter()

    async def leave(self) -> None:
        """End the session, and close."""
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(self._head("DELETE", 0))
        await self._reader.readuntil(b"\r\n\r\n")
        self.close()

    def vanish(self) -> None:
        """Reset the connection."""
        if self._writer is not None:
            raw: socket.socket = self._writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()

    def close(self) -> None:
        """Close it in order."""
        if self._writer is not None:
            self._writer.close()
