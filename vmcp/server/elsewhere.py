"""What clients are told of vmcp itself, and have it do, where it is several workers: whichever of them a client has come to.

The rule: it is asked when a client asks, and never otherwise; a worker that does not answer in time is left out. However often
clients ask, the others are asked one thing at a time, and for numbers once in a while.
"""

import asyncio
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any, Final, Protocol

import msgspec

from vmcp.aggregator.shelf import Shelf
from vmcp.server import crewed, sums
from vmcp.server.mates import Mates
from vmcp.server.telemetry import FRESH, Page

COUNTED: Final = "counted"
CLEAR: Final = "clear"
"""The names of the questions."""
_encode: Final = msgspec.msgpack.Encoder(enc_hook=str).encode
_numbers: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode
_wanted: Final = msgspec.msgpack.Decoder(tuple[frozenset[str], str]).decode
_cleared: Final = msgspec.msgpack.Decoder(int).decode


class Current(Protocol):
    """The configuration that counts."""

    shelf: Shelf | None


class House(Protocol):
    """Whoever answers."""

    @property
    def current(self) -> Current:
        """Its configuration."""

    @property
    def page(self) -> Page:
        """What it shows at ``/metrics``."""

    def numbers(self) -> Mapping[str, Any]:
        """What it has counted."""


class Elsewhere:
    """The other workers; see ``introspection.Elsewhere``."""

    def __init__(self, mates: Mates) -> None:
        self._mates = mates
        self._turn = asyncio.Lock()
        self._known: tuple[float, list[Mapping[str, Any]]] = (-FRESH, [])

    async def numbers(self, own: Mapping[str, Any]) -> Mapping[str, Any]:
        """What all have counted, the others up to a second ago."""
        async with self._turn:
            if monotonic() - self._known[0] >= FRESH:
                answers = await self._mates.all(COUNTED)
                self._known = monotonic(), [_numbers(each.body) for each in answers.values()]
            others = self._known[1]
        return sums.numbers([own, *others])

    async def clear(self, backends: Collection[str], pattern: str) -> int:
        """Have them forget results; how many those were."""
        async with self._turn:
            answers = await self._mates.all(CLEAR, _encode((list(backends), pattern)))
        return sum(_cleared(each.body) for each in answers.values())


def answering(mates: Mates, house: House) -> None:
    """Let a house answer those of the other workers."""

    async def counted(_: bytes) -> bytes:
        return _encode(house.numbers())

    async def clear(body: bytes) -> bytes:
        backends, pattern = _wanted(body)
        shelf = house.current.shelf
        return _encode(await shelf.clear(backends, pattern) if shelf is not None else 0)

    mates.answers |= {crewed.QUESTION: house.page.answer, COUNTED: counted, CLEAR: clear}
