"""One configuration come alive: its backends, its table, its chain; the composition root.

The rule: everything of one config lives and dies together, and readers only ever see a whole table: it is replaced by one
assignment.
"""

import asyncio
import itertools
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from vmcp.aggregator.dispatch import Dispatch
from vmcp.call import chain
from vmcp.config.model import BackendSpec, Config
from vmcp.middleware.auth import anonymous
from vmcp.middleware.telemetry import telemetry
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog
from vmcp.routing.table import RoutingTable
from vmcp.server.app import App
from vmcp.server.exchange import Exchange
from vmcp.server.http import StreamableHttp
from vmcp.server.sessions import Sessions
from vmcp.server.stream import Pulse
from vmcp.tasks import Nest
from vmcp.upstream.backend import Backend

log = logging.getLogger("vmcp.runtime")

CALM = 0.02
"""Seconds that catalogs are gathered before the table is built anew."""
SWEEP = 300.0


class Runtime:
    """Mutable: ``table`` is the current one, ``settled`` is set once every backend has answered or failed once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.table: RoutingTable = build(0, config, {})
        self._numbers = itertools.count(1)
        self.settled = asyncio.Event()
        self.draining = False
        self._nest = Nest("house")
        self._catalogs: dict[str, Catalog] = {}
        self._building: asyncio.TimerHandle | None = None
        self.backends: Mapping[str, Backend] = {spec.name: self._backend(spec) for spec in config.backends}
        self.app = self._provision()

    def _backend(self, spec: BackendSpec) -> Backend:
        return Backend(spec, self.config.server.limits, self._on_catalog, self._on_settled)

    def _provision(self) -> App:
        """The chain around dispatch, and the door before it."""
        limits = self.config.server.limits
        layers = {"telemetry": telemetry(), "auth": anonymous()}
        handler = chain(Dispatch(self.backends, limits.page_size), layers)
        exchange = Exchange(handler, self, self.config.start_deadline)
        self._sessions = Sessions(limits.sessions, limits.session_idle, asyncio.get_running_loop().time)
        self._pulse = Pulse(self._nest)
        return App(self.config, self, StreamableHttp(exchange, self._sessions, limits, self._pulse))

    async def __aenter__(self) -> Self:
        for backend in self.backends.values():
            self._nest.start(backend.run(), backend.spec.name)
        self._nest.start(self._sweep(), "session sweep")
        self._nest.start(self._pulse.run(), "pulse")
        self._nest.start(self._lose_patience(), "start deadline")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._building is not None:
            self._building.cancel()
        await self._nest.close()

    async def _lose_patience(self) -> None:
        """Clients wait for slow backends only so long."""
        await asyncio.sleep(self.config.start_deadline if self.backends else 0.0)
        self._settle()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._sessions.sweep()

    # --- the table

    def _on_catalog(self, catalog: Catalog) -> None:
        self._catalogs[catalog.backend] = catalog
        if self._building is None:
            self._building = asyncio.get_running_loop().call_later(CALM, self._start_build)

    def _start_build(self) -> None:
        self._nest.start(self._build(), "table")

    async def _build(self) -> None:
        """Off the loop, as ten thousand routes take a tenth of a second. What comes meanwhile starts the next build."""
        self._building = None
        number = next(self._numbers)
        table = await asyncio.to_thread(build, number, self.config, dict(self._catalogs))
        if self.table.number < number:
            self._report(table)
            self.table = table
            self._on_settled()

    def _report(self, table: RoutingTable) -> None:
        known = {q for face in self.table.faces.values() for q in face.quarantined}
        for path, face in table.faces.items():
            for found in face.quarantined:
                if found not in known:
                    known.add(found)
                    facts = {"face": path, "kind": found.kind.value, "target": found.name, "backend": found.backend}
                    log.warning("quarantined", extra={**facts, "winner": found.winner, "why": found.why})

    def _on_settled(self) -> None:
        """Every backend has answered or failed, and the table holds what was answered."""
        up = {name for name, backend in self.backends.items() if backend.status.state == "up"}
        answered = all(backend.status.state != "starting" for backend in self.backends.values())
        missing = {name for face in self.table.faces.values() for name in face.missing}
        if answered and not up & missing:
            self._settle()

    def _settle(self) -> None:
        if not self.settled.is_set():
            self.settled.set()
            log.info("ready" if self.readiness()[0] else "not ready", extra=self.summary())

    # --- what others ask

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Ready: not stopping, every backend has had its chance, and the required ones are up."""
        waiting = self._waiting()
        states = [backend.status.state for backend in self.backends.values()]
        ready = not waiting and not self.draining
        status = "ready" if ready else "stopping" if self.draining else "not ready"
        facts = {"status": status, "backends": len(states), "up": states.count("up"), "waiting_for": waiting}
        return ready, facts

    def _waiting(self) -> list[str]:
        """Who is waited for: the required ones until they are up, the others until they have had their chance."""
        strict = self.config.partial_failure == "fail"
        return [name for name, backend in self.backends.items() if self._awaited(backend, strict)]

    def _awaited(self, backend: Backend, strict: bool) -> bool:
        if backend.status.state == "up":
            return False
        return strict or backend.spec.required or (backend.status.state == "starting" and not self.settled.is_set())

    def summary(self) -> dict[str, object]:
        """How many of what is served where, for the log."""
        faces = {
            path: {kind.value: len(routes) for kind, routes in face.listing.items() if routes}
            for path, face in self.table.faces.items()
        }
        states = [backend.status.state for backend in self.backends.values()]
        return {"faces": faces, "up": states.count("up"), "backends": len(states)}
