"""The HTTP+SSE transport of 2024-11-05: against a server in raw bytes, and against the reference server of the project.

Rule: nothing is sent to an address that the config did not name, and a stream that is gone is told once.
"""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.real.processes import MODULES, free_port, http_server, script
from tests.upstream.badserver import until
from tests.upstream.child import notice, result
from tests.upstream.fakes import soon
from tests.upstream.fakes_sse import HEAD, SseServer, listening, pool_to
from vmcp.errors import Code, Overdue, Unavailable
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.protocol.revisions import Revision
from vmcp.upstream import sse
from vmcp.upstream.endpoint import endpoint
from vmcp.upstream.handshake import Greeter
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.wire import Outgoing, Wire


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def ask(id_: int = 1, method: str = "ping", **params: Any) -> Outgoing:
    return Outgoing(id_, jsonrpc.request(id_, method, params), [(b"mcp-protocol-version", b"2025-06-18")])


async def listened(wire: Wire, request: Outgoing) -> tuple[list[str], Any]:
    """The methods of what came before the answer, and the result."""
    found: list[str] = []

    async def on_message(message: Message) -> None:
        found.append(message.method)

    answer = await wire.exchange(request, on_message, soon())
    return found, json.loads(bytes(jsonrpc.result_of(answer.message)))


# --- what is sent and what comes


async def test_a_message_goes_to_the_named_address_and_its_answer_comes_on_the_stream() -> None:
    server = SseServer({"ping": [notice("notifications/message", level="info", data=1), result({"x": 1})]})
    async with listening(server, (b"authorization", b"Bearer t")) as wire:
        assert await listened(wire, ask(7)) == (["notifications/message"], {"x": 1})
        await wire.tell(jsonrpc.notification("notifications/initialized"), ())
        assert (await wire.hear([]), wire.closing_cancels, wire.private_streams) == (False, False, False)
    assert server.paths == ["/sse", "/messages?session=1", "/messages?session=1"]
    assert [told.message.get("method") for told in server.heard[1:]] == ["ping", "notifications/initialized"]
    stream, post, _ = (told.headers for told in server.heard)
    assert (stream["accept"], stream["authorization"]) == ("text/event-stream", "Bearer t")
    assert (post["content-type"], post["authorization"]) == ("application/json", "Bearer t")
    assert post["mcp-protocol-version"] == "2025-06-18"


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("messages/?a=b", "/messages/?a=b"),
        ("/m", "/m"),
        ("?a=b", "/sse?a=b"),
        ("http://127.0.0.1:{port}/m#x", "/m"),
        ("//127.0.0.1:{port}/m", "/m"),
    ],
)
async def test_the_address_may_be_relative(address: str, path: str) -> None:
    server = SseServer({"ping": [result({})]})
    async with listening(_Placed(server, address)) as wire:
        assert await listened(wire, ask()) == ([], {})
    assert server.paths[-1] == path


class _Placed(SseServer):
    """A server that learns its port before it says its address."""

    def __init__(self, server: SseServer, address: str) -> None:
        super().__init__(server.on, address, heard=server.heard, paths=server.paths)

    async def __call__(self, peer: Any) -> None:
        self.address = self.address.replace("{port}", str(self.port))
        await super().__call__(peer)


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1/m",
        "http://evil.example.com/m",
        "//evil.example.com/m",
        "http://127.0.0.1:1/m",
        "file:///etc/passwd",
        "http://me@127.0.0.1/m",
        "http://[",
        "/a b",
        "/\u00fc",
    ],
)
async def test_an_address_elsewhere_gets_nothing(address: str) -> None:
    server = SseServer(address=address)
    with pytest.raises(Unavailable, match="address for messages") as refused:
        async with listening(server):
            pass
    assert refused.value.vmcp_code == Code.PROTOCOL_ERROR
    assert "evil" not in str(refused.value)
    assert server.messages == []


async def test_a_post_that_is_answered_only_after_the_reply_holds_nothing_up() -> None:
    server = SseServer({"ping": [notice("notifications/x"), result({})]}, late=True)
    strays: list[str] = []
    async with listening(server) as wire:
        wire.on_stray = lambda message: strays.append(message.method)
        assert await listened(wire, ask()) == ([], {})
    assert strays == ["notifications/x"]


async def test_a_refused_post_is_the_answer() -> None:
    async with listening(SseServer(status=403)) as wire:
        with pytest.raises(HttpRefused) as refused:
            await wire.exchange(ask(), None, soon())
        assert refused.value.status == 403
        with pytest.raises(HttpRefused):
            await wire.tell(b"{}", ())


@pytest.mark.parametrize("status", [404, 410])
async def test_a_server_that_forgot_the_session_is_gone_though_its_stream_stands(status: int) -> None:
    gone: list[bool] = []
    async with listening(SseServer(status=status)) as wire:
        wire.on_gone = lambda: gone.append(True)
        with pytest.raises(Unavailable, match="does not know our session any more") as failed:
            await wire.exchange(ask(), None, soon())
        assert failed.value.vmcp_code == Code.TRANSPORT_CLOSED
        assert gone == [True]


async def test_silence_ends_with_the_deadline() -> None:
    async with listening(SseServer()) as wire:
        with pytest.raises(Overdue, match=r"timeouts\.total"):
            await wire.exchange(ask(), None, soon(0.05))


async def test_many_calls_at_once_get_their_own_answers() -> None:
    server = SseServer({"ping": [result({})]})
    async with listening(server) as wire, asyncio.TaskGroup() as group:
        tasks = [group.create_task(wire.exchange(ask(number), None, soon())) for number in range(1, 40)]
    assert [bytes(task.result().message.id) for task in tasks] == [b"%d" % number for number in range(1, 40)]


# --- how it begins and ends


@pytest.mark.parametrize(
    ("opening", "why"),
    [
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "nothing at its URL"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", "no event stream"),
        (HEAD[:-2] + b"Content-Length: 0\r\n\r\n", "named no address"),
        (HEAD[:-2] + b"Content-Length: 19\r\n\r\nevent: message\n\n\n\n\n", "named no address"),
    ],
)
async def test_what_is_no_such_server_is_told_as_such(opening: bytes, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        async with listening(SseServer(opening=opening)):
            pass


async def test_a_server_that_names_no_address_is_waited_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "ENDPOINT_WAIT", 0.05)
    with pytest.raises(Overdue, match="endpoint event"):
        async with listening(SseServer(opening=HEAD + b": wait\n\n")):
            pass


async def test_a_stream_that_ends_fails_the_calls_in_flight_and_is_told_once() -> None:
    gone: list[str] = []
    async with listening(server := SseServer()) as wire:
        wire.on_gone = lambda: gone.append(wire.obituary())
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_failed(wire))
            await until(lambda: len(server.heard) == 2)
            server.streams[0].reset()
        assert "event stream" in task.result().message
        assert task.result().vmcp_code == Code.TRANSPORT_CLOSED
        for broken in (wire.exchange(ask(), None, soon()), wire.tell(b"{}", ())):
            with pytest.raises(Unavailable, match="event stream"):
                await broken
    assert len(gone) == 1


async def _failed(wire: Wire) -> Unavailable:
    with pytest.raises(Unavailable) as failed:
        await wire.exchange(ask(), None, soon())
    return failed.value


async def test_an_orderly_end_is_told_as_such() -> None:
    async with listening(server := SseServer()) as wire:
        gone = asyncio.Event()
        wire.on_gone = gone.set
        server.streams[0].close()
        await gone.wait()
        assert wire.obituary() == "it closed its event stream"


# --- the reference server


@pytest.mark.real
@pytest.mark.timeout(60)
async def test_the_reference_server_speaks_it(tmp_path: Path) -> None:
    if not MODULES.is_dir():
        pytest.skip("npm packages are not installed")
    port = free_port()
    command = [*script("@modelcontextprotocol/server-everything"), "sse"]
    with http_server(command, port, tmp_path / "log", {"PORT": str(port)}):
        url = f"http://127.0.0.1:{port}/sse"
        wire = await sse.connect("old", endpoint(url), pool_to(url), ())
        try:
            ids = itertools.count(1)
            facts = await Greeter("old", wire, "2024-11-05", ids).greet(soon(20))
            assert facts.revision is Revision.V2024_11_05
            call = {"name": "echo", "arguments": {"message": "hello"}}
            _, said = await listened(wire, ask(next(ids), "tools/call", **call))
            assert said == {"content": [{"type": "text", "text": "Echo: hello"}]}
            id_ = next(ids)
            slow = {"name": "trigger-long-running-operation", "arguments": {"duration": 0.3, "steps": 3}}
            heard, said = await listened(wire, ask(id_, "tools/call", **slow, _meta={"progressToken": id_}))
            assert heard == ["notifications/progress"] * 3
            assert "completed" in said["content"][0]["text"]
        finally:
            await wire.close()
