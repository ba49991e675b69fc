"""A child process started in advance, for the next client, principal or request that needs one of its own.

The rule: a spare child has been told nothing yet, so it can become anybody's; it becomes somebody's only once. One that ended
while it waited is not started again before somebody asked, so that a child which cannot run is not started for ever.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from vmcp.config.model import Limits
from vmcp.errors import VmcpError
from vmcp.tasks import Nest
from vmcp.upstream.stdio import StdioWire

log = logging.getLogger("vmcp.upstream.stdio")

NOBODY: Final = ""

Start = Callable[[str], Awaitable[StdioWire]]
"""Starts a child for a principal."""


class Spare:
    """At most one child of the backend ``name``. Mutable; a ``Connector`` is its one owner."""

    def __init__(self, name: str, start: Start, limits: Limits, nest: Nest) -> None:
        self._name = name
        self._start = start
        self._limits = limits
        self._nest = nest
        self._wire: StdioWire | None = None
        self._filling = False

    async def take(self, whose: str) -> StdioWire:
        """The child that waits, or a new one, for ``whose``; and see to the next. Raises ``Unavailable``."""
        wire = self._wire
        if wire is None or wire.exited:
            wire = await self._start(whose)
        else:
            wire.give(whose, self._limits)
            self._wire = None
        self.fill()
        return wire

    def fill(self) -> None:
        """Start one, if there is none and none is starting."""
        if not self._filling and (self._wire is None or self._wire.exited):
            self._filling = True
            self._nest.start(self._fill(), "spare child")

    async def _fill(self) -> None:
        try:
            await self.close()
            self._wire = await self._start(NOBODY)
        except VmcpError as refused:
            log.debug("no spare child", extra={"backend": self._name, "why": str(refused)})
        finally:
            self._filling = False

    async def close(self) -> None:
        """End the one that waits."""
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.close()
