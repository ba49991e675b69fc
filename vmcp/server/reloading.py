"""When a configuration is read anew: on request, and when one of its files has changed.

The rule: a file counts as changed when its content is another and has stopped changing; so nobody acts on what an editor has
written half, or on a mere touch. What cannot be used changes nothing: it is said with its places, and the old one goes on.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Final

from vmcp.config.load import Loaded
from vmcp.config.model import Config
from vmcp.errors import ConfigError, Problem, VmcpError
from vmcp.server import locked
from vmcp.server.fingerprint import files
from vmcp.server.generation import Adopted
from vmcp.server.herald import Herald
from vmcp.server.runtime import Runtime
from vmcp.server.tether import Tether
from vmcp.tasks import Nest

log = logging.getLogger("vmcp.reload")

EACH: Final = 1.0
"""Seconds between two looks at the files."""
CALM: Final = 0.25
"""Seconds in which a file that has changed must not change again."""
MOST: Final = 8 << 20
KEPT: Final = 50
"""Reloads that are remembered."""
SHOWN: Final = 20
"""Problems that are logged one by one."""

Read = Callable[[], Sequence[tuple[str, str]]]
"""Name and text of every file of the configuration. Raises ``Unread``."""


class Unread(VmcpError):
    """A file of the configuration cannot be read; the text says which and why."""


class Source:
    """Where the configuration of a running house comes from. ``paths`` are its files, ``read`` gives them and what goes over
    them (the command line), ``on_adopted`` is told of each that has taken effect."""

    def __init__(self, paths: Sequence[str], read: Read, on_adopted: Callable[[Config], None] = lambda _: None) -> None:
        self.paths = tuple(paths)
        self.read = read
        self.on_adopted = on_adopted

    def load(self) -> Loaded:
        """The configuration as its files are now. Raises ``Unread`` and ``ConfigError``."""
        return locked.load(self.read(), os.environ)


class Reloads:
    """Reads the configuration of a runtime anew. Mutable.

    ``problems`` are why the last one was refused, ``applied`` is what took effect last, ``herald`` is told of each;
    ``history`` has how the last ones ended.
    """

    def __init__(self, runtime: Runtime, source: Source, nest: Nest) -> None:
        self.files = source.paths
        self.load = source.load
        self.problems: tuple[str, ...] = ()
        self.applied: Loaded | None = None
        self.herald: Herald | Tether | None = None
        self.changed: Callable[[str], None] = self.wanted
        """Is told when files have changed."""
        self.history: deque[Mapping[str, object]] = deque(maxlen=KEPT)
        self._runtime = runtime
        self._source = source
        self._nest = nest
        self._again = False
        self._busy: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    # --- on request

    def wanted(self, cause: str) -> None:
        """Reload soon; one that is wanted while another goes on follows it."""
        if self._busy is None:
            self._busy = self._nest.start(self._all(cause), "reload")
        else:
            self._again = True

    async def _all(self, cause: str) -> None:
        try:
            self._again = True
            while self._again:
                self._again = False
                await self.now(cause)
        finally:
            self._busy = None

    async def now(self, cause: str) -> str:
        """Reload; how it has ended: applied, unchanged or rejected. What was wrong is in the log."""
        began, result, before = perf_counter(), "failed", self._runtime.config.digest
        try:
            # Read and adopted in one go: what was read first must not be adopted last.
            async with self._turn:
                result = await self._heralded(cause, began)
        finally:
            counts = self._runtime.reloads
            counts[result] = counts.get(result, 0) + 1
            self._runtime.reloaded = result, time.time() if result == "applied" else self._runtime.reloaded[1]
            self._remember(cause, result, before, perf_counter() - began)
        return result

    def _remember(self, cause: str, result: str, before: str, seconds: float) -> None:
        now = self._runtime.config.digest
        facts = {"at": time.time(), "cause": cause, "result": result, "seconds": round(seconds, 3)}
        self.history.append({**facts, "before": before[:12], "now": now[:12], "problems": self.problems})

    async def _heralded(self, cause: str, began: float) -> str:
        if self.herald is None:
            return await self._reload(cause, began)
        self.herald.reloading()
        result = "failed"
        try:
            result = await self._reload(cause, began)
        finally:
            self.herald.reloaded(result)
        return result

    async def _reload(self, cause: str, began: float) -> str:
        before = self._runtime.config.digest
        self.problems = ()
        try:
            found = await asyncio.to_thread(self._source.load)
            done = await self._runtime.adopt(found.config)
        except ConfigError as error:
            _tell(error.problems)
            self.problems = tuple(_line(problem) for problem in error.problems[:SHOWN])
            return self._rejected(cause, f"{len(error.problems)} problems in the configuration")
        except VmcpError as error:
            self.problems = (str(error),)
            return self._rejected(cause, str(error))
        _tell(found.warnings)
        for path in done.restart:
            at = found.document.at_value(path)
            log.warning("takes effect after a restart only", extra={"key": found.document.label(path), "at": str(at)})
        if not done.changed:
            log.debug("configuration unchanged", extra={"cause": cause})
            return "unchanged"
        self.applied = found
        self._source.on_adopted(self._runtime.config)
        self._applied(cause, before, done, perf_counter() - began)
        return "applied"

    def _applied(self, cause: str, before: str, done: Adopted, seconds: float) -> None:
        now = self._runtime.config.digest
        facts = {"cause": cause, "seconds": round(seconds, 3), "before": before[:12], "now": now[:12]}
        log.info(
            "configuration reloaded",
            extra={**facts, "began": done.began, "ended": done.ended, **self._runtime.current.summary()},
        )
        self._runtime.recorded("success", {"cause": cause, "config_before": before, "config_now": now})

    def _rejected(self, cause: str, why: str) -> str:
        log.error("configuration rejected; the one before goes on", extra={"cause": cause, "why": why})
        self._runtime.recorded("failure", {"cause": cause, "config_now": self._runtime.config.digest})
        return "rejected"

    # --- when files change

    def _watched(self) -> tuple[str, ...]:
        return (*self._source.paths, *sorted(files(self._runtime.config)))

    async def watch(self) -> None:
        """Look at the files each second, until cancelled. (A disk that hangs keeps this waiting, and nothing else.)"""
        watched = self._watched()
        looks = await asyncio.to_thread(_looks, watched)
        content = await asyncio.to_thread(_contents, watched)
        while True:
            await asyncio.sleep(EACH)
            watched = self._watched()
            now = await asyncio.to_thread(_looks, watched)
            if now == looks:
                continue
            while now != looks:
                looks = now
                await asyncio.sleep(CALM)
                now = await asyncio.to_thread(_looks, watched)
            found = await asyncio.to_thread(_contents, watched)
            if found != content:
                content = found
                self.changed("file")


def _looks(paths: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """What shows that a file may be another. Links are followed: a mounted ConfigMap is a link to a folder that is exchanged."""
    return {path: _look(path) for path in paths}


def _look(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 - many at a time, and nothing else of them is wanted
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _contents(paths: Iterable[str]) -> dict[str, bytes]:
    return {path: _content(path) for path in paths}


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return hashlib.sha256(file.read(MOST)).digest()
    except (OSError, ValueError):
        return b""


def _line(problem: Problem) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{problem.position}: {problem.path}: {problem.message}{hint}"


def _tell(problems: Sequence[Problem]) -> None:
    for problem in problems[:SHOWN]:
        level = logging.ERROR if problem.severity == "error" else logging.WARNING
        facts = {"at": str(problem.position), "key": problem.path, "what": problem.message, "hint": problem.hint}
        log.log(level, "configuration problem", extra=facts)
