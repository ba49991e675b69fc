"""Bringing a connection into line with what is wanted of its backend: what both eras share, and how the older one does it.

The rule: one task per connection compares what is wanted with what is held; who waits is answered by it, whatever happens. After
a time in which nothing could be heard, all that may have changed is told as changed: too much is harmless, too little is not.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from msgspec import Raw

from vmcp.errors import Code, McpError, Overdue, SessionLost, Unavailable, VmcpError
from vmcp.protocol.jsonrpc import encode
from vmcp.tasks import Nest, backoff
from vmcp.upstream.ask import Ask, OnEvent
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.link import Link

log = logging.getLogger("vmcp.upstream")

ANSWER = 10.0
"""Seconds for a backend to answer a subscription, and for who wants one to wait."""
STEADY: Final = 60.0
"""Seconds after which a stream counts as stable, and the next failure is followed by a short pause again."""
AT_ONCE = 16
"""Subscriptions that are asked of one backend side by side."""
URIS: Final = "resourceSubscriptions"
TASKS: Final = "taskIds"
UPDATED: Final = "notifications/resources/updated"
_TRY_AGAIN = frozenset({408, 429})

Topic = tuple[str, str]
"""What one can subscribe to: the member of the filter of 2026-07-28 that it belongs in, and its name there."""


class Keeper:
    """Brings one connection into line with what is wanted, again and again."""

    def __init__(self, name: str, link: Link, nest: Nest, wanted: Mapping[Topic, None], on_event: OnEvent) -> None:
        self.name = name
        self.link = link
        self.nest = nest
        self.wanted = wanted
        self.on_event = on_event
        self.on_lost: Callable[[], None] | None = None
        self.held: set[Topic] = set()
        self._refused: set[Topic] = set()
        self._resting: set[Topic] = set()
        self._waiting: dict[Topic, asyncio.Future[McpError | None]] = {}
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._attempt = 0

    def start(self) -> None:
        """Begin."""
        self._tasks.append(self.nest.start(self._run(), "watch"))
        self.wake()

    def stop(self) -> None:
        """End; nobody is left waiting."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        self.answer(list(self._waiting), Unavailable(self.name, "it went away"))

    def wake(self) -> None:
        """Look again at what is wanted."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._tidy()
            await self.settle(
                [t for t in self.wanted if not (t in self.held or t in self._refused or t in self._resting)]
            )

    def _tidy(self) -> None:
        """Forget what nobody wants any more."""
        for kept in (self._refused, self._resting):
            kept.intersection_update(self.wanted)
        given_up = [topic for topic in self._waiting if topic not in self.wanted]
        self.answer(given_up, Unavailable(self.name, "nobody waits any more"))

    async def settle(self, missing: Sequence[Topic]) -> None:
        """Subscribe to ``missing``, and give up what is held and not wanted."""
        raise NotImplementedError

    async def outcome(self, topic: Topic) -> McpError | None:
        """Wait until the backend has said yes (None) or no to ``topic``."""
        if topic in self.held:
            return None
        self._refused.discard(topic)
        self._resting.discard(topic)
        loop = asyncio.get_running_loop()
        future = self._waiting.setdefault(topic, loop.create_future())
        self.wake()
        try:
            async with asyncio.timeout(ANSWER):
                return await asyncio.shield(future)
        except TimeoutError:
            return Overdue(self.name, "the time for a subscription", ANSWER)

    def answer(self, topics: Sequence[Topic], refused: McpError | None) -> None:
        """Tell who waits for ``topics``. What was refused is not asked for again until somebody wants it anew.

        What failed only in passing is tried again ``later``.
        """
        for topic in topics:
            if refused is None:
                self.held.add(topic)
            else:
                (self._resting if passing(refused) else self._refused).add(topic)
            future = self._waiting.pop(topic, None)
            if future is not None and not future.done():
                future.set_result(refused)

    def later(self, seconds_it_lasted: float = 0.0) -> None:
        """Look again after a pause, which grows with every failure. A pause that has begun is not made longer."""
        if self._timer is None:
            pause = self.pause(seconds_it_lasted)
            self._timer = asyncio.get_running_loop().call_later(pause, self._rested)

    def _rested(self) -> None:
        self._timer = None
        self._resting.clear()
        self.wake()

    def pause(self, seconds_it_lasted: float) -> float:
        """How long to wait after something that lasted so long."""
        self._attempt = 0 if seconds_it_lasted > STEADY else self._attempt + 1
        return backoff(self._attempt - 1, random.random())  # noqa: S311 - jitter, not a secret

    def lost(self) -> None:
        """The session may not be known any more."""
        if self.on_lost is not None:
            self.on_lost()
        else:
            self.told([], lists=True)

    def told(self, topics: Sequence[Topic], *, lists: bool) -> None:
        """These, and with ``lists`` any list, may have changed while nothing was heard."""
        if lists:
            self.on_event("notifications/tools/list_changed", Raw(b"{}"))
        for kind, name in topics:
            if kind == URIS:
                self.on_event(UPDATED, Raw(encode({"uri": name})))


def passing(error: McpError) -> bool:
    """Whether the same may go well a little later."""
    return isinstance(error, Unavailable | Overdue)


def mcp_error(name: str, error: VmcpError) -> McpError:
    """``error`` of the backend ``name``, as one that a client can be told."""
    return error if isinstance(error, McpError) else Unavailable(name, str(error))


class Subscribes(Keeper):
    """Before 2026-07-28: a standing stream, and one ``resources/subscribe`` for each resource."""

    def start(self) -> None:
        self._busy: set[Topic] = set()
        super().start()
        self._tasks.append(self.nest.start(self._hear(), "standing stream"))

    async def _hear(self) -> None:
        """Hold the standing stream. Where there is none, nobody is blamed for it."""
        now = asyncio.get_running_loop().time
        while True:
            began = now()
            try:
                if not await self.link.hear():
                    return
            except VmcpError as error:
                log.debug("standing stream broke", extra={"backend": self.name, "why": str(error)})
                if _final(error):
                    if _lost(error):
                        self.lost()
                    return
            await asyncio.sleep(self.pause(now() - began))
            self.told([*self.held], lists=True)

    async def settle(self, missing: Sequence[Topic]) -> None:
        """Each in a task of its own, a few at a time, so that one which takes long keeps no other waiting."""
        surplus = [topic for topic in self.held if topic not in self.wanted]
        for topic in (*surplus, *missing):
            if topic not in self._busy and len(self._busy) < AT_ONCE:
                self._busy.add(topic)
                work = self._unsubscribe if topic in self.held else self._subscribe
                self.held.discard(topic)
                self._tasks.append(self.nest.start(self._work(topic, work), "subscription"))

    async def _work(self, topic: Topic, work: Callable[[Topic], Awaitable[None]]) -> None:
        await work(topic)
        self._tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        self._busy.discard(topic)
        self.wake()

    async def _subscribe(self, topic: Topic) -> None:
        known = topic not in self._waiting
        refused = await self._ask("resources/subscribe", topic)
        self.answer([topic], refused)
        if refused is None and known:
            self.told([topic], lists=False)
        elif refused is not None and passing(refused):
            self.later()

    async def _unsubscribe(self, topic: Topic) -> None:
        await self._ask("resources/unsubscribe", topic)

    async def _ask(self, method: str, topic: Topic) -> McpError | None:
        kind, name = topic
        if kind != URIS:
            return McpError(Code.METHOD_NOT_FOUND, "Method not found")
        deadline = asyncio.get_running_loop().time() + ANSWER
        try:
            await self.link.request(Ask(method, {"uri": name}, deadline))
        except SessionLost as lost:
            self.lost()
            return Unavailable(self.name, str(lost))
        except VmcpError as error:
            return mcp_error(self.name, error)
        return None


def _final(error: VmcpError) -> bool:
    """Whether a standing stream cannot be had on this connection."""
    if isinstance(error, HttpRefused):
        return error.status < 500 and error.status not in _TRY_AGAIN
    return isinstance(error, SessionLost) or (isinstance(error, McpError) and error.vmcp_code == Code.PROTOCOL_ERROR)


def _lost(error: VmcpError) -> bool:
    return isinstance(error, SessionLost) or (isinstance(error, HttpRefused) and error.status == 404)
