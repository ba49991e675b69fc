"""What is wanted of a backend besides answers: to be told what changes there.

The rule: what is wanted is kept here and outlives every connection; a keeper brings each connection into line with it.
"""

from collections.abc import Callable

from vmcp.errors import Unavailable
from vmcp.tasks import Nest
from vmcp.upstream.ask import OnEvent
from vmcp.upstream.keeper import TASKS, UPDATED, URIS, Keeper, Subscribes, Topic
from vmcp.upstream.link import Link
from vmcp.upstream.listens import ACKNOWLEDGED, Listens

__all__ = ["ACKNOWLEDGED", "TASKS", "UPDATED", "URIS", "Topic", "Watch"]


class Watch:
    """What is wanted of one backend. Mutable; ``attach`` and ``detach`` are called by the backend's owner only.

    ``on_event`` is told of everything that the backend says on a stream of ours, and of what may have changed unheard;
    ``on_lost`` that the session may be lost (without it, lists are said to have changed: asking for them shows it).
    """

    def __init__(self, name: str, nest: Nest, on_event: OnEvent, on_lost: Callable[[], None] | None = None) -> None:
        self._name = name
        self._nest = nest
        self._on_event = on_event
        self._on_lost = on_lost
        self._wanted: dict[Topic, None] = {}
        self._keeper: Keeper | None = None

    @property
    def busy(self) -> bool:
        """Whether anything is wanted."""
        return bool(self._wanted)

    def attach(self, link: Link) -> None:
        """Keep to this connection from now on, and subscribe there to all that is wanted."""
        self.detach()
        kind = Listens if link.facts.revision.modern else Subscribes
        self._keeper = kind(self._name, link, self._nest, self._wanted, self._on_event)
        self._keeper.on_lost = self._on_lost
        self._keeper.start()

    def detach(self) -> None:
        """The connection is gone; who waits for a subscription is told so. Harmless when called twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()

    def hand_over(self, other: "Watch") -> None:
        """All that is wanted is wanted of ``other`` from now on; nobody waits here any more."""
        if self._wanted:
            other._wanted.update(self._wanted)
            self._wanted.clear()
            for keeper in (self._keeper, other._keeper):
                if keeper is not None:
                    keeper.wake()

    async def want(self, name: str, kind: str = URIS) -> None:
        """Be told when ``name`` changes; returns as soon as the backend has agreed. Raises ``McpError``."""
        topic = (kind, name)
        self._wanted[topic] = None
        if self._keeper is None:
            raise Unavailable(self._name, "it is not connected")
        refused = await self._keeper.outcome(topic)
        if refused is not None:
            raise refused

    def unwant(self, name: str, kind: str = URIS) -> None:
        """Nobody wants ``name`` any more. It also takes back a ``want`` that failed or still waits."""
        if self._wanted.pop((kind, name), False) is None and self._keeper is not None:
            self._keeper.wake()

    def inherit(self, name: str, kind: str = URIS) -> None:
        """Be told when ``name`` changes, as of another backend before; whether it agrees is seen when it is connected."""
        self._wanted[kind, name] = None
        if self._keeper is not None:
            self._keeper.wake()
