"""A connection goes to the worker that should have it: new ones to the emptiest, and a request to who holds what it names.

The rule: a request is handed over whole, before anything is looked up or recorded for it, and from then on nobody here knows of
it: it is admitted, limited and recorded where it is answered, as if it had come there first. What is asked decides where it goes,
and not who is asked, so nothing goes to and fro.
"""

import asyncio
import functools
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any, ClassVar, Final, Protocol

from uvicorn.config import Config
from uvicorn.server import ServerState

from vmcp.protocol import envelope, questions
from vmcp.protocol.jsonrpc import Incoming, Reply
from vmcp.server.asgi import CLOSE, ORIGIN, Header, Refused, Scope
from vmcp.server.cycle import Cycle
from vmcp.server.listener import Listener
from vmcp.server.post import CONNECTION, Post
from vmcp.state.crew import AWAY, Crew

log = logging.getLogger("vmcp.server")

_HERE: Final = "vmcp.connection"
"""Key of the scope: the connection on which the request came."""
FRESH: Final = 0.05
"""Seconds after which those who were given a connection have counted it."""
BEAT: Final = 0.5
"""Seconds between two signs that a worker is well."""
SILENT: Final = 2.0
"""Seconds without one after which it gets no connections."""
TRIES: Final = 100
WAIT: Final = 0.01
"""Seconds between two of them, while the inbox of another worker is full."""
_OURS: Final = frozenset({b"content-length", b"transfer-encoding", b"trailer", b"expect", b"upgrade"})
"""Headers that are about how the request came, and not about what it is."""
_TASKS: Final = "tasks/"
_LISTEN: Final = "subscriptions/listen"


class Mated(Listener):
    """A connection of a worker that is not the only one. ``first`` is what another worker has read of it."""

    relay: ClassVar["Relay"]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        first: bytes = b"",
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._first = first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``Listener``. What was read elsewhere comes before what is still to be read."""
        super().connection_made(transport)
        self.relay.seat()
        if self._first:
            first, self._first = self._first, b""
            self.data_received(first)

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``Listener``."""
        super().connection_lost(exc)
        self.relay.seat()

    def _scope(self, version: str) -> Any:
        scope = super()._scope(version)
        scope[_HERE] = self
        return scope

    # --- the way to another worker

    async def hush(self, limit: int) -> bool:
        """Read no more than the request that is served, and wait until what was written has left; False if nobody is there."""
        cycle = self._served
        assert cycle is not None
        await _rest(cycle, limit)
        if self._lost(cycle):
            return False
        self.flow.pause_reading()
        if self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(0)
            await self.flow.drain()  # the watch sees to it that this ends
        return not self._lost(cycle)

    def _lost(self, cycle: Cycle) -> bool:
        return cycle.disconnected or self.transport.is_closing()

    def unanswered(self, body: bytes) -> bytes | None:
        """The request that is served, with its body, and those in line behind it; None when one of them is not whole."""
        served = self._served
        if served is None or self._in_head or self._in_body or self._broken:
            return None
        waiting = (b"".join(_request(cycle.scope, bytes(cycle.body))) for cycle, _ in reversed(self.pipeline))
        return b"".join((*_request(served.scope, body), *waiting))

    def descriptor(self) -> int | None:
        """That of the client's socket; None when it is closed."""
        return None if self.transport.is_closing() else self.transport.get_extra_info("socket").fileno()

    def part(self) -> None:
        """Let go without a word: the connection goes on, but not here."""
        assert self._served is not None
        self._served.left()
        self.transport.abort()


async def _rest(cycle: Cycle, limit: int) -> None:
    """Let a body come to its end that nobody wants. Raises ``Refused``."""
    size = 0
    while cycle.more_body and not cycle.disconnected:
        size += len((await cycle.receive()).get("body", b""))
        if size > limit:
            raise Refused(413, f"the body is larger than {limit} bytes (server.limits.bodyBytes)", CLOSE)


def _request(scope: Scope, body: bytes) -> Iterator[bytes]:
    """A request as it could have come, in one piece."""
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    yield b"%b %b HTTP/%b\r\n" % (scope["method"].encode(), target, scope["http_version"].encode())
    for name, value in scope["headers"]:
        if name not in _OURS:
            yield b"%b: %b\r\n" % (name, value)
    if body or scope["method"] == "POST":
        yield b"content-length: %d\r\n" % len(body)
    yield b"\r\n"
    yield body


class Takes(Protocol):
    """Who makes a connection of an open socket."""

    def take(self, taken: socket.socket, first: bytes = b"") -> None:
        """``first`` is what was read of it already."""


class Relay:
    """Mutable: it knows how many connections are here, and what was given away just now. Nothing goes on before ``start``."""

    post: Post
    connections: Sized
    """Those of this worker."""

    def __init__(self, crew: Crew, limit: int) -> None:
        self._crew = crew
        self._limit = limit
        self._given: dict[int, int] = {}
        self._seen: Sequence[int] = crew.common.counts
        self._gave = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    def start(self, acceptor: Takes, connections: Sized) -> None:
        """From now on others may send connections."""
        self.connections = connections
        self.post.on[CONNECTION] = functools.partial(_take, acceptor)
        self.post.start()
        self.seat()
        self._beat()

    def _beat(self) -> None:
        """Who hangs must not be given connections, as nobody else would look after them."""
        self._crew.beat(self._now())
        self._timer = asyncio.get_running_loop().call_later(BEAT, self._beat)

    def stop(self) -> None:
        """Those who are sent from now on are told to come again; new ones are sent to others."""
        self.post.on[CONNECTION] = _turn_away
        if self._timer is not None:
            self._timer.cancel()
            self._crew.beat(0.0)

    # --- new connections

    @property
    def accompanied(self) -> bool:
        """Whether there is another worker that takes connections."""
        return any(self._crew.common.counts[each] != AWAY for each in self._crew.others)

    def seat(self) -> None:
        """Let the others know how many there are."""
        self._crew.seated(len(self.connections))

    def gives(self, descriptor: int, opening: int) -> bool:
        """Whether a new connection was given to a worker with fewer of them."""
        to = self._crew.emptiest({**self._coming(), self._crew.index: opening}, self._now() - SILENT)
        if to == self._crew.index or not self.post.send(to, CONNECTION, b"", [descriptor]):
            return False
        self._given[to] = self._given.get(to, 0) + 1
        self._gave = self._now()
        return True

    def _coming(self) -> Mapping[int, int]:
        """What was given away, and is not counted where it went: by a number that has risen it is."""
        if self._now() - self._gave > FRESH:
            self._given.clear()
        counts = self._crew.common.counts
        for to in self._given:
            self._given[to] = max(0, self._given[to] - max(0, counts[to] - self._seen[to]))
        self._seen = list(counts)
        return self._given

    # --- requests

    def mark(self, text: str) -> str:
        """``text`` as a name that says where it is."""
        return self._crew.mark(text)

    def holder(self, marked: str | None) -> int | None:
        """Which other worker holds what is named so; None when it is ours, or nobody's."""
        to = self._crew.elsewhere(marked) if marked else None
        return to if to is None or self._crew.common.counts[to] != AWAY else None

    async def passes(self, scope: Scope, body: bytes, marked: str | None) -> bool:
        """Whether the request was given to another worker, who holds what it names so. Raises ``Refused``."""
        to = self.holder(marked)
        if to is None:
            return False
        await self.hand_over(scope, body, to)
        return True

    async def hand_over(self, scope: Scope, body: bytes, to: int) -> None:
        """Give the request away, and its connection with it. Raises ``Refused``, and then it is here still."""
        connection: Mated = scope[_HERE]
        if not await connection.hush(self._limit):
            return
        text = connection.unanswered(body)
        if text is None:
            raise Refused(503, "a request of another worker's has half a request behind it; send both again", _AGAIN)
        if await self._sent(connection, text, to):
            if ORIGIN in scope:
                scope[ORIGIN].told = True  # it will be recorded, but not here
            connection.part()

    async def _sent(self, connection: Mated, text: bytes, to: int) -> bool:
        """Whether it has got there; False when its client has gone meanwhile."""
        for _ in range(TRIES):
            descriptor = connection.descriptor()
            if descriptor is None or self.post.send(to, CONNECTION, text, [descriptor]):
                return descriptor is not None
            await asyncio.sleep(WAIT)
        raise Refused(503, "the worker that holds this is busy; try again", _AGAIN)


_AGAIN: Final[list[Header]] = [(b"retry-after", b"0"), *CLOSE]
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def _take(acceptor: Takes, body: bytes, descriptors: list[int]) -> None:
    for each in descriptors:
        taken = socket.socket(fileno=each)
        taken.setblocking(False)
        acceptor.take(taken, body)


def _turn_away(_: bytes, descriptors: list[int]) -> None:
    for each in descriptors:
        with socket.socket(fileno=each) as taken:
            taken.setblocking(False)
            try:
                taken.send(_BUSY)
            except OSError:
                log.debug("a client went away on its way between two workers")


def mated(protocol: type[Listener], relay: Relay) -> type[Listener]:
    """``protocol`` for a worker that is not the only one."""
    return type("MatedListener", (Mated, protocol), {"relay": relay})


def named(headers: Mapping[str, str], incoming: Incoming | list[Incoming]) -> str | None:
    """What a message of streamable HTTP names that some worker holds: its session, or what a modern one brings back."""
    if isinstance(incoming, (list, Reply)) or not envelope.is_modern(headers, incoming.tree):
        return headers.get("mcp-session-id")
    tree = incoming.tree
    if incoming.method in questions.ASKING:
        return _text(tree.get(questions.STATE))
    if incoming.method.startswith(_TASKS):
        return _text(tree.get("taskId"))
    if incoming.method == _LISTEN:
        return _first_task(tree.get("notifications"))
    return None


def _first_task(wanted: object) -> str | None:
    names = wanted.get("taskIds") if isinstance(wanted, dict) else None
    return _text(names[0]) if isinstance(names, list) and names else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
