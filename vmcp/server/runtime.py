"""The house: what stays while configurations come and go, and the one that counts now; the composition root.

The rule: a new configuration is made whole beside the old one, and takes its place by one assignment; if anything of it fails,
nothing of it is left, and the old one has never noticed.
"""

import asyncio
import functools
import itertools
import logging
import os
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from msgspec import Raw

from vmcp.call import Identity, Origin
from vmcp.config.model import BackendSpec, Config
from vmcp.config.outgoing import PER_USER
from vmcp.config.restart import kept
from vmcp.config.tree import Path
from vmcp.errors import Code, McpError, VmcpError
from vmcp.protocol.questions import Question
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog
from vmcp.routing.table import RoutingTable
from vmcp.server.address import Addresses
from vmcp.server.app import App
from vmcp.server.audited import Audited
from vmcp.server.connect import Connect
from vmcp.server.duplex import Duplex, Opens
from vmcp.server.entrance import entrance, seal
from vmcp.server.exchange import Exchange
from vmcp.server.expiry import Guests
from vmcp.server.fingerprint import Prints, fingerprints
from vmcp.server.front import Front, Passage
from vmcp.server.generation import Adopted, Generation
from vmcp.server.handover import Relay
from vmcp.server.holdings import Held, Holdings
from vmcp.server.http import StreamableHttp
from vmcp.server.interior import Fixtures, furnished
from vmcp.server.load import Load
from vmcp.server.mates import Mates
from vmcp.server.memory import budget
from vmcp.server.pulse import Pulse
from vmcp.server.recent import Recent
from vmcp.server.sessions import Session, Sessions
from vmcp.server.sse import LegacySse, beside
from vmcp.server.telemetry import Page, Telemetry
from vmcp.server.websocket import WebSockets
from vmcp.state.crew import Crew
from vmcp.tasks import Nest
from vmcp.upstream.backend import Backend, Owner
from vmcp.upstream.balancer import Balanced, Placed
from vmcp.upstream.links import Key

log = logging.getLogger("vmcp.runtime")

SWEEP = 300.0
GOODBYE = 2.0
"""Seconds for subscriptions to end in order, when the house closes without having been asked to stop before."""
LINGER = 1.0
"""Seconds in which those who stand between the gate and the chain of an old configuration become its calls."""
LAST = 900.0
"""Seconds that an old configuration waits for its calls, each of which has a deadline of its own, before it is closed."""


class NotReady(VmcpError):
    """A configuration that cannot take over: something that it requires has not come up, or the house is closing."""


class Runtime:
    """Mutable: ``current`` is the configuration that counts. ``app`` is where requests come in, ``opens`` two-way streams."""

    def __init__(self, config: Config, environ: Mapping[str, str] = os.environ, crew: Crew | None = None) -> None:
        self.crew = crew
        self.mates = Mates(crew) if crew is not None else None
        self.relay = Relay(crew, config.server.limits.body_bytes) if crew is not None else None
        self.draining = False
        self.reloads: dict[str, int] = {}
        """How reloads have ended, and how often each way."""
        self.reloaded = "applied", time.time()
        """How the last one ended, and when the configuration last took effect."""
        self.failures: dict[str, int] = {}
        """Why the gate turned somebody away, and how often."""
        self._environ = environ
        self._limits = config.server.limits
        self.load = Load(
            self._limits, budget(self._limits.memory_bytes, workers=1 if crew is None else len(crew.common))
        )
        self._numbers = itertools.count(1)
        self._nest = Nest("house")
        self._turn = asyncio.Lock()
        self._coming: Generation | None = None
        self._leaving: set[Generation] = set()
        self._closing: set[Generation] = set()
        self._past: weakref.WeakSet[Generation] = weakref.WeakSet()
        self._holdings = Holdings(self, self._nest, environ, self._backend, crew)
        self._furnish(config)
        self._prints = fingerprints(config, environ)
        self._vouches: Callable[[Identity], bool] = lambda _: True
        self.current = self._generation(config, build(0, config, {}), self._prints, AsyncExitStack())
        self._place(self.current)
        self.hub.adopt(self.current.backends)

    def _furnish(self, config: Config) -> None:
        """The transports, and what else is the same whatever the configuration."""
        limits = self._limits
        self._sessions = Sessions(
            limits, asyncio.get_running_loop().time, self._on_session_end, self._on_told, self.crew
        )
        telemetry = Telemetry(config.telemetry, self._environ, self.crew)
        self.recent = Recent(self._in_flight, lambda: self.current.table.faces)
        self._fixtures = Fixtures(
            self._nest, self._counts, seal(config, self.crew), telemetry, self.recent.named, self.crew, self.mates
        )
        self.page = Page(self, telemetry.measures)
        self.hub = self._fixtures.hub
        self._pulse = Pulse(self._nest)
        self._guests = Guests(self._welcome)
        self._passage = Passage(self.load)
        self.opens: Opens = functools.partial(Duplex, self._passage, self._sessions, self.hub, limits)
        self._http = StreamableHttp(
            self._passage, self._sessions, limits, self._pulse, self.hub, self._guests, self.relay
        )
        self._sse = LegacySse(limits, self.opens, self._pulse, self._nest, self._guests, self.relay)
        self._sockets = WebSockets(self.opens, limits, self._nest, self._guests)
        self.app = Front()

    def _in_flight(self) -> int:
        return sum(each.uses.count for each in (self.current, *self._leaving))

    def _counts(self) -> Mapping[str, Any]:
        told = {f"vmcp_config_reloads_{result}_total": count for result, count in self.reloads.items()}
        return {"vmcp_connections_active": len(self._sessions), **self.load.numbers(), **told}

    # --- one configuration

    def _generation(self, config: Config, table: RoutingTable, prints: Prints, stack: AsyncExitStack) -> Generation:
        """A configuration whose backends have not begun. Raises ``NoEntrance``, ``AuditUnavailable``; ``stack`` undoes it."""
        told = self._holdings.audit(config, prints, stack)
        proofs = self._holdings.proofs(config, prints, stack)
        held = self._holdings.backends(config, prints, stack)
        made = Generation(config, held, table, self, self._nest)
        made.stack, made.proofs, made.auditor = stack, proofs, told
        made.shelf = self._holdings.shelf(config, stack)
        handler = furnished(made, self._fixtures)
        made.exchange = Exchange(handler, made, config.start_deadline, told, made.uses, self.recent)
        gate = entrance(config, proofs, _paths(config, table))
        gate.failures = self.failures
        app = App(config, made, self._http, gate, self._sse, self._sockets, Connect(made.backends.values(), self.relay))
        app.page = self.page if config.telemetry is not None and config.telemetry.scrape else None
        made.app = app if told is None else Audited(app, told, Addresses(config.server.trusted_proxies))
        return made

    def _backend(self, spec: BackendSpec, owner: Owner) -> Placed:
        return (Balanced if spec.endpoints else Backend)(spec, self._limits, owner, self._environ)

    # --- its life

    async def __aenter__(self) -> Self:
        self._holdings.start()
        self._nest.start(self._sweep(), "session sweep")
        self._nest.start(self._pulse.run(), "pulse")
        self._nest.start(self.current.patience(), "start deadline")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        await self.hub.silence(GOODBYE)
        await self._nest.close()
        for generation in (*self._leaving, *self._closing, self.current):
            await generation.close()
        await self._fixtures.telemetry.close()

    def drain(self) -> None:
        """The house is to close: no more traffic shall come, and what would never end by itself ends in order now."""
        self.draining = True
        self.hub.drain()
        self._sessions.drain()
        self.app.drain()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._sessions.sweep()

    # --- another configuration

    async def adopt(self, config: Config) -> Adopted:
        """Let ``config`` take the place of the current one, once its backends have answered or had their chance.

        Raises ``NoEntrance``, ``AuditUnavailable`` or ``NotReady``; then nothing has changed. One at a time.
        """
        async with self._turn:
            await self.current.settled.wait()
            config, restart = kept(self.current.config, config)
            prints = await asyncio.to_thread(fingerprints, config, self._environ)
            if prints.all == self._prints.all:
                return Adopted(restart=restart)
            table = await self.build(config, {})
            async with AsyncExitStack() as stack:
                fresh = self._coming = self._generation(config, table, prints, stack)
                try:
                    await self._warmed(fresh)
                finally:
                    self._coming = None
                fresh.stack = stack.pop_all()
            self._prints = prints
            return self._swap(fresh, restart)

    async def _warmed(self, fresh: Generation) -> None:
        for held in fresh.held.values():
            held.start()
        await fresh.warm()
        known = self.current.held
        missing = [name for name in fresh.waiting() if fresh.held[name] is not known.get(name)]
        if missing:
            raise NotReady(f"required backends have not come up: {', '.join(missing)}")
        if self.draining:
            raise NotReady("vmcp is stopping")

    def _swap(self, fresh: Generation, restart: tuple[Path, ...]) -> Adopted:
        """Nothing here waits: before and after it everybody sees one configuration, whole."""
        old, self.current = self.current, fresh
        old.over = True
        for name, held in old.held.items():
            held.over = fresh.held.get(name) is not held
        for held in fresh.held.values():
            held.over = False
        self._place(fresh)
        self.hub.adopt(fresh.backends, [s.name for s in fresh.config.backends if isinstance(s.auth, PER_USER)])
        self._fixtures.limits_changed(old.config.rate_limits, fresh.config.rate_limits)
        self._leaving.add(old)
        self._past.add(old)
        if fresh.proofs is not old.proofs:
            self._vouches = functools.partial(fresh.proofs.vouch, before=old.proofs)
            self._guests.review()
        self.hub.changed(old.table, fresh.table)
        if (old.config.authz, old.config.personas) != (fresh.config.authz, fresh.config.personas):
            self.hub.suspect(fresh.table.faces)
        self._nest.start(self._retire(old), "retire")
        return _adopted(old, fresh, restart)

    def _place(self, generation: Generation) -> None:
        faces, server = generation.table.faces, generation.config.server
        self._sse.place(faces, server)
        self._sockets.place(beside(faces, server.paths.ws))
        self._passage.behind = generation.exchange
        self.app.behind = generation.app

    async def _retire(self, old: Generation) -> None:
        """Once its last call has ended, so does an old configuration, with what was open at endpoints that are no more."""
        try:
            async with asyncio.timeout(LAST):
                await asyncio.sleep(LINGER)
                await old.uses.none()
        except TimeoutError:
            log.warning("calls of an old configuration are cut off", extra={"calls": old.uses.count})
        self._leaving.discard(old)
        self._closing.add(old)
        served = self._served()
        self._sessions.keep(served)
        self.hub.keep(served)
        self._guests.review()
        for past in self._past:
            past.hand_over(self.current.auditor)
        await old.close()
        self._closing.discard(old)
        log.info("old configuration closed", extra={"config": old.config.digest[:12]})

    def recorded(self, outcome: str, extra: Mapping[str, Any]) -> None:
        """A reload has ended: for the audit log."""
        if self.current.auditor is not None:
            if self.crew is not None:
                extra = {**extra, "worker": self.crew.index}
            self.current.auditor.happened("config_reload", outcome, Origin(), None, {"type": "config"}, extra)

    def _served(self) -> frozenset[str]:
        """The endpoints at which somebody may still have something open."""
        return frozenset(path for each in (self.current, *self._leaving) for path in each.table.faces)

    def _welcome(self, path: str, who: Identity | None) -> bool:
        """See ``Guests``."""
        return (not path or path in self._served()) and (who is None or self._vouches(who))

    # --- what backends tell

    def on_catalog(self, held: Held) -> None:
        """See ``Hears``."""
        name = held.backend.spec.name
        for shelf in self._holdings.shelves():
            shelf.changed(name)
        if self.current.held.get(name) is held:
            self.current.on_catalog()
        if self._coming is not None:
            self._coming.stir()

    def on_settled(self, held: Held) -> None:
        """See ``Hears``."""
        if self.current.held.get(held.backend.spec.name) is held:
            self.current.on_settled()
        if self._coming is not None:
            self._coming.stir()

    def on_heard(self, backend: str, method: str, params: Raw, source: Key | None) -> None:
        """See ``Hears``."""
        for shelf in self._holdings.shelves():
            shelf.heard(backend, method, params)
        self.hub.heard(backend, method, params, source)

    async def ask(self, session_id: str, question: Question) -> Raw:
        """A backend asks the client of a session something, while nothing of it is in flight there. Raises ``McpError``."""
        session = self._sessions.get(session_id)
        if session is None:
            raise McpError(Code.METHOD_NOT_FOUND, "Method not found")
        return await session.ask(question)

    # --- what happens to sessions

    def _on_session_end(self, session: Session) -> None:
        now = asyncio.get_running_loop().time()
        self._fixtures.telemetry.measures.session_over(session.revision, now - session.born)
        self.hub.leave(session.id)
        for held in self._holdings.held():
            held.backend.forget(session.id)

    def _on_told(self, session: Session, method: str) -> None:
        for backend in self.current.backends.values():
            backend.inform(session.id, method)

    # --- the table

    async def build(self, config: Config, catalogs: Mapping[str, Catalog]) -> RoutingTable:
        """See ``House``. Off the loop, as ten thousand routes take a tenth of a second."""
        return await asyncio.to_thread(build, next(self._numbers), config, dict(catalogs))

    def on_table(self, generation: Generation, old: RoutingTable) -> None:
        """See ``House``."""
        if generation is self.current:
            self.hub.changed(old, generation.table)

    # --- what others ask

    @property
    def config(self) -> Config:
        """The configuration that counts."""
        return self.current.config

    @property
    def backends(self) -> Mapping[str, Placed]:
        """Its backends."""
        return self.current.backends

    @property
    def table(self) -> RoutingTable:
        """The table that counts."""
        return self.current.table

    @property
    def settled(self) -> asyncio.Event:
        """Set once every backend has answered or failed once."""
        return self.current.settled

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Whether traffic should come, and why not."""
        return self.current.readiness()

    @property
    def sessions(self) -> Sessions:
        """The sessions of all transports."""
        return self._sessions

    @property
    def streams(self) -> int:
        """Event streams that are open."""
        return len(self._pulse.streams)

    def numbers(self) -> Mapping[str, Any]:
        """What was counted, by the names of ``vmcp/metrics``."""
        kept = self.current.shelf
        return {**self._fixtures.numbers(), **(kept.numbers() if kept is not None else {})}


def _paths(config: Config, table: RoutingTable) -> list[str]:
    """Of all endpoints of all transports."""
    places = config.server.paths
    return [*table.faces, *(raw.decode() for place in (places.sse, places.ws) for raw in beside(table.faces, place))]


def _adopted(old: Generation, fresh: Generation, restart: tuple[Path, ...]) -> Adopted:
    began = tuple(name for name, held in fresh.held.items() if old.held.get(name) is not held)
    ended = tuple(name for name, held in old.held.items() if fresh.held.get(name) is not held)
    return Adopted(restart, began, ended, changed=True)
