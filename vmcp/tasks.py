"""Background work with an owner. Whoever opens a ``Nest`` ends what was started in it.

The rule: no task without a nest. A task that fails is logged with its traceback and does not take its neighbours along.
"""

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

log = logging.getLogger("vmcp.tasks")


class Nest:
    """Tasks that live no longer than the ``async with`` block which owns them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` until it ends or the nest closes."""
        task = asyncio.get_running_loop().create_task(self._guard(work, name), name=f"{self.name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # A task that is cancelled before its first step never comes to await the work.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _guard(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            log.exception("background task failed", extra={"nest": self.name, "task": name})

    async def close(self) -> None:
        """Cancel what still runs and wait for its clean-up."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def backoff(attempt: int, jitter: float, first: float = 0.5, cap: float = 60.0) -> float:
    """Seconds to wait before try ``attempt`` (0, 1, …): doubling from ``first`` to ``cap``; ``jitter`` in 0…1 is ±20 %."""
    return float(min(cap, first * 2.0 ** min(attempt, 16)) * (0.8 + 0.4 * jitter))
