"""One request on its way through the house, and the shape of everything it passes.

The rule: a ``Call`` is never changed, a layer that knows more hands on a new one (``refine``); nobody decides by reading the
``Trail``, which is only written on the way down and read by telemetry and audit on the way up.
These are ``msgspec`` structs and not dataclasses because one of each is made for every request (0.3 µs against 1.5).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from vmcp.protocol.revisions import Revision
from vmcp.routing.table import Face, RoutingTable


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end: the revision it speaks, what it declared, and the request headers that matter.

    ``capabilities`` and ``info`` are JSON texts as the client sent them; ``level`` is the least severe log message that it
    wants (None: it wants none); ``headers`` are the request headers that vmcp reads, lowercase.
    """

    revision: Revision
    capabilities: bytes = b"{}"
    info: bytes | None = None
    session: str | None = None
    level: str | None = None
    headers: Mapping[str, str] = {}


class Identity(msgspec.Struct, frozen=True):
    """Who is calling, as auth found out."""

    issuer: str
    subject: str


class Client(Protocol):
    """The way back to a client while its call is in flight."""

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification that belongs to the call; dropped when the client cannot take one."""


class Trail(msgspec.Struct):
    """What happened to a call. Mutable: written by whoever knows, read by telemetry and audit only."""

    backend: str | None = None
    original: str | None = None
    upstream_seconds: float = 0.0


class Call(msgspec.Struct, frozen=True):
    """A request in house form. ``name`` is the advertised name or URI; ``deadline`` is absolute loop time."""

    method: str
    name: str | None
    params: Mapping[str, Raw]
    meta: Mapping[str, Raw]
    tree: Mapping[str, Any]
    peer: Peer
    face: Face
    table: RoutingTable
    client: Client
    deadline: float
    trail: Trail
    identity: Identity | None = None


class Complete(msgspec.Struct, frozen=True):
    """A result as JSON text, and the revision in whose shape it is. The door brings it into the client's shape."""

    result: Raw | bytes
    revision: Revision


Outcome = Complete
Handler = Callable[[Call], Awaitable[Outcome]]
Middleware = Callable[[Handler], Handler]

PLACES = ("telemetry", "audit", "auth", "ratelimit", "authz", "cache")
"""The layers around dispatch, outermost first. Telemetry and audit are outside auth, so that a refusal is recorded too."""


def chain(handler: Handler, layers: Mapping[str, Middleware]) -> Handler:
    """Wrap ``handler`` in ``layers`` (by place; an absent place is empty). Raises KeyError for a place that is none."""
    unknown = set(layers) - set(PLACES)
    if unknown:
        raise KeyError(f"no such place in the chain: {sorted(unknown)}")
    for place in reversed(PLACES):
        if place in layers:
            handler = layers[place](handler)
    return handler


refine = msgspec.structs.replace
