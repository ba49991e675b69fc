"""What a configuration holds and the next one may hold on to: a backend with its links, a verifier with what it remembers.

The rule: what several configurations hold is one thing, known by a fingerprint of all that it was made from; it ends when nobody
holds it any more, and never before.
"""

import asyncio
import functools
import importlib
import itertools
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from msgspec import Raw

from vmcp.aggregator.shelf import Shelf
from vmcp.config.audit import AuditSpec
from vmcp.config.cache import CacheSpec
from vmcp.config.model import BackendSpec, Config
from vmcp.middleware.audit import Auditor
from vmcp.protocol.questions import Question
from vmcp.routing.catalog import Catalog
from vmcp.server.entrance import Proofs
from vmcp.server.fingerprint import Prints
from vmcp.server.recording import auditor, opened
from vmcp.state.auditlog import AuditLog
from vmcp.state.cache import Memory
from vmcp.state.crew import Crew
from vmcp.tasks import Nest
from vmcp.upstream.balancer import Placed
from vmcp.upstream.bulkhead import Asked, behind
from vmcp.upstream.links import Key
from vmcp.upstream.owner import Owner

T = TypeVar("T")

LAST_RECORDS = 2.0
"""Seconds for the last records of an audit log to be written."""


class Stock(Generic[T]):
    """Things by their fingerprints. Mutable; used on the loop only."""

    def __init__(self) -> None:
        self._things: dict[Hashable, T] = {}
        self._holders: dict[Hashable, int] = {}

    def all(self) -> list[T]:
        """Whatever somebody holds."""
        return list(self._things.values())

    def take(self, key: Hashable, make: Callable[[], T]) -> T:
        """Hold the thing of this fingerprint, made if there is none. Raises what ``make`` raises, and nothing is held then."""
        if key not in self._things:
            self._things[key] = make()
        self._holders[key] = self._holders.get(key, 0) + 1
        return self._things[key]

    def give(self, key: Hashable) -> T | None:
        """Hold it no more. The thing itself if nobody else does: then it is the caller's to end."""
        self._holders[key] -= 1
        if self._holders[key]:
            return None
        del self._holders[key]
        return self._things.pop(key)


class Hears(Protocol):
    """Who is told what happens to any backend."""

    def on_catalog(self, held: "Held") -> None:
        """It was listed, and offers something else than before."""

    def on_settled(self, held: "Held") -> None:
        """How it is has changed."""

    def on_heard(self, backend: str, method: str, params: Raw, source: Key | None) -> None:
        """It said something outside of any request; see ``Owner``."""

    async def ask(self, session_id: str, question: Question) -> Raw:
        """It asks the client of a session something. Raises ``McpError``."""


class Held:
    """A backend while somebody holds it. Mutable. It is the backend's ``Owner``, and remembers what it offers.

    ``asked`` is how calls reach it; ``number`` no other has or had.
    ``over``: no configuration that is current holds it, so nobody listens to it any more.
    """

    def __init__(self, hears: Hears, nest: Nest, number: int, make: Callable[["Held"], Placed]) -> None:
        self.number = number
        self.catalog: Catalog | None = None
        self.over = False
        self._hears = hears
        self._nest = nest
        self._task: asyncio.Task[None] | None = None
        self.backend = make(self)
        self.asked: Asked = behind(self.backend)

    @property
    def waited_for(self) -> bool:
        """Whether it has neither answered nor failed yet."""
        state = self.backend.status.state
        return state == "starting" or (state == "up" and self.catalog is None)

    def start(self) -> None:
        """Let it run. Harmless when it does."""
        if self._task is None:
            self._task = self._nest.start(self.backend.run(), self.backend.spec.name)

    async def end(self) -> None:
        """Close it, with everything that belongs to it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # --- what the backend tells

    def catalogued(self, catalog: Catalog) -> None:
        """See ``Owner``."""
        self.catalog = catalog
        self._hears.on_catalog(self)

    def settled(self) -> None:
        """See ``Owner``."""
        self._hears.on_settled(self)

    def heard(self, backend: str, method: str, params: Raw, source: Key | None = None) -> None:
        """See ``Owner``."""
        if not self.over:
            self._hears.on_heard(backend, method, params, source)

    async def inquire(self, session_id: str, question: Question) -> Raw:
        """See ``Owner``."""
        return await self._hears.ask(session_id, question)


class Holdings:
    """What the configurations of a house hold together. Mutable. ``make`` makes a backend for its owner.

    What a configuration takes, it gives back when its stack closes; nothing runs before ``start``.
    """

    def __init__(
        self,
        hears: Hears,
        nest: Nest,
        environ: Mapping[str, str],
        make: Callable[[BackendSpec, Owner], Placed],
        crew: Crew | None = None,
    ) -> None:
        self._hears = hears
        self._nest = nest
        self._environ = environ
        self._make = make
        self._crew = crew
        self._running = False
        self._numbers = itertools.count(1)
        self._backends: Stock[Held] = Stock()
        self._shelves: Stock[Shelf] = Stock()
        self._proofs: Stock[Proofs] = Stock()
        self._logs: Stock[AuditLog] = Stock()
        self._auditors: Stock[Auditor] = Stock()

    def start(self) -> None:
        """Let everything run that is there."""
        self._running = True
        for log in self._logs.all():
            log.start()
        for held in self._backends.all():
            held.start()

    def held(self) -> list[Held]:
        """All backends, also those that only an old configuration holds."""
        return self._backends.all()

    def backends(self, config: Config, prints: Prints, stack: AsyncExitStack) -> Mapping[str, Held]:
        """Those of a configuration, by name; the new ones have not begun."""
        held: dict[str, Held] = {}
        keys: list[Hashable] = []
        stack.push_async_callback(self._give_all, keys)
        for spec in config.backends:
            key = spec.name, prints.backends[spec.name]
            held[spec.name] = self._backends.take(key, functools.partial(self._held, spec))
            keys.append(key)
        return MappingProxyType(held)

    def _held(self, spec: BackendSpec) -> Held:
        return Held(self._hears, self._nest, next(self._numbers), functools.partial(self._make, spec))

    async def _give_all(self, keys: Sequence[Hashable]) -> None:
        given = [self._backends.give(key) for key in keys]
        async with asyncio.TaskGroup() as group:
            for held in given:
                if held is not None:
                    group.create_task(held.end())

    def shelves(self) -> list[Shelf]:
        """Wherever results are kept."""
        return self._shelves.all()

    def shelf(self, config: Config, stack: AsyncExitStack) -> Shelf | None:
        """Where the results of a configuration are kept; they stay as long as its size and place do. Raises ``NoRoom``."""
        spec = config.cache
        if spec is None:
            return None
        key = spec.max_entries, spec.max_bytes, spec.disk
        shelf = self._shelves.take(key, lambda: self._shelved(spec))
        stack.callback(self._give_shelf, key)
        return shelf

    def _shelved(self, spec: CacheSpec) -> Shelf:
        disk = None
        if spec.disk is not None:  # most have none, and then need no SQLite
            kept = importlib.import_module("vmcp.state.disk")
            most = spec.disk.max_bytes // (1 if self._crew is None else len(self._crew.common))
            disk = kept.Disk(spec.disk.path, most, time.monotonic)
        return Shelf(Memory(spec.max_entries, spec.max_bytes, time.monotonic), disk, self._nest, time.monotonic)

    def _give_shelf(self, key: Hashable) -> None:
        given = self._shelves.give(key)
        if given is not None:
            given.close()

    def proofs(self, config: Config, prints: Prints, stack: AsyncExitStack) -> Proofs:
        """What a configuration accepts as a proof of who somebody is. Raises ``NoEntrance``."""
        proofs = self._proofs.take(
            prints.incoming, lambda: Proofs(config.incoming, self._nest, self._environ, self._crew)
        )
        stack.push_async_callback(self._give_proofs, prints.incoming)
        return proofs

    async def _give_proofs(self, key: str) -> None:
        given = self._proofs.give(key)
        if given is not None:
            await given.close()

    def audit(self, config: Config, prints: Prints, stack: AsyncExitStack) -> Auditor | None:
        """Who records what happens; a file has one log, whoever writes to it. Raises ``AuditUnavailable``."""
        spec = config.audit
        if spec is None:
            return None
        log = self._logs.take(spec.file, lambda: self._opened(config, spec))
        stack.push_async_callback(self._give_log, spec.file)
        key = spec.file, prints.audit
        made = self._auditors.take(key, lambda: auditor(spec, log, self._environ, self._crew))
        stack.callback(self._auditors.give, key)
        return made

    def _opened(self, config: Config, spec: AuditSpec) -> AuditLog:
        made = opened(config, spec, self._environ, self._crew)
        if self._running:
            made.start()
        return made

    async def _give_log(self, file: str | None) -> None:
        given = self._logs.give(file)
        if given is not None:
            await asyncio.to_thread(given.close, LAST_RECORDS)
