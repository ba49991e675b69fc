"""What workers send each other: a few bytes, and open descriptors with them.

The rule: a message is taken whole or not at all, and its descriptors are owned by whoever is told of it; a kind that nobody has
asked for is closed and forgotten. Nobody waits: an inbox that is full is the sender's to deal with.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from typing import Final

from vmcp.state.crew import LONGEST, Crew

log = logging.getLogger("vmcp.server")

CONNECTION: Final = b"c"
"""A client's connection, and what was read of it and not answered."""
QUESTION: Final = b"q"
"""A conversation with the administration of a worker."""
MOST: Final = 4
"""Descriptors in one message."""
Taken = Callable[[bytes, list[int]], None]
"""Is told of a message: its bytes and its descriptors."""


class Post:
    """The inbox of one worker, and the way to the others'. Mutable: ``on`` says who takes which kind."""

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.on: dict[bytes, Taken] = {}
        self._reads = crew.common.inboxes[crew.index][0]

    def start(self) -> None:
        """Take messages from now on."""
        asyncio.get_running_loop().add_reader(self._reads, self._on_some)

    def stop(self) -> None:
        """Take no more."""
        asyncio.get_running_loop().remove_reader(self._reads)

    def send(self, to: int, kind: bytes, body: bytes, descriptors: Sequence[int]) -> bool:
        """Send copies of ``descriptors``; False when there is no room in that inbox, or no descriptor to be had, now."""
        writes = self.crew.common.inboxes[to][1]
        if len(body) < LONGEST:
            return _sent(writes, kind + b"\0" + body, descriptors)
        try:
            with os.fdopen(os.memfd_create("vmcp post", os.MFD_CLOEXEC), "wb") as held:
                held.write(body)
                held.flush()
                return _sent(writes, kind + b"\1", [held.fileno(), *descriptors])
        except OSError:
            return False

    def _on_some(self) -> None:
        for _ in range(64):
            try:
                said, descriptors, flags, _ = socket.recv_fds(self._reads, LONGEST + 2, MOST, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            self._take(said, descriptors, lost=bool(flags & socket.MSG_CTRUNC))

    def _take(self, said: bytes, descriptors: list[int], *, lost: bool) -> None:
        """``lost``: not all of its descriptors could be had, as this process has its limit of them."""
        taken = self.on.get(said[:1])
        if taken is None or lost:
            log.warning(
                "what a worker sent is lost", extra={"why": "descriptors are short" if lost else "nobody takes it"}
            )
            for each in descriptors:
                os.close(each)
            return
        body = said[2:]
        if said[1:2] == b"\1":
            body = _whole(descriptors.pop(0))
        taken(body, descriptors)


def _sent(writes: socket.socket, said: bytes, descriptors: Sequence[int]) -> bool:
    try:
        socket.send_fds(writes, [said], list(descriptors))
    except (BlockingIOError, ConnectionError, OSError):
        return False
    return True


def _whole(held: int) -> bytes:
    with os.fdopen(held, "rb") as file:
        file.seek(0)
        return file.read()
