"""What systemd is to a service, without systemd: the socket to which it reports, and the one that it is given.

Rule: it behaves as sd_notify(3) and sd_listen_fds(3) say, and whatever was started is gone when the block ends.
"""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.cli.processes import PATIENCE, Process, environment, heard

HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Ear:
    """Where a service reports. ``heard`` are its messages so far."""

    def __init__(self, path: Path) -> None:
        self.heard: list[str] = []
        self.path = path
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind(str(path))

    def until(self, words: str, after: int = 0) -> str:
        """The first message from ``after`` on that has these words in it."""
        deadline = time.monotonic() + PATIENCE
        at = after
        while True:
            while at >= len(self.heard):
                ready, _, _ = select.select([self._line], [], [], max(0.0, deadline - time.monotonic()))
                assert ready, f"no {words!r} in {self.heard[after:]}"
                self.heard.append(self._line.recv(4096).decode())
            if words in self.heard[at]:
                return self.heard[at]
            at += 1

    def quiet(self, seconds: float) -> None:
        """Until nothing has come for so long."""
        deadline = time.monotonic() + PATIENCE
        while select.select([self._line], [], [], seconds)[0]:
            assert time.monotonic() < deadline, f"still {self.heard[-3:]}"
            self.heard.append(self._line.recv(4096).decode())

    def close(self) -> None:
        self._line.close()


@contextlib.contextmanager
def ear(folder: Path) -> Iterator[Ear]:
    """A place to report to."""
    listening = Ear(folder / "notify")
    try:
        yield listening
    finally:
        listening.close()


@contextlib.contextmanager
def service(
    *arguments: str, environ: Mapping[str, str], given: socket.socket | None = None, names: str = "vmcp.socket"
) -> Iterator[Process]:
    """``vmcp serve`` as systemd starts it, with ``given`` as its descriptor 3."""
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "vmcp", "serve", *arguments]
    more = dict(environ)
    if given is not None:
        command = [sys.executable, "-S", "-c", HAND_OVER, str(given.fileno()), *command[1:]]
        more |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": names}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=writing,
        env={**environment(), **more},
        pass_fds=[] if given is None else [given.fileno()],
        start_new_session=True,
    )
    os.close(writing)
    with heard(process, reading) as found:
        yield found
