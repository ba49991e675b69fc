"""One request on its way through the house, and the shape of everything it passes.

The rule: a ``Call`` is never changed, a layer that knows more hands on a new one (``refine``); nobody decides by reading the
``Trail``, which is only written on the way down and read by telemetry and audit on the way up.
These are ``msgspec`` structs and not dataclasses because one of each is made for every request (0.3 µs against 1.5).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
from msgspec import Raw

from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import Revision
from vmcp.routing.table import Asked, Face, Route, RoutingTable, resource_route


class Origin(msgspec.Struct, gc=False):
    """Where a request came from. Mutable: whoever records the request, or knows of what kind it is, says so here.

    It is read by the audit log only; nothing is decided by it.
    """

    transport: str = ""
    address: str = ""
    agent: str = ""
    kind: str = ""
    told: bool = False
    via: str = ""
    """The proxy that the address was learned from."""


class Identity(msgspec.Struct, frozen=True):
    """Who is calling, as was verified at the door. ``token`` is what it was verified by; it is never shown.

    ``expires`` is when that ends, in seconds of the epoch; nobody is served by it any more then. ``proof`` names what it was
    verified by where that is no token (the hash of a key), so that it can be seen whether it would still be accepted.
    """

    issuer: str
    subject: str
    claims: Mapping[str, Any] = {}
    scopes: frozenset[str] = frozenset()
    token: str = ""
    persona: str | None = None
    expires: float | None = None
    proof: str = ""
    principal: str = ""
    """Issuer and subject as one text that nobody else has: what sessions, links, tickets and tasks are bound to. Never given."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "principal", f"{len(self.issuer)}:{self.issuer}{self.subject}")

    def __repr__(self) -> str:
        return f"Identity(issuer={self.issuer!r}, subject={self.subject!r}, persona={self.persona!r})"


LOCAL = "vmcp-local"
"""The issuer of those whom vmcp's own configuration names."""
ANONYMOUS = Identity(issuer=LOCAL, subject="anonymous")


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
    identity: Identity | None = None
    origin: Origin | None = None


class Client(Protocol):
    """The way back to a client while its call is in flight."""

    can_ask: bool
    """Whether ``ask`` can reach it: a client of the handshake era with a way back."""

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification that belongs to the call; dropped when the client cannot take one."""

    async def ask(self, question: Question) -> Raw:
        """The client's result for ``question``. Raises its error, or why it cannot be asked, as ``McpError``."""


class Answers(msgspec.Struct, frozen=True):
    """What a client of 2026-07-28 brings back with a retry: results by key, and ``requestState`` as it was given out."""

    responses: Mapping[str, Raw] = {}
    state: str | None = None


class Sent(Protocol):
    """A request to a backend that somebody watches: what must go along with it."""

    carrier: Mapping[str, str]
    """The trace context, by the names that it has in ``_meta`` and in headers."""

    def ids(self) -> tuple[str, str] | None:
        """Of the trace and the span, if they are kept."""


class Watcher(Protocol):
    """Who looks on while a call is with backends. Nothing is decided by it."""

    only_ends: bool
    """Whether ``asked`` is all that it wants to be told."""

    def asks(self, call: "Call", backend: str, transport: str, name: str | None) -> Sent | None:
        """``backend`` is about to be asked for what it calls ``name``. None: only the end matters."""

    def asked(self, sent: Sent | None, call: "Call", backend: str, transport: str, error: str, seconds: float) -> None:
        """It has answered (``error`` is empty then), or not."""


class Trail(msgspec.Struct):
    """What happened to a call. Mutable: written by whoever knows, read by telemetry and audit only."""

    backend: str | None = None
    original: str | None = None
    upstream_seconds: float = 0.0
    decision: str | None = None
    """``deny`` or ``allow``, once somebody has decided."""
    policies: tuple[str, ...] = ()
    """The ids of the policies that decided."""
    persona: str | None = None
    cached: bool = False
    limited: str | None = None
    """The config key of the limit that refused it."""
    watcher: Watcher | None = None
    trace: str = ""
    """The id of the trace that it is part of."""
    request: str = ""
    """What it is called in errors and logs; only those that failed have a name."""


May = Callable[[Route], bool]
"""Whether the caller may see and use something. The route of a resource that a template answers for has the URI as its name.

One and the same object says the same of a route whenever it is asked for a list of one table."""


class Visible(NamedTuple):
    """What ``Call.may`` says of each of ``routes``: a byte for each, 1 or 0."""

    routes: tuple[Route, ...]
    mask: bytes


class Call(msgspec.Struct, frozen=True):
    """A request in house form. ``name`` is the advertised name or URI; ``deadline`` is absolute loop time.

    ``id`` is the JSON text of the request's id: it names the call to its client, and nothing is ever keyed by it.
    ``may`` (None: everything) decides for lists and for calls alike; a layer only ever makes it narrower (``narrowed``).
    """

    id: bytes
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
    answers: Answers | None = None
    may: May | None = None
    visible: Visible | None = None
    """For a list: what ``may`` says of its entries, where that is known already."""

    @property
    def principal(self) -> str:
        """Whose call it is; empty when nobody was asked who he is."""
        return self.identity.principal if self.identity is not None else ""


def narrowed(call: Call, may: May) -> Call:
    """``call``, which may have what it may have already and ``may`` admits too."""
    before = call.may
    return refine(call, may=may if before is None else lambda route: before(route) and may(route), visible=None)


def usable(call: Call, route: Route | None, name: str | None = None) -> Route | None:
    """``route`` as the routing rules aim it, if the caller may have it: at home, and where the rules send the call.

    ``name`` is what was asked for, where that is not the name of ``route``: a URI that a template answers for.
    """
    may = call.may
    if route is None or (may is not None and not may(route if name is None else _concrete(route, name))):
        return None
    rules = call.face.rules
    if rules is None:
        return route
    aimed = rules.aim(_asked(call, name or route.name, route), route)
    return aimed if aimed is route or call.may is None or call.may(_concrete(aimed, name)) else None


def resource_for(call: Call, uri: str) -> Route | None:
    """Who answers for ``uri``, if the caller may have it. What comes through a template is judged by the URI itself."""
    route = resource_route(call.face, uri)
    if route is None and call.face.rules is not None:
        route = call.face.rules.reach(_asked(call, uri))
        return route if route is None or call.may is None or call.may(route) else None
    return usable(call, route, uri)


def _concrete(route: Route, name: str | None) -> Route:
    return route if name is None or route.name == name else msgspec.structs.replace(route, name=name)


def _asked(call: Call, name: str, route: Route | None = None) -> Asked:
    method = "resources/subscribe" if call.method == "subscriptions/listen" else call.method

    def values() -> Mapping[str, Any]:
        who = call.identity
        told = {} if who is None else {"issuer": who.issuer, "subject": who.subject, "claims": who.claims}
        scopes = who.scopes if who is not None else frozenset()
        persona = who.persona if who is not None else None
        principal = {**told, "scopes": scopes}
        params = call.tree
        if route is not None and route.worn is not None:
            params = {**params, "arguments": route.worn.effective(params.get("arguments"))}
        return {"method": method, "name": name, "params": params, "principal": principal, "persona": persona}

    return Asked(method, name, values)


class Complete(msgspec.Struct, frozen=True):
    """A result as JSON text, and the revision in whose shape it is. The door brings it into the client's shape."""

    result: Raw | bytes
    revision: Revision


class InputRequired(msgspec.Struct, frozen=True):
    """A result of 2026-07-28 that asks first: all its members, ``inputRequests`` and ``requestState`` (sealed) among them."""

    members: Mapping[str, Raw]


Outcome = Complete | InputRequired
Handler = Callable[[Call], Awaitable[Outcome]]
Middleware = Callable[[Handler], Handler]

PLACES = ("telemetry", "audit", "auth", "ratelimit", "persona", "authz")
"""The layers around dispatch, outermost first. Telemetry is outside auth, so that a refusal is counted too.

Nothing stands at audit's place: a call that asks its client passes the chain once for each round and is one event, so it is
recorded around the door (``server/exchange``), and what never becomes a call at the gate.
"""


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
