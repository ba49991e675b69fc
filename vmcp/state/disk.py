"""Room on disk for results that are large or kept long: SQLite, in a file that has no name any more once it is open.

The rule: the disk is room and not memory. What lies there is sealed with a key of this process, ends with it (a SIGKILL leaves
nothing behind either), and a disk that fails costs hits and nothing else.
"""

import contextlib
import logging
import os
import sqlite3
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from vmcp.errors import CannotStart
from vmcp.state.aead import Cipher
from vmcp.state.cache import Kept

log = logging.getLogger("vmcp.state")

NONCE: Final = 12
_BROKEN = (sqlite3.Error, OSError)


class NoRoom(CannotStart):
    """The directory cannot be used."""

    code = 73


class Disk:
    """Mutable. Every method but ``holds`` blocks, so they are for threads; a lock lets one in at a time."""

    def __init__(self, directory: str, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._lock = threading.Lock()
        self._index: OrderedDict[bytes, tuple[int, float, str, str]] = OrderedDict()
        self._cipher = Cipher(os.urandom(32))
        self._open: sqlite3.Connection | None = _opened(directory)
        self.size = 0

    def __len__(self) -> int:
        return len(self._index)

    def holds(self, key: bytes) -> bool:
        """Whether it is worth a thread to look for ``key``."""
        return key in self._index

    def get(self, key: bytes) -> Kept | None:
        """What is kept under ``key`` and still good."""
        with self._lock, self._careful():
            found = self._index.get(key)
            if found is None or self._open is None:
                return None
            if found[1] <= self._now():
                self._remove(key)
                return None
            self._index.move_to_end(key)
            row = self._open.execute("SELECT body FROM kept WHERE key = ?", (key,)).fetchone()
            return self._unsealed(key, row[0]) if row is not None else None
        return None

    def put(self, key: bytes, kept: Kept) -> None:
        """Keep it, in place of what was used longest ago."""
        body = self._sealed(key, kept)
        with self._lock, self._careful():
            if self._open is None or len(body) > self._most:
                return
            self._remove(key)
            while self.size + len(body) > self._most:
                self._remove(next(iter(self._index)))
            self._open.execute("INSERT INTO kept VALUES (?, ?)", (key, body))
            self._index[key] = (len(body), kept.expires, kept.backend, kept.name)
            self.size += len(body)

    def forget(self, matches: Callable[[str, str], bool]) -> int:
        """Remove all whose backend and name match; how many that were."""
        with self._lock, self._careful():
            found = [key for key, (_, _, backend, name) in self._index.items() if matches(backend, name)]
            for key in found:
                self._remove(key)
            return len(found)
        return 0

    def close(self) -> None:
        """Give the room back."""
        with self._lock:
            opened, self._open = self._open, None
            self._index.clear()
            if opened is not None:
                opened.close()

    def _remove(self, key: bytes) -> None:
        found = self._index.pop(key, None)
        if found is not None and self._open is not None:
            self.size -= found[0]
            self._open.execute("DELETE FROM kept WHERE key = ?", (key,))

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN as error:
            opened, self._open = self._open, None
            self._index.clear()
            self.size = 0
            if opened is not None:
                log.warning("cache on disk given up", extra={"why": str(error)})
                opened.close()

    def _sealed(self, key: bytes, kept: Kept) -> bytes:
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, msgspec.msgpack.encode(kept), key)

    def _unsealed(self, key: bytes, body: bytes) -> Kept | None:
        text = self._cipher.decrypt(body[:NONCE], body[NONCE:], key)
        try:
            return msgspec.msgpack.decode(text, type=Kept) if text is not None else None
        except msgspec.MsgspecError:
            return None


def _opened(directory: str) -> sqlite3.Connection:
    try:
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".sqlite", "vmcp-cache-", directory)
        os.close(handle)
        opened = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        for line in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "PRAGMA temp_store = MEMORY"):
            opened.execute(line)
        opened.execute("CREATE TABLE kept (key BLOB PRIMARY KEY, body BLOB NOT NULL)")
        Path(name).unlink()
    except _BROKEN as error:
        raise NoRoom(f"cache.disk.path cannot be used: {getattr(error, 'strerror', None) or error}") from None
    return opened
