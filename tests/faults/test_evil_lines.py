"""Evil backends where everything comes on one stream: a child process, HTTP+SSE, WebSocket. One clean error each, and no more.

Rule: the house is a whole one with two clients; after every fault both are served, and nobody was told what was not his.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.faults import evil_lines
from tests.faults.evil_lines import BREAKS, ECHOED, LOST, MESSAGES, REFUSED, TWICE, WELL
from tests.faults.worlds import until
from tests.server.clients import Door
from tests.upstream.badserver import Peer, serving
from tests.upstream.fakes import heard, response
from vmcp.config.load import load
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN
from vmcp.server.runtime import Runtime

pytestmark = pytest.mark.timeout(120)
FILE = """\
name: n
groups:
  g:
    backends:
      evil: {{{place}, timeouts: {{total: 5s, tools: {{{tools}}}}}}}
aggregation: {{conflictResolution: priority, conflictResolutionConfig: {{priorityOrder: [evil]}}}}
"""
LIMITED = [*LOST, *REFUSED, *BREAKS]
TRANSPORTS = ("stdio", "sse", "websocket")
Json = dict[str, Any]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


class Sse:
    """HTTP+SSE; events are made of the very bytes of the messages."""

    def __init__(self) -> None:
        self._streams: dict[str, Peer] = {}

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            verb, path = request.split(b" ", 2)[:2]
            if verb == b"GET":
                self._streams[f"{peer.number}"] = peer
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: endpoint\ndata: /?s="
                await peer.send(head + b"%d\n\n" % peer.number)
                await peer.gone()
                raise ConnectionError
            stream, message = self._streams[path.partition(b"=")[2].decode()], heard(request).message
            await peer.send(response(202, b"Accepted"))
            if "id" in message and "method" in message:
                answers = evil_lines.told(message["method"], message.get("params", {}), json.dumps(message["id"]))
                await stream.send(b"".join(b"data: %b\n\n" % each for each in answers))


async def websocket(peer: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for text in peer:
            message = json.loads(text)
            if "id" not in message or "method" not in message:
                continue
            for each in evil_lines.told(message["method"], message.get("params", {}), json.dumps(message["id"])):
                await peer.send(each, text=True)


@contextlib.asynccontextmanager
async def house(monkeypatch: pytest.MonkeyPatch, transport: str) -> AsyncIterator[Runtime]:
    """One whose backend is evil."""
    monkeypatch.setattr("vmcp.upstream.control.backoff", lambda *_: 0.001)
    monkeypatch.setattr("vmcp.upstream.stdio.CLOSE_WAIT", 0.1)
    monkeypatch.setattr("vmcp.upstream.stdio.TERM_WAIT", 0.1)
    async with contextlib.AsyncExitStack() as stack:
        if transport == "stdio":
            child = json.dumps([sys.executable, "-I", "-S", str(Path(evil_lines.__file__))])
            place = f"command: {child}"
        elif transport == "sse":
            port = (await stack.enter_async_context(serving(Sse()))).port
            place = f'url: "http://127.0.0.1:{port}/sse", transport: sse'
        else:
            listening = serve(websocket, "127.0.0.1", 0, subprotocols=[Subprotocol("mcp")])
            server = await stack.enter_async_context(listening)
            place = f'url: "ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/", transport: websocket'
        tools = ", ".join(f"{name}: {{total: 50ms}}" for name in LIMITED)
        config, _ = load([("vmcp.yaml", FILE.format(place=place, tools=tools))], {})
        running = await stack.enter_async_context(Runtime(config))
        await until(lambda: running.backends["evil"].status.state == "up" and not running.table.faces["/mcp"].missing)
        yield running


async def served(*doors: Door) -> None:
    """Both clients are, by the backend as it is now."""
    for door in doors:
        async with asyncio.timeout(5):
            while "error" in (told := (await door.call("well")).message):
                assert "unavailable" in told["error"]["message"]
                await asyncio.sleep(0.005)  # it is being started again
        assert told["result"]["content"][0]["text"] == "well"


async def doors(running: Runtime) -> tuple[Door, Door]:
    """Of either era."""
    found = Door(running.app, LATEST_HANDSHAKE), Door(running.app, MODERN)
    for door in found:
        await door.initialize()
    return found


def clean(told: Json) -> None:
    """One error that says whose fault it is and nothing that the backend said."""
    assert "error" in told, told
    assert ECHOED not in str(told)
    assert "incident" not in str(told)
    assert len(told["error"]["message"]) < 400


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_garbage_is_one_clean_error_and_answers_are_found_in_what_is_only_strange(
    monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    async with house(monkeypatch, transport) as running:
        both = await doors(running)
        await served(*both)
        for number, name in enumerate(MESSAGES):
            if transport == "websocket" and name in ("no_utf8", "half_a_character", "garbage_first"):
                continue  # no text frame can hold it: see the broken streams
            told = (await both[number % 2].call(name)).message
            if name in WELL or name in TWICE:
                assert told["result"]["content"][0]["text"] == "well", (name, told)
            else:
                clean(told)
            await served(*both)


@pytest.mark.parametrize("name", BREAKS)
async def test_a_child_that_breaks_its_stream_costs_what_is_in_flight(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with house(monkeypatch, "stdio") as running:
        both = await doors(running)
        await served(*both)
        async with asyncio.TaskGroup() as group:
            hit = group.create_task(both[0].call(name))
            beside = group.create_task(both[1].call("nothing"))
        clean(hit.result().message)
        clean(beside.result().message)
        if name == "half_and_hangs":
            _kill(running)
        await served(*both)


def _kill(running: Runtime) -> None:
    """What the health probes do to a process that all share, after half a minute."""
    control: Any = running.backends["evil"]._control  # type: ignore[union-attr]
    control._gone, control._why = True, "it answers no probe"
    control._wake.set()
