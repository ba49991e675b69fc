"""HTTP/1.1 over asyncio streams, both ends, as small as the other files of this folder need it.

The rule: one exchange at a time on a connection; bodies are read by length or by chunks, event streams are read event by event.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
LIMIT = 1 << 22


@dataclass
class Head:
    """The first line of a message, in three words, and its headers."""

    words: tuple[str, str, str]
    headers: dict[str, str]


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The head of the next message; None when there is none."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = text[:-4].split("\r\n")
    words = (*first.split(" ", 2), "", "")[:3]
    pairs = (line.partition(":") for line in lines)
    return Head((words[0], words[1], words[2]), {name.lower(): value.strip() for name, _, value in pairs})


async def chunks(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """The body in pieces."""
    if head.headers.get("transfer-encoding") != "chunked":
        length = int(head.headers.get("content-length", "0"))
        if length:
            yield await reader.readexactly(length)
        return
    while size := int((await reader.readline()).strip() or b"0", 16):
        piece = await reader.readexactly(size + 2)
        yield piece[:-2]
    await reader.readline()


async def body(reader: asyncio.StreamReader, head: Head) -> bytes:
    return b"".join([piece async for piece in chunks(reader, head)])


@dataclass
class Event:
    """One server-sent event."""

    kind: str = "message"
    data: str = ""
    id: str | None = None


async def events(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[Event]:
    """The events of a stream; the ones that carry nothing are left out."""
    buffer, event, lines = b"", Event(), []
    async for piece in chunks(reader, head):
        *whole, buffer = (buffer + piece).split(b"\n")
        for line in (each.rstrip(b"\r").decode() for each in whole):
            name, _, value = line.partition(":")
            if name == "data":
                lines.append(value.removeprefix(" "))
            elif name == "event":
                event.kind = value.strip()
            elif name == "id":
                event.id = value.strip()
            elif not line:
                event.data = "\n".join(lines)
                if event.data or event.id is not None:
                    yield event
                event, lines = Event(), []


def head_text(first: str, headers: Mapping[str, str]) -> bytes:
    return "".join([f"{first}\r\n", *(f"{name}: {value}\r\n" for name, value in headers.items()), "\r\n"]).encode(
        "latin-1"
    )


def dumps(message: Any) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


class Pool:
    """Connections of one client to one server, used again when their exchange came to its end."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    @contextlib.asynccontextmanager
    async def exchange(
        self, verb: str, path: str, headers: Mapping[str, str], content: bytes = b""
    ) -> AsyncIterator[tuple[Head, asyncio.StreamReader]]:
        """Send a request; its head and where its body is to be read. Whoever leaves early closes the connection."""
        lengths = {"Content-Length": str(len(content))} if verb == "POST" else {}
        text = head_text(f"{verb} {path} HTTP/1.1", {"Host": f"127.0.0.1:{self.port}", **lengths, **headers}) + content
        head, reader, writer = await self._send(text)
        done = False
        try:
            yield head, reader
            done = reader.at_eof() is False and head.headers.get("connection") != "close"
        finally:
            if done:
                self._idle.append((reader, writer))
            else:
                writer.close()

    async def _send(self, text: bytes) -> tuple[Head, asyncio.StreamReader, asyncio.StreamWriter]:
        """By an idle connection if one is still open, else by a new one."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return await self._first(text, reader, writer)
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=LIMIT)
        return await self._first(text, reader, writer)

    async def _first(
        self, text: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[Head, asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            writer.write(text)
            head = await read_head(reader)
            if head is None:
                raise ConnectionError("the server closed the connection without an answer")
        except BaseException:
            writer.close()
            raise
        return head, reader, writer

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
