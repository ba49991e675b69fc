"""The nursery of this process: started when the first child is wanted, and again when it is gone (see ``vmcp.nursery``).

The rule: nothing here waits. A child's order goes to its nurse over a socket of their own; all that the nursery gets is that
socket and the child's three streams, beside a single byte.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from vmcp import nursery, outset

_NEEDED: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def command() -> list[str]:
    """What the nursery is started with; a frozen vmcp is its own interpreter."""
    if getattr(sys, "frozen", False):
        return [sys.executable, nursery.FLAG]
    return [sys.executable, "-I", "-S", "-X", "utf8", nursery.__file__]


def environment() -> dict[str, str]:
    """What the nursery gets of our environment: what its interpreter needs to start, and no secret."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ} | outset.LOADER


class Nursery:
    """The process which starts children. Mutable: it is replaced when it is gone. Used from one thread."""

    def __init__(self) -> None:
        self._door: socket.socket | None = None
        self.pid = 0

    def hand(self, descriptors: Sequence[int]) -> None:
        """Give a nurse its control socket and the streams of its child. Raises ``OSError``."""
        if self._door is not None:
            try:
                socket.send_fds(self._door, [b"\0"], descriptors)
            except ConnectionError:
                self.close()
            else:
                return
        self._door = self._open()
        socket.send_fds(self._door, [b"\0"], descriptors)

    def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        streams = [
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        ]
        words = command()
        try:
            self.pid = os.posix_spawn(words[0], words, environment(), file_actions=streams, setsigmask=())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """End it; the children that it has started stay with their nurses."""
        if self._door is not None:
            self._door.close()
            self._door = None
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)


NURSERY: Final = Nursery()
"""There is one in each process; it ends when that does."""
