"""What a subject used: CPU time and memory of its whole process tree, from the kernel's own books.

The one rule: a process and everything it started count as one, dead children included.
"""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes: PSS splits shared pages between those who share them, RSS counts them for each."""

    pss: int
    rss: int


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (the third of proc_pid_stat(5)); the name may hold spaces."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _parents() -> dict[int, int]:
    parents = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return parents


def tree(root: int) -> list[int]:
    """The process and all its living descendants."""
    parents, found = _parents(), [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of the tree (fields 14 to 17: own, and of children that were waited for)."""
    return sum(sum(int(ticks) for ticks in _stat(pid)[11:15]) for pid in tree(root)) * TICK


def _kilobytes(text: str, key: str) -> int:
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(key + ":"))


def memory(root: int) -> Memory:
    """PSS and RSS of the tree."""
    rollups = [(PROC / str(pid) / "smaps_rollup").read_text() for pid in tree(root)]
    return Memory(*(1024 * sum(_kilobytes(text, key) for text in rollups) for key in ("Pss", "Rss")))
