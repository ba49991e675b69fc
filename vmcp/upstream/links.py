"""The connections that belong to one client, or one principal, or one call alone: opened when needed, closed when idle or over.

The rule: a link is found only by its whole key, made once however many ask for it at the same time, and never shared beyond it.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NamedTuple

from msgspec import Raw

from vmcp.errors import Code, Overdue, SessionLost, Unavailable, VmcpError
from vmcp.protocol import questions
from vmcp.tasks import Nest, backoff
from vmcp.upstream.ask import NOTHING, Ask, OnEvent
from vmcp.upstream.inbox import Inbox
from vmcp.upstream.link import Link
from vmcp.upstream.places import NoPlace
from vmcp.upstream.watch import Watch
from vmcp.upstream.wire import Credential, Headers

log = logging.getLogger("vmcp.upstream")

IDLE = 300.0
"""Seconds after which a link that nobody uses is closed."""
LISTENING = 1.0
"""Seconds that the first request over a link waits until its standing stream is open, and what was asked there is answered."""
BRIEFLY = 0.05
"""The same, for a backend of which one heard nothing within that time."""
OPENING = 30.0
"""Seconds to open a link again of which somebody wants to be told something."""
CAP: Final = 256
"""Links of one backend."""

OnGone = Callable[[], None]


class Key(NamedTuple):
    """Whose a link is. ``kind`` is "session" (``text`` is its id), "principal" (a digest) or "request" (one for each)."""

    kind: str
    text: str


Make = Callable[[Key, bytes, OnGone, Ask | None, Credential | None], Awaitable[Link]]
End = Callable[[Link], Coroutine[Any, Any, None]]
Told = Callable[[Key, str, Raw], None]
"""Hears what was said, or may have happened, on the link of a key."""


class Room:
    """A place for one link. Mutable; ``Links`` is its one owner. ``link`` is None while it is not open.

    ``watch`` holds its standing stream, and keeps what is subscribed there when the link is replaced. It is the credential of its
    link too: that of whoever used it last, who is always the same principal.
    """

    __slots__ = (
        *("capabilities", "doubted", "key", "latest", "link", "opening"),
        *("over", "owner", "turn", "used", "uses", "watch"),
    )

    def __init__(self, key: Key, watch: Watch) -> None:
        self.key = key
        self.link: Link | None = None
        self.watch = watch
        self.capabilities = NOTHING
        self.latest: Credential | None = None
        self.owner: str | None = None
        self.opening = asyncio.Lock()
        self.over = self.doubted = False
        self.uses = 0
        self.turn = 0
        self.used = 0.0

    @property
    def idle(self) -> bool:
        """Whether nobody needs it now."""
        return not self.uses and not self.watch.busy

    def lent(self, credential: Credential | None) -> bool:
        """Take note of who uses it; False when that is somebody else than before."""
        if credential is None:
            return self.owner is None
        if self.owner is None and self.latest is None:
            self.owner = credential.owner
        if self.owner != credential.owner:
            return False
        self.latest = credential
        return True

    async def headers(self, deadline: float) -> Headers:
        """See ``Credential``."""
        return await self.latest.headers(deadline) if self.latest is not None else ()

    def refused(self, headers: Headers) -> bool:
        """See ``Credential``."""
        return self.latest is not None and self.latest.refused(headers)


class Links:
    """The private links of the backend ``name``. ``make`` opens one, ``end`` says goodbye and closes it.

    ``idle``: seconds after which one that nobody uses is closed, if these are others than usual.
    """

    def __init__(self, name: str, nest: Nest, make: Make, end: End, told: Told, idle: float | None = None) -> None:
        self._name = name
        self._nest = nest
        self._make = make
        self._end = end
        self._told = told
        self._idle = idle
        self._rooms: dict[Key, Room] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._patience = LISTENING
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._rooms)

    def of(self, key: Key) -> Link | None:
        """The link of ``key`` if it is open."""
        room = self._rooms.get(key)
        return room.link if room is not None else None

    def watch(self, key: Key) -> Watch | None:
        """What is wanted on the link of ``key``; None when there is no place for it."""
        room = self._rooms.get(key)
        return room.watch if room is not None else None

    async def take(
        self,
        key: Key,
        capabilities: bytes,
        deadline: float,
        opener: Ask | None = None,
        credential: Credential | None = None,
    ) -> tuple[Room, Link]:
        """The link of ``key``, opened if need be with ``capabilities`` declared. ``give`` the room back afterwards.

        ``opener`` is what will be asked over it: who opens a link may be asked something before his own request has begun.
        ``credential`` is the caller's, or vmcp's own; a link that was opened for one caller is nobody else's.

        Raises ``VmcpError``; ``Overdue`` when it is not open by ``deadline``.
        """
        if key.kind == "request":
            key = Key("request", str(next(self._numbers)))
        room = self._rooms.get(key) or self._vacant(key)
        if not room.lent(credential):
            raise Unavailable(self._name, "the session is another caller's", Code.UNAUTHORIZED)
        room.uses += 1
        room.turn = next(self._numbers)  # the clock is too coarse to say who came last
        if room.link is not None:
            return room, room.link
        taken = False
        try:
            link = await self._opened(room, capabilities, deadline, opener)
            taken = True
        finally:
            if not taken:
                self.give(room)
        return room, link

    def give(self, room: Room) -> None:
        """A call is done with a room."""
        room.uses -= 1
        room.used = self._loop.time()
        if room.key.kind == "request" and not room.uses:
            self._leave(room)
        elif self._timer is None and self._rooms:
            self._timer = self._loop.call_later(self._rest(), self._sweep)

    def lost(self, room: Room, link: Link) -> None:
        """``link`` is of no more use; the next call opens another."""
        if room.link is link:
            self._clear(room)

    def silent(self, room: Room, link: Link, seconds: float) -> None:
        """A call had no answer in time: if nothing at all comes from there for so long, the next one opens another link."""
        if isinstance(link.wire, Inbox) and room.link is link and not room.doubted:
            room.doubted = True
            self._nest.start(self._sound(room, link, link.wire, seconds), "doubt")

    def forget(self, session_id: str) -> None:
        """A client's session is over, and its link with it."""
        room = self._rooms.get(Key("session", session_id))
        if room is not None:
            self._leave(room)

    async def close(self) -> None:
        """Say all goodbyes, side by side; nothing is opened any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        async with asyncio.TaskGroup() as group:
            for room in list(self._rooms.values()):
                link = self._vacate(room)
                if link is not None:
                    group.create_task(self._end(link))

    # --- opening

    def _vacant(self, key: Key) -> Room:
        if len(self._rooms) >= CAP:
            unused = [room for room in self._rooms.values() if room.idle]
            if not unused:
                raise Unavailable(self._name, f"{CAP} clients use it at the same time", Code.SERVER_UNAVAILABLE)
            self._leave(min(unused, key=lambda room: room.turn))
        room = Room(key, Watch(self._name, self._nest, self._on_event(key), lambda: self._doubt(room)))
        self._rooms[key] = room
        return room

    def _on_event(self, key: Key) -> OnEvent:
        def on_event(method: str, params: Raw) -> None:
            if not method.endswith("/list_changed"):  # lists are asked for over the control link, which sees to itself
                self._told(key, method, params)

        return on_event

    async def _opened(self, room: Room, capabilities: bytes, deadline: float, opener: Ask | None = None) -> Link:
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._open(room, capabilities, opener)
        except TimeoutError:
            raise Overdue(self._name, "timeouts.total", round(deadline - began, 3)) from None

    async def _open(self, room: Room, capabilities: bytes, opener: Ask | None) -> Link:
        async with room.opening:
            if room.link is not None:
                return room.link
            self._check(room)
            link: Link | None = None
            gone = asyncio.Event()

            def on_gone() -> None:
                gone.set()
                if link is not None:
                    self.lost(room, link)

            credential = room if room.latest is not None else None
            try:
                link = await self._make(room.key, capabilities, on_gone, opener, credential)
            except NoPlace:
                if not await self._make_room():
                    raise
                link = await self._make(room.key, capabilities, on_gone, opener, credential)
            await self._listen(room, link)
            room.link, room.capabilities = link, capabilities
            if gone.is_set():
                self.lost(room, link)
            return link

    async def _make_room(self) -> bool:
        """End the link that nobody has used for longest, if there is one that nobody uses now."""
        unused = [room for room in self._rooms.values() if room.idle and room.link is not None]
        if not unused:
            return False
        link = self._vacate(min(unused, key=lambda room: room.turn))
        if link is not None:
            await self._end(link)
        return True

    async def _listen(self, room: Room, link: Link) -> None:
        """Have the standing stream of a new link opened: many servers ask there, and lose what they say while there is none."""
        kept, asks = False, questions.askable(link.capabilities)
        try:
            self._check(room)
            if asks or room.key.kind != "request":
                room.watch.attach(link)
            if asks and not link.facts.revision.modern:
                self._patience = LISTENING if await link.ready(self._patience) else BRIEFLY
                self._check(room)
            kept = True
        finally:
            if not kept:
                room.watch.detach()
                self._nest.start(self._end(link), "goodbye")

    def _check(self, room: Room) -> None:
        if room.over or self._closed:
            raise Unavailable(self._name, "the session has ended", Code.TRANSPORT_CLOSED)

    # --- keeping

    def _doubt(self, room: Room) -> None:
        """Its session may be lost."""
        if room.link is not None and room.watch.busy:
            self._nest.start(self._look(room, room.link), "look")

    async def _look(self, room: Room, link: Link) -> None:
        try:
            await link.request(Ask("ping", {}, asyncio.get_running_loop().time() + OPENING))
        except SessionLost:
            self.lost(room, link)
        except VmcpError as error:
            log.debug("ping failed", extra={"backend": self._name, "why": str(error)})

    async def _sound(self, room: Room, link: Link, wire: Inbox, seconds: float) -> None:
        """The peer of a connection may be gone, or hang, and nothing tells: nobody else asks after a private link."""
        before = wire.heard
        try:
            await link.request(Ask("ping", {}, asyncio.get_running_loop().time() + seconds))
        except VmcpError as error:
            if isinstance(error, SessionLost) or (isinstance(error, Overdue) and wire.heard == before):
                log.warning("private link is dead", extra={"backend": self._name})
                self.lost(room, link)
        finally:
            room.doubted = False

    async def _reopen(self, room: Room) -> None:
        """Open the link of somebody who subscribed, without waiting for a call."""
        loop, attempt = asyncio.get_running_loop(), 0
        while room.link is None and room.watch.busy and not (room.over or self._closed):
            await asyncio.sleep(backoff(attempt, random.random()))  # noqa: S311 - jitter, not a secret
            attempt += 1
            try:
                await self._opened(room, room.capabilities, loop.time() + OPENING)
            except VmcpError as error:
                log.debug("private link not open", extra={"backend": self._name, "why": str(error)})

    # --- closing

    def _leave(self, room: Room) -> None:
        link = self._vacate(room)
        if link is not None:
            self._nest.start(self._end(link), "goodbye")

    def _clear(self, room: Room) -> None:
        link = self._empty(room)
        if link is not None:
            self._nest.start(self._end(link), "goodbye")
        if room.watch.busy:
            self._nest.start(self._reopen(room), "reopen")

    def _vacate(self, room: Room) -> Link | None:
        room.over = True
        if self._rooms.get(room.key) is room:
            del self._rooms[room.key]
        return self._empty(room)

    def _empty(self, room: Room) -> Link | None:
        link, room.link = room.link, None
        room.watch.detach()
        return link

    def _rest(self) -> float:
        return IDLE if self._idle is None else self._idle

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer = None
        for room in [room for room in self._rooms.values() if room.idle and now - room.used >= self._rest()]:
            self._leave(room)
        if self._rooms:
            self._timer = asyncio.get_running_loop().call_later(self._rest() / 4, self._sweep)
