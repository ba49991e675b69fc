"""What a running vmcp is told from outside, and by whom: the operating system, with signals, or its supervisor.

The rule: who serves knows what is to be done, and not who wants it.
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Acts:
    """What can be wanted. ``stop`` twice means at once; ``reload`` (with its cause) is None where nothing can be read anew."""

    stop: Callable[[], None]
    louder: Callable[[], None]
    quieter: Callable[[], None]
    reload: Callable[[str], None] | None = None


class Orders(Protocol):
    """Where it is said what is wanted."""

    def obey(self, acts: Acts) -> None:
        """Do what is said from now on."""

    def release(self) -> None:
        """Do it no more."""


class Signals:
    """What the operating system says, to a process that serves alone."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers: list[int] = []

    def obey(self, acts: Acts) -> None:
        """See ``Orders``."""
        for number, act in ((signal.SIGTERM, acts.stop), (signal.SIGINT, acts.stop)):
            self._on(number, act)
        for number, act in ((signal.SIGUSR1, acts.louder), (signal.SIGUSR2, acts.quieter)):
            self._on(number, act)
        if acts.reload is not None:
            self._on(signal.SIGHUP, acts.reload, "signal")

    def _on(self, number: int, act: Callable[..., None], *words: str) -> None:
        self._loop.add_signal_handler(number, act, *words)
        self._numbers.append(number)

    def release(self) -> None:
        """See ``Orders``."""
        for number in self._numbers:
            self._loop.remove_signal_handler(number)
        self._numbers.clear()
