"""Whose turn it is to change a file that several processes write.

The rule: a turn belongs to an open file and not to a process, so it ends with whoever had it, however that is; and nobody waits
for it longer than he said.
"""

import errno
import fcntl
import struct
import time
from typing import Final

NAP: Final = 5e-4
_LOCK: Final = struct.Struct("hhqqi")
_TAKEN: Final = frozenset((errno.EAGAIN, errno.EACCES))


class Turn:
    """The turn at an open file, which nobody else may have open in the same way. Mutable; used by one thread. Linux only."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.held = False

    def take(self, patience: float) -> None:
        """Have the turn. Raises ``OSError``: a ``TimeoutError`` when somebody else keeps it."""
        until = time.monotonic() + patience
        while not self._locked(fcntl.F_WRLCK):
            if time.monotonic() >= until:
                raise TimeoutError(errno.ETIMEDOUT, "another process keeps it to itself")
            time.sleep(NAP)
        self.held = True

    def give(self) -> None:
        """Let the others."""
        self.held = False
        self._locked(fcntl.F_UNLCK)

    def _locked(self, kind: int) -> bool:
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _LOCK.pack(kind, 0, 0, 0, 0))
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True
