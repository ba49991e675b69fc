"""One configuration come alive: its backends, its table, its chain; the composition root.

The rule: everything of one config lives and dies together, and readers only ever see a whole table: it is replaced by one
assignment.
"""

import asyncio
import functools
import itertools
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from msgspec import Raw

from vmcp.config.model import BackendSpec, Config
from vmcp.errors import Code, McpError
from vmcp.protocol.questions import Question
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog
from vmcp.routing.table import RoutingTable
from vmcp.server.address import Addresses
from vmcp.server.app import App
from vmcp.server.audited import Audited
from vmcp.server.duplex import Duplex, Opens
from vmcp.server.entrance import Entrance
from vmcp.server.exchange import Exchange
from vmcp.server.http import StreamableHttp
from vmcp.server.interior import Interior
from vmcp.server.pulse import Pulse
from vmcp.server.recording import Recording
from vmcp.server.sessions import Session, Sessions
from vmcp.server.sse import LegacySse, beside
from vmcp.server.websocket import WebSockets
from vmcp.tasks import Nest
from vmcp.upstream.backend import Backend
from vmcp.upstream.links import Key

log = logging.getLogger("vmcp.runtime")

CALM = 0.02
"""Seconds that catalogs are gathered before the table is built anew."""
SWEEP = 300.0
GOODBYE = 2.0
"""Seconds for subscriptions to end in order, when the house closes without having been asked to stop before."""


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
        self._recording = Recording(config, config.audit) if config.audit is not None else None
        interior = Interior(config, self.backends, self._nest, lambda: len(self._sessions))
        self.hub = interior.hub
        self.app: App | Audited = self._provision(interior)

    def _backend(self, spec: BackendSpec) -> Backend:
        return Backend(spec, self.config.server.limits, _Told(self))

    def _provision(self, interior: Interior) -> App | Audited:
        """The door and all transports before what is inside."""
        limits = self.config.server.limits
        auditor = self._recording.auditor if self._recording is not None else None
        exchange = Exchange(interior.handler, self, self.config.start_deadline, auditor)
        self._sessions = Sessions(limits, asyncio.get_running_loop().time, self._on_session_end, self._on_told)
        self._pulse = Pulse(self._nest)
        self.opens: Opens = functools.partial(Duplex, exchange, self._sessions, self.hub, limits)
        http = StreamableHttp(exchange, self._sessions, limits, self._pulse, self.hub)
        faces, server = self.table.faces, self.config.server
        sse = LegacySse(faces, server, self.opens, self._pulse, self._nest)
        sockets = WebSockets(beside(faces, server.paths.ws), self.opens, limits, self._nest)
        beneath = [raw.decode() for place in (server.paths.sse, server.paths.ws) for raw in beside(faces, place)]
        self._entrance = Entrance(self.config, self._nest, [*faces, *beneath])
        app = App(self.config, self, http, self._entrance.gate, sse, sockets)
        return app if auditor is None else Audited(app, auditor, Addresses(server.trusted_proxies))

    async def __aenter__(self) -> Self:
        if self._recording is not None:
            self._recording.log.start()
        for backend in self.backends.values():
            self._nest.start(backend.run(), backend.spec.name)
        self._nest.start(self._sweep(), "session sweep")
        self._nest.start(self._pulse.run(), "pulse")
        self._nest.start(self._lose_patience(), "start deadline")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drain()
        await self.hub.silence(GOODBYE)
        if self._building is not None:
            self._building.cancel()
        await self._nest.close()
        await self._entrance.close()
        if self._recording is not None:
            await asyncio.to_thread(self._recording.log.close, GOODBYE)

    def drain(self) -> None:
        """The house is to close: no more traffic shall come, and what would never end by itself ends in order now."""
        self.draining = True
        self.hub.drain()
        self._sessions.drain()
        self.app.drain()

    def _on_session_end(self, session: Session) -> None:
        self.hub.leave(session.id)
        for backend in self.backends.values():
            backend.forget(session.id)

    async def ask(self, session_id: str, question: Question) -> Raw:
        """A backend asks the client of a session something, while nothing of it is in flight there. Raises ``McpError``."""
        session = self._sessions.get(session_id)
        if session is None:
            raise McpError(Code.METHOD_NOT_FOUND, "Method not found")
        return await session.ask(question)

    def _on_told(self, session: Session, method: str) -> None:
        for backend in self.backends.values():
            backend.inform(session.id, method)

    async def _lose_patience(self) -> None:
        """Clients wait for slow backends only so long."""
        await asyncio.sleep(self.config.start_deadline if self.backends else 0.0)
        self._settle()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            self._sessions.sweep()

    # --- the table

    def on_catalog(self, catalog: Catalog) -> None:
        """A backend was listed, and offers something else than before."""
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
            old, self.table = self.table, table
            self.on_settled()
            self.hub.changed(old, table)

    def _report(self, table: RoutingTable) -> None:
        known = {q for face in self.table.faces.values() for q in face.quarantined}
        for path, face in table.faces.items():
            for found in face.quarantined:
                if found not in known:
                    known.add(found)
                    facts = {"face": path, "kind": found.kind.value, "target": found.name, "backend": found.backend}
                    log.warning("quarantined", extra={**facts, "winner": found.winner, "why": found.why})

    def on_settled(self) -> None:
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


class _Told:
    """What backends tell (``Owner``), told to the runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def catalogued(self, catalog: Catalog) -> None:
        """See ``Owner``."""
        self._runtime.on_catalog(catalog)

    def settled(self) -> None:
        """See ``Owner``."""
        self._runtime.on_settled()

    def heard(self, backend: str, method: str, params: Raw, source: Key | None = None) -> None:
        """See ``Owner``."""
        self._runtime.hub.heard(backend, method, params, source)

    async def inquire(self, session_id: str, question: Question) -> Raw:
        """See ``Owner``."""
        return await self._runtime.ask(session_id, question)
