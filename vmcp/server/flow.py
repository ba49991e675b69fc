"""Back-pressure on a two-way connection: who writes waits while the client does not read.

The rule: nobody waits for ever. A client that takes nothing for ``patience`` seconds is let go, and what is said to somebody
who is gone is dropped without a word.
"""

import asyncio
from collections.abc import Callable

PATIENCE = 30.0
"""Seconds that a client may leave what it is sent unread, where nothing else is configured."""


class Flow:
    """Whether a client reads. Told by a transport's protocol, waited for by whoever writes; ``give_up`` ends the connection."""

    def __init__(self, give_up: Callable[[], None], patience: float = PATIENCE) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._give_up = give_up
        self._patience = patience
        self.lost = False

    @property
    def paused(self) -> bool:
        """Whether too much is unread already."""
        return not self._open.is_set()

    def pause(self) -> None:
        """Too much is unread."""
        if not self.lost:
            self._open.clear()

    def resume(self) -> None:
        """The client has read."""
        self._open.set()

    def end(self) -> None:
        """The client is gone: let everybody go on."""
        self.lost = True
        self._open.set()

    async def ready(self) -> bool:
        """Wait until something can be written; False when the client is gone."""
        # All who wait are woken at once, and the first one may fill what has become free.
        while not self._open.is_set():
            try:
                async with asyncio.timeout(self._patience):
                    await self._open.wait()
            except TimeoutError:
                self.end()
                self._give_up()
        return not self.lost
