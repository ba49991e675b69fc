"""The event of the usual call: noted by who serves it, and made into text by the thread that writes it, many at a time.

The rule: to serve a call costs a note and nothing more. A note is small, whatever its call was, and it keeps nothing of the
result; so the queue of the log can count notes instead of bytes. What is too long for a note is told at once, by ``Auditor``.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from vmcp.call import Identity, Origin, Peer, Trail
from vmcp.middleware import event
from vmcp.middleware.event import Extra, Form, Person, Told
from vmcp.protocol.revisions import Revision

LONGEST: Final = 1024
"""Bytes of arguments, and of what a client says that it is, that are kept in a note."""
SAID: Final = {each: str(each.value) for each in Revision}
WHOLE: Final = 2.0**52
"""From here on floats are whole numbers: to add it and to take it away again rounds, in a third of the time."""
Called = tuple[str, str, str | None, Revision, str, str | None, str | None, str | None, tuple[str, ...], str | None]
"""What is the same of calls of one thing: path, method, name, revision, transport, and what the trail says."""

TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "initialize": ("mcp_initialize", ""),
    "server/discover": ("mcp_initialize", ""),
    "ping": ("mcp_ping", ""),
    "tools/call": ("mcp_tool_call", "tool"),
    "tools/list": ("mcp_tools_list", ""),
    "prompts/get": ("mcp_prompt_get", "prompt"),
    "prompts/list": ("mcp_prompts_list", ""),
    "resources/read": ("mcp_resource_read", "resource"),
    "resources/list": ("mcp_resources_list", ""),
    "resources/templates/list": ("mcp_resources_list", ""),
    "resources/subscribe": ("mcp_subscription", "resource"),
    "resources/unsubscribe": ("mcp_subscription", "resource"),
    "subscriptions/listen": ("mcp_subscription", ""),
    "completion/complete": ("mcp_completion", ""),
    "logging/setLevel": ("mcp_logging", ""),
    "tasks/get": ("mcp_task", "task"),
    "tasks/result": ("mcp_task", "task"),
    "tasks/update": ("mcp_task", "task"),
    "tasks/cancel": ("mcp_task", "task"),
    "tasks/list": ("mcp_task", ""),
}
"""The type of the event of each method, and of what its name is one."""
OTHERS: Final = "mcp_request", ""
"""The same of methods that are not ours."""


class Note(msgspec.Struct, gc=False):
    """A call that has its result, until it is written. See ``state.auditlog.Draft``."""

    scribe: "Scribe"
    number: int
    at: float
    path: str
    method: str
    name: str | None
    revision: Revision
    identity: Identity | None
    info: bytes | None
    session: str | None
    origin: Origin
    trail: Trail
    arguments: bytes | None
    count: int | None
    seconds: float
    size: int
    ended: float = 0.0
    """By ``perf_counter``; set by whoever wants to know."""

    def text(self) -> bytes:
        """The event, as JSON text. (In one piece: a call within costs each record, and there are many.)"""
        scribe, trail, origin, identity, arguments = self.scribe, self.trail, self.origin, self.identity, self.arguments
        digest = length = upstream = person = known = None
        if identity is not None:
            # The claims of one token are one object, found by its place: nothing else can be there while it is kept.
            key, agent, via = id(identity.claims), origin.agent, origin.via
            person = identity.principal, key, self.info, self.session, origin.address, agent, via
            known = scribe.people.get(person)
        who = known[1] if known is not None else scribe.describe(self, person)
        called = (
            self.path,
            self.method,
            self.name,
            self.revision,
            origin.transport,
            trail.backend,
            trail.original,
            trail.decision,
            trail.policies,
            trail.persona,
        )
        call = scribe.calls.get(called) or scribe.tell(called)
        if arguments is not None:
            # It shows that two texts are the same, to nobody else.
            mark = scribe.begun.copy()
            mark.update(arguments)
            digest, length = "blake2b:" + mark.hexdigest(), len(arguments)
        if trail.backend is not None:
            upstream = (trail.upstream_seconds * 1e6 + WHOLE - WHOLE) / 1000
        told = Told((self.seconds * 1e6 + WHOLE - WHOLE) / 1000, self.size, upstream, digest, length, self.count)
        stamp = scribe.form.stamp(self.number, self.at)
        return b"".join((stamp, who, call, event.plainly(told)[1:], b"}}"))


class Scribe:
    """What is remembered of notes, within bounds; used by one thread. Mutable. ``begun``: a keyed digest of nothing."""

    def __init__(self, form: Form, begun: Any) -> None:
        self.form = form
        self.begun = begun
        self.calls: dict[Called, bytes] = {}
        self.people: dict[Person, tuple[Mapping[str, Any], bytes]] = {}

    def describe(self, note: Note, person: Person | None) -> bytes:
        """Who it was, as members; remembered as ``person``."""
        peer = Peer(note.revision, info=note.info, session=note.session, identity=note.identity)
        said = self.form.describe(note.origin, peer)
        if person is not None and note.identity is not None:
            event.keep(self.people, person, (note.identity.claims, said))
        return said

    def tell(self, called: Called) -> bytes:
        """What is the same of all these calls, as members; remembered, too."""
        path, method, name, revision, transport, backend, original, decision, policies, persona = called
        kind, named = TYPES.get(method, OTHERS)
        extra = Extra(SAID[revision], transport, backend_name=backend, persona=persona)
        if backend is not None and original is not None and original != name:
            extra.backend_target = event.plain(original)
        if decision is not None:
            extra.decision, extra.policies = decision, policies
        said = event.call(event.target(path, method, named, name), kind, extra)
        event.keep(self.calls, called, said)
        return said
