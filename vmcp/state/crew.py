"""The workers of one vmcp, and what they have in common: it is made before the first of them is forked.

The rule: a thing that one worker holds for a client bears the number of that worker in plain sight. Nobody trusts the number: it
only says where to look, and whoever holds the thing checks whose it is, as if there were no others.
"""

import array
import functools
import mmap
import os
import resource
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from vmcp.errors import CannotStart
from vmcp.state.cells import Cells
from vmcp.state.estate import Estate

LONGEST: Final = 1 << 16
"""Bytes of one message between workers; what is longer travels in a file that has no name."""
AWAY: Final = 0xFFFFFFFF
"""So many connections has a worker that is not there."""
ADDRESSES: Final = 8192
"""So many addresses with wrong credentials are remembered."""
DESCRIPTORS: Final = (4, 64)
"""So many has a process open for each of the workers, and so many it needs besides, at least."""
_INT: Final = array.array("I").itemsize
_EVEN: Final = 8
"""Of so many connections one more or less does not matter."""


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """``inboxes``: for each worker the end where it reads and the end where all others write. ``key`` seals what any of them
    hands to a client; ``family`` tells them from other processes. ``counts`` is shared memory: the open connections of each; so
    are ``cells``, of which everybody's rate limits are taken, and ``failures``, the wrong credentials that an address showed.
    ``beats`` is when each last said that it is well, ``estates`` where it leaves what it has counted; ``ledger`` says where an
    audit log on standard output ends. ``spoken`` is what their supervisor has logged, ``deaths`` how often
    each has ended unasked.
    """

    inboxes: tuple[tuple[socket.socket, socket.socket], ...]
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    family: bytes = field(default_factory=lambda: secrets.token_bytes(16))
    counts: memoryview = field(default=memoryview(b""), repr=False)
    cells: Cells = field(default_factory=Cells, repr=False)
    failures: Cells = field(default_factory=functools.partial(Cells, ADDRESSES), repr=False)
    estates: tuple[Estate, ...] = ()
    spoken: Estate | None = None
    deaths: memoryview = field(default=memoryview(b""), repr=False)
    beats: "memoryview[float]" = field(default=memoryview(b"").cast("d"), repr=False)
    ledger: int = field(default_factory=lambda: os.memfd_create("vmcp audit", os.MFD_CLOEXEC))

    @classmethod
    def of(cls, count: int) -> Self:
        """For so many workers. Raises ``CannotStart`` where there cannot be so many."""
        _check_room(count)
        counts = memoryview(mmap.mmap(-1, count * _INT)).cast("I")
        for index in range(count):
            counts[index] = AWAY
        beats = memoryview(mmap.mmap(-1, count * 8)).cast("d")
        deaths = memoryview(mmap.mmap(-1, count * _INT)).cast("I")
        estates = tuple(Estate() for _ in range(count))
        return cls(
            tuple(_inbox() for _ in range(count)),
            counts=counts,
            beats=beats,
            estates=estates,
            spoken=Estate(),
            deaths=deaths,
        )

    def __len__(self) -> int:
        return len(self.inboxes)

    def close(self) -> None:
        """Let go of the inboxes, in this process."""
        for each in self.inboxes:
            for end in each:
                end.close()
        for estate in (*self.estates, self.spoken):
            if estate is not None:
                estate.close()
        os.close(self.ledger)


@dataclass(frozen=True, slots=True, eq=False)
class Crew:
    """What worker number ``index`` knows of itself and the others."""

    common: Common
    index: int

    def mark(self, text: str) -> str:
        """``text`` with our number before it."""
        return f"{self.index}.{text}"

    def elsewhere(self, marked: str) -> int | None:
        """The other worker whose mark it bears; None when it is ours, or nobody's."""
        number, dot, _ = marked.partition(".")
        if not dot or len(number) > 3 or not (number.isascii() and number.isdecimal()):
            return None
        index = int(number)
        return index if index != self.index and index < len(self.common) else None

    @property
    def others(self) -> tuple[int, ...]:
        """The numbers of all but us."""
        return tuple(index for index in range(len(self.common)) if index != self.index)

    def seated(self, connections: int) -> None:
        """Let the others know how many connections are open here."""
        self.common.counts[self.index] = connections

    def beat(self, now: float) -> None:
        """Let them know that we are well."""
        self.common.beats[self.index] = now

    def emptiest(self, coming: Mapping[int, int] = MappingProxyType({}), since: float = 0.0) -> int:
        """The number of the worker with the fewest connections; ours, unless we have more, and an eighth more if they are many.

        ``coming`` are those that a worker has not counted yet, by its number. Nobody counts who was not well ``since`` then.
        """
        beats = self.common.beats
        counts = [
            count + coming.get(index, 0) if beats[index] >= since else AWAY
            for index, count in enumerate(self.common.counts)
        ]
        best = min(range(len(counts)), key=counts.__getitem__)
        mine = counts[self.index]
        return best if mine - counts[best] > mine // _EVEN else self.index


def unmarked(text: str) -> str:
    """What stands behind the number of a worker, if there is one."""
    number, dot, rest = text.partition(".")
    return rest if dot and number.isascii() and number.isdecimal() else text


def _check_room(count: int) -> None:
    each, besides = DESCRIPTORS
    needed, most = count * each + besides, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= most < needed:
        raise CannotStart(
            f"server.workers: {count} of them need {needed} descriptors each, and a process may have {most} here;"
            " raise the limit (ulimit -n, LimitNOFILE) or have fewer"
        )


def _inbox() -> tuple[socket.socket, socket.socket]:
    """Messages keep their bounds, many may write, and a full one says so at once."""
    reads, writes = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in (reads, writes):
        each.setblocking(False)
    return reads, writes
