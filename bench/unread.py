"""Clients that ask for much and read nothing of it, and what that costs the others.

The one rule: what the process has at its worst moment is the figure, not what is left of it later.
"""

import asyncio
import json
import socket
import time

from actor import Backend, Client, Json
from house import Figure, House, clients, percentile, serving

SIZE = 10_000_000
MODERN = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "deaf", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Large(Backend):
    """One whose every tool answers with ten megabytes."""

    _text = json.dumps({"content": [{"type": "text", "text": "x" * SIZE}], "isError": False}).encode()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: Json) -> None:
        if asked["method"] != "tools/call":
            await super()._answer(reader, writer, asked)
            return
        pieces = (b'{"jsonrpc":"2.0","id":%d,"result":' % asked["id"], self._text, b"}")
        length = sum(len(piece) for piece in pieces)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % length)
        writer.writelines(pieces)


async def unread(count: int, seconds: float) -> list[Figure]:
    """R-SLOWREAD: so many clients that never read a result of 10 MB."""
    large, small = await Large().start(), await Backend().start()
    specs = {name: {"url": one.url, "transport": "streamable-http"} for name, one in (("l", large), ("s", small))}
    async with serving(specs) as house:
        reader, caller = await clients(house, 2)
        await reader.call("l_echo")
        before = house.memory()
        deaf = [await _ask_and_ignore(house.port) for _ in range(count)]
        top, times = await _watch(house, caller, seconds)
        for one in deaf:
            one.close()
        told, _ = await reader.call("l_echo")
        assert len(told["result"]["content"][0]["text"]) == SIZE
    await large.stop()
    await small.stop()
    grown = (top - before) / (1 << 20)
    return [
        Figure("R-SLOWREAD", f"{count} clients that never read 10 MB: memory more than before", grown, 150, "MiB"),
        Figure("R-SLOWREAD", "p99 of calls to another backend meanwhile", percentile(times, 0.99) * 1000, None, "ms"),
    ]


async def _watch(house: House, caller: Client, seconds: float) -> tuple[int, list[float]]:
    top, times, end = 0, [], time.monotonic() + seconds
    while time.monotonic() < end:
        told, took = await caller.call("s_echo")
        assert "result" in told or told.get("status") == 503, told
        times.append(took)
        top = max(top, house.memory())
        await asyncio.sleep(0.01)
    return top, times


async def _ask_and_ignore(port: int) -> socket.socket:
    """A client whose window is as small as it can be."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", port))
    params = {"name": "l_echo", "arguments": {}, "_meta": _META}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {MODERN}\r\n"
        f"Mcp-Method: tools/call\r\nMcp-Name: l_echo\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    await loop.sock_sendall(client, head.encode() + body)
    return client
