"""A server on one stream for everybody that answers a tool's call with exactly the wrong message that the tool is named for.

Rule: the tables say all that it does; the standard library only, as it is a child process too (``evil_lines.py``, over its
standard streams, where it can also break the stream itself).
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

Made = Callable[[str], bytes]
"""The message for the request of this id (a JSON text)."""
ECHOED = "the-inner-words-of-a-backend"
GREETING: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "evil", "version": "1"},
}


def result(id_: str, words: str = "well") -> bytes:
    return b'{"jsonrpc":"2.0","id":%b,"result":{"content":[{"type":"text","text":"%b"}]}}' % (
        id_.encode(),
        words.encode(),
    )


LOST: dict[str, Made] = {
    "nothing": lambda _: b"",
    "no_json": lambda _: ECHOED.encode(),
    "cut_json": lambda i: result(i)[:-3],
    "no_utf8": lambda i: result(i).replace(b"well", b"\xff\xfe"),
    "half_a_character": lambda i: result(i).replace(b"well", b"\xc3"),
    "nan": lambda i: result(i).replace(b'"well"', b"NaN"),
    "deep": lambda i: f'{{"jsonrpc":"2.0","id":{i},"result":'.encode() + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "other_id": lambda _: result("987654321"),
    "text_id": lambda i: result(f'"{i}"'),
    "float_id": lambda i: result(f"{i}.0"),
    "huge_id": lambda _: result("9" * 400),
    "negative_id": lambda i: result(f"-{i}"),
    "null_id": lambda _: result("null"),
    "object_id": lambda i: result(f'{{"id":{i}}}'),
    "no_id": lambda _: b'{"jsonrpc":"2.0","result":{}}',
    "batch_of_nothing": lambda _: b"[]",
    "number": lambda _: b"42",
    "deaf_progress": lambda _: b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":[1]}}',
    "odd_cancelled": lambda _: b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":7}',
    "false_cancelled": lambda i: (
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}' % i.encode()
    ),
}
"""What is no answer: the call ends by its limit."""
REFUSED: dict[str, Made] = {
    "both": lambda i: result(i)[:-1] + b',"error":{"code":1,"message":"x"}}',
    "neither": lambda i: f'{{"jsonrpc":"2.0","id":{i}}}'.encode(),
    "result_is_text": lambda i: f'{{"jsonrpc":"2.0","id":{i},"result":"{ECHOED}"}}'.encode(),
    "error_is_text": lambda i: f'{{"jsonrpc":"2.0","id":{i},"error":"{ECHOED}"}}'.encode(),
    "error": lambda i: f'{{"jsonrpc":"2.0","id":{i},"error":{{"code":-32000,"message":"no"}}}}'.encode(),
}
"""What says something about the request, and no result: one error, at once or by its limit."""
WELL: dict[str, Made] = {
    "well": result,
    "batch": lambda i: b"[" + result(i) + b"]",
    "old_rpc": lambda i: result(i).replace(b'"jsonrpc":"2.0",', b""),
    "spaced": lambda i: b"  " + result(i) + b"  ",
}
"""What is strange and has an answer in it all the same."""
TWICE: dict[str, list[Made]] = {
    "two_results": [result, lambda i: result(i, "second")],
    "garbage_first": [LOST["no_json"], LOST["no_utf8"], result],
    "other_first": [LOST["other_id"], result],
    "next_id_too": [lambda i: result(str(int(i) + 1), "forged"), result],
    "question_first": [lambda _: b'{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{}}', result],
    "ping_first": [lambda _: b'{"jsonrpc":"2.0","id":null,"method":"ping"}', result],
    "flood_first": [lambda _: b'{"jsonrpc":"2.0","method":"notifications/odd"}'] * 3000 + [result],
}
"""Several messages, of which one is the answer."""
MESSAGES = [*LOST, *REFUSED, *WELL, *TWICE]
BREAKS = ["exits", "is_killed", "exits_after_half", "closes_stdout", "half_and_hangs", "endless_line", "wrong_frame"]
"""What only a process can do."""


def told(method: str, params: Any, id_: str) -> list[bytes]:
    """The messages that answer a request."""
    plain: dict[str, Any] = {"initialize": GREETING, "ping": {}}
    plain["tools/list"] = {"tools": [{"name": n, "inputSchema": {"type": "object"}} for n in [*MESSAGES, *BREAKS]]}
    if method in plain:
        return [f'{{"jsonrpc":"2.0","id":{id_},"result":{json.dumps(plain[method])}}}'.encode()]
    if method != "tools/call":
        return [f'{{"jsonrpc":"2.0","id":{id_},"error":{{"code":-32601,"message":"Method not found"}}}}'.encode()]
    name = params["name"]
    makers = TWICE.get(name) or [{**LOST, **REFUSED, **WELL}[name]]
    return [make(id_) for make in makers]


def broken(name: str, id_: str) -> None:
    """Break the stream of a child process."""
    if name == "exits":
        os._exit(3)
    if name == "is_killed":
        os.kill(os.getpid(), 9)
    if name == "exits_after_half":
        os.write(1, result(id_)[:20])
        os._exit(0)
    if name == "closes_stdout":
        os.close(1)
        sys.stdin.buffer.read()
        os._exit(0)
    if name == "half_and_hangs":
        os.write(1, result(id_)[:20])
        sys.stdin.buffer.read()
        os._exit(0)
    if name == "endless_line":
        while True:
            os.write(1, b"x" * 65536)
    os.write(1, b"Content-Length: 99999999999\r\n\r\n")


def main() -> None:
    """Serve on the standard streams until the input ends."""
    for line in sys.stdin.buffer:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        id_, params = json.dumps(message["id"]), message.get("params", {})
        if message["method"] == "tools/call" and params["name"] in BREAKS:
            broken(params["name"], id_)
            continue
        data = b"\n".join([*told(message["method"], params, id_), b""])
        while data:
            data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
