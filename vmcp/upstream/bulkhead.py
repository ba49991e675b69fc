"""How many calls one backend gets at a time, and who comes next when there are more.

The rule: a free place goes to the principal that holds the fewest, and among those to the one that waits longest; a full queue
puts out the last of the principal that has the most in it, if it has more than who comes. So one who asks for everything at once
waits behind his own calls, not others behind him. A place is given back exactly once, whatever ends the call.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from vmcp.call import Call, Complete
from vmcp.config.limits import Concurrency
from vmcp.config.model import BackendSpec
from vmcp.errors import Throttled
from vmcp.protocol.revisions import Revision
from vmcp.upstream.ask import Asker, Outgoing

T = TypeVar("T")


class Bulkhead:
    """The places at one backend. Mutable; used on one loop."""

    def __init__(self, backend: str, spec: Concurrency) -> None:
        self._backend = backend
        self._spec = spec
        self._most = min(spec.max_in_flight, spec.per_user or spec.max_in_flight)
        self._held: Counter[str] = Counter()
        self._inside = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._queued = 0

    async def run(self, principal: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What ``work`` gives, once there is a place for it. Raises ``Throttled`` when there is none in time."""
        if self._inside < self._spec.max_in_flight and not self._over(principal):
            self._enter(principal)
        else:
            await self._wait(principal)
        try:
            return await work()
        finally:
            self._leave(principal)

    def _over(self, principal: str) -> bool:
        return self._held[principal] >= self._most

    def _enter(self, principal: str) -> None:
        self._held[principal] += 1
        self._inside += 1

    def _leave(self, principal: str) -> None:
        self._held[principal] -= 1
        if not self._held[principal]:
            del self._held[principal]
        self._inside -= 1
        self._admit()

    def _admit(self) -> None:
        """Give the places that are free to those who wait; each who is woken has his place already."""
        while self._inside < self._spec.max_in_flight:
            able = [each for each in self._waiting if not self._over(each)]
            if not able:
                return
            chosen = min(able, key=self._held.__getitem__)
            turn = self._waiting[chosen][0]
            self._take_out(chosen, turn)
            if not turn.done():  # else it was cancelled, and does not know it yet
                self._enter(chosen)
                turn.set_result(None)

    async def _wait(self, principal: str) -> None:
        turn = self._line_up(principal)
        entered = False
        try:
            async with asyncio.timeout(self._spec.queue_wait):
                await turn
            entered = True
        except TimeoutError:
            raise self._busy() from None
        finally:
            if not entered:
                self._withdraw(principal, turn)

    def _line_up(self, principal: str) -> "asyncio.Future[None]":
        if self._queued >= self._spec.queue:
            self._make_room(principal)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(principal, deque()).append(turn)
        self._queued += 1
        return turn

    def _make_room(self, principal: str) -> None:
        mine = len(self._waiting.get(principal, ()))
        greedy = max(self._waiting, key=lambda each: len(self._waiting[each]), default=principal)
        if len(self._waiting.get(greedy, ())) <= mine + 1:
            raise self._busy()
        turn = self._waiting[greedy][-1]
        self._take_out(greedy, turn)
        if not turn.done():
            turn.set_exception(self._busy())

    def _take_out(self, principal: str, turn: "asyncio.Future[None]") -> None:
        line = self._waiting.pop(principal)
        line.remove(turn)
        self._queued -= 1
        if line:
            self._waiting[principal] = line  # behind the others, who come first when all hold as many

    def _withdraw(self, principal: str, turn: "asyncio.Future[None]") -> None:
        """Whoever does not wait any more gives up his turn, also one that has come just now."""
        if turn in self._waiting.get(principal, ()):
            self._take_out(principal, turn)
        elif not turn.cancelled() and turn.exception() is None:
            self._leave(principal)

    def _busy(self) -> Throttled:
        return Throttled(
            f"{self._backend}.concurrency", f"backend '{self._backend}' has too much to do", self._spec.queue_wait
        )


class Asked(Protocol):
    """What is needed of a backend."""

    spec: BackendSpec

    def speaks(self, call: Call) -> Revision | None:
        """The revision in which it will be asked, as far as one knows."""

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        """Ask it. Raises ``McpError``."""


class Behind:
    """A backend that is asked behind its bulkhead. See ``Asked``."""

    def __init__(self, backend: Asked, spec: Concurrency) -> None:
        self.spec: BackendSpec = backend.spec
        self._backend = backend
        self._bulkhead = Bulkhead(backend.spec.name, spec)

    def speaks(self, call: Call) -> Revision | None:
        """See ``Asked``."""
        return self._backend.speaks(call)

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        """See ``Asked``. Raises ``Throttled``."""
        try:
            return await self._bulkhead.run(call.principal, lambda: self._backend.send(call, outgoing, asker))
        except Throttled as refused:
            call.trail.limited = refused.rule
            raise


def behind(backend: Asked) -> Asked:
    """``backend`` behind its bulkhead, if its config has one."""
    spec = backend.spec.concurrency
    return backend if spec is None else Behind(backend, spec)
