"""What the kernel knows of a process: its memory, its processor time, its age.

The rule: where the kernel does not tell, or the process is gone, there is nothing; nobody is asked to wait.
"""

import os
from pathlib import Path
from typing import Any, Final

PROC: Final = Path("/proc")
_UTIME, _START, _RSS = 11, 19, 21
"""Fields of ``stat`` behind the name of the command (proc_pid_stat(5), counted from the state)."""


def vitals(pid: int | None, proc: Path = PROC) -> dict[str, Any]:
    """Bytes in memory, seconds of processor time, and seconds since the start."""
    if pid is None:
        return {}
    try:
        fields = (proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        up = float((proc / "uptime").read_bytes().split()[0])
        tick = os.sysconf("SC_CLK_TCK")
        busy = (int(fields[_UTIME]) + int(fields[_UTIME + 1])) / tick
        age = max(0.0, up - int(fields[_START]) / tick)
        size = int(fields[_RSS]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return {}
    return {"rssBytes": size, "cpuSeconds": round(busy, 2), "ageSeconds": round(age, 1)}
