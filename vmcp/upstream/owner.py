"""Whom a backend tells what happens to it, and how it is.

The rule: a backend knows its owner by this alone.
"""

from typing import Literal, Protocol

import msgspec
from msgspec import Raw

from vmcp.protocol.questions import Question
from vmcp.routing.catalog import Catalog
from vmcp.upstream.links import Key

Health = Literal["unknown", "healthy", "degraded", "unhealthy", "unauthenticated"]
"""Degraded: it answers, but late, or not always. Unauthenticated: it answers that it takes nothing without a credential."""


class Owner(Protocol):
    """Whom a backend tells what happens to it."""

    def catalogued(self, catalog: Catalog) -> None:
        """What the backend offers is this now."""

    def settled(self) -> None:
        """Its ``status`` has changed."""

    def heard(self, backend: str, method: str, params: Raw, source: Key | None = None) -> None:
        """It said something outside of any request, other than that a list changed.

        ``source``: it said so on this private link, so that it concerns nobody else; None: on the control link.
        """

    async def inquire(self, session_id: str, question: Question) -> Raw:
        """It asks the client of a session something outside of any request. Raises ``McpError``."""


class Status(msgspec.Struct, frozen=True):
    """How a backend is: ``state`` is starting, up or down; ``why`` says what is wrong when it is down or not healthy.

    ``since`` is the loop time at which ``health`` last changed.
    """

    state: str = "starting"
    why: str = ""
    health: Health = "unknown"
    since: float = 0.0
