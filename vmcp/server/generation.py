"""One configuration come alive: its backends, the table of what they offer, and the calls that it has in hand.

The rule: everything of one config lives and dies together, and readers only ever see a whole table: it is replaced by one
assignment. Whoever has begun a call here ends it here, however many configurations have come since.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from vmcp.aggregator.shelf import Shelf
from vmcp.config.model import Config
from vmcp.config.tree import Path
from vmcp.middleware.audit import Auditor
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.surface import tokens
from vmcp.routing.table import RoutingTable
from vmcp.server import drifting
from vmcp.server.app import App
from vmcp.server.audited import Audited
from vmcp.server.entrance import Proofs
from vmcp.server.exchange import Exchange, Uses
from vmcp.server.holdings import Held
from vmcp.server.readiness import awaited
from vmcp.tasks import Nest
from vmcp.upstream.balancer import Placed

log = logging.getLogger("vmcp.runtime")

CALM = 0.02
"""Seconds that catalogs are gathered before the table is built anew."""
TRIES = 8
"""How often a table is built before a configuration takes over, while backends keep changing what they offer."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """What has come of a new configuration. ``restart`` are the paths of what takes effect after a restart only.

    ``began`` and ``ended`` are the backends that were started and given up; all others were kept as they were.
    """

    restart: tuple[Path, ...] = ()
    began: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    changed: bool = False


class House(Protocol):
    """What a generation asks of the runtime that it lives in."""

    draining: bool

    async def build(self, config: Config, catalogs: Mapping[str, Catalog]) -> RoutingTable:
        """A new table, off the loop; each has a higher number than those before."""

    def on_table(self, generation: "Generation", old: RoutingTable) -> None:
        """A generation has another table than ``old`` now."""


class Generation:
    """Mutable: ``table`` is the current one; ``settled`` is set once every backend has answered or failed once.

    ``stack`` is what ends with it; ``over``: another one has taken its place. What else it has, the composition root sets.
    """

    stack: AsyncExitStack
    proofs: Proofs
    auditor: Auditor | None
    shelf: Shelf | None
    exchange: Exchange
    app: App | Audited

    def __init__(self, config: Config, held: Mapping[str, Held], table: RoutingTable, house: House, nest: Nest) -> None:
        self.config = config
        self.held = held
        self.backends: Mapping[str, Placed] = MappingProxyType({name: each.backend for name, each in held.items()})
        self.table = table
        self.settled = asyncio.Event()
        self.uses = Uses()
        self.over = False
        self._house = house
        self._nest = nest
        self._news = asyncio.Event()
        self._building: asyncio.TimerHandle | None = None

    # --- its life

    async def patience(self) -> None:
        """Clients wait for slow backends only so long."""
        await asyncio.sleep(self.config.start_deadline if self.held else 0.0)
        self.settle()

    async def warm(self) -> None:
        """Until every backend has answered or failed, or the start deadline; then there is a table of what was answered."""
        try:
            async with asyncio.timeout(self.config.start_deadline):
                while any(each.waited_for for each in self.held.values()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            late = [name for name, each in self.held.items() if each.waited_for]
            log.warning("backends are late", extra={"backends": late})
        for _ in range(TRIES):
            self._news.clear()
            before, self.table = self.table, await self._house.build(self.config, self._catalogs())
            drifting.tell(self.config.lock.policy, before, self.table)
            if not self._news.is_set():
                break
        self.settled.set()

    def hand_over(self, auditor: Auditor | None) -> None:
        """Whoever is still there (streams, subscriptions) is recorded by the auditor of another configuration."""
        self.auditor = self.exchange.auditor = auditor
        if auditor is not None and isinstance(self.app, Audited):
            self.app.auditor = auditor

    async def close(self) -> None:
        """End what nobody else holds. Harmless when called twice."""
        self.over = True
        if self._building is not None:
            self._building.cancel()
        await self.stack.aclose()

    # --- the table

    def _catalogs(self) -> dict[str, Catalog]:
        return {name: each.catalog for name, each in self.held.items() if each.catalog is not None}

    def stir(self) -> None:
        """Something has happened to one of the backends, while clients do not see this table yet."""
        self._news.set()

    def on_catalog(self) -> None:
        """A backend offers something else than before."""
        if self._building is None and not self.over:
            self._building = asyncio.get_running_loop().call_later(CALM, self._start_build)

    def _start_build(self) -> None:
        self._nest.start(self._build(), "table")

    async def _build(self) -> None:
        """What comes meanwhile starts the next build."""
        self._building = None
        table = await self._house.build(self.config, self._catalogs())
        if self.table.number < table.number and not self.over:
            self._report(table)
            drifting.tell(self.config.lock.policy, self.table, table)
            old, self.table = self.table, table
            self.on_settled()
            self._house.on_table(self, old)

    def _report(self, table: RoutingTable) -> None:
        known = {q for face in self.table.faces.values() for q in face.quarantined}
        for path, face in table.faces.items():
            for found in face.quarantined:
                if found not in known:
                    known.add(found)
                    facts = {"face": path, "kind": found.kind.value, "target": found.name, "backend": found.backend}
                    log.warning("quarantined", extra={**facts, "winner": found.winner, "why": found.why})

    def on_settled(self) -> None:
        """How a backend is has changed: perhaps all have answered or failed, and the table holds what was answered."""
        up = {name for name, backend in self.backends.items() if backend.status.state == "up"}
        answered = all(backend.status.state != "starting" for backend in self.backends.values())
        missing = {name for face in self.table.faces.values() for name in face.missing}
        if answered and not up & missing:
            self.settle()

    def settle(self) -> None:
        """Nobody waits any more for what has not answered yet."""
        if not (self.settled.is_set() or self.over):
            self.settled.set()
            log.info("ready" if self.readiness()[0] else "not ready", extra=self.summary())

    # --- what others ask

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Ready: not stopping, and nobody is waited for. Degraded: the same, but for the audit log."""
        waiting = self.waiting()
        states = [backend.status.state for backend in self.backends.values()]
        draining = self._house.draining
        ready = not waiting and not draining
        status = "ready" if ready else "stopping" if draining else "not ready"
        if ready and self.impaired():
            status = "degraded"
        facts = {"status": status, "backends": len(states), "up": states.count("up"), "waiting_for": waiting}
        return ready, facts

    def impaired(self) -> bool:
        """Whether what happens cannot be recorded, although it should be."""
        return self.auditor is not None and self.auditor.short()

    def waiting(self) -> list[str]:
        """Who is waited for; see ``readiness``."""
        return awaited(self.config, self.backends, settled=self.settled.is_set())

    def summary(self) -> dict[str, object]:
        """How many of what is served where, and what the tools of a group cost a model, for the log."""
        faces = self.table.faces
        counts = {
            path: {kind.value: len(routes) for kind, routes in face.listing.items() if routes}
            for path, face in faces.items()
        }
        states = [backend.status.state for backend in self.backends.values()]
        groups = {
            name: {
                "paths": sorted((path for path, face in faces.items() if face.group == name), key=len),
                "tokens": tokens(sum(len(route.modern) for route in home.listing[Kind.TOOL])),
            }
            for name, home in {face.group: face for face in faces.values()}.items()
        }
        return {"faces": counts, "groups": groups, "up": states.count("up"), "backends": len(states)}
