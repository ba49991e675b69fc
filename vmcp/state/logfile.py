"""The file of an audit log: where it ends, what is written behind, and a new one when it is time.

The rule: used by one thread at a time; what could not be written stays pending, and is the first that is written when that is
possible again.

Beside the log lies its head (``FILE.head``), which says where the log ends and is locked by who writes it. Old files are
``FILE.<number of its last record>``. Standard output has neither.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vmcp.errors import CannotStart
from vmcp.state.chain import HEAD_BYTES, START, Chain, Place, place_of, read_head

log = logging.getLogger("vmcp.audit")

_TAIL: Final = 4 << 20
_MOST_AT_ONCE: Final = 1 << 20
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY


class AuditUnavailable(CannotStart):
    """The log cannot be opened."""

    code = 73


@dataclass(frozen=True, slots=True)
class Sink:
    """Where the records go: ``path`` None is standard output; ``rotate_bytes`` 0 and ``keep`` 0 mean never and all."""

    path: str | None
    fsync: bool = False
    rotate_bytes: int = 0
    keep: int = 0
    key: bytes | None = None


class LogFile:
    """The file, its head and its chain."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._pending = bytearray()
        self._head_state = ""
        self._torn: bytes = b""
        self._head: int | None = None
        self._plain = False
        self._size = 0
        self.deleted = False
        """Whether the file was taken away, and what was written since stands in a new one."""
        with explained(sink.path):
            self._fd = os.dup(1) if sink.path is None else self._open(sink.path)
        self._chain = Chain(self._begin(), sink.key)

    @property
    def end(self) -> Place:
        """The last record."""
        return self._chain.end

    @property
    def full(self) -> bool:
        """Whether it is time for a new file."""
        limit = self._sink.rotate_bytes
        return bool(limit) and self._plain and self._size >= limit

    def found(self) -> dict[str, Any]:
        """What the first record of this start tells of what there was before."""
        told: dict[str, Any] = {"chain": "sha256" if self._sink.key is None else "hmac-sha256"}
        if self._head_state:
            told["head"] = self._head_state
        if self._torn:
            told["torn"] = hashlib.sha256(self._torn).hexdigest()
        return told

    def _begin(self) -> Place:
        """Take the log into our hands: the place to go on from. Raises ``AuditUnavailable``."""
        path = self._sink.path
        if not self._plain or path is None:
            return START
        with explained(f"{path}.head"):
            self._head = self._open_head(path)
            return self._resume(path, read_head(os.pread(self._head, HEAD_BYTES, 0), self._sink.key))

    def _open(self, path: str) -> int:
        fd = os.open(path, _FLAGS, 0o600)
        facts = os.fstat(fd)
        self._plain = stat.S_ISREG(facts.st_mode)
        self._size = facts.st_size
        if self._plain and facts.st_uid != os.geteuid():
            os.close(fd)
            raise AuditUnavailable(f"audit.logFile: {path} belongs to somebody else; choose another file")
        return fd

    def _open_head(self, path: str) -> int:
        fd = os.open(f"{path}.head", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if not self._ours(fd):
            os.close(fd)
            os.close(self._fd)
            raise AuditUnavailable(f"audit.logFile: another process writes {path}; give each its own file")
        return fd

    def _ours(self, head: int) -> bool:
        """Whether nobody else writes the log, from now on until the head is closed."""
        try:
            fcntl.flock(head, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _resume(self, path: str, head: Place | None) -> Place:
        """The place to go on from: the end of the file, or the head's where that knows of more. Then the hole stays visible."""
        last, self._torn = _tail(Path(path))
        older = rotated(path)
        if last is None and older:
            last, _ = _tail(older[-1])
        if head is None:
            self._head_state = "missing" if last is not None or self._torn else ""
            return last or START
        if last is not None and (last.seq > head.seq or last == head):
            return last
        self._head_state = "ahead"
        log.error("the audit log was cut or changed while nobody wrote it", extra={"file": path, "expected": head.seq})
        return head

    def add(self, bodies: Iterable[bytes]) -> None:
        """Hang records on the chain; they are written by ``flush``."""
        if self._torn:
            self._pending += b"\n"
            self._torn = b""
        self._chain.add(bodies, self._pending)

    def flush(self) -> None:
        """Write what is pending; what could not be written stays so. Raises ``OSError``."""
        if self._plain and os.fstat(self._fd).st_nlink == 0:
            self._renew()
        while self._pending:
            with memoryview(self._pending) as pending:
                count = os.write(self._fd, pending[:_MOST_AT_ONCE])
            self._size += count
            del self._pending[:count]
        if self._sink.fsync and self._plain:
            os.fsync(self._fd)
        self._tell_end()

    def _tell_end(self) -> None:
        """Have the head say where the log ends."""
        if self._head is not None:
            os.pwrite(self._head, self._chain.head(), 0)

    def _renew(self) -> None:
        """Begin a new file in the place of one that was deleted. Raises ``OSError``."""
        assert self._sink.path is not None
        fd = os.open(self._sink.path, _FLAGS | os.O_NONBLOCK, 0o600)  # a pipe without a reader would keep us
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
            os.close(fd)
            raise PermissionError(errno.EPERM, "another file is in the place of the log")
        os.close(self._fd)
        self._fd, self._size, self._head_state, self.deleted = fd, facts.st_size, "", True

    def rotate(self) -> bool:
        """Begin a new file; whether it has to be told of. Raises ``OSError``, and then goes on with the one that there is."""
        path = self._sink.path
        assert path is not None
        old = f"{path}.{self.end.seq:012d}"
        Path(path).rename(old)
        try:
            fd = os.open(path, _FLAGS | os.O_EXCL, 0o600)
        except OSError:
            Path(old).rename(path)
            raise
        os.close(self._fd)
        self._fd, self._size, self._head_state = fd, 0, ""
        for gone in rotated(path)[: -self._sink.keep] if self._sink.keep else ():
            gone.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._fd)
        if self._head is not None:
            os.close(self._head)


@contextlib.contextmanager
def explained(path: str | None) -> Iterator[None]:
    """What goes wrong in the block keeps us from starting."""
    try:
        yield
    except OSError as error:
        text = f"audit.logFile: {path or 'standard output'} cannot be opened: {error.strerror}"
        raise AuditUnavailable(text) from error


def rotated(path: str) -> list[Path]:
    """The old files of a log, the oldest first."""
    base = Path(path)
    named = (each for each in base.parent.iterdir() if each.stem == base.name)
    return sorted(each for each in named if each.suffix[1:].isdigit())


def _tail(path: Path) -> tuple[Place | None, bytes]:
    """The last record of a file, and what stands behind the last end of a line."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            *lines, torn = file.read().split(b"\n")
    except FileNotFoundError:
        return None, b""
    return next((place for line in reversed(lines) if (place := place_of(line)) is not None), None), torn
