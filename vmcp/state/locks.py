"""Locks in memory that several processes share, for a few microseconds at a time.

The rule: a lock whose holder died comes free by itself, and nobody waits long: one that was stopped while it held a lock makes
the others go on without. So what stands behind such a lock may be a little wrong after that, but never so that anything breaks.
"""

import ctypes
import errno
import mmap
import time
from typing import Final

LINE: Final = 64
"""Bytes for each, more than any of our systems needs, and none beside another in a cache line."""
PATIENCE: Final = 2.0
"""Seconds after which whoever has a lock is taken for stopped; many times what a busy machine lets a process wait."""


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Locks:
    """So many locks, made before the processes part. Mutable: each process knows which are stuck. Not for threads."""

    def __init__(self, count: int, patience: float = PATIENCE) -> None:
        self._patience = patience
        # Those functions are called with Python's own lock held: they never wait, and another thread must not come in between.
        library = ctypes.PyDLL(None)
        simple = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
        self._try = simple(("pthread_mutex_trylock", library))
        self._free = simple(("pthread_mutex_unlock", library))
        self._mend = simple(("pthread_mutex_consistent", library))
        late = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Time))
        self._wait = late(("pthread_mutex_timedlock", ctypes.CDLL(None)))
        self._memory = (ctypes.c_char * (count * LINE)).from_buffer(mmap.mmap(-1, count * LINE))
        self._start = ctypes.addressof(self._memory)
        self._stuck: set[int] = set()
        kind = ctypes.create_string_buffer(LINE)
        made = [
            library.pthread_mutexattr_init(kind),
            library.pthread_mutexattr_setpshared(kind, 1),
            library.pthread_mutexattr_setrobust(kind, 1),
            *(library.pthread_mutex_init(ctypes.c_void_p(self._start + at * LINE), kind) for at in range(count)),
        ]
        if any(made):
            raise OSError(max(made), "locks between processes cannot be made here")

    def take(self, number: int) -> bool:
        """Whether it is ours now; if not, its holder is stopped."""
        place = self._start + number * LINE
        said = self._try(place)
        if said or self._stuck:
            return self._taken_late(number, place, said)
        return True

    def free(self, number: int) -> None:
        """Give it back."""
        self._free(self._start + number * LINE)

    def _taken_late(self, number: int, place: int, said: int) -> bool:
        """Somebody has it, or had it when he died; or did not give it back the last time."""
        if said == errno.EBUSY and number not in self._stuck:
            until = time.time() + self._patience
            said = self._wait(place, _Time(int(until), int(until % 1 * 1e9)))
        if said == errno.EOWNERDEAD:
            said = self._mend(place)
        if said:
            self._stuck.add(number)
        else:
            self._stuck.discard(number)
        return said == 0
