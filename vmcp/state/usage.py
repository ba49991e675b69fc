"""Who used what, by the hour and then by the day, in SQLite: numbers that outlive the process.

The rule: calls never wait for it. One thread of its own does everything with the file, and whatever goes wrong there is told once
and tried again, while what was counted meanwhile is kept, within a bound; what is kept on disk has one too. SQLite is loaded when
there is something to be kept: it is a megabyte that an idle gateway has not.
"""

import asyncio
import contextlib
import functools
import importlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from vmcp.errors import VmcpError
from vmcp.state.histogram import BOUNDS, Calls, Counts

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger("vmcp.usage")

HOUR: Final = 3600
DAY: Final = 86400
RECENT: Final = 2 * DAY
"""Seconds after which hours become days."""
EACH: Final = 30.0
"""Seconds between two writes."""
MOST: Final = 2048
"""Combinations in an hour, or not written yet; then people are told as "other"."""
PATIENCE: Final = 5.0
_BUSY: Final = 2.0
"""Seconds that another process may have the file."""
_WAITING: Final = 64
_FORM: Final = 1
OTHER: Final = "other"
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS usage (
    span INTEGER, start INTEGER, method TEXT, name TEXT, backend TEXT, grp TEXT, who TEXT,
    count INTEGER, errors INTEGER, seconds REAL, bytes INTEGER, times TEXT,
    PRIMARY KEY (span, start, method, name, backend, grp, who)) WITHOUT ROWID
"""
_PUT: Final = "INSERT OR REPLACE INTO usage VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_GET: Final = """
SELECT * FROM usage
WHERE span = ? AND start = ? AND method = ? AND name = ? AND backend = ? AND grp = ? AND who = ?
"""
_DROP: Final = """
DELETE FROM usage WHERE (span, start, method, name, backend, grp, who) IN
(SELECT span, start, method, name, backend, grp, who FROM usage ORDER BY start, count LIMIT ?)
"""
"""So many of the oldest, and of those of one time the least used: many names in an hour do not drive out everything."""
Thing = tuple[str, str, str, str]
"""Method, name, backend, group; empty where there is none."""
Key = tuple[int, int, str, str, str, str, str]
"""Span, start, method, name, backend, group, who."""
_times = msgspec.json.Decoder(Counts).decode
_Number = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Row = tuple[_Number, _Number, str, str, str, str, str, _Number, _Number, float, _Number, str]


@functools.cache
def _sqlite() -> Any:
    return importlib.import_module("sqlite3")


def _wrong() -> tuple[type[Exception], ...]:
    """What may be wrong with the file, or what is in it."""
    return _sqlite().Error, OSError, OverflowError


class NoUsage(VmcpError):
    """It cannot be said now."""


class Usage:
    """Mutable; used on the loop only, but for what its thread does. ``path`` None: it is kept in memory."""

    def __init__(
        self, path: Path | None, days: int, rows: int, *, people: bool = True, now: Callable[[], float] = time
    ) -> None:
        self.path = path
        self.days = days
        self.failing: str | None = None
        """Why it cannot be written at the moment."""
        self._rows = rows
        self._people = people
        self._now = now
        self._counted: dict[Key, Calls] = {}
        self._unwritten: dict[Key, Calls] = {}  # of the thread
        self._known: set[Key] = set()
        self._hour = 0
        self._rolled = 0.0
        self._file: sqlite3.Connection | None = None
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="vmcp usage", daemon=True)

    def start(self) -> None:
        """Let its thread work."""
        self._thread.start()

    def add(self, thing: Thing, who: str, calls: Calls) -> None:
        """Count calls, which all ended in the same second."""
        hour = int(calls.when // HOUR) * HOUR
        if hour != self._hour:
            self._hour, self._known = hour, set()
        key: Key = (HOUR, hour, *thing, who if self._people else "")
        if key not in self._known and len(self._known) >= MOST:
            key = (HOUR, hour, *thing, OTHER)
        self._known.add(key)
        found = self._counted.get(key)
        if found is None:
            if len(self._counted) >= 2 * MOST:
                return  # it cannot be written, and has not been for hours
            found = self._counted[key] = Calls()
        found.merge(calls)

    async def run(self) -> None:
        """Have what was counted written every now and then, until cancelled."""
        while True:
            await asyncio.sleep(EACH)
            self.flush()

    def flush(self) -> None:
        """Have what was counted written."""
        counted, self._counted = self._counted, {}
        if not self._asked(lambda: self._written(counted)):
            self._counted = counted

    async def read(self, seconds: float) -> list[tuple[Key, Calls]]:
        """Everything of the last ``seconds``, what could not be written too. Raises ``NoUsage``."""
        since, told = self._now() - seconds, Future[list[tuple[Key, Calls]]]()
        self.flush()
        if not self._asked(lambda: self._read(since, told)):
            raise NoUsage("too many ask for usage statistics at once")
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.wrap_future(told)
        except TimeoutError:
            raise NoUsage("the file of the usage statistics does not answer") from None

    def close(self, patience: float) -> None:
        """Write what there is, and end, within so many seconds."""
        if self._thread.is_alive():
            self.flush()
            with contextlib.suppress(queue.Full):
                self._jobs.put(None, timeout=patience / 2)
            self._thread.join(patience / 2)

    def _asked(self, job: Callable[[], None]) -> bool:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    # --- the thread

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
        if self._file is not None:
            self._file.close()

    def _written(self, counted: dict[Key, Calls]) -> None:
        unwritten = self._unwritten
        for key, calls in counted.items():
            if key in unwritten or len(unwritten) < 2 * MOST:
                unwritten.setdefault(key, Calls()).merge(calls)
        if not unwritten and self._file is None and self.path is None:
            return  # there was never anything
        try:
            with self._change() as file:
                for key, calls in unwritten.items():
                    _merged(file, key, calls)
            unwritten.clear()
            if self._now() - self._rolled >= HOUR:
                self._tidied()
                self._rolled = self._now()
        except _wrong() as error:
            self._failed(error)
        else:
            if self.failing is not None:
                log.info("usage statistics are kept again", extra={"file": str(self.path)})
            self.failing = None

    def _read(self, since: float, told: "Future[list[tuple[Key, Calls]]]") -> None:
        if not told.set_running_or_notify_cancel():
            return
        found: dict[Key, Calls] = {}
        try:
            ask = "SELECT * FROM usage WHERE start + span > ? ORDER BY start"
            rows = self._opened().execute(ask, (since,)).fetchall()
            found = {row[:7]: calls for row in rows if (calls := _calls(row)) is not None}
        except _wrong() as error:
            self._failed(error)
        for key, calls in self._unwritten.items():
            found.setdefault(key, Calls()).merge(calls)
        told.set_result(list(found.items()))

    def _failed(self, error: Exception) -> None:
        """It is told once; what was opened is opened anew the next time."""
        if self.failing is None:
            log.warning("usage statistics cannot be kept", extra={"file": str(self.path), "why": str(error)})
        self.failing = str(error)
        if self._file is not None and self.path is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> "sqlite3.Connection":
        if self._file is None:
            if self.path is not None and not self.path.exists():
                self.path.parent.mkdir(0o700, parents=True, exist_ok=True)
                self.path.touch(0o600)
            self._file = file = _sqlite().connect(self.path or ":memory:", timeout=_BUSY, isolation_level=None)
            (form,) = file.execute("PRAGMA user_version").fetchone()
            if form == 0:
                file.execute(_TABLE)
                file.execute(f"PRAGMA user_version = {_FORM}")
            elif form != _FORM:
                raise _sqlite().DatabaseError("it was written by another release")
        return self._file

    @contextlib.contextmanager
    def _change(self) -> "Iterator[sqlite3.Connection]":
        """All of the block is written, or nothing."""
        file = self._opened()
        file.execute("BEGIN IMMEDIATE")
        try:
            yield file
            file.execute("COMMIT")
        finally:
            if file.in_transaction:
                file.execute("ROLLBACK")

    def _tidied(self) -> None:
        """Hours become days, and what is too old, or too much, goes."""
        now = self._now()
        with self._change() as file:
            old = int((now - RECENT) // DAY) * DAY
            for row in file.execute("SELECT * FROM usage WHERE span = ? AND start < ?", (HOUR, old)).fetchall():
                if (calls := _calls(row)) is not None:
                    _merged(file, (DAY, row[1] // DAY * DAY, *row[2:7]), calls)
            file.execute("DELETE FROM usage WHERE span = ? AND start < ?", (HOUR, old))
            file.execute("DELETE FROM usage WHERE start < ?", (now - self.days * DAY,))
            (count,) = file.execute("SELECT COUNT(*) FROM usage").fetchone()
            if count > self._rows:
                file.execute(_DROP, (count - self._rows,))


def _merged(file: "sqlite3.Connection", key: Key, calls: Calls) -> None:
    before = file.execute(_GET, key).fetchone()
    whole = (_calls(before) if before is not None else None) or Calls()
    whole.merge(calls)
    times = msgspec.json.encode(whole.times).decode()
    file.execute(_PUT, (*key, whole.count, whole.errors, whole.seconds, whole.bytes, times))


def _calls(row: tuple[Any, ...]) -> Calls | None:
    """As they were kept; None for a row that we cannot have written, and which therefore does not count."""
    try:
        count, errors, seconds, size, times = msgspec.convert(row, _Row)[7:]
        found = _times(times)
    except msgspec.MsgspecError:
        return None
    known = all(0 <= place <= len(BOUNDS) and 0 <= many <= 1 << 53 for place, many in found.items())
    return Calls(count, errors, seconds, size, found) if known else None
