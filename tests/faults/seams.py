"""A coroutine that is struck at its n-th await: while it waits there, or when it has just been answered and does not know it.

Rule: nothing but the blow is different; without one the coroutine runs as it would alone.
"""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Seams:
    """``count`` is how many awaits there have been."""

    def __init__(
        self, at: int | None = None, strike: Callable[[], object] = lambda: None, *, late: bool = False
    ) -> None:
        self.count = 0
        self.struck = False
        self._at = at
        self._strike = strike
        self._late = late

    def _blow(self, *_: object) -> None:
        self.struck = True
        self._strike()

    def _seam(self, awaited: Any) -> None:
        self.count += 1
        if self.count != self._at:
            return
        if self._late and asyncio.isfuture(awaited):
            # Called before the task's own callback: what it waited for is there, and it does not know it yet.
            awaited.add_done_callback(self._blow)
        else:
            self._blow()

    async def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """``work``, struck where it was ordered."""
        return await self._steps(work)

    @types.coroutine
    def _steps(self, work: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                awaited = work.send(None) if error is None else work.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            self._seam(awaited)
            try:
                yield awaited
            except BaseException as raised:  # noqa: BLE001 - it is handed on, whatever it is
                error = raised
