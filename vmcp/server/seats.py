"""The places of the workers, as their supervisor sees them: who has one, what he told last, and what that says of the whole.

The rule: it knows nothing of processes and signals; what was told of by somebody who is gone counts no more.
"""

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from vmcp.server.tether import LONGEST, Order, Told

MISSED: Final = 2
"""Signs of life that a worker may miss."""
START: Final = 60.0
"""Seconds that it may be silent while it starts."""
_NONE: Final = {"status": "not ready", "backends": 0, "up": 0, "waiting_for": []}
_RESULTS: Final = ("", "unchanged", "applied", "failed", "rejected")
"""How reloads end; the worst is the last."""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Told).decode


@dataclass(slots=True, eq=False)
class Seat:
    """The place of worker ``index``. ``due`` is when it shall be forked, ``deaths`` how often it died in a row, and ``failures``
    how often before clients could come to it.

    ``born`` and ``heard``: when it was forked, and when it said something last. ``ever``: clients could come to one here.
    """

    index: int
    pid: int = 0
    line: socket.socket | None = None
    born: float = 0.0
    heard: float = 0.0
    due: float | None = None
    deaths: int = 0
    failures: int = 0
    ordered: int = 0
    ever: bool = False
    told: Told = field(default_factory=Told)

    @property
    def busy(self) -> bool:
        """Whether it reads the configuration anew, or is about to."""
        return self.pid > 0 and (self.told.reloading or self.told.obeyed < self.ordered)

    def take(self, pid: int, line: socket.socket, now: float) -> None:
        """There is a worker; ``line`` leads to it."""
        self.pid, self.line, self.born, self.heard = pid, line, now, now
        self.due, self.ordered, self.told = None, 0, Told()

    def leave(self) -> None:
        """There is none any more."""
        self.pid, self.told = 0, Told()
        self.close()

    def close(self) -> None:
        """Nothing can be said any more."""
        if self.line is not None:
            self.line.close()
            self.line = None

    def hear(self) -> Iterator[Told]:
        """What it has told by now."""
        while self.line is not None:
            try:
                said = self.line.recv(LONGEST)
            except BlockingIOError:
                return
            except ConnectionError:
                said = b""
            if not said:
                self.close()  # it ends; how, will be seen when it is buried
                return
            yield _decode(said)

    def tell(self, order: Order) -> None:
        """What it is to do; who does not read that has other troubles."""
        if order.act == "reload":
            self.ordered = order.number
        if self.line is not None:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self.line.send(_encode(order))


def descriptors(seats: Iterable[Seat]) -> list[int]:
    """Those to be watched."""
    return [seat.line.fileno() for seat in seats if seat.line is not None]


def is_up(seats: Iterable[Seat]) -> bool:
    """Whether each has seen all backends answer or fail."""
    return all(seat.told.up for seat in seats)


def is_alive(seats: Iterable[Seat], now: float, each: float) -> bool:
    """Whether each that is there has given a sign of life lately. ``each``: seconds between two of them."""
    patience = {True: MISSED * each, False: START}
    return all(now - seat.heard <= patience[seat.told.listening] for seat in seats if seat.pid)


def facts(seats: Sequence[Seat]) -> Mapping[str, Any]:
    """Those of the worker that has the fewest backends (see ``House.readiness``), and how many workers there are."""
    told = [seat.told.facts for seat in seats if seat.told.facts]
    least = min(told, key=lambda facts: (facts["status"] == "ready", facts["up"]), default=_NONE)
    return {**least, "workers": f"{sum(seat.told.listening for seat in seats)} of {len(seats)} workers"}


def result(seats: Iterable[Seat]) -> str:
    """How a reload of the whole has ended: as it did where it ended worst."""
    return max((seat.told.result for seat in seats if seat.pid), key=_RESULTS.index, default="")


def different(seats: Iterable[Seat], digest: str) -> list[Seat]:
    """Those that serve another configuration than this one."""
    return [seat for seat in seats if seat.told.listening and seat.told.digest not in ("", digest)]
