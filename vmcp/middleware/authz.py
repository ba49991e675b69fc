"""What callers may do: the policies of ``incomingAuth.authz``, asked once for the same question.

The rule: a list shows what may be called, so both ask one function; it is asked without arguments for a list and with them for a
call, and whatever cannot be decided is denied. A decision is kept while nothing it depends on has changed: caller, claims that
policies read, table, and the thing itself; one that depends on arguments is not kept.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from vmcp.call import Call, Handler, Identity, May, Outcome, narrowed
from vmcp.config.cedar.judge import NO_ARGUMENTS, Caller, Judge, Verdict
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route
from vmcp.routing.things import absent, thing

log = logging.getLogger("vmcp.authz")

MAX_CALLERS: Final = 4096
MAX_DECISIONS: Final = 131_072
LONGEST_NAME: Final = 1024
"""Longer names are decided every time, so that nobody fills the memory with URIs."""
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
K = TypeVar("K")
V = TypeVar("V")


class Authorization:
    """The layer, and what it remembers. Mutable: both memories are bounded, and the oldest goes first."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._known: dict[int, tuple[Identity, Key, Caller]] = {}
        self._callers: dict[Key, Caller] = {}
        self._decisions: dict[Place, Verdict] = {}
        self._warned: set[tuple[str, str]] = set()
        self._table = -1

    def __call__(self, handler: Handler) -> Handler:
        """The layer around ``handler``."""

        def handle(call: Call) -> Awaitable[Outcome]:
            may = self._may(call)
            asked = narrowed(call, may)
            kind = _LISTS.get(call.method)
            if kind is not None and len(call.face.listing[kind]) > _AT_ONCE:
                return self._list(handler, asked, may, kind)
            return handler(asked)

        return handle

    async def _list(self, handler: Handler, call: Call, may: May, kind: Kind) -> Outcome:
        """Decide on a long list bit by bit, as thousands of decisions would keep everybody else waiting."""
        for number, route in enumerate(call.face.listing[kind]):
            may(route)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return await handler(call)

    def _may(self, call: Call) -> May:
        identity = call.identity
        if identity is None:
            return _nothing
        key, caller = self._caller(identity)
        silent = call.method in _LISTS
        arguments = call.tree.get("arguments") if call.method in _WITH_ARGUMENTS else None

        def may(route: Route) -> bool:
            verdict = self._verdict(call, key, caller, route, arguments)
            if not silent:
                call.trail.decision = "allow" if verdict.allowed else "deny"
                call.trail.policies = verdict.policies
                if not verdict.allowed and log.isEnabledFor(logging.INFO):
                    log.info("denied", extra={"method": call.method, "target": route.name, "why": verdict.why})
            return verdict.allowed

        return may

    def _caller(self, identity: Identity) -> tuple[Key, Caller]:
        # The claims of one token are one object, which is found in a tenth of the time that its digest takes.
        known = self._known.get(id(identity.claims))
        if known is not None and known[0].claims is identity.claims and known[0].principal == identity.principal:
            return known[1], known[2]
        key, caller = self._read(identity)
        _keep(self._known, id(identity.claims), (identity, key, caller), MAX_CALLERS)
        return key, caller

    def _read(self, identity: Identity) -> tuple[Key, Caller]:
        judge = self._judge
        read = {name: identity.claims[name] for name in judge.claims if name in identity.claims}
        key = (identity.principal, hashlib.sha256(msgspec.json.encode(read, order="sorted")).digest())
        caller = self._callers.get(key)
        if caller is None:
            caller = judge.caller(identity.issuer, identity.subject, read)
            _keep(self._callers, key, caller, MAX_CALLERS)
        return key, caller

    def _verdict(self, call: Call, key: Key, caller: Caller, route: Route, arguments: Any) -> Verdict:
        judge = self._judge
        if arguments is not None and judge.arguments:
            if not isinstance(arguments, Mapping):
                return _UNREADABLE
            if any(name in arguments for name in judge.arguments):
                return judge.decide(caller, thing(route), arguments)
        if call.table.number != self._table:
            self._decisions.clear()
            self._table = call.table.number
            self._warn(call)
        # The same name may be another thing on another face, and one URI may come through two templates.
        place = (key, call.face.path, route.kind, route.backend, route.original, route.name)
        verdict = self._decisions.get(place)
        if verdict is None:
            verdict = judge.decide(caller, thing(route), NO_ARGUMENTS)
            if len(route.name) <= LONGEST_NAME:
                _keep(self._decisions, place, verdict, MAX_DECISIONS)
        return verdict

    def _warn(self, call: Call) -> None:
        """A policy about something that is not there decides nothing; perhaps it is misspelt."""
        for kind, name in absent(call.table, self._judge.named - self._warned):
            self._warned.add((kind, name))
            log.warning("a policy names what is not there", extra={"kind": kind, "target": name})


def _nothing(_: Route) -> bool:
    return False


def _keep(memory: dict[K, V], key: K, value: V, most: int) -> None:
    memory.pop(key, None)
    while len(memory) >= most:
        del memory[next(iter(memory))]
    memory[key] = value
