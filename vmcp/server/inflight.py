"""What a client has asked and not yet been answered, so that it can be cancelled.

The rule: a client's id is looked for among the calls of its own session or connection only, and it names exactly one call or
none: when several share it, none is cancelled (reference/security.md, SES-6).
"""

import asyncio
import logging
from typing import Any

import msgspec
from msgspec import Raw

log = logging.getLogger("vmcp.server")


class InFlight:
    """The calls of one session or connection, each by the task that serves it. Mutable; used by its transport only."""

    __slots__ = ("_cut", "_ids")

    def __init__(self) -> None:
        self._ids: dict[asyncio.Task[Any], bytes] = {}
        self._cut: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, task: "asyncio.Task[Any]", id_: bytes) -> None:
        """``task`` now serves the request with this id (JSON text)."""
        self._ids[task] = id_

    def discard(self, task: "asyncio.Task[Any]") -> bool:
        """``task`` no longer serves it; whether it was cancelled from here."""
        self._ids.pop(task, None)
        if task in self._cut:
            self._cut.discard(task)
            return True
        return False

    def holds(self, id_: bytes) -> bool:
        """Whether a request with this id is in flight; 1 and "1" are two."""
        return bool(self._named(id_))

    def cancel(self, id_: bytes | Raw) -> bool:
        """Cancel the one request with this id; whether there was one."""
        found = self._named(bytes(id_))
        if len(found) != 1:
            log.debug("nothing to cancel", extra={"candidates": len(found)})
            return False
        self._stop(found[0])
        return True

    def cancel_all(self) -> None:
        """Cancel whatever is in flight."""
        for task in list(self._ids):
            self._stop(task)

    def _stop(self, task: "asyncio.Task[Any]") -> None:
        if task not in self._cut:
            self._cut.add(task)
            task.cancel()

    def _named(self, id_: bytes) -> "list[asyncio.Task[Any]]":
        found = [task for task, known in self._ids.items() if known == id_]
        if found or b"\\" not in id_:
            return found or [task for task, known in self._ids.items() if b"\\" in known and _same(known, id_)]
        return [task for task, known in self._ids.items() if _same(known, id_)]


def _same(one: bytes, other: bytes) -> bool:
    """Whether two JSON texts say the same string, however its characters are written."""
    try:
        return bool(msgspec.json.decode(one, type=str) == msgspec.json.decode(other, type=str))
    except msgspec.MsgspecError:
        return False
