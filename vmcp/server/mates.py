"""Questions between the workers of one vmcp: each asks what the others know, or has them do what it does itself.

The rule: nobody waits long for a worker, which may be busy, or gone; who does not answer in time has not answered, and whoever
asked goes on without. An answer is whole or it is none.
"""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from vmcp.server.post import QUESTION, Post
from vmcp.state.crew import AWAY, Crew
from vmcp.tasks import Nest

log = logging.getLogger("vmcp.server")

PATIENCE: Final = 1.0
"""Seconds for an answer."""
LONGEST: Final = 65.0
"""Seconds that anybody may take for one."""
LARGEST: Final = 64 << 20
"""Bytes of one."""
MOST: Final = 64
"""Answers that are given at the same time; who asks beyond gets none."""
_HEAD: Final = struct.Struct("!IQ")
"""The process that answers, and how long its answer is."""
Answering = Callable[[bytes], Awaitable[bytes]]
"""What is asked, and what is said to it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker said. ``pid`` is its process: another one than before knows nothing of what that had counted."""

    pid: int
    body: bytes


class Mates:
    """The other workers, as one of them sees them. Mutable: ``answers`` is what we answer, by the name of the question.

    ``patience`` are the seconds that are waited for an answer where nothing else is said.
    """

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.answers: dict[str, Answering] = {}
        self.patience = PATIENCE
        self._post: Post | None = None
        self._nest: Nest | None = None
        self._busy = 0

    def start(self, post: Post, nest: Nest) -> None:
        """Ask and answer from now on."""
        self._post, self._nest = post, nest
        post.on[QUESTION] = self._asked

    async def ask(self, to: int, what: str, body: bytes = b"", patience: float | None = None) -> Answer | None:
        """What a worker says; None when it says nothing in time, or is not there."""
        if self._post is None or self.crew.common.counts[to] == AWAY:
            return None
        try:
            here, there = socket.socketpair()
        except OSError as error:
            log.warning("a worker cannot be asked", extra={"of": to, "why": error.strerror})
            return None
        here.setblocking(False)
        with here:
            with there:
                sent = self._post.send(to, QUESTION, what.encode() + b"\n" + body, [there.fileno()])
            try:
                async with asyncio.timeout(self.patience if patience is None else patience):
                    return await _heard(here) if sent else None
            except (TimeoutError, OSError):
                log.debug("a worker does not answer", extra={"of": to, "question": what})
                return None

    async def all(self, what: str, body: bytes = b"", patience: float | None = None) -> Mapping[int, Answer]:
        """What the others say, of those that say something."""
        async with asyncio.TaskGroup() as group:
            asked = {each: group.create_task(self.ask(each, what, body, patience)) for each in self.crew.others}
        return {each: found for each, task in asked.items() if (found := task.result()) is not None}

    # --- what the others ask

    def _asked(self, body: bytes, descriptors: list[int]) -> None:
        for each in descriptors[1:]:
            os.close(each)
        if not descriptors or self._nest is None:
            return
        line = socket.socket(fileno=descriptors[0])
        line.setblocking(False)
        what, _, given = body.partition(b"\n")
        answering = self.answers.get(what.decode("latin-1"))
        if answering is None or self._busy >= MOST:
            line.close()
            return
        self._busy += 1
        task = self._nest.start(_answered(line, answering, given), "answer")
        task.add_done_callback(lambda _: self._over(line))

    def _over(self, line: socket.socket) -> None:
        self._busy -= 1
        line.close()


async def _heard(line: socket.socket) -> Answer | None:
    """None when it ends before it is whole."""
    loop = asyncio.get_running_loop()
    found = bytearray()
    wanted = _HEAD.size
    while len(found) < wanted:
        piece = await loop.sock_recv(line, 1 << 18)
        if not piece:
            return None
        found += piece
        if wanted == _HEAD.size and len(found) >= wanted:
            wanted += _HEAD.unpack_from(found)[1]
            if wanted > LARGEST:
                return None
    return Answer(_HEAD.unpack_from(found)[0], bytes(memoryview(found)[_HEAD.size :]))


async def _answered(line: socket.socket, answering: Answering, given: bytes) -> None:
    try:
        async with asyncio.timeout(LONGEST):
            said = await answering(given)
            await asyncio.get_running_loop().sock_sendall(line, _HEAD.pack(os.getpid(), len(said)) + said)
    except (TimeoutError, OSError):
        log.debug("nobody waits for an answer any more")
