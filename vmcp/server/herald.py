"""Tells systemd how vmcp is: the protocol of sd_notify(3), without its library.

The rule: telling waits for nobody and fails nobody. What cannot be sent is sent later, in its order; and where systemd does not
ask to be told, there is no herald. What is started later does not learn where to send such messages.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Final, Protocol

from vmcp.config.model import Config

log = logging.getLogger("vmcp.server")

SOON, EACH = 0.1, 1.0
"""Seconds between two looks at the house: until it is up, and from then on."""
MARGIN: Final = 10.0
"""Seconds that systemd is asked for beyond those that a start or an end may take."""
KEPT: Final = 8
"""Messages that wait until systemd reads again; older ones are given up."""
LONGEST: Final = 512
_KEYS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class House(Protocol):
    """What is told about."""

    @property
    def config(self) -> Config:
        """The configuration that counts."""

    @property
    def settled(self) -> asyncio.Event:
        """Set once every backend has answered or failed once."""

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Whether traffic should come, and why not."""


class Herald:
    """Mutable. ``address`` is where systemd listens; ``watched`` the seconds in which it wants a sign of life, 0 for never.

    ``each``: seconds between two looks at the house.
    """

    def __init__(self, address: str, watched: float = 0.0, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._address = address
        self._clock = clock
        self.each = min(EACH, watched / 3) if watched else EACH
        self._watched = watched > 0
        self._waiting: deque[str] = deque(maxlen=KEPT)
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.setblocking(False)
        self._up = False
        self._ending = False
        self._told = self._lately = ""
        self._patience = 0.0

    def close(self) -> None:
        """Say nothing more."""
        self._line.close()

    async def run(self, house: House) -> None:
        """Tell how the house is, and that the loop turns, until cancelled."""
        self.begin(house.config.start_deadline)
        while True:
            ready, facts = house.readiness()
            self.look(facts, up=ready or house.settled.is_set())
            await asyncio.sleep(self.each if self._up else min(SOON, self.each))

    def begin(self, patience: float) -> None:
        """A start may take so many seconds, and a reload as well."""
        self._patience = patience
        self._say(_longer(patience))

    def reloading(self) -> None:
        """The configuration is read anew."""
        if not self._ending:
            self._say("RELOADING=1", f"MONOTONIC_USEC={self._clock() // 1000}", _longer(self._patience))

    def reloaded(self, result: str) -> None:
        """That has ended, in whichever way: the house serves. A dead backend is no reason to be started again."""
        self._lately = "" if result in ("applied", "unchanged") else f"; the last reload was {result}"
        if not self._ending:
            self._up = True
            self._say("READY=1")

    def stopping(self, grace: float) -> None:
        """The house ends; that may take ``grace`` seconds."""
        if not self._ending:
            self._ending = True
            self._say("STOPPING=1", "STATUS=stopping", _longer(grace))

    def look(self, facts: Mapping[str, object], *, up: bool, alive: bool = True) -> None:
        """Tell what is new, and a sign of life. ``facts`` see ``House.readiness``; ``up``: clients may come, or nothing helps."""
        said = []
        if up and not self._up and not self._ending:
            self._up = True
            said.append("READY=1")
        if self._watched and alive and not self._waiting:
            said.append("WATCHDOG=1")
        status = _status(facts) + self._lately
        if status != self._told and not self._ending:
            self._told = status
            said.append(f"STATUS={status}")
        if said or self._waiting:
            self._say(*said)

    def _say(self, *lines: str) -> None:
        if lines:
            self._waiting.append("\n".join(lines))
        try:
            while self._waiting:
                self._line.sendto(self._waiting[0].encode(), self._address)
                self._waiting.popleft()
        except OSError as error:
            log.debug("systemd is not told", extra={"why": error.strerror})


@contextlib.contextmanager
def heralded(environ: MutableMapping[str, str]) -> Iterator[Herald | None]:
    """The one that systemd asks for in the environment, which forgets it; None where it does not ask."""
    made = _made(environ)
    try:
        yield made
    finally:
        if made is not None:
            made.close()


def _made(environ: MutableMapping[str, str]) -> Herald | None:
    address, microseconds, pid = (environ.pop(key, "") for key in _KEYS)
    if not address.startswith(("/", "@")):
        return None
    watched = microseconds.isdecimal() and (not pid or pid in _ourselves())
    return Herald(
        address.replace("@", "\0", 1) if address[0] == "@" else address, int(microseconds) / 1e6 if watched else 0.0
    )


def _ourselves() -> set[str]:
    """The processes that are meant when this one is: a frozen file unpacks itself in one, and runs in another below it."""
    return {str(os.getpid())} | ({str(os.getppid())} if getattr(sys, "frozen", False) else set())


def _longer(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int((seconds + MARGIN) * 1e6)}"


def _status(facts: Mapping[str, object]) -> str:
    """One line; names in it are those of the configuration."""
    told = f"{facts['status']}: {facts['up']} of {facts['backends']} backends up"
    waiting = facts["waiting_for"]
    if isinstance(waiting, list) and waiting:
        told += f", waiting for {', '.join(waiting)}"
    if "workers" in facts:
        told += f"; {facts['workers']}"
    return told[:LONGEST]
