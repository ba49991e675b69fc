"""Pages of lists as they were given out, to be given out again to whoever sees the same.

The rule: a page is found again by the very entries that it was chosen from and by what was chosen; it is of one table, and the
memory for it has a bound. Who sees what is decided before (``Call.visible``), and never here.
"""

from itertools import compress, islice
from typing import Final, NamedTuple

from vmcp.routing.table import Route

MOST: Final = 16 << 20
"""Bytes of pages that are kept; one that takes more than half of it is not."""


class Excerpt(NamedTuple):
    """What is wanted of a list. ``mask`` has a byte for each entry, 1 for those that may be seen; None: all may."""

    routes: tuple[Route, ...]
    mask: bytes | None
    start: int
    size: int
    modern: bool


_Key = tuple[int, bytes | None, int, int, bool, bytes]


class Pages:
    """Mutable: what was used longest ago goes first, and everything when there is another table."""

    def __init__(self, most: int = MOST) -> None:
        self.held = 0
        """Bytes."""
        self._most = most
        self._number = -1
        self._kept: dict[_Key, tuple[tuple[Route, ...], bytes]] = {}

    def find(self, number: int, wanted: Excerpt, frame: bytes) -> bytes | None:
        """The page of table ``number`` that begins with ``frame``, if it was kept."""
        if number != self._number:
            self._kept.clear()
            self.held, self._number = 0, number
            return None
        key = _key(wanted, frame)
        found = self._kept.pop(key, None)
        if found is None:
            return None
        self._kept[key] = found
        return found[1]

    def keep(self, number: int, wanted: Excerpt, frame: bytes, text: bytes) -> None:
        """Remember ``text`` as that page."""
        if number != self._number or len(text) > self._most // 2:
            return
        # The entries are kept with it, so nothing else can be at their address meanwhile.
        self._kept[_key(wanted, frame)] = wanted.routes, text
        self.held += len(text)
        while self.held > self._most:
            _, gone = self._kept.pop(next(iter(self._kept)))
            self.held -= len(gone)


def _key(wanted: Excerpt, frame: bytes) -> _Key:
    return id(wanted.routes), wanted.mask, wanted.start, wanted.size, wanted.modern, frame


def chosen(wanted: Excerpt) -> tuple[Route, ...]:
    """The entries of the page and, if there is one, the first of the next."""
    start, most = wanted.start, wanted.size + 1
    if wanted.mask is None:
        return wanted.routes[start : start + most]
    return tuple(islice(compress(wanted.routes[start:], wanted.mask[start:]), most))
