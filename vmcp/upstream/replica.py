"""One replica come alive: its backend, whether it can be asked, and who belongs to it.

The rule: a replica knows nothing of the others, and tells the whole that it is part of whatever happens to it.
"""

from typing import Final, Protocol

from msgspec import Raw

from vmcp.config.balancing import EndpointSpec
from vmcp.protocol.questions import Question
from vmcp.routing.catalog import Catalog
from vmcp.upstream.backend import Backend
from vmcp.upstream.links import Key
from vmcp.upstream.owner import Health, Owner
from vmcp.upstream.replicas import Load

REMEMBERED: Final = 1 << 16
"""Sessions, principals and tasks of which it is known where they are; then the oldest is forgotten."""


class Whole(Protocol):
    """What replicas are part of."""

    owner: Owner

    def backend_at(self, endpoint: EndpointSpec, owner: Owner) -> Backend:
        """The backend at one place."""

    def on_catalog(self, replica: "Replica") -> None:
        """It was listed, and offers something else than before."""

    def on_settled(self, replica: "Replica") -> None:
        """How it is has changed."""


class Replica(Load):
    """One place of the backend, and what it has told. See ``Owner``."""

    __slots__ = ("_was_there", "_whole", "backend", "catalog")

    def __init__(self, number: int, endpoint: EndpointSpec, whole: Whole) -> None:
        super().__init__(number, endpoint.url, endpoint.weight)
        self.catalog: Catalog | None = None
        self._whole = whole
        self._was_there: bool | None = None
        self.backend = whole.backend_at(endpoint, self)
        self.backend.label["replica"] = number

    @property
    def there(self) -> bool:
        """Whether it can be asked at all."""
        return self.backend.link is not None and self.catalog is not None

    def takes(self, now: float) -> bool:
        """Whether it takes a call, as far as one knows."""
        breaker = self.backend.vitals.breaker
        return self.there and (breaker is None or breaker.admits(now))

    @property
    def out(self) -> bool:
        """Whether it is left out, or away."""
        breaker = self.backend.vitals.breaker
        return not self.there or (breaker is not None and breaker.state != "closed")

    def returned(self, now: float) -> None:
        """Take note of whether it is there; one that comes back starts slowly."""
        if not self.out and self._was_there is False:
            self.back = now
        if self.there or self._was_there is not None:
            self._was_there = not self.out

    # --- what it tells

    def catalogued(self, catalog: Catalog) -> None:
        """See ``Owner``."""
        self.catalog = catalog
        self._whole.on_catalog(self)

    def settled(self) -> None:
        """See ``Owner``."""
        self._whole.on_settled(self)

    def heard(self, backend: str, method: str, params: Raw, source: Key | None = None) -> None:
        """See ``Owner``."""
        self._whole.owner.heard(backend, method, params, source)

    async def inquire(self, session_id: str, question: Question) -> Raw:
        """See ``Owner``."""
        return await self._whole.owner.inquire(session_id, question)


class Homes:
    """Who belongs to which replica: whoever has a session there, and the tasks that were made there. Mutable."""

    def __init__(self) -> None:
        self._sessions: dict[Key, Replica] = {}
        self._left: dict[Key, Replica] = {}
        self._tasks: dict[str, Replica] = {}

    def of(self, key: Key | None) -> Replica | None:
        """Where a session is."""
        return self._sessions.get(key) if key is not None else None

    def of_task(self, name: str | None) -> Replica | None:
        """Where a task is."""
        return self._tasks.get(name) if name is not None else None

    def settle(self, key: Key, replica: Replica) -> bool:
        """A session is here from now on; whether it was elsewhere before."""
        before = self._sessions.pop(key, None)
        _crowd_out(self._sessions)
        self._sessions[key] = replica
        moves = before is not None and before is not replica
        if before is not None and moves:
            _crowd_out(self._left)
            self._left[key] = before
        return moves

    def made(self, task: str, replica: Replica) -> None:
        """A task was made here."""
        _crowd_out(self._tasks)
        self._tasks[task] = replica

    def follow(self, key: Key | None, replica: Replica) -> None:
        """A session answers here: what it was subscribed to elsewhere goes along, and its old one ends."""
        before = self._left.pop(key, None) if key is not None else None
        if key is None or before is None or before is replica:
            return
        old, new = before.backend.watch_of(key), replica.backend.watch_of(key)
        if old is not None and new is not None:
            old.hand_over(new)
        before.backend.forget(key.text)

    def forget(self, key: Key) -> None:
        """A session is over."""
        self._sessions.pop(key, None)
        self._left.pop(key, None)


def _crowd_out(places: dict[Key, Replica] | dict[str, Replica]) -> None:
    while len(places) >= REMEMBERED:
        places.pop(next(iter(places)))  # type: ignore[call-overload]  # a key of its own


def together(healths: list[Health]) -> tuple[Health, str]:
    """How all are together, and why."""
    kinds = set(healths)
    if len(kinds) == 1:
        return healths[0], ""
    well = sum(each in ("healthy", "degraded") for each in healths)
    if not well:
        return ("unknown", "") if "unknown" in kinds else ("unhealthy", "")
    bad = len(healths) - healths.count("healthy")
    return "degraded", f"{bad} of {len(healths)} replicas are not healthy"
