"""What callers may do: the policies of ``incomingAuth.authz``, asked once for the same question.

The rule: a list shows what may be called, so both ask one function; it is asked without arguments for a list and with them for a
call, and whatever cannot be decided is denied. A decision is kept while nothing it depends on has changed: caller, claims that
policies read, table, and the thing itself; one that depends on arguments is not kept.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from vmcp.call import Call, Handler, Identity, May, Outcome, Visible, narrowed, refine
from vmcp.config.cedar.judge import NO_ARGUMENTS, Caller, Judge, Verdict
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route
from vmcp.routing.things import absent, thing

log = logging.getLogger("vmcp.authz")

MAX_CALLERS: Final = 4096
MAX_DECISIONS: Final = 131_072
LONGEST_NAME: Final = 1024
"""Longer names are decided every time, so that nobody fills the memory with URIs."""
MAX_MASKS: Final = 4 << 20
"""Bytes of what is remembered of whole lists."""
_AT_ONCE: Final = 64
_LISTS: Final = {
    "tools/list": Kind.TOOL,
    "prompts/list": Kind.PROMPT,
    "resources/list": Kind.RESOURCE,
    "resources/templates/list": Kind.TEMPLATE,
}
_WITH_ARGUMENTS: Final = frozenset({"tools/call", "prompts/get"})
_UNREADABLE = Verdict(False, (), "'arguments' is no object, and a policy reads arguments")

Key = tuple[str, bytes]
Place = tuple[Key, str, Kind, str, str, str]
Met = dict[int, tuple[Route, Verdict]]
"""What was decided about a caller, by the address of the route, which is kept with it."""
Known = tuple[Identity, Key, Caller, Met]
Sight = tuple[Key | None, May | None, int]
"""Who looks, what had narrowed his call before, and the address of the list, which is kept with what is remembered of it."""
K = TypeVar("K")
V = TypeVar("V")


class Authorization:
    """The layer, and what it remembers. Mutable: both memories are bounded, and the oldest goes first."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._reads = bool(judge.arguments)
        self._known: dict[int, Known] = {}
        self._callers: dict[Key, tuple[Caller, Met]] = {}
        self._decisions: dict[Place, Verdict] = {}
        self._met = 0
        """How much there is in what is remembered with the callers, at most."""
        self._masks: dict[Sight, Visible] = {}
        self._warned: set[tuple[str, str]] = set()
        self._table = -1

    def __call__(self, handler: Handler) -> Handler:
        """The layer around ``handler``."""

        def handle(call: Call) -> Awaitable[Outcome]:
            identity = call.identity
            known: Known | None = None
            may: May = _nothing
            if identity is not None:
                # The claims of one token are one object, which is found in a tenth of the time that its digest takes.
                known = self._known.get(id(identity.claims))
                if known is None or known[0] is not identity:
                    known = self._caller(identity)
                may = partial(self._may, call, known)
            asked = refine(call, may=may) if call.may is None else narrowed(call, may)
            kind = _LISTS.get(call.method)
            if kind is not None and len(call.face.listing[kind]) > _AT_ONCE:
                return self._list(handler, asked, (known and known[1], call.may, id(call.face.listing[kind])), kind)
            return handler(asked)

        return handle

    async def _list(self, handler: Handler, call: Call, sight: Sight, kind: Kind) -> Outcome:
        """Decide on a long list bit by bit, as thousands of decisions would keep everybody else waiting; then remember it."""
        visible = self._masks.get(sight)
        if visible is None or call.may is None or call.table.number != self._table:
            visible = Visible(routes := call.face.listing[kind], await _decided(routes, call.may or _nothing))
            if call.table.number == self._table:
                _keep(self._masks, sight, visible, min(MAX_CALLERS, max(1, MAX_MASKS // len(visible.mask))))
        return await handler(refine(call, visible=visible))

    def _may(self, call: Call, who: Known, route: Route) -> bool:
        """Whether ``who`` may have ``route``, by this call. It says so on the trail, unless it is asked for a list."""
        verdict = None
        if self._reads and call.method in _WITH_ARGUMENTS:
            verdict = self._by_arguments(call, who[2], route)
        if verdict is None:
            # A route of the table is one object, found by its place: nothing else is there while it is kept.
            met = who[3].get(id(route))
            current = call.table.number == self._table
            verdict = met[1] if met is not None and current else self._verdict(call, who, route)
        if call.method in _LISTS:
            return verdict.allowed
        trail = call.trail
        trail.policies = verdict.policies
        if verdict.allowed:
            trail.decision = "allow"
            return True
        trail.decision = "deny"
        if log.isEnabledFor(logging.INFO):
            log.info("denied", extra={"method": call.method, "target": route.name, "why": verdict.why})
        return False

    def _by_arguments(self, call: Call, caller: Caller, route: Route) -> Verdict | None:
        """The verdict where there are arguments that policies read, as the thing itself would get them."""
        arguments: Any = call.tree.get("arguments")
        if route.worn is not None:
            arguments = route.worn.effective(arguments)
        if arguments is None:
            return None
        if not isinstance(arguments, Mapping):
            return _UNREADABLE
        if any(name in arguments for name in self._judge.arguments):
            return self._judge.decide(caller, thing(route), arguments)
        return None

    def _caller(self, identity: Identity) -> Known:
        known = self._known.get(id(identity.claims))
        if known is not None and _same(known[0], identity):
            return known
        key, caller, met = self._read(identity)
        made = identity, key, caller, met
        _keep(self._known, id(identity.claims), made, MAX_CALLERS)
        return made

    def _read(self, identity: Identity) -> tuple[Key, Caller, Met]:
        judge = self._judge
        read = {name: identity.claims[name] for name in judge.claims if name in identity.claims}
        # Whom the policies cannot tell from others with these claims is decided about together with them.
        who = "" if judge.alike(identity.subject) else identity.principal
        key = (who, hashlib.sha256(msgspec.json.encode(read, order="sorted")).digest())
        found = self._callers.get(key)
        if found is None:
            found = judge.caller(identity.issuer, identity.subject, read), {}
            _keep(self._callers, key, found, MAX_CALLERS)
        return key, *found

    def _verdict(self, call: Call, who: Known, route: Route) -> Verdict:
        _, key, caller, met = who
        if call.table.number != self._table:
            self._decisions.clear()
            self._forget()
            self._masks.clear()
            self._table = call.table.number
            self._warn(call)
        verdict = self._remembered(call, key, caller, route)
        # (One that a template answers for, or that rules have aimed elsewhere, is made anew for each call.)
        if call.face.routes[route.kind].get(route.name) is route:
            if self._met >= MAX_DECISIONS:
                self._forget()
            self._met += 1
            met[id(route)] = route, verdict
        return verdict

    def _forget(self) -> None:
        self._met = 0
        for _, _, _, met in self._known.values():
            met.clear()
        for _, met in self._callers.values():
            met.clear()

    def _remembered(self, call: Call, key: Key, caller: Caller, route: Route) -> Verdict:
        # The same name may be another thing on another face, and one URI may come through two templates.
        place = (key, call.face.path, route.kind, route.backend, route.original, route.name)
        verdict = self._decisions.get(place)
        if verdict is None:
            verdict = self._judge.decide(caller, thing(route), NO_ARGUMENTS)
            if len(route.name) <= LONGEST_NAME:
                _keep(self._decisions, place, verdict, MAX_DECISIONS)
        return verdict

    def _warn(self, call: Call) -> None:
        """A policy about something that is not there decides nothing; perhaps it is misspelt."""
        for kind, name in absent(call.table, self._judge.named - self._warned):
            self._warned.add((kind, name))
            log.warning("a policy names what is not there", extra={"kind": kind, "target": name})


def _same(one: Identity, other: Identity) -> bool:
    return one.claims is other.claims and one.principal == other.principal


async def _decided(routes: tuple[Route, ...], may: May) -> bytes:
    """What ``may`` says of each, a byte for each."""
    mask = bytearray()
    for number, route in enumerate(routes):
        mask.append(may(route))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return bytes(mask)


def _nothing(_: Route) -> bool:
    return False


def _keep(memory: dict[K, V], key: K, value: V, most: int) -> None:
    memory.pop(key, None)
    while len(memory) >= most:
        del memory[next(iter(memory))]
    memory[key] = value
