"""What child processes take of the machine, as Linux tells it.

The rule: a child is the leader of its session, so all that it has started counts as its own; to read it may take a few
milliseconds, so it is done in a thread. Where there is no ``/proc`` nothing is known.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")
_SESSION, _TIMES, _PAGES = 3, slice(11, 15), 21
"""Members of ``stat`` behind the name: session; user and system time, own and of the children that were waited for; pages."""


class Taken(NamedTuple):
    """By one child and all that it has started: bytes of memory, and seconds of the processor."""

    memory: int
    seconds: float


def taken(leaders: Iterable[int]) -> dict[int, Taken]:
    """By each of these children that is still there. Blocks."""
    wanted = frozenset(leaders)
    found: dict[int, Taken] = {}
    if not wanted or not _PROC.is_dir():
        return found
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    for name in os.listdir(_PROC):  # noqa: PTH208 - a Path for each of some thousands takes longer than to read them
        if not name.isdecimal():
            continue
        members = _members(name)
        session = int(members[_SESSION]) if members else 0
        if session in wanted:
            before = found.get(session, Taken(0, 0.0))
            seconds = sum(map(int, members[_TIMES])) / tick
            found[session] = Taken(before.memory + int(members[_PAGES]) * page, before.seconds + seconds)
    return found


def _members(name: str) -> list[bytes]:
    """What stands behind its name, which may hold anything; nothing where it has just ended."""
    try:
        with open(f"{_PROC}/{name}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - the same
            return file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return []
