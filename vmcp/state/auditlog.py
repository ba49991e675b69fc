"""The audit log as a file: one thread that writes, behind a queue that has a bound.

The rule: nobody who answers requests ever waits for the disk; what the queue takes is written in order, or kept until it can
be, and what it cannot take is counted, and told by a gap record as soon as anything can be written again.

Beside the log lies its head (``FILE.head``), which says where the log ends and is locked by who writes it. Old files are
``FILE.<number of its last record>``. Standard output has neither.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import queue
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from vmcp.errors import CannotStart
from vmcp.state.chain import HEAD_BYTES, START, Chain, Place, place_of, read_head

log = logging.getLogger("vmcp.audit")

MOST_RECORDS: Final = 10_000
MOST_BYTES: Final = 16 << 20
RESERVE: Final = 0.9
"""From here on the queue only takes what is vital: refusals, denials and failures go before successes."""
_CROWD: Final = MOST_RECORDS // 2
_CROWD_BYTES: Final = MOST_BYTES // 2
LINGER: Final = 0.005
"""Seconds that a record waits for others, which are written with it."""
RETRY: Final = 0.25
CHECKPOINT_RECORDS: Final = 1000
CHECKPOINT_SECONDS: Final = 10.0
BATCH: Final = 512
_TAIL: Final = 4 << 20
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


def now() -> str:
    """The time as records have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class AuditLog:
    """``put`` is called by one thread, the loop's. Everything with the file is done by the log's own thread.

    ``facts`` go into the record that each start of a file begins with. Raises ``AuditUnavailable`` when it cannot be opened.
    """

    def __init__(self, sink: Sink, facts: Mapping[str, Any]) -> None:
        self.failing: str | None = None
        """Why nothing can be written at the moment."""
        self.crowded = False
        """Whether the queue was rather full when the last record came; then it is worth to look at ``load``."""
        self.dropped = 0
        self._file = _File(sink)
        self._facts = facts
        self._waiting: deque[bytes] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False  # whether the thread has to be woken
        self._put = self._put_bytes = 0  # written by the loop only
        self._taken = self._taken_bytes = 0  # written by the thread only
        self._reported = 0
        self._since = 0
        self._checked = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vmcp audit", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def load(self) -> float:
        """How full the queue is, 0 to 1."""
        return max((self._put - self._taken) / MOST_RECORDS, (self._put_bytes - self._taken_bytes) / MOST_BYTES)

    def put(self, body: bytes, *, vital: bool) -> None:
        """Have a record written. One for which there is no room is counted and dropped."""
        self.crowded = self._put - self._taken >= _CROWD or self._put_bytes - self._taken_bytes >= _CROWD_BYTES
        if self.crowded and self.load >= (1.0 if vital else RESERVE):
            if self.dropped == self._reported:
                log.error("audit records are dropped", extra={"why": self.failing or "they come too fast"})
            self.dropped += 1
            return
        self._put += 1
        self._put_bytes += len(body)
        self._waiting.append(body)
        if self._asleep:
            self._asleep = False
            self._bell.put(None)

    def close(self, patience: float) -> None:
        """Write what there is and end, within so many seconds."""
        self._closing.set()
        if self._thread.is_alive():
            self._bell.put(None)
            self._thread.join(patience)
        if self._thread.is_alive() or self._put > self._taken:
            log.error("audit records are lost", extra={"records": self._put - self._taken, "why": self.failing})
        if not self._thread.is_alive():
            self._file.close()

    # --- the thread

    def _run(self) -> None:
        try:
            self._tell("audit_start", {**self._facts, **self._file.found()})
            while (batch := self._next()) is not None:
                self._write(batch)
            self._tell("audit_stop", {})
        except _GaveUp:
            pass
        finally:
            if not self._closing.is_set():
                self.failing = "the thread that writes it has failed"

    def _next(self) -> list[bytes] | None:
        """What is to be written next; None at the end."""
        waiting, closing = self._waiting, self._closing.is_set
        if not waiting:
            self._asleep = True
            # (What has come before that was said rings no bell.)
            if not waiting and not closing():
                with contextlib.suppress(queue.Empty):
                    self._bell.get(timeout=CHECKPOINT_SECONDS)
            self._asleep = False
        if not waiting:
            return None if closing() else []
        if not closing():
            time.sleep(LINGER)
        # Nobody else takes, so what is there now will be.
        return [waiting.popleft() for _ in range(min(len(waiting), BATCH))]

    def _write(self, batch: list[bytes]) -> None:
        dropped = self.dropped
        if dropped > self._reported:
            self._tell("audit_gap", {"count": dropped - self._reported, "reason": self._why})
            self._reported = dropped
        if batch:
            self._store(batch)
            if self._file.deleted:
                self._renewed()
        self._taken += len(batch)
        self._taken_bytes += sum(map(len, batch))
        self._since += len(batch)
        late = time.monotonic() - self._checked >= CHECKPOINT_SECONDS
        if self._since >= CHECKPOINT_RECORDS or (self._since and late):
            self._checkpoint()
        if self._file.full:
            self._rotate()

    _why = "records came faster than they could be written"

    def _store(self, bodies: list[bytes]) -> None:
        """Write, however long it takes. Raises ``_GaveUp`` when the log is closed before it can be written."""
        self._file.add(bodies)
        while True:
            try:
                self._file.flush()
            except OSError as error:
                self._fail(error)
                if self._closing.wait(RETRY):
                    self._last_try()
                    return
            else:
                if self.failing is not None:
                    log.warning("the audit log can be written again", extra={"dropped": self.dropped - self._reported})
                    self.failing = None
                return

    def _last_try(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise _GaveUp from error

    def _fail(self, error: OSError) -> None:
        why = error.strerror or type(error).__name__
        if self.failing is None:
            log.error("the audit log cannot be written", extra={"why": why})
        self.failing = why
        self._why = f"the log could not be written: {why}"

    def _tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        body = {"msg": "audit_event", "type": kind, "logged_at": now(), **facts}
        self._store([msgspec.json.encode(body)])

    def _checkpoint(self) -> None:
        """Say where the log is: in the log itself, and in the process's own, which usually goes somewhere else."""
        self._tell("audit_checkpoint", {"count": self._since})
        end = self._file.end
        log.info("audit checkpoint", extra={"seq": end.seq, "hash": end.hash.decode()})
        self._since, self._checked = 0, time.monotonic()

    def _renewed(self) -> None:
        """Say in the new file that there was another one before."""
        self._file.deleted = False
        log.error("the audit log was deleted while it was written")
        self._tell("audit_start", {**self._facts, **self._file.found(), "file": "deleted"})

    def _rotate(self) -> None:
        try:
            self._file.rotate()
        except OSError as error:
            log.error("the audit log cannot be rotated", extra={"why": error.strerror})
            return
        self._tell("audit_start", {**self._facts, **self._file.found()})


class _GaveUp(Exception):
    """The log is closed while it cannot be written."""


class _File:
    """The file, its head and its chain. Used by one thread at a time."""

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
        with _explained(sink.path):
            self._fd = os.dup(1) if sink.path is None else self._open(sink.path)
        place = START
        if self._plain and sink.path is not None:
            with _explained(f"{sink.path}.head"):
                self._head = self._open_head(sink.path)
                place = self._resume(sink.path)
        self._chain = Chain(place, sink.key)

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
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            os.close(self._fd)
            raise AuditUnavailable(f"audit.logFile: another process writes {path}; give each its own file") from None
        return fd

    def _resume(self, path: str) -> Place:
        """The place to go on from: the end of the file, or of the head where that knows of more. Then the hole stays visible."""
        assert self._head is not None
        head = read_head(os.pread(self._head, HEAD_BYTES, 0), self._sink.key)
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

    def add(self, bodies: list[bytes]) -> None:
        """Hang records on the chain; they are written by ``flush``."""
        if self._torn:
            self._pending += b"\n"
            self._torn = b""
        self._pending += self._chain.add(*bodies)

    def flush(self) -> None:
        """Write what is pending; what could not be written stays so. Raises ``OSError``."""
        if self._plain and os.fstat(self._fd).st_nlink == 0:
            self._renew()
        while self._pending:
            count = os.write(self._fd, bytes(self._pending[: 1 << 20]))
            self._size += count
            del self._pending[:count]
        if self._sink.fsync and self._plain:
            os.fsync(self._fd)
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

    def rotate(self) -> None:
        """Begin a new file. Raises ``OSError``, and then goes on with the one that there is."""
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

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._fd)
        if self._head is not None:
            os.close(self._head)


@contextlib.contextmanager
def _explained(path: str | None) -> Iterator[None]:
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
