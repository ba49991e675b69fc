"""What the matrix has no room for: streams that break and are resumed, sessions that end, duplicate ids, batches, fall-back.

The rule: real peers on both sides and one vmcp between them for all tests.
"""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.eras.carriers import BOTH, Streamable, WebSocket
from tests.eras.cells import Peers, Tasks
from tests.eras.clients import Client
from tests.eras.house import serving
from tests.eras.http1 import Pool, body, dumps, events
from tests.eras.scenarios import text
from tests.eras.world import MODERN, Json

pytestmark = pytest.mark.timeout(120)

HTTP = ("http-2025-03-26", "http-2025-06-18", "http-2025-11-25")
SIDES = (*HTTP, f"http-{MODERN}", "sse-2024-11-05", "ws-2025-11-25", "stdio-2025-06-18")


class Edge:
    """One vmcp before all servers, each in a group of its own."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.tasks = Tasks()
        self.peers = Peers(self.tasks, SIDES)
        self.port = 0
        self._stages: list[Any] = []
        self._opened: list[Client] = []
        self._folder = folder

    async def open(self) -> None:
        self._stages.append(self.peers.running())
        await self._stages[0].__aenter__()
        groups = {side: {"backends": {side: self.peers.backend(side)}} for side in SIDES}
        del groups["sse-2024-11-05"]["backends"]["sse-2024-11-05"]["transport"]  # to be found out
        self._stages.append(serving({"name": "edges", "groups": groups}, self._folder))
        self.port = await self._stages[1].__aenter__()

    async def close(self) -> None:
        for client in self._opened:
            await client.carrier.close()
        for stage in reversed(self._stages):
            await stage.__aexit__(None, None, None)
        await self.tasks.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def client(self, side: str, revision: str) -> Client:
        """A client over HTTP, greeted."""
        way = Streamable(self.port, f"/{side}/mcp", revision, self.tasks.spawn)
        made = Client("edge", revision, way, self.tasks.spawn)
        self._opened.append(made)
        await made.open()
        return made

    async def call(self, client: Client, side: str, tool: str, **arguments: Any) -> str:
        return text(await client.request("tools/call", {"name": f"{side}_{tool}", "arguments": arguments}))

    async def send(self, verb: str, side: str, headers: dict[str, str], content: Any = None) -> tuple[int, bytes]:
        """The status and the body of any HTTP request."""
        pool, told = Pool(self.port), b"" if content is None else dumps(content)
        async with pool.exchange(verb, f"/{side}/mcp", BOTH | headers, told) as (head, reader):
            found = await body(reader, head)
        pool.close()
        return int(head.words[1]), found


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    made = Edge(tmp_path_factory.mktemp("edges"))
    with made.runner:
        made.run(made.open())
        yield made
        made.run(made.close())


def session_of(client: Client) -> dict[str, str]:
    assert isinstance(client.carrier, Streamable)
    return {"Mcp-Session-Id": client.carrier.session or "", "MCP-Protocol-Version": client.revision}


def request(method: str, number: Any = 900, **params: Any) -> Json:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


@pytest.mark.parametrize("side", HTTP)
@pytest.mark.parametrize("revision", ["2025-03-26", "2025-11-25", MODERN])
def test_a_stream_that_a_backend_ends_early_is_resumed_and_the_tool_runs_once(
    edge: Edge, side: str, revision: str
) -> None:
    async def work() -> None:
        client, nonce = await edge.client(side, revision), f"drop {side} {revision}"
        assert await edge.call(client, side, "drop", nonce=nonce) == nonce
        runs = [one for one in edge.peers.worlds[side].started if one.startswith(nonce)]
        assert runs == [f"{nonce} 0"]

    edge.run(work())


@pytest.mark.parametrize("revision", ["2025-06-18", "2025-11-25"])
def test_a_client_that_lost_its_stream_hears_the_rest_of_it_and_its_call_goes_on(edge: Edge, revision: str) -> None:
    side, nonce = "http-2025-11-25", f"resume {revision}"
    world, path = edge.peers.worlds[side], f"/{side}/mcp"
    params = {"name": f"{side}_slowly", "arguments": {"nonce": nonce}, "_meta": {"progressToken": nonce}}

    async def first_event(headers: dict[str, str]) -> str:
        pool = Pool(edge.port)
        async with pool.exchange("POST", path, BOTH | headers, dumps(request("tools/call", **params))) as (
            head,
            reader,
        ):
            async for event in events(reader, head):
                if event.data:
                    assert json.loads(event.data)["params"]["progress"] == 1
                    assert event.id, "no event id"
                    raise ConnectionAbortedError(event.id)
        raise AssertionError("no event came")

    async def work() -> None:
        headers = session_of(await edge.client(side, revision))
        with pytest.raises(ConnectionAbortedError) as left:
            await first_event(headers)
        await world.until(lambda: nonce in world.started, "the call arrived")
        world.note(world.started, f"{nonce} go on")
        last = {"Last-Event-ID": str(left.value.args[0]), "Accept": "text/event-stream"}
        pool, found = Pool(edge.port), []
        async with asyncio.timeout(20), pool.exchange("GET", path, headers | last) as (head, reader):
            assert head.words[1] == "200"
            async for event in events(reader, head):
                found += [json.loads(event.data)] if event.data else []
                if found and "result" in found[-1]:
                    break
        pool.close()
        assert [message.get("params", {}).get("progress") for message in found] == [2, None]
        assert text(found[-1]["result"]) == nonce
        assert nonce not in world.cancelled

    edge.run(work())


def test_an_event_id_that_nobody_gave_out_is_refused(edge: Edge) -> None:
    async def work() -> int:
        headers = session_of(await edge.client("http-2025-11-25", "2025-11-25"))
        told = {"Last-Event-ID": "17", "Accept": "text/event-stream"}
        return (await edge.send("GET", "http-2025-11-25", headers | told))[0]

    assert edge.run(work()) in (400, 404)


def test_a_backend_known_by_its_url_alone_is_found_to_speak_http_and_sse(edge: Edge) -> None:
    async def work() -> str:
        client = await edge.client("sse-2024-11-05", MODERN)
        return await edge.call(client, "sse-2024-11-05", "echo", nonce="found")

    assert json.loads(edge.run(work())) == {"nonce": "found"}


def test_a_session_that_a_backend_forgot_is_made_again_and_what_was_subscribed_there_still_is(edge: Edge) -> None:
    side = "http-2025-06-18"
    world, uri = edge.peers.worlds[side], f"note://{side}/lost"

    async def work() -> None:
        client = await edge.client(side, "2025-11-25")
        await client.request("resources/subscribe", {"uri": uri})
        for name, session in list(edge.peers.http.sessions.items()):
            if session in world.sessions:
                del edge.peers.http.sessions[name]
                world.sessions.discard(session)
        with client.hearing(lambda m: m["method"] == "notifications/resources/updated") as heard:
            assert await edge.call(client, side, "echo", nonce="again")
            async with asyncio.timeout(20):
                while not any(uri in session.subscribed for session in world.sessions):
                    await edge.call(client, side, "echo", nonce="again")
            await edge.call(client, side, "touch", uri=uri)
            await heard.until(bool, "resources/updated after the session was lost")

    edge.run(work())


@pytest.mark.parametrize("side", ["http-2025-11-25", "sse-2024-11-05", "ws-2025-11-25", "stdio-2025-06-18"])
def test_the_end_of_a_client_session_ends_its_session_at_the_backend(edge: Edge, side: str) -> None:
    world = edge.peers.worlds[side]

    async def work() -> None:
        before = set(world.sessions)
        client = await edge.client(side, "2025-11-25")
        await edge.call(client, side, "sample", nonce="mine")
        (mine,) = set(world.sessions) - before
        await client.carrier.close()
        await world.until(lambda: mine not in world.sessions, "the session ends")

    edge.run(work())


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
def test_a_session_that_is_not_there_is_404_for_every_verb(edge: Edge, verb: str) -> None:
    async def work() -> list[int]:
        client = await edge.client("http-2025-11-25", "2025-11-25")
        ended = session_of(client)
        assert (await edge.send("DELETE", "http-2025-11-25", ended))[0] in (200, 202, 204)
        content = request("tools/list") if verb == "POST" else None
        return [
            (await edge.send(verb, "http-2025-11-25", headers, content))[0]
            for headers in (ended, ended | {"Mcp-Session-Id": "no-such-session"})
        ]

    assert edge.run(work()) == [404, 404]


def test_a_batch_is_answered_in_2025_03_26_and_refused_later(edge: Edge) -> None:
    batch = [request("ping", 1), request("tools/list", "1"), {"jsonrpc": "2.0", "method": "notifications/initialized"}]

    async def work(revision: str) -> tuple[int, bytes]:
        client = await edge.client("http-2025-11-25", revision)
        return await edge.send("POST", "http-2025-11-25", session_of(client), batch)

    status, told = edge.run(work("2025-03-26"))
    assert status == 200
    lines = [line.removeprefix(b"data: ") for line in told.splitlines() if line.startswith(b"data: {")]
    replies = [json.loads(line) for line in lines] or json.loads(told)
    assert sorted((json.dumps(reply["id"]), "result" in reply) for reply in replies) == [('"1"', True), ("1", True)]
    status, told = edge.run(work("2025-06-18"))
    assert status == 400
    assert json.loads(told)["error"]["code"] == -32600


@pytest.mark.parametrize("revision", ["2025-11-25", MODERN])
def test_an_id_that_is_in_flight_on_a_websocket_is_refused_but_one_of_another_type_is_not(
    edge: Edge, revision: str
) -> None:
    side = "http-2025-11-25"
    world = edge.peers.worlds[side]

    async def work() -> None:
        way = WebSocket(edge.port, f"/{side}/ws", edge.tasks.spawn)
        client = Client("twice", revision, way, edge.tasks.spawn)
        await client.open()
        nonce = f"twice {revision}"
        params = {
            "name": f"{side}_slowly",
            "arguments": {"nonce": nonce},
            "_meta": client.meta() | {"progressToken": 1},
        }
        first = edge.tasks.spawn(way.exchange(request("tools/call", 77, **params)))
        await world.until(lambda: nonce in world.started, "the call arrived")
        echo = {"name": f"{side}_echo", "arguments": {}, "_meta": client.meta()}
        assert "result" in await way.exchange(request("tools/call", "77", **echo))
        waiting = way.waiting.pop(77)
        refused = await way.exchange(request("tools/call", 77, **echo))
        assert refused["error"]["code"] == -32600
        way.waiting[77] = waiting
        world.note(world.started, f"{nonce} go on")
        assert text((await first)["result"]) == nonce
        await way.close()

    edge.run(work())
