"""A backend that greets like any other and answers a tool's call with exactly the wrong bytes that the tool is named for.

The rule: it is plain sockets, so that nothing it sends was made right by a library; all that it does is in the tables.

python -m tests.faults.evil PORT
"""

import asyncio
import contextlib
import functools
import json
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

OK: Final = {"content": [{"type": "text", "text": "well"}]}
GREETING: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "evil", "version": "1"},
}
ECHOED: Final = "the-inner-words-of-a-backend"
"""In every text of ours that is no reply: clients must not see it."""
JSON: Final = b"application/json"
EVENTS: Final = b"text/event-stream"


def head(status: bytes, *fields: bytes) -> bytes:
    return b"HTTP/1.1 " + b"\r\n".join([status, *fields]) + b"\r\n\r\n"


def whole(body: bytes, kind: bytes = JSON, status: bytes = b"200 OK") -> bytes:
    """A response as it should be, but perhaps for what is in it."""
    return head(status, b"Content-Type: " + kind, b"Content-Length: %d" % len(body)) + body


def result(id_: str, told: Any = OK) -> bytes:
    return f'{{"jsonrpc":"2.0","id":{id_},"result":{json.dumps(told)}}}'.encode()


def error(id_: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":{id_},"error":{{"code":-32000,"message":"no"}}}}'.encode()


def event(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


def events(*bodies: bytes) -> bytes:
    """A stream of events that ends with its connection."""
    return head(b"200 OK", b"Content-Type: " + EVENTS, b"Connection: close") + b"".join(bodies)


def page(status: bytes) -> bytes:
    return whole(f"<html><b>{ECHOED}</b></html>".encode(), b"text/html", status)


def chunked(*rest: bytes) -> bytes:
    return head(b"200 OK", b"Content-Type: " + JSON, b"Transfer-Encoding: chunked") + b"".join(rest)


def sized(size: bytes, body: bytes) -> bytes:
    return head(b"200 OK", b"Content-Type: " + JSON, b"Content-Length: " + size) + body


def _page(status: str, id_: str) -> bytes:
    return page(status.encode())


Made = Callable[[str], bytes]
"""The bytes for the request of this id (a JSON text)."""
STATUSES = (
    "201 Created",
    "204 No Content",
    "206 Partial Content",
    "301 Moved",
    "302 Found",
    "307 Temporary",
    "308 Permanent",
)
STATUSES += (
    "400 Bad",
    "401 Who",
    "402 Pay",
    "403 No",
    "404 None",
    "405 Not so",
    "406 Not that",
    "407 Proxy",
    "408 Late",
)
STATUSES += (
    "410 Gone",
    "413 Large",
    "415 Kind",
    "418 Teapot",
    "429 Often",
    "431 Heads",
    "451 Law",
    "500 Ouch",
    "501 What",
)
STATUSES += ("502 Behind", "503 Busy", "504 Waited", "505 Version", "599 Odd", "999 Odder")

CLOSING: dict[str, Made] = {
    **{f"status_{status[:3]}": functools.partial(_page, status) for status in STATUSES},
    "html": lambda _: page(b"200 OK"),
    "no_type": lambda i: head(b"200 OK", b"Content-Length: %d" % len(result(i))) + result(i),
    "wrong_type": lambda i: whole(result(i), b"text/plain"),
    "empty": lambda _: whole(b""),
    "white": lambda _: whole(b"   \n"),
    "cut_json": lambda i: whole(result(i)[:-3]),
    "two_values": lambda i: whole(result(i) * 2),
    "no_utf8": lambda i: whole(result(i).replace(b"well", b"\xff\xfe")),
    "nan": lambda i: whole(result(i).replace(b'"well"', b"NaN")),
    "deep": lambda i: whole(f'{{"jsonrpc":"2.0","id":{i},"result":'.encode() + b"[" * 50_000 + b"]" * 50_000 + b"}"),
    "other_id": lambda _: whole(result("987654321")),
    "text_id": lambda i: whole(result(f'"{i}"')),
    "float_id": lambda i: whole(result(f"{i}.0")),
    "null_id": lambda _: whole(result("null")),
    "no_id": lambda _: whole(b'{"jsonrpc":"2.0","result":{}}'),
    "both": lambda i: whole(result(i)[:-1] + b',"error":{"code":1,"message":"x"}}'),
    "neither": lambda i: whole(f'{{"jsonrpc":"2.0","id":{i}}}'.encode()),
    "batch": lambda i: whole(b"[" + result(i) + b"]"),
    "request": lambda _: whole(b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}'),
    "result_is_text": lambda i: whole(result(i, ECHOED)),
    "error_is_text": lambda i: whole(f'{{"jsonrpc":"2.0","id":{i},"error":"{ECHOED}"}}'.encode()),
    "too_large": lambda _: sized(b"1073741824", b"x" * 1000),
    "negative_length": lambda i: sized(b"-1", result(i)),
    "two_lengths": lambda i: sized(b"5\r\nContent-Length: 6", result(i)),
    "length_and_chunks": lambda i: sized(b"5\r\nTransfer-Encoding: chunked", result(i)),
    "short": lambda i: sized(b"%d" % (len(result(i)) + 9), result(i)),
    "no_chunk_size": lambda _: chunked(b"zz\r\nabc\r\n0\r\n\r\n"),
    "huge_chunk": lambda _: chunked(b"ffffffffffffffff\r\nabc"),
    "cut_chunk": lambda _: chunked(b"50\r\nabc"),
    "no_gzip": lambda i: (
        head(b"200 OK", b"Content-Type: " + JSON, b"Content-Encoding: gzip", b"Content-Length: 5") + b"nogzp"
    ),
    "many_heads": lambda _: head(b"200 OK", *(b"X-%d: y" % n for n in range(5000))),
    "long_head": lambda _: head(b"200 OK", b"X: " + b"y" * 1_000_000),
    "endless_head": lambda _: b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000,
    "informed": lambda _: head(b"100 Continue") * 2000,
    "switched": lambda _: head(b"101 Switching", b"Upgrade: x", b"Connection: upgrade") + ECHOED.encode(),
    "no_http": lambda _: ECHOED.encode() + b"\r\n\r\n",
    "http2": lambda _: b"HTTP/2 200\r\n\r\n",
    "http09": result,
    "nul_head": lambda i: head(b"200 OK", b"X: a\0b", b"Content-Type: " + JSON) + result(i),
    "folded": lambda i: head(b"200 OK", b"X: a\r\n  b: c", b"Content-Type: " + JSON, b"Content-Length: 3") + result(i),
    "no_blank_line": lambda i: events(b"data: " + result(i)),
    "no_events": lambda _: events(),
    "events_of_nothing": lambda _: events(*[b": hello\n\n"] * 100, b"data:\n\n"),
    "event_of_no_json": lambda _: events(event(ECHOED.encode())),
    "event_of_other": lambda _: events(event(result("987654321"))),
    "endless_event": lambda _: events(b"data: " + b"x" * 40_000_000),
    "half_an_event": lambda i: events(event(result(i))[:-12]),
    "lies_about_events": lambda i: whole(event(result(i)), JSON),
    "nothing": lambda _: b"",
}
WELL: dict[str, Made] = {
    "well": lambda i: whole(result(i)),
    "error": lambda i: whole(error(i)),
    "well_in_pieces": lambda i: events(event(result(i))),
    "twice": lambda i: events(event(result(i)), event(result(i)), event(error(i))),
    "extra": lambda i: events(event(b'{"jsonrpc":"2.0","method":"notifications/odd"}'), event(result(i))),
    "old_rpc": lambda i: whole(result(i).replace(b'"jsonrpc":"2.0",', b"")),
    "twice_the_key": lambda i: whole(result(i)[:-1] + b',"result":{}}'),
    "sneaky": lambda i: whole(result(i)) + whole(result("1")),
}
"""What is strange and has an answer in it all the same."""
Ending = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]


def reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _reset_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str) -> None:
    reset(writer)


async def _reset_after_the_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str) -> None:
    writer.write(sized(b"500", b"{"))
    await writer.drain()
    reset(writer)


async def _half_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str) -> None:
    writer.write(sized(b"500", b"{"))
    writer.write_eof()
    await reader.read()


async def _half_closed_in_an_event(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str) -> None:
    writer.write(events(b"data: {"))
    writer.write_eof()
    await reader.read()


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str) -> None:
    await reader.read()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str) -> None:
    writer.write(sized(b"5000", b""))
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.05)


async def _drip_comments(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str) -> None:
    writer.write(events())
    while not writer.is_closing():
        writer.write(b": still here\n\n")
        await asyncio.sleep(0.05)


async def _flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, id_: str) -> None:
    """Notifications for ever, which nobody asked for."""
    writer.write(events())
    flood = event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"debug","data":"x"}}') * 100
    while not writer.is_closing():
        writer.write(flood)
        await writer.drain()


ENDINGS: dict[str, Ending] = {
    "reset_at_once": _reset_at_once,
    "reset_after_the_head": _reset_after_the_head,
    "half_closed": _half_closed,
    "half_closed_in_an_event": _half_closed_in_an_event,
}
"""What breaks off."""
LASTING: dict[str, Ending] = {"hang": _hang, "drip": _drip, "drip_comments": _drip_comments, "flood": _flood}
"""What never ends by itself."""
TOOLS: Final = sorted([*CLOSING, *WELL, *ENDINGS, *LASTING])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while await _exchange(reader, writer):
            await writer.drain()
        await writer.drain()
    writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """One request and what it gets; whether the connection may be used again."""
    request = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line[16:]) for line in request.lower().split(b"\r\n") if line.startswith(b"content-length: ")), 0
    )
    body = await reader.readexactly(length)
    if not request.startswith(b"POST"):
        writer.write(whole(b"", status=b"405 Not so"))
        return True
    message = json.loads(body)
    if "id" not in message:
        writer.write(whole(b"", status=b"202 Accepted"))
        return True
    return await _answer(reader, writer, message["method"], message.get("params", {}), json.dumps(message["id"]))


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, params: Any, id_: str
) -> bool:
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
    plain = {"initialize": GREETING, "tools/list": {"tools": tools}, "ping": {}}
    if method in plain:
        writer.write(whole(result(id_, plain[method])))
        return True
    if method != "tools/call":
        writer.write(
            whole(f'{{"jsonrpc":"2.0","id":{id_},"error":{{"code":-32601,"message":"Method not found"}}}}'.encode())
        )
        return True
    name = params["name"]
    acts = {**ENDINGS, **LASTING}
    if name in acts:
        await acts[name](reader, writer, id_)
        return False
    writer.write({**CLOSING, **WELL}[name](id_))
    return name in ("well", "error")


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
