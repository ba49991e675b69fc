"""The audit log as a file: one thread that writes, behind a queue that has a bound.

The rule: nobody who answers requests ever waits for the disk; what the queue takes is written in order, or kept until it can
be, and what it cannot take is counted, and told by a gap record as soon as anything can be written again.
"""

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from vmcp.state.crew import Crew
from vmcp.state.logfile import AuditUnavailable, LogFile, Sink, rotated
from vmcp.state.sharedlog import SharedFile

__all__ = ["AuditUnavailable", "Sink", "rotated"]  # besides what is defined here

log = logging.getLogger("vmcp.audit")

MOST_RECORDS: Final = 10_000
MOST_BYTES: Final = 16 << 20
RESERVE: Final = 0.9
"""From here on the queue only takes what is vital: refusals, denials and failures go before successes."""
_CROWD: Final = MOST_RECORDS // 2
_CROWD_BYTES: Final = MOST_BYTES // 2
LINGER: Final = 0.005
"""Seconds that a record waits for others, which are written with it."""
LONGER: Final = 0.05
"""The same while ``MANY`` are written at once: then to be woken costs more than to write."""
MANY: Final = 16
RETRY: Final = 0.25
CHECKPOINT_RECORDS: Final = 1000
CHECKPOINT_SECONDS: Final = 10.0
BATCH: Final = 512


class Draft(Protocol):
    """A record that the thread makes into text. It is small: of drafts only the number is bounded."""

    def text(self) -> bytes:
        """The record."""


def now() -> str:
    """The time as records have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class AuditLog:
    """``put`` is called by one thread, the loop's. Everything with the file is done by the log's own thread.

    ``facts`` go into the record that each start of a file begins with. ``crew``: the other workers write the same log. Raises
    ``AuditUnavailable`` when it cannot be opened.
    """

    def __init__(self, sink: Sink, facts: Mapping[str, Any], crew: Crew | None = None) -> None:
        self.failing: str | None = None
        """Why nothing can be written at the moment."""
        self.crowded = False
        """Whether the queue was rather full when the last record came; then it is worth to look at ``load``."""
        self.dropped = 0
        self._facts = facts
        self._whose = {} if crew is None else {"worker": crew.index}
        self._file = LogFile(sink) if crew is None else SharedFile(sink, crew, self._start_with)
        self._waiting: deque[bytes | Draft] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._asleep = False  # whether the thread has to be woken
        self._put = self._put_bytes = 0  # written by the loop only
        self._taken = self._taken_bytes = 0  # written by the thread only
        self._texted = 0  # bytes of the records at hand
        self._many = False
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

    def put(self, body: bytes | Draft, *, vital: bool) -> None:
        """Have a record written. One for which there is no room is counted and dropped."""
        self.crowded = self._put - self._taken >= _CROWD or self._put_bytes - self._taken_bytes >= _CROWD_BYTES
        if self.crowded and self.load >= (1.0 if vital else RESERVE):
            if self.dropped == self._reported:
                log.error("audit records are dropped", extra={"why": self.failing or "they come too fast"})
            self.dropped += 1
            return
        self._put += 1
        if type(body) is bytes:
            self._put_bytes += len(body)
        self._waiting.append(body)
        if self._asleep:
            self._asleep = False
            self._bell.put(None)

    def note(self, draft: Draft) -> None:
        """Have the record of a success written that is still to be made into text: ``put`` for nearly every call."""
        if self.crowded or self._put - self._taken >= _CROWD:
            self.put(draft, vital=False)
            return
        self._put += 1
        self._waiting.append(draft)
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
            while (count := self._next()) is not None:
                self._write(count)
            self._tell("audit_stop", {})
        except _GaveUp:
            pass
        finally:
            if not self._closing.is_set():
                self.failing = "the thread that writes it has failed"

    def _next(self) -> int | None:
        """How many are to be written next; None at the end."""
        waiting, closing = self._waiting, self._closing.is_set
        if not waiting:
            self._asleep = True
            # (What has come before that was said rings no bell.)
            if not waiting and not closing():
                with contextlib.suppress(queue.Empty):
                    self._bell.get(timeout=CHECKPOINT_SECONDS)
            self._asleep = False
        if not waiting:
            return None if closing() else 0
        if not closing() and len(waiting) < BATCH:
            time.sleep(LONGER if self._many else LINGER)
        # Nobody else takes, so what is there now will be.
        count = len(waiting)
        self._many = count >= MANY
        return min(count, BATCH)

    def _write(self, count: int) -> None:
        dropped = self.dropped
        if dropped > self._reported:
            self._tell("audit_gap", {"count": dropped - self._reported, "reason": self._why})
            self._reported = dropped
        if count:
            self._store(self._texts(count))
            if self._file.deleted:
                self._renewed()
        self._taken += count
        self._taken_bytes, self._texted = self._taken_bytes + self._texted, 0
        self._since += count
        late = time.monotonic() - self._checked >= CHECKPOINT_SECONDS
        if self._since >= CHECKPOINT_RECORDS or (self._since and late):
            self._checkpoint()
        if self._file.full:
            self._rotate()

    def _texts(self, count: int) -> Iterator[bytes]:
        """One after the other, so that nothing is kept of those that are done."""
        for _ in range(count):
            body = self._waiting.popleft()
            if isinstance(body, bytes):
                self._texted += len(body)
                yield body
            else:
                yield body.text()

    _why = "records came faster than they could be written"

    def _store(self, bodies: Iterable[bytes]) -> None:
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
        self._store([self._body(kind, facts)])

    def _body(self, kind: str, facts: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode({"msg": "audit_event", "type": kind, "logged_at": now(), **self._whose, **facts})

    def _start_with(self, found: Mapping[str, Any]) -> bytes:
        """The record that tells what was found in a log that others write too."""
        return self._body("audit_start", {**self._facts, **found})

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
            fresh = self._file.rotate()
        except OSError as error:
            log.error("the audit log cannot be rotated", extra={"why": error.strerror})
            return
        if fresh:
            self._tell("audit_start", {**self._facts, **self._file.found()})


class _GaveUp(Exception):
    """The log is closed while it cannot be written."""
