"""Clients of a world and what they do there, with a ledger of all that they were told.

Rule: every request gets exactly one reply, which is its own; none is allowed only for who went away himself.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.brain import LATEST, Json
from tests.faults.seams import Seams
from tests.faults.worlds import Census, StdioStage, World, until
from tests.server.clients import Door, Exchanged
from vmcp.protocol.revisions import Revision
from vmcp.server.listener import GONE, LEAVES

FORM = {"elicitation": {"form": {}}}
numbers = itertools.count(1)


@dataclass
class Client:
    """One client, and the ledger of what it asked: by id, all the replies."""

    world: World
    revision: Revision
    seams: Seams = field(default_factory=Seams)
    door: Door = field(init=False)
    last: tuple[Exchanged, Any] | None = None
    ledger: dict[str, list[Json]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    task: "asyncio.Task[None]" = field(init=False)

    def __post_init__(self) -> None:
        self.door = Door(self.world.running.app, self.revision)

    async def open(self) -> None:
        """A session, where there are any."""
        if not self.revision.modern:
            assert (await self.door.initialize(capabilities=FORM)).status == 200

    async def close(self) -> None:
        if self.door.session is not None:
            assert (await self.door.http("DELETE")).status == 204

    def strike(self) -> None:
        """What a listener does when a client goes away, or a session when its client has cancelled."""
        assert self.last is not None
        exchanged, id_ = self.last
        if self.revision.modern:
            if exchanged._scope.get(LEAVES):
                self.cut.add(id_)
                exchanged._scope[GONE] = True
                self.task.cancel()
            return
        session = self.world.running._sessions.get(self.door.session or "")
        if session is not None and session.calls.cancel(json.dumps(id_).encode()):
            self.cut.add(id_)

    async def ask(self, method: str, params: Json, *, seams: bool = False) -> Json | None:
        """The reply; None for who was cut off before it. More than one is a failure, and so is somebody else's."""
        id_ = f"id-{next(numbers)}"
        meta = {"io.modelcontextprotocol/clientCapabilities": FORM} if self.revision.modern else {}
        raw, headers = self.door.message(method, {**params, "_meta": {**meta, **params.get("_meta", {})}}, id_)
        exchanged = self.door.begin("POST", None, raw, **headers)
        self.last = (exchanged, id_)
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            self.task = group.create_task(self.seams.run(exchanged.run()) if seams else exchanged.run())
            await self._converse(exchanged, self.task)
        assert exchanged.answer.status or exchanged._scope.get(GONE), "no answer at all"
        return self._outcome(exchanged, id_)

    async def _converse(self, exchanged: Exchanged, task: "asyncio.Task[None]") -> None:
        """Answer what is asked in the middle."""
        answered: set[str] = set()
        while not task.done():
            if exchanged.answer.streamed:
                for message in exchanged.heard():
                    if "method" in message and "id" in message and message["id"] not in answered:
                        answered.add(message["id"])
                        await self.door.reply(message["id"], {"action": "accept", "content": {}})
            await asyncio.wait([task], timeout=0.001 if not self.revision.modern else None)

    def _outcome(self, exchanged: Exchanged, id_: str) -> Json | None:
        answer = exchanged.answer
        told = answer.events() if answer.streamed else [answer.json()] if answer.body else []
        replies = [message for message in told if "method" not in message]
        assert id_ not in self.ledger
        assert "incident" not in json.dumps(told), "nobody expected that"
        self.ledger[id_] = replies
        assert all(reply["id"] == id_ for reply in replies), "somebody else's answer"
        assert len(replies) == 1 or (not replies and id_ in self.cut), (replies, id_ in self.cut)
        return replies[0] if replies else None

    async def call(self, name: str, *, seams: bool = False, **more: Any) -> Json | None:
        """A call with words of its own, which must be in its result."""
        words = {"n": next(numbers)}
        params = {"name": name, "arguments": words, **more}
        told = await self.ask("tools/call", params, seams=seams)
        if told is not None and told.get("result", {}).get("resultType") == "input_required":
            answers = {key: {"action": "accept", "content": {}} for key in told["result"]["inputRequests"]}
            params |= {"inputResponses": answers, "requestState": told["result"]["requestState"]}
            told = await self.ask("tools/call", params, seams=seams)
        if told is not None and "result" in told:
            assert json.loads(told["result"]["content"][0]["text"]) == words, "somebody else's result"
            if name == "ask":
                assert told["result"]["said"]["action"] in ("accept", "cancel")
        return told


async def plain(client: Client) -> None:
    await client.call("work", seams=True)


async def progress(client: Client) -> None:
    await client.call("talk", seams=True, _meta={"progressToken": "t"})


async def elicitation(client: Client) -> None:
    await client.call("ask", seams=True)


async def lists(client: Client) -> None:
    await client.ask("tools/list", {}, seams=True)


async def subscription(client: Client) -> None:
    if client.revision.modern:
        await _listening(client)
        return
    await client.ask("resources/subscribe", {"uri": "r://one"}, seams=True)
    await client.ask("resources/unsubscribe", {"uri": "r://one"}, seams=True)


async def _listening(client: Client) -> None:
    """Until it is acknowledged; then its client leaves."""
    wanted = {"notifications": {"resourceSubscriptions": ["r://one"], "toolsListChanged": True}}
    raw, headers = client.door.message("subscriptions/listen", wanted, "listen")
    exchanged = client.door.begin("POST", None, raw, **headers)
    client.last = exchanged, "listen"
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        client.task = group.create_task(client.seams.run(exchanged.run()))
        while not client.task.done() and not exchanged.answer.body:
            await asyncio.wait([client.task], timeout=0.001)
        client.seams = Seams()
        if not client.task.done():
            exchanged._scope[GONE] = True
            client.task.cancel()


async def forgotten(client: Client) -> None:
    """The backend dies, or forgets who it spoke with."""
    before = client.world.backend.link
    client.world.stage.lose()
    if isinstance(client.world.stage, StdioStage):
        await until(lambda: client.world.backend.link not in (None, before))
    await client.world.up()
    await client.call("work", seams=True)


SCENARIOS: dict[str, Callable[[Client], Awaitable[None]]] = {
    "list": lists,
    "call": plain,
    "progress": progress,
    "elicitation": elicitation,
    "subscription": subscription,
    "reconnect": forgotten,
}


@contextlib.asynccontextmanager
async def visiting(found: World, revision: str, seams: Seams | None = None) -> AsyncIterator[Client]:
    """A client that comes, and is gone afterwards."""
    client = Client(found, Revision(revision), seams or Seams())
    await client.open()
    yield client
    client.seams = Seams()
    await client.close()


async def at_rest(found: World, before: Any) -> None:
    """Nothing is left of what was asked, and the next is served."""
    found.scissors.arm(None)
    await found.up()

    async def served() -> bool:
        async with visiting(found, LATEST) as client:
            told = await client.call("probe")
        assert told is not None
        assert "result" in told, told
        return True

    assert await served(), "the next call"
    await until(lambda: not any(found.in_flight().values()), found.in_flight)
    await until(lambda: not found.brain.held.keys() - _listens(found), lambda: found.brain.held)
    left: Any = None

    def same() -> bool:
        nonlocal left
        left = Census.count()
        return not (left - before)

    if before is not None:
        await until(same, lambda: left - before)


def _listens(found: World) -> set[Any]:
    """The requests that stay open on purpose."""
    return {id_ for link in found._links() for id_, ask in link._asks.items() if ask.lasting}


async def settled(found: World, scenario: Callable[[Client], Awaitable[None]], revision: str) -> Any:
    """The census of a house that has seen it all before."""
    for _ in range(2):
        async with visiting(found, revision) as client:
            await scenario(client)
            assert all("result" in reply for replies in client.ledger.values() for reply in replies), client.ledger
        await at_rest(found, None)
    return Census.count()
