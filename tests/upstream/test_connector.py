"""How a connection is made: the wire of each transport, what is declared on it, the way back to HTTP+SSE, and what is closed.

Rule: servers really run; what a connection left behind is looked up after its end.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from websockets.asyncio.server import ServerConnection, serve

from tests.upstream.badserver import Peer, serving, until
from tests.upstream.child import answers, failure, fill, notice
from tests.upstream.fakes import (
    FAST,
    Heard,
    alive,
    command,
    heard,
    journal_of,
    response,
    scripted,
    served,
    single,
    soon,
    stream,
    text,
    web,
)
from vmcp.config.model import BackendSpec, Limits
from vmcp.errors import McpError, Unavailable
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.tasks import Nest
from vmcp.upstream.ask import Ask
from vmcp.upstream.connector import Connector, Terms, obituary
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.link import Link

LATEST = "2025-11-25"
ABLE = b'{"roots":{}}'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@dataclass
class OldServer:
    """A server of HTTP+SSE: a stream by GET, messages by POST to the address that the stream names first."""

    streams: bool = True
    post: int = 405
    told: list[Heard] = field(default_factory=list)
    open: list[Peer] = field(default_factory=list)

    async def __call__(self, peer: Peer) -> None:
        while True:
            asked = heard(await peer.request())
            self.told.append(asked)
            if asked.verb == "GET" and self.streams:
                self.open.append(peer)
                await peer.send(STREAM, self.event(b"endpoint", b"/message?id=1"))
            elif asked.headers.get("x-path") != "/message?id=1":
                await peer.send(response(self.post, b"no"))
            else:
                await peer.send(response(202, b""))
                for message in answers(LATEST).get(asked.method, ()):
                    await self.open[-1].send(self.event(b"message", json.dumps(fill(message, asked.message)).encode()))

    def event(self, kind: bytes, data: bytes) -> bytes:
        body = b"event: %b\ndata: %b\n\n" % (kind, data)
        return b"%x\r\n%b\r\n" % (len(body), body)

    @property
    def verbs(self) -> list[str]:
        return [told.verb for told in self.told]


@asynccontextmanager
async def old_server(**more: Any) -> AsyncIterator[tuple[OldServer, str]]:
    server = OldServer(**more)

    async def script(peer: Peer) -> None:
        request = peer.request

        async def with_path() -> bytes:
            head, _, rest = (await request()).partition(b"\r\n")
            return head + b"\r\nX-Path: " + head.split()[1] + b"\r\n" + rest

        peer.request = with_path  # type: ignore[method-assign]
        await server(peer)

    async with serving(script) as state:
        yield server, f"http://127.0.0.1:{state.port}/sse"


@asynccontextmanager
async def connector(spec: BackendSpec, environ: Mapping[str, str] | None = None) -> AsyncIterator[Connector]:
    async with Nest("test") as nest:
        made = Connector(spec, Limits(), environ or {}, nest)
        try:
            yield made
        finally:
            await made.close()


def spec(url: str = "", transport: Any = "streamable-http", **more: Any) -> BackendSpec:
    return BackendSpec("time", "g", transport, url=url, timeouts=FAST, guessed=True, **more)


def terms(**more: Any) -> Terms:
    return Terms(**{"on_event": lambda *_: None, "on_gone": lambda: None} | more)


async def works(link: Link) -> bool:
    return bool(await link.request(Ask("tools/call", {"name": "echo"}, soon())))


# --- what is declared


@pytest.mark.parametrize("revision", Revision)
async def test_what_clients_can_do_is_declared_in_every_revision(revision: Revision) -> None:
    async with served(server := web(revision)), connector(spec(server.url)) as made:
        link = await made.connect(terms(capabilities=ABLE))
        assert (link.facts.revision, link.capabilities) == (revision, ABLE)
        greeting = server.heard[0 if revision.modern else 1].message["params"]
    told = (
        greeting["_meta"]["io.modelcontextprotocol/clientCapabilities"] if revision.modern else greeting["capabilities"]
    )
    assert told == {"roots": {}}


async def test_a_link_of_the_handshake_era_is_made_without_a_probe() -> None:
    async with served(server := web(LATEST)), connector(spec(server.url)) as made:
        await made.connect(terms(probe=False, private=True))
    assert server.methods == ["initialize", "notifications/initialized"]


async def test_standing_streams_take_no_connection_from_calls() -> None:
    server = web(LATEST)
    server.on[""] = stream(notice("notifications/tools/list_changed"), ends=False)
    heard = asyncio.Event()

    def on_event(method: str, params: Raw) -> None:
        heard.set()

    async with served(server), connector(spec(server.url)) as made, Nest("ears") as ears:
        one, other = await made.connect(terms(on_event=on_event)), await made.connect(terms())
        assert one.wire is not other.wire
        pools = made._pools
        assert len(pools) == 2
        await made.shut(one.wire)
        assert await works(other)
        ears.start(listening(one), "ear")
        async with asyncio.timeout(5):
            await heard.wait()
        assert (pools["calls"].active, pools["standing streams"].active) == (0, 1)


async def listening(link: Link) -> None:
    await link.hear()


# --- HTTP+SSE


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_server_that_takes_no_post_is_reached_by_http_and_sse_and_that_is_remembered(status: int) -> None:
    async with old_server(post=status) as (server, url), connector(spec(url)) as made:
        link = await made.connect(terms())
        assert (link.facts.revision, await works(link)) == (LATEST, True)
        assert server.verbs[:3] == ["POST", "POST", "GET"]
        server.told.clear()
        assert await works(await made.connect(terms()))
        assert server.verbs[:2] == ["GET", "POST"]


@pytest.mark.parametrize(
    ("status", "more"),
    [(401, {}), (503, {}), (405, {"protocol": str(MODERN)}), (405, {"streams": False})],
)
async def test_any_other_refusal_stays_one(status: int, more: dict[str, Any]) -> None:
    streams = more.pop("streams", True)
    async with old_server(post=status, streams=streams) as (server, url), connector(spec(url, **more)) as made:
        with pytest.raises(HttpRefused) as failed:
            await made.connect(terms())
        assert failed.value.status == status
        assert ("GET" in server.verbs) == (not streams)


async def test_what_was_learned_is_given_up_when_it_is_wrong() -> None:
    async with old_server() as (server, url), connector(spec(url)) as made:
        await made.connect(terms())
        server.streams = False
        server.told.clear()
        for _ in range(2):
            with pytest.raises(HttpRefused):
                await made.connect(terms())
        assert server.verbs == ["GET", "POST", "POST", "GET"]


async def test_a_backend_of_that_transport_is_asked_no_other_way() -> None:
    async with old_server() as (server, url), connector(spec(url, "sse")) as made:
        assert await works(await made.connect(terms()))
        assert server.verbs[0] == "GET"
        server.streams = False
        for _ in range(2):
            with pytest.raises(HttpRefused):
                await made.connect(terms())
        assert set(server.verbs[-2:]) == {"GET"}


# --- children


async def test_a_child_that_ends_is_told_of_once_it_was_greeted(journal: Path) -> None:
    gone = asyncio.Event()
    words = command(journal, scripted(answers(LATEST)) | {"tools/call": [["leave", 3]]})
    async with connector(spec("", "stdio", command=words)) as made:
        link = await made.connect(terms(on_gone=gone.set))
        with pytest.raises(Unavailable):
            await works(link)
        async with asyncio.timeout(5):
            await gone.wait()
        assert "status 3" in obituary(link.wire)


async def test_a_child_that_we_end_ourselves_is_told_to_nobody(journal: Path) -> None:
    words = command(journal, scripted(answers(LATEST)))
    gone: list[int] = []
    async with connector(spec("", "stdio", command=words)) as made:
        link = await made.connect(terms(on_gone=lambda: gone.append(1)))
        assert (made.facts()["starts"], made.facts()["pid"]) == (1, journal_of(journal, "pid")[-1])
        await made.shut(link.wire)
        assert made.facts()["pid"] is None
        await made.connect(terms(on_gone=lambda: gone.append(2)))
        assert made.facts()["starts"] == 2
    assert (gone, [alive(pid) for pid in journal_of(journal, "pid")]) == ([], [False, False])


async def test_a_child_that_a_probe_kills_is_probed_only_once(journal: Path) -> None:
    words = command(journal, scripted(answers(LATEST)) | {"server/discover": [["leave", 1]]})
    async with connector(spec("", "stdio", command=words)) as made:
        for _ in range(2):
            assert (await made.connect(terms())).facts.revision == LATEST
    assert sum(told.get("method") == "server/discover" for told in journal_of(journal, "told")) == 1
    assert len(journal_of(journal, "pid")) == 3


async def test_who_leaves_in_the_middle_of_a_greeting_leaves_no_child(journal: Path) -> None:
    words = command(journal, {"server/discover": []})
    async with connector(spec("", "stdio", command=words)) as made, asyncio.TaskGroup() as group:
        task = group.create_task(made.connect(terms()))
        await until(lambda: bool(journal_of(journal, "told")))
        task.cancel()
        await asyncio.wait([task])
        assert not alive(journal_of(journal, "pid")[0])


async def test_a_greeting_that_is_refused_leaves_nothing() -> None:
    server = web(LATEST, initialize=single(failure(-32000, "Go away")))
    async with served(server), connector(spec(server.url)) as made:
        with pytest.raises(McpError, match="Go away"):
            await made.connect(terms())
        assert not made._wires
        server.on["initialize"] = text(500)
        with pytest.raises(HttpRefused):
            await made.connect(terms())


# --- WebSocket


async def test_a_backend_of_either_era_is_reached_over_a_websocket() -> None:
    for revision in (LATEST, MODERN):

        async def answer(socket: ServerConnection, revision: str = revision) -> None:
            async for told in socket:
                message = json.loads(told)
                for said in answers(revision).get(message["method"], ()):
                    await socket.send(json.dumps(fill(said, message)))

        gone = asyncio.Event()
        async with serve(answer, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
            async with connector(spec(url, "websocket")) as made:
                link = await made.connect(terms(on_gone=gone.set, capabilities=ABLE))
                assert (link.facts.revision, await works(link)) == (revision, True)
                server.close()
                async with asyncio.timeout(5):
                    await gone.wait()
