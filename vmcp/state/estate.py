"""What a worker has counted, kept where the next one of its number finds it: sums of all workers never go down.

The rule: what is read was written whole. Two places take turns, each with its digest; who is killed while it writes leaves the
other one. One process writes, any of the family reads.
"""

import os
import struct
from hashlib import blake2b
from typing import Final

LARGEST: Final = 4 << 20
"""Bytes that can be kept."""
_HEAD: Final = struct.Struct("!QQ16s")
"""How many there have been, how long it is, and its digest."""


class Estate:
    """In memory that has a descriptor and no name, so that it stays when a process ends. Mutable."""

    def __init__(self) -> None:
        self._held = os.memfd_create("vmcp estate", os.MFD_CLOEXEC)

    def put(self, said: bytes) -> bool:
        """Keep this instead of what was there; False when it is too much."""
        if len(said) > LARGEST:
            return False
        number = max((found[0] for found in (self._at(0), self._at(1)) if found is not None), default=0) + 1
        head = _HEAD.pack(number, len(said), _digest(number, said))
        os.pwrite(self._held, head + said, self._place(number))
        return True

    def get(self) -> bytes | None:
        """What was kept last."""
        found = max((each for each in (self._at(0), self._at(1)) if each is not None), default=None)
        return None if found is None else found[1]

    def close(self) -> None:
        """Let go of it, in this process."""
        os.close(self._held)

    def _place(self, number: int) -> int:
        return (number % 2) * (LARGEST + _HEAD.size)

    def _at(self, which: int) -> tuple[int, bytes] | None:
        place = self._place(which)
        head = os.pread(self._held, _HEAD.size, place)
        if len(head) < _HEAD.size:
            return None
        number, length, digest = _HEAD.unpack(head)
        said = os.pread(self._held, min(length, LARGEST), place + _HEAD.size)
        return (number, said) if digest == _digest(number, said) else None


def _digest(number: int, said: bytes) -> bytes:
    return blake2b(said, digest_size=16, key=number.to_bytes(8, "big")).digest()
