"""An audit log that all workers of one vmcp write: one file, one head, one chain.

The rule: only he who has the turn hangs records on the chain, and he gives it back when they are written and the head says so.
What the others did, and what one left behind that was killed, everybody learns from the head, which is read at each turn.

Behind the place where the log ends, the head then says whose the log is, and which file of which size the last one left. The
workers believe a copy of it in memory that they share, so that nobody can put an older log and head in place of what they write.
Standard output has only that, and there it is ahead of what is written: a pipe cannot be read again, so where a worker is killed
in the midst of it, records are missing and none has its number twice.
"""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from vmcp.state.chain import HEAD_BYTES, START, Chain, Place, read_head
from vmcp.state.crew import Crew
from vmcp.state.logfile import AuditUnavailable, LogFile, Sink, explained
from vmcp.state.turn import Turn

log = logging.getLogger("vmcp.audit")

PATIENCE: Final = 2.0
"""Seconds that a worker waits for another one, which writes."""


class _Mark(msgspec.Struct, frozen=True):
    """How the last one left the log: ``family`` is the workers', ``node`` the file's; ``size`` is in bytes."""

    family: str = ""
    node: str = ""
    size: int = -1

    def text(self) -> bytes:
        return msgspec.json.encode(self).ljust(HEAD_BYTES - 1) + b"\n"


_NO_MARK: Final = _Mark()
_COPY: Final = 4 * HEAD_BYTES
_COPIES: Final = 15
"""So many logs can be told apart whose copies of the head are kept; of two in one place the heads themselves are believed."""
_decode = msgspec.json.Decoder(_Mark).decode


class SharedFile(LogFile):
    """The file, its head and its chain, as one of the workers has them. ``explain`` makes the record of what was found."""

    def __init__(self, sink: Sink, crew: Crew, explain: Callable[[Mapping[str, Any]], bytes]) -> None:
        self._family = crew.common.family.hex()
        self._ledger = crew.common.ledger
        name = hashlib.sha256((sink.path or "").encode())
        self._log = name.hexdigest().encode()
        self._slot = 0 if sink.path is None else _COPY * (1 + name.digest()[0] % _COPIES)
        self._explain = explain
        self._bodies: list[bytes] = []
        super().__init__(sink)

    def _begin(self) -> Place:
        path = self._sink.path
        if path is None:
            with explained("what the workers know of standard output"):
                self._head = os.open(f"/proc/self/fd/{self._ledger}", os.O_RDWR | os.O_CLOEXEC)
        elif self._plain:
            with explained(f"{path}.head"):
                self._head = self._open_head(path)
        else:
            os.close(self._fd)
            raise AuditUnavailable(f"audit.logFile: {path} is no plain file, and several workers cannot share it")
        self._turn = Turn(self._head)
        return START  # until the first turn

    def _ours(self, head: int) -> bool:
        """Whether only relatives write the log, from now on until the head is closed."""
        turn = Turn(head)
        try:
            turn.take(PATIENCE)
            if super()._ours(head):  # nobody of those who were here before is left
                os.pwrite(head, _Mark(self._family).text(), HEAD_BYTES)
            fcntl.flock(head, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, TimeoutError):
            return False
        else:
            return _read(os.pread(head, HEAD_BYTES, HEAD_BYTES)).family == self._family
        finally:
            if turn.held:
                turn.give()

    def add(self, bodies: Iterable[bytes]) -> None:
        """Have records hung on the chain when it is our turn. (Their texts are made before: it is short.)"""
        self._bodies += bodies

    def flush(self) -> None:
        """Write what is pending. What could not be written stays so, and the turn stays ours until it is. Raises ``OSError``."""
        self._take()
        bodies, self._bodies = self._bodies, []
        super().add(bodies)
        if not self._plain:
            self._tell_end()
        super().flush()
        self._turn.give()

    def rotate(self) -> bool:
        """Begin a new file, unless another worker has. Raises ``OSError``.

        The turn stays ours, so that nothing comes before the record that tells of it.
        """
        self._take()
        if self._pending or not self.full:
            self.flush()
            return False
        try:
            # Whoever comes after us, if we are killed in the midst of it, does not know the file and looks.
            os.pwrite(self._ledger, _Mark(self._family).text(), self._slot + HEAD_BYTES)
            super().rotate()
        except OSError:
            self._turn.give()
            raise
        self._tell_end()
        return True

    # --- the turn

    def _take(self) -> None:
        """Have the turn, and know what the others did. Raises ``OSError``."""
        if self._turn.held:
            return
        self._turn.take(PATIENCE)
        try:
            self._look()
        except OSError:
            self._turn.give()
            raise

    def _look(self) -> None:
        said = os.pread(self._ledger, 3 * HEAD_BYTES, self._slot)
        if not said.endswith(self._log) and self._plain and self._head is not None:
            said = os.pread(self._head, 2 * HEAD_BYTES, 0)  # the first turn of all
        place = read_head(said[:HEAD_BYTES], self._sink.key)
        if self._plain:
            place = self._found_by(place, _read(said[HEAD_BYTES : 2 * HEAD_BYTES]))
        self._chain = Chain(place or START, self._sink.key)
        found = self.found()
        if self.deleted:
            log.error("the audit log was deleted while it was written")
            found["file"] = "deleted"
        self._head_state, self.deleted = "", False
        if len(found) > 1:
            super().add([self._explain(found)])

    def _found_by(self, place: Place | None, mark: _Mark) -> Place | None:
        """The place to go on from, in the file that counts."""
        assert self._sink.path is not None
        if mark.node != _node(os.fstat(self._fd)):  # another worker has begun a new one
            self._renew()
            self.deleted = False
        facts = os.fstat(self._fd)
        gone = facts.st_nlink == 0
        if gone:
            self._renew()
        if place is None or not (gone or mark == _Mark(self._family, _node(facts), facts.st_size)):
            place = self._resume(self._sink.path, place)
        self._size = 0 if gone else facts.st_size
        return place

    def _tell_end(self) -> None:
        mark = _NO_MARK
        if self._plain:
            facts = os.fstat(self._fd)
            mark = _Mark(self._family, _node(facts), facts.st_size)
        said = self._chain.head() + mark.text()
        os.pwrite(self._ledger, said + self._log.rjust(HEAD_BYTES), self._slot)
        if self._plain and self._head is not None:
            os.pwrite(self._head, said, 0)


def _node(facts: os.stat_result) -> str:
    return f"{facts.st_dev:x}:{facts.st_ino:x}"


def _read(text: bytes) -> _Mark:
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _NO_MARK
