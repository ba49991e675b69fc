"""Everything behind the door but the backends: the chain of layers, and dispatch with all that it asks.

The rule: here it is decided who knows whom, and nothing else.
"""

import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vmcp.aggregator.dispatch import Dispatch
from vmcp.aggregator.driving import Driven
from vmcp.aggregator.introspection import Introspection
from vmcp.aggregator.metered import Meter, Metered, per_user
from vmcp.aggregator.rounds import Rounds
from vmcp.aggregator.subscriptions import Hub
from vmcp.aggregator.taskbook import Taskbook
from vmcp.aggregator.tasks import Tasks, Ways
from vmcp.call import Handler, Middleware, chain
from vmcp.config.cedar.judge import Judge, world
from vmcp.config.limits import RateLimits
from vmcp.config.model import Config
from vmcp.middleware.auth import identified
from vmcp.middleware.authz import Authorization
from vmcp.middleware.personas import personas
from vmcp.middleware.ratelimit import ratelimit
from vmcp.middleware.telemetry import Tally, telemetry
from vmcp.routing.personas import Personas
from vmcp.server.guard import is_loopback
from vmcp.state.buckets import Buckets
from vmcp.state.ticket import Seal
from vmcp.tasks import Nest
from vmcp.upstream.backend import Backend
from vmcp.upstream.bulkhead import behind
from vmcp.upstream.parking import Parking


class Interior:
    """``handler`` answers calls, ``hub`` hears the backends. ``sessions`` counts those that are open."""

    def __init__(
        self, config: Config, backends: Mapping[str, Backend], nest: Nest, sessions: Callable[[], int]
    ) -> None:
        seal = Seal()
        book = Taskbook(seal)
        self._tally = Tally()
        self._sessions = sessions
        self.hub = Hub(backends, book.open, book.told)
        parking = Parking(nest)
        asked = {name: behind(backend) for name, backend in backends.items()}
        driven = {name: Driven(backend, nest) for name, backend in asked.items()}
        roads: list[Ways] = [Rounds(each, seal, parking, time.time) for each in (asked, driven)]
        layers: dict[str, Middleware] = {"telemetry": telemetry(self._tally), "auth": identified()}
        if config.rate_limits is not None:
            roads = _metered(config.rate_limits, roads, layers)
        ways, through = roads
        if config.personas:
            layers["persona"] = personas(Personas(config))
        if config.authz is not None:
            layers["authz"] = Authorization(Judge(config.authz, world(config)))
        # Whoever reaches a listener of this machine alone may look behind it; those with tokens come through a proxy.
        own = Introspection(
            backends, self._numbers, may=is_loopback(config.server.host) and config.incoming.type != "oidc"
        )
        tasks = Tasks(backends, ways, through, book)
        dispatch = Dispatch(backends, ways, self.hub, tasks, own.methods, config.server.limits.page_size)
        self.handler: Handler = chain(dispatch, layers)

    def _numbers(self) -> Mapping[str, Any]:
        now = {"vmcp_connections_active": self._sessions(), "vmcp_memory_used": _memory()}
        return {**self._tally.numbers(), **now}


def _metered(limits: RateLimits, roads: list[Ways], layers: dict[str, Middleware]) -> list[Ways]:
    """The same roads with their limits, and the layer for the limit of each user put among ``layers``."""
    meter, buckets = Meter(limits), Buckets(time.monotonic)
    rate = per_user(limits)
    if rate is not None:
        layers["ratelimit"] = ratelimit(buckets, rate)
    return [Metered(road, meter, buckets) for road in roads]


def _memory() -> int:
    """Bytes of memory that the process has now; where the system does not say, the most that it ever had."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
