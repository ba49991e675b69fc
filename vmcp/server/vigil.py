"""One watch over all connections of the listener: how many there are, which is late, who does not read.

The rule: one timer for the process. It looks at every connection about once a second, so that nothing is armed or cancelled on
the way of a request. Its clock stands still while the loop does: for a machine that slept no client is to blame.
"""

import asyncio
import ipaddress
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from vmcp.config.model import Limits
from vmcp.server import memory
from vmcp.server.load import Load
from vmcp.upstream.room import SHARE, Room, room

log = logging.getLogger("vmcp.server")

PACE: Final = 0.25
"""Seconds between two looks at the load; at each fourth the connections are looked at. Shorter where a limit is."""
HURRY: Final = 1.0
"""Seconds that a client may take nothing, or do nothing, while what it holds is short."""
TRIM: Final = 10.0
"""Seconds between two attempts to give memory back."""
TOO_MANY: Final = b"503 Service Unavailable"
TOO_MANY_HERE: Final = b"429 Too Many Requests"
_LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


class Watched(Protocol):
    """A connection, as the watch knows it."""

    transport: asyncio.Transport
    client: tuple[str, int] | None

    def look(self, now: float, *, hurry: bool) -> bool:
        """Close what is late; whether an answer stands open that has begun."""


class Places(Protocol):
    """Where connections are that the server knows."""

    def add(self, each: Any, /) -> None:
        """One more."""

    def discard(self, each: Any, /) -> None:
        """One less."""

    def __len__(self) -> int: ...


@dataclass(slots=True)
class _Unread:
    size: int
    since: float
    held: int


class Vigil:
    """Mutable, one for a listener. ``now`` is its clock: seconds in which the loop turned."""

    def __init__(self, limits: Limits, load: Load, trusted: Iterable[str] = ()) -> None:
        self.now = 0.0
        self.load = load
        self._limits = limits
        self._pace = min(PACE, _shortest(limits) / 4)
        self._sweeps = min(4 * PACE, _shortest(limits) / 4)
        self._networks = tuple(ipaddress.ip_network(each) for each in (*_LOOPBACK, *trusted))
        self._place = lru_cache(4096)(self._find)
        self._here: dict[str, int] = {}
        self._watched: set[Watched] = set()
        self._places: Places = set()
        self._unread: dict[Watched, _Unread] = {}
        self._room = Room()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._due = 0.0
        self._trimmed = -TRIM
        self._begun = 0
        self.hurry = False
        """Whether idle connections are not kept any longer."""

    # --- who is here

    def enter(self, connection: Watched, places: Places) -> bytes | None:
        """A connection is there; the status to refuse it with, if there is no place for it."""
        self._watched.add(connection)
        self._places = places
        if self._timer is None:
            self._rise()
        place = self._place(connection.client[0] if connection.client else "")
        if place:
            self._here[place] = self._here.get(place, 0) + 1
        if len(places) > self._limits.connections:
            return TOO_MANY
        return TOO_MANY_HERE if place and self._here[place] > self._limits.connections_per_address else None

    def leave(self, connection: Watched) -> None:
        """It is gone."""
        self.ignore(connection)
        place = self._place(connection.client[0] if connection.client else "")
        if not place:
            return
        left = self._here.get(place, 0) - 1
        if left > 0:
            self._here[place] = left
        else:
            self._here.pop(place, None)

    def ignore(self, connection: Watched) -> None:
        """It is somebody else's to watch, and has its place still."""
        self._watched.discard(connection)
        self.flows(connection)

    def _find(self, address: str) -> str:
        """What counts as one address; nothing for one that stands for many clients."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return ""
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        found = mapped or found
        if any(found in network for network in self._networks):
            return ""
        return str(found) if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))

    # --- who does not read

    def stalls(self, connection: Watched, held: int = 0) -> None:
        """So much is unread that nothing more is written to it; ``held``: bytes that stay in memory until all of it is read."""
        self.flows(connection)
        size = connection.transport.get_write_buffer_size()
        self._unread[connection] = mark = _Unread(size, self.now, max(size, held))
        self._room.leaves_unread(mark.held)

    def flows(self, connection: Watched) -> None:
        """It has read."""
        mark = self._unread.pop(connection, None)
        if mark is not None:
            self._room.leaves_unread(-mark.held)

    def stalled(self, connection: Watched) -> bool:
        """Whether it is watched for that."""
        return connection in self._unread

    def _press(self) -> None:
        """Let go who takes nothing, sooner where all together leave too much, or others wait for room."""
        total = 0
        for connection, mark in self._unread.items():
            size = connection.transport.get_write_buffer_size()
            if size < mark.size:
                mark.since = self.now
            mark.size = size
            total += mark.held
        for connection, mark in sorted(self._unread.items(), key=lambda each: each[1].since):
            calm = total <= self._limits.unread_bytes and not self._room.wanted
            patience = self._limits.write_stall if calm else HURRY
            if self.now - mark.since < patience:
                break
            total -= mark.held
            self.flows(connection)
            log.info("a client that does not read was let go", extra={"unread": mark.size})
            connection.transport.abort()

    # --- the clock

    def _rise(self) -> None:
        self._last = time.monotonic()
        if self._room is not room():
            self._room = room()
            self._room.limit = int(self._limits.unread_bytes * SHARE)
        self._timer = asyncio.get_running_loop().call_later(self._pace, self._on_time)

    def _on_time(self) -> None:
        elapsed = time.monotonic() - self._last
        self._timer = None
        turned = min(elapsed, 2 * self._pace)
        self.now += turned
        if self._unread:
            self._press()
        if self.now >= self._due:
            self._due = self.now + self._sweeps
            self._begun = sum(each.look(self.now, hurry=self.hurry) for each in list(self._watched))
        if self.load.turn(turned, elapsed - self._pace, memory.resident(), self._begun):
            self._tell()
        if self.load.step and self.now - self._trimmed >= TRIM:
            self._trimmed = self.now
            asyncio.get_running_loop().run_in_executor(None, memory.give_back)
        if self._places or self.load.uneasy:
            self._rise()

    def _tell(self) -> None:
        facts = self.load.numbers()
        if self.load.uneasy:
            log.warning("overloaded: requests are turned away", extra=facts)
        else:
            log.info("no longer overloaded", extra=facts)


class Seat:
    """The place of a connection that is given away: counted until its heir is gone (``upgrade.Connections``)."""

    def __init__(self, vigil: Vigil, connection: Watched, places: Places) -> None:
        self._vigil = vigil
        self._connection = connection
        self._places = places
        self._taken = False

    @property
    def connections(self) -> Places:
        """Where the heir makes itself known."""
        return self

    def __len__(self) -> int:
        return len(self._places)

    def add(self, heir: Any, /) -> None:
        """The heir has taken over."""
        self._taken = True
        self._vigil.ignore(self._connection)
        self._places.add(heir)

    def discard(self, heir: Any, /) -> None:
        """The heir is gone."""
        self._places.discard(heir)
        if self._taken:
            self._taken = False
            self._vigil.leave(self._connection)


def _shortest(limits: Limits) -> float:
    kept = (limits.keep_alive,) if limits.keep_alive else ()
    return max(0.02, min(limits.header_timeout, limits.body_timeout, limits.write_stall, *kept))
