"""How often the backends are asked: by everybody together, for one tool, at one backend.

The rule: only what is about to reach a backend counts, after its name was found and its caller may use it; so nobody can use up
what he may not have, or learn from a limit that it is there. All limits of a call are taken from together or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from vmcp.aggregator.tasks import Ways
from vmcp.call import Call, Outcome
from vmcp.config.globs import Globs, globs
from vmcp.config.limits import Bucket, Limited, RateLimits
from vmcp.errors import Throttled
from vmcp.routing.table import Route
from vmcp.state.buckets import Rate, Takes
from vmcp.upstream.ask import Outgoing

FREE: Final = frozenset({"tasks/cancel"})
"""What spares a backend work."""

Rates = Sequence[tuple[Rate, bool]]
"""With each rate, whether every principal has a bucket of his own."""


class Meter:
    """Which rates apply to a call."""

    def __init__(self, limits: RateLimits) -> None:
        self._all: Rates = tuple(_rates("rateLimiting", limits.shared, None))
        self._tools: Sequence[tuple[Globs, Rates]] = tuple(
            (globs([each.name]), _of(f"rateLimiting.tools[{each.name}]", each)) for each in limits.tools
        )
        self._backends: Mapping[str, Rates] = {
            each.name: _of(f"rateLimiting.backends[{each.name}]", each) for each in limits.backends
        }

    @property
    def idle(self) -> bool:
        """Whether no rate applies to any call."""
        return not (self._all or self._tools or self._backends)

    def rates(self, call: Call, route: Route) -> list[tuple[Rate, str]]:
        """The buckets that ``call`` takes from on its way to ``route``."""
        if call.method in FREE:
            return []
        found = [*self._all, *self._backends.get(route.backend, ())]
        if call.method == "tools/call":
            for names, rates in self._tools:
                if names.match(route.name):
                    found += rates
        return [(rate, call.principal if own else "") for rate, own in found]


class Metered:
    """``ways`` for those who have not asked too often. See ``Ways``."""

    def __init__(self, ways: Ways, meter: Meter, buckets: Takes) -> None:
        self._ways = ways
        self._meter = meter
        self._buckets = buckets

    async def send(self, call: Call, route: Route, outgoing: Outgoing) -> Outcome:
        """See ``Ways``. Raises ``Throttled``."""
        short = self._buckets.take(self._meter.rates(call, route))
        if short is not None:
            call.trail.limited = short.rule
            raise Throttled(short.rule, f"'{call.name or call.method}' is asked for too often", short.seconds)
        return await self._ways.send(call, route, outgoing)


def rules(limits: RateLimits | None) -> Mapping[str, Rate]:
    """Every rate by its rule."""
    if limits is None:
        return {}
    lists = (limits.tools, limits.backends)
    of_one = [rate for each, kind in zip(lists, ("tools", "backends"), strict=True) for rate in _listed(kind, each)]
    whole = [rate for rate, _ in _rates("rateLimiting", limits.shared, limits.per_user)]
    return {rate.rule: rate for rate in (*whole, *of_one)}


def _listed(kind: str, limited: Sequence[Limited]) -> Iterable[Rate]:
    return (rate for each in limited for rate, _ in _of(f"rateLimiting.{kind}[{each.name}]", each))


def per_user(limits: RateLimits) -> Rate | None:
    """The rate of every principal for all that he asks."""
    return next((rate for rate, own in _rates("rateLimiting", None, limits.per_user) if own), None)


def _of(rule: str, each: Limited) -> Rates:
    return tuple(_rates(rule, each.shared, each.per_user))


def _rates(rule: str, shared: Bucket | None, per_user: Bucket | None) -> Iterable[tuple[Rate, bool]]:
    if shared is not None:
        yield Rate(f"{rule}.shared", shared.tokens, shared.seconds), False
    if per_user is not None:
        yield Rate(f"{rule}.perUser", per_user.tokens, per_user.seconds), True
