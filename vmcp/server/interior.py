"""Everything behind the door but the backends: the chain of layers, and dispatch with all that it asks.

The rule: here it is decided who knows whom, and nothing else. What remembers something is a fixture of the house, which outlives
every configuration; all the rest is put together anew for each.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Raw

from vmcp.aggregator.cached import Cached
from vmcp.aggregator.dispatch import Dispatch
from vmcp.aggregator.driving import Driven
from vmcp.aggregator.introspection import Introspection, Statistics
from vmcp.aggregator.metered import Meter, Metered, per_user, rules
from vmcp.aggregator.rounds import Rounds
from vmcp.aggregator.subscriptions import Hub
from vmcp.aggregator.taskbook import Taskbook
from vmcp.aggregator.tasks import Tasks, Ways
from vmcp.call import Client, Complete, Handler, Middleware, chain
from vmcp.config.cedar.judge import Judge, world
from vmcp.config.limits import RateLimits
from vmcp.middleware.auth import identified
from vmcp.middleware.authz import Authorization
from vmcp.middleware.personas import personas
from vmcp.middleware.ratelimit import ratelimit
from vmcp.middleware.telemetry import Tally
from vmcp.routing.personas import Personas
from vmcp.server.elsewhere import Elsewhere
from vmcp.server.exchange import Uses
from vmcp.server.generation import Generation
from vmcp.server.guard import is_loopback
from vmcp.server.mates import Mates
from vmcp.server.memory import resident
from vmcp.server.telemetry import Telemetry
from vmcp.state.buckets import Buckets, Takes
from vmcp.state.cells import SharedBuckets
from vmcp.state.crew import Crew
from vmcp.state.ticket import Seal
from vmcp.tasks import Nest
from vmcp.upstream.ask import Asker
from vmcp.upstream.parking import Parking, Round, Run

Count = Callable[[], Mapping[str, Any]]
"""Numbers by the names of ``vmcp/metrics``."""


class Fixtures:
    """What the house has, whatever its configuration: ``hub`` hears the backends. ``counts``: what else is known in numbers."""

    def __init__(
        self,
        nest: Nest,
        counts: Count,
        seal: Seal | None = None,
        telemetry: Telemetry | None = None,
        statistics: Statistics = lambda _: {},
        crew: Crew | None = None,
        mates: Mates | None = None,
    ) -> None:
        self.nest = nest
        self.elsewhere = Elsewhere(mates) if mates is not None else None
        self.crew = crew
        self.seal = seal if seal is not None else Seal()
        self.book = Taskbook(self.seal, crew=crew)
        self.tally = Tally()
        self.telemetry = telemetry or Telemetry(None)
        self.parking = Parking(nest)
        self.buckets: Takes = (
            Buckets(time.monotonic) if crew is None else SharedBuckets(crew.common.cells, time.monotonic)
        )
        self.hub = Hub({}, self.book.open, self.book.told)
        self._counts = counts
        self.statistics = statistics

    def numbers(self) -> Mapping[str, Any]:
        """See ``Introspection``."""
        return {**self.tally.numbers(), "vmcp_memory_used": resident(), **self._counts()}

    def limits_changed(self, before: RateLimits | None, now: RateLimits | None) -> None:
        """Buckets are carried over where nothing is said anew about them."""
        old, new = rules(before), rules(now)
        changed = {rule for rule in (*old, *new) if old.get(rule) != new.get(rule)}
        if changed:
            self.buckets.forget(changed)


def furnished(generation: Generation, fixtures: Fixtures) -> Handler:
    """The handler of a generation."""
    config, backends = generation.config, generation.backends
    asked = {name: held.asked for name, held in generation.held.items()}
    driven = {name: Driven(backend, fixtures.nest) for name, backend in asked.items()}
    lot = _Places(fixtures.parking, generation.uses)
    roads: list[Ways] = [Rounds(each, fixtures.seal, lot, time.time, fixtures.crew) for each in (asked, driven)]
    watched = fixtures.telemetry.layer(config.telemetry, fixtures.tally)
    layers: dict[str, Middleware] = {"telemetry": watched, "auth": identified()}
    if config.rate_limits is not None:
        roads = _metered(config.rate_limits, roads, layers, fixtures.buckets)
    if config.cache is not None and generation.shelf is not None:
        numbered = {name: (held.number, held.asked) for name, held in generation.held.items()}
        roads = [Cached(roads[0], config.cache, generation.shelf, numbered), roads[1]]
    ways, through = roads
    if config.personas:
        layers["persona"] = personas(Personas(config))
    if config.authz is not None:
        layers["authz"] = Authorization(Judge(config.authz, world(config)))
    # Whoever reaches a listener of this machine alone may look behind it; those with tokens come through a proxy.
    own = Introspection(
        backends,
        fixtures.numbers,
        generation.shelf,
        may=is_loopback(config.server.host) and config.incoming.type != "oidc",
        impaired=generation.impaired,
        statistics=fixtures.statistics,
        elsewhere=fixtures.elsewhere,
    )
    tasks = Tasks(backends, ways, through, fixtures.book)
    size, whole = config.server.limits.page_size, config.partial_failure == "fail"
    dispatch = Dispatch(backends, ways, fixtures.hub, tasks, own.methods, size, whole=whole)
    return chain(dispatch, layers)


class _Places:
    """The parking of the house, where calls of one configuration count as in its hand while they wait. See ``Lot``."""

    def __init__(self, parking: Parking, uses: Uses) -> None:
        self._parking = parking
        self._uses = uses

    async def resume(
        self, place: str, principal: str, responses: Mapping[str, Raw], client: Client, token: Raw
    ) -> Complete | Round | None:
        """See ``Lot``."""
        return await self._parking.resume(place, principal, responses, client, token)

    async def begin(self, principal: str, run: Run, client: Client, token: Raw) -> Complete | Round:
        """See ``Lot``."""

        async def counted(client: Client, asker: Asker) -> Complete:
            with self._uses.one():
                return await run(client, asker)

        return await self._parking.begin(principal, counted, client, token)


def _metered(limits: RateLimits, roads: list[Ways], layers: dict[str, Middleware], buckets: Takes) -> list[Ways]:
    """The same roads with their limits, and the layer for the limit of each user put among ``layers``."""
    meter = Meter(limits)
    rate = per_user(limits)
    if rate is not None:
        layers["ratelimit"] = ratelimit(buckets, rate)
    return roads if meter.idle else [Metered(road, meter, buckets) for road in roads]
