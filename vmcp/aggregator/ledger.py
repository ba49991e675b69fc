"""Who holds which subscription at which backend.

The rule: a backend is told of the first who wants something and of the last, and of nobody between; who stands in the place of
another backend is wanted the same of.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from vmcp.call import Call
from vmcp.errors import Code, Unavailable
from vmcp.upstream.links import Key
from vmcp.upstream.watch import UPDATED, URIS, Topic, Watch


class Watched(Protocol):
    """What is needed of a backend."""

    async def source(self, call: Call) -> Key | None:
        """Over which private link the caller subscribes, or (None) over the one of all. Raises ``McpError``."""

    def watch_of(self, source: Key | None) -> Watch | None:
        """What is wanted on the link of ``source``; None when that is closed."""


class Holder(Protocol):
    """Somebody with subscriptions."""

    def updated(self, topic: Topic, method: str, params: Mapping[str, Any], name: str) -> None:
        """What was subscribed to as ``topic`` changed; ``name`` is what exactly."""


class Source(NamedTuple):
    """Where a change is told: by which backend, and on which private link (None: on the one of all)."""

    backend: str
    link: Key | None


class Ledger:
    """Who holds which subscription where; the backend is told of the first and of the last."""

    def __init__(self, backends: Mapping[str, Watched]) -> None:
        self._backends = backends
        self._holders: dict[tuple[Source, Topic], dict[Holder, Topic]] = {}
        self._held: dict[Holder, dict[tuple[Source, Topic], None]] = {}

    def held(self, holder: Holder) -> list[tuple[Source, Topic]]:
        """All that ``holder`` has."""
        return list(self._held.get(holder, ()))

    async def add(self, source: Source, topic: Topic, holder: Holder, shown: Topic | None = None) -> None:
        """Let ``holder`` have ``topic``, which it knows as ``shown``, once the backend agreed. Raises ``McpError``."""
        key = (source, topic)
        agreed = key in self._held.get(holder, ())
        # Before the backend is asked, so that nothing is missed that it says in the moment in which it agrees.
        self._holders.setdefault(key, {})[holder] = shown or topic
        self._held.setdefault(holder, {})[key] = None
        try:
            watch = self._watch(source)
            if watch is None:
                raise Unavailable(source.backend, "the session has ended", Code.TRANSPORT_CLOSED)
            await watch.want(topic[1], topic[0])
            agreed = True
        finally:
            if not agreed:
                self.remove(source, topic, holder)

    async def source(self, backend: str, call: Call) -> Source:
        """Where this caller subscribes at ``backend``. Raises ``McpError``."""
        watched = self._backends.get(backend)
        if watched is None:
            raise Unavailable(backend, "it is not configured any more", Code.SERVER_UNAVAILABLE)
        return Source(backend, await watched.source(call))

    def _watch(self, source: Source) -> Watch | None:
        watched = self._backends.get(source.backend)
        return watched.watch_of(source.link) if watched is not None else None

    def adopt(self, backends: Mapping[str, Watched], private: Container[str]) -> None:
        """Other backends: what was held at one that is replaced goes over to the new one, unless that is ``private``."""
        before, self._backends = self._backends, backends
        lost = [key for key in self._holders if before.get(key[0].backend) is not backends.get(key[0].backend)]
        for source, topic in lost:
            holders = self._holders.pop((source, topic))
            for holder in holders:
                self._drop(holder, (source, topic))
            if topic[0] != URIS:
                continue
            if source.backend in private or not self._moved(source.backend, topic, holders):
                for holder, shown in holders.items():  # let him look, and learn that it is another's or nobody's
                    holder.updated(shown, UPDATED, {"uri": topic[1]}, topic[1])

    def _moved(self, backend: str, topic: Topic, holders: Mapping[Holder, Topic]) -> bool:
        """Whether it can be wanted of who stands there now; as soon as it agrees, everybody is told to look anew."""
        source = Source(backend, None)
        watch = self._watch(source)
        if watch is None:
            return False
        watch.inherit(topic[1], topic[0])
        self._holders.setdefault((source, topic), {}).update(holders)
        for holder in holders:
            self._held.setdefault(holder, {})[source, topic] = None
        return True

    def remove(self, source: Source, topic: Topic, holder: Holder) -> None:
        """``holder`` wants ``topic`` no more."""
        key = (source, topic)
        self._drop(holder, key)
        holders = self._holders.get(key, {})
        if holders.pop(holder, None) is not None and not holders:
            del self._holders[key]
            watch = self._watch(source)
            if watch is not None:
                watch.unwant(topic[1], topic[0])

    def _drop(self, holder: Holder, key: tuple[Source, Topic]) -> None:
        held = self._held.get(holder, {})
        held.pop(key, None)
        if not held:
            self._held.pop(holder, None)

    def forget(self, holder: Holder) -> None:
        """``holder`` is gone."""
        for source, topic in self.held(holder):
            self.remove(source, topic, holder)

    def concerned(self, source: Source, topics: Iterable[Topic]) -> list[tuple[Holder, Topic]]:
        """Who subscribed there to any of ``topics``, once each, and as what."""
        found: dict[Holder, Topic] = {}
        for topic in topics:
            for holder, shown in self._holders.get((source, topic), {}).items():
                found.setdefault(holder, shown)
        return list(found.items())
