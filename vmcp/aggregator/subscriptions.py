"""Who hears what: changes of lists and of resources, from every backend to those clients who asked for them.

The rule: nobody is told what he did not subscribe to, and a backend is asked once for what many want and no longer than one of
them does. What a backend says is only an occasion: a change of lists is told when the table that a client sees has changed.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from vmcp.aggregator.ledger import Ledger, Source, Watched
from vmcp.aggregator.listening import LISTS, Listening, farewell
from vmcp.call import Call, Complete, resource_for
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, jsonrpc, tasks
from vmcp.routing.catalog import Kind
from vmcp.routing.table import RoutingTable, diff
from vmcp.upstream.ask import params_of
from vmcp.upstream.links import Key
from vmcp.upstream.watch import TASKS, UPDATED, URIS, Topic

log = logging.getLogger("vmcp.aggregator")

MAX_SUBSCRIPTIONS: Final = 256
"""Resources that one session may subscribe to."""
_CHANGED: Final = {
    Kind.TOOL: LISTS["tools"][1],
    Kind.PROMPT: LISTS["prompts"][1],
    Kind.RESOURCE: LISTS["resources"][1],
    Kind.TEMPLATE: LISTS["resources"][1],
}
_TASK = "notifications/tasks"
_UNDER = frozenset("/?#")
# What concerns one session only, and is passed on when the connection to the backend is that session's own.
_PERSONAL = frozenset({"notifications/message", "notifications/elicitation/complete"})


class Ear(Protocol):
    """A client's standing way to be told something: its GET stream, its socket."""

    path: str

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """Take a notification. Never waits; what is not sent yet is bounded, and of the same thing only the latest is kept."""


OpenTask = Callable[[Call, str], tuple[str, str] | None]
"""The backend and the inner id of a task, by the id that this caller has of it; None: he has none such."""
TaskTold = Callable[[str, Mapping[str, Raw], str | None], list[tuple[str, dict[str, Any]]]]
"""The sessions to tell of the state of a task (2025-11-25), and what, when a backend said it, perhaps on a session's own link."""


class Hub:
    """All subscriptions of the house, and all ears. Mutable; lives on the loop, and nothing in it waits but for backends."""

    def __init__(
        self, backends: Mapping[str, Watched], open_task: OpenTask | None = None, task_told: TaskTold | None = None
    ) -> None:
        self._task_told = task_told
        self._ledger = Ledger(backends)
        self._open_task = open_task
        self._seats: dict[str, _Seat] = {}
        self._listening: dict[Listening, None] = {}
        self._draining = False
        self._silent = asyncio.Event()
        self._silent.set()

    # --- sessions of the handshake era

    def join(self, session_id: str, ear: Ear) -> None:
        """From now on this session is told through ``ear``."""
        self._seat(session_id).ear = ear

    def leave(self, session_id: str) -> None:
        """The session is over, and so are its subscriptions. Harmless when there was none."""
        seat = self._seats.pop(session_id, None)
        if seat is not None:
            self._ledger.forget(seat)

    def _seat(self, session_id: str) -> "_Seat":
        return self._seats.setdefault(session_id, _Seat())

    async def subscribe(self, call: Call) -> Complete:
        """``resources/subscribe``; answered when the backend has agreed. Raises ``McpError``."""
        session, uri = _session(call), _uri(call)
        seat = self._seat(session)
        route = resource_for(call, uri)
        if route is None:
            raise McpError(Code.RESOURCE_NOT_FOUND, "Resource not found", {"uri": uri}, vmcp_code=Code.ROUTING_FAILED)
        if len(self._ledger.held(seat)) >= MAX_SUBSCRIPTIONS:
            text = f"a session may subscribe to {MAX_SUBSCRIPTIONS} resources, and this one does"
            raise McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.GATEWAY_ERROR)
        call.trail.backend = route.backend
        call.trail.original = uri
        source = await self._ledger.source(route.backend, call)
        if self._seats.get(session) is not seat:
            raise McpError(Code.INVALID_REQUEST, "The session has ended")
        await self._ledger.add(source, (URIS, uri), seat)
        return Complete(b"{}", call.peer.revision)

    async def unsubscribe(self, call: Call) -> Complete:
        """``resources/unsubscribe``; one that was never subscribed to is unsubscribed already."""
        seat, uri = self._seats.get(_session(call)), _uri(call)
        if seat is not None:
            # By what the session holds and not by the table, which may have changed since.
            for source, topic in self._ledger.held(seat):
                if topic == (URIS, uri):
                    self._ledger.remove(source, topic, seat)
        return Complete(b"{}", call.peer.revision)

    # --- subscriptions of 2026-07-28

    async def listen(self, call: Call) -> Complete:
        """``subscriptions/listen``: tells the client what it asked for until it leaves or ``drain`` ends it."""
        one = Listening(call)
        self._listening[one] = None
        self._silent.clear()
        try:
            granted = await self._granted(call, one)
            if self._draining:
                one.end()
            await one.run(granted)
        finally:
            del self._listening[one]
            self._ledger.forget(one)
            if not self._listening:
                self._silent.set()
        return farewell(call)

    async def _granted(self, call: Call, one: Listening) -> list[Topic]:
        """Which of its topics their backends have agreed to."""
        async with asyncio.TaskGroup() as group:
            asked = {topic: group.create_task(self._grant(call, one, topic)) for topic in one.topics}
        return [topic for topic, task in asked.items() if task.result()]

    async def _grant(self, call: Call, one: Listening, topic: Topic) -> bool:
        found = self._origin(call, topic)
        if found is None:
            return False
        backend, inner = found
        try:
            # Tasks are of the era of the call, and its backend is asked over the link of all.
            source = await self._ledger.source(backend, call) if topic[0] == URIS else Source(backend, None)
            await self._ledger.add(source, (topic[0], inner), one, topic)
        except McpError:
            return False
        return True

    def _origin(self, call: Call, topic: Topic) -> tuple[str, str] | None:
        kind, name = topic
        if kind == TASKS:
            return self._open_task(call, name) if self._open_task is not None else None
        route = resource_for(call, name)
        return (route.backend, name) if route is not None else None

    # --- another configuration

    def adopt(self, backends: Mapping[str, Watched], private: Container[str] = ()) -> None:
        """These are the backends now. What was wanted of one that was replaced is wanted of who stands in its place.

        Not of those that are ``private``, where everybody must subscribe with a credential of his own.
        """
        self._ledger.adopt(backends, private)

    def keep(self, paths: Container[str]) -> None:
        """Only these endpoints are served: what was subscribed to at others ends in order."""
        for listening in self._listening:
            if listening.path not in paths:
                listening.end()

    def suspect(self, paths: Iterable[str]) -> None:
        """Everybody there may see other lists than before, though the tables are the same: let them look."""
        changes = dict.fromkeys(paths, frozenset(Kind))
        for seat in self._seats.values():
            if seat.ear is not None:
                _tell(seat.ear, changes)
        for listening in self._listening:
            _tell(listening, changes)

    # --- what happened

    def changed(self, old: RoutingTable, new: RoutingTable) -> None:
        """A new table: who sees another list than before is told so."""
        handshake, modern = diff(old, new, modern=False), diff(old, new, modern=True)
        for seat in self._seats.values():
            if seat.ear is not None:
                _tell(seat.ear, handshake)
        for listening in self._listening:
            _tell(listening, modern)

    def heard(self, backend: str, method: str, params: Raw, link: Key | None = None) -> None:
        """A backend said something that belongs to no request; on ``link``, if that is a private one."""
        told = params_of(params)
        session = link.text if link is not None and link.kind == "session" else None
        if told is None:
            return
        if method == UPDATED:
            self._updated(Source(backend, link), told)
        elif method == _TASK:
            self._task(backend, told)
        elif method == tasks.STATUS and self._task_told is not None:
            for whose, said in self._task_told(backend, told, session):
                if whose in self._seats:
                    self._seats[whose].tell(method, said)
        elif method in _PERSONAL and session is not None and session in self._seats:
            self._seats[session].tell(method, _own(told))

    def _updated(self, source: Source, told: Mapping[str, Raw]) -> None:
        uri = _text(told.get("uri"))
        if uri is None:
            return
        params = _own(told)
        for holder, topic in self._ledger.concerned(source, _and_above(uri)):
            holder.updated(topic, UPDATED, params, uri)

    def _task(self, backend: str, told: Mapping[str, Raw]) -> None:
        inner = tasks.id_of(told)
        for holder, topic in self._ledger.concerned(Source(backend, None), [(TASKS, inner or "")]):
            holder.updated(topic, _TASK, _own(tasks.renamed(told, topic[1])), topic[1])

    def drain(self) -> None:
        """The house closes: every subscription ends in order, with its result."""
        self._draining = True
        for listening in self._listening:
            listening.end()

    async def silence(self, seconds: float) -> None:
        """Wait until nobody listens any more, at most ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._silent.wait()
        except TimeoutError:
            log.info("subscriptions cut off", extra={"subscriptions": len(self._listening)})


class _Seat:
    """A session of the handshake era; ``ear`` is None until it has one."""

    def __init__(self) -> None:
        self.ear: Ear | None = None

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """Pass it on, if somebody is there."""
        if self.ear is not None:
            self.ear.tell(method, params)

    def updated(self, topic: Topic, method: str, params: Mapping[str, Any], name: str) -> None:
        """See ``Holder``."""
        self.tell(method, params)


def _and_above(uri: str) -> Iterator[Topic]:
    """``uri``, and every beginning of it that ends where a part ends: it may be a sub-resource of any of them."""
    yield URIS, uri
    for at in range(len(uri) - 1, 0, -1):
        if uri[at] in _UNDER:
            if at < len(uri) - 1:
                yield URIS, uri[: at + 1]
            yield URIS, uri[:at]


def _tell(ear: Ear, changes: Mapping[str, frozenset[Kind]]) -> None:
    for method in dict.fromkeys(_CHANGED[kind] for kind in Kind if kind in changes.get(ear.path, ())):
        ear.tell(method, {})


def _own(told: Mapping[str, Raw]) -> dict[str, Any]:
    """What a backend said, without what the protocol itself put into ``_meta``."""
    params: dict[str, Any] = dict(told)
    meta = params_of(params.pop("_meta", jsonrpc.NONE))
    kept = envelope.own_meta(meta) if meta else {}
    return {**params, "_meta": kept} if kept else params


def _text(raw: Raw | None) -> str | None:
    try:
        return msgspec.json.decode(raw, type=str) if raw is not None else None
    except msgspec.MsgspecError:
        return None


def _session(call: Call) -> str:
    if call.peer.session is None:
        raise McpError(Code.INVALID_REQUEST, "Invalid request: a subscription needs a session")
    return call.peer.session


def _uri(call: Call) -> str:
    uri = call.tree.get("uri")
    if not isinstance(uri, str):
        raise McpError(Code.INVALID_PARAMS, "Invalid params: 'uri' must be a string")
    return uri
