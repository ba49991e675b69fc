"""Whether the files of the configuration still say what runs, for who asks every two seconds.

The rule: files are read only when they look different from the last time; in between the answer is the one before.
"""

from collections.abc import Sequence
from pathlib import Path

from vmcp.admin.acts import Acts
from vmcp.server.runtime import Runtime

Look = tuple[tuple[str, int, int], ...]


class Disk:
    """Mutable: what was found, and how the files looked then."""

    def __init__(self, house: Runtime, acts: Acts) -> None:
        self._house = house
        self._acts = acts
        self._seen: tuple[str, Look] | None = None
        self._found = "same"

    async def compared(self) -> str:
        """``same``, ``differs``, or that they are invalid or unreadable."""
        seen = self._house.config.digest, look(self._acts.files())
        if seen != self._seen:
            told = await self._acts.config()
            self._seen, self._found = seen, str(told["disk"])
        return self._found


def look(paths: Sequence[str]) -> Look:
    """How files look from outside: their times and sizes."""
    found = []
    for path in paths:
        try:
            seen = Path(path).stat()
        except OSError:
            found.append((path, 0, -1))
        else:
            found.append((path, seen.st_mtime_ns, seen.st_size))
    return tuple(found)
