"""How much memory the process has, may have, and can give back.

The rule: what the system does not tell is guessed towards more use and towards a smaller limit, and nothing here fails.
"""

import ctypes
import os
import resource
from pathlib import Path

_STATM = Path("/proc/self/statm")
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of malloc.h
_LARGE, _SPARE = 4 << 20, 8 << 20
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def resident() -> int:
    """Bytes of memory that the process has now; where the system does not say, the most that it ever had."""
    try:
        return int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def budget(configured: int, limits: tuple[Path, ...] = _LIMITS, *, workers: int = 1) -> int:
    """What it may have: ``configured``, or its part of what the container has, if that is less."""
    found = [configured]
    for path in limits:
        try:
            found.append(int(path.read_text("ascii")) // workers)
        except (OSError, ValueError):  # there is no such file, or it says "max"
            continue
    return max(1, min(found))


def give_back() -> None:
    """Return to the system what is free: the allocator keeps it, and what it keeps looks like use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_some() -> None:
    """Let the allocator keep a few megabytes that are free: large messages come and go.

    As it is, it returns each of them to the system at once, and to get it back page by page takes a third of a call's time.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_MMAP_THRESHOLD, _LARGE)  # what is larger still goes back when it is free, wherever it lies
        option(_TRIM_THRESHOLD, _SPARE)
