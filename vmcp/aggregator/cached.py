"""Results that were given before, given again: to the same caller, for the same question, while they are good.

The rule: it stands behind every check, so nobody is given what he could not have asked for; whatever could make a backend answer
two callers differently is in the key, and a result is shared only where its backend says so and the config trusts it. Errors,
questions and tasks are never kept.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from vmcp.aggregator.shelf import Flight, Shelf
from vmcp.aggregator.tasks import Ways
from vmcp.call import Call, Complete, Outcome
from vmcp.config.cache import CacheSpec
from vmcp.config.model import BackendSpec
from vmcp.config.outgoing import PER_USER
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.jsonrpc import encode, members
from vmcp.protocol.revisions import Revision
from vmcp.routing.table import Route
from vmcp.routing.things import thing
from vmcp.state.cache import Kept
from vmcp.upstream import sending
from vmcp.upstream.ask import Outgoing

MOST: Final = 300.0
"""Seconds for which a backend alone may have a result kept."""
_TRACES: Final = frozenset({"traceparent", "tracestate", "baggage"})
_FINAL: Final = Raw(b'"complete"')
_EVERYBODY: Final = Raw(b'"public"')


class Asked(Protocol):
    """What is needed of a backend."""

    spec: BackendSpec

    def speaks(self, call: Call) -> Revision | None:
        """The revision in which it will be asked, as far as one knows."""


class _Terms(msgspec.Struct, frozen=True):
    """Under which key a result is kept for this caller, under which for everybody (None: never), for how many seconds at most,
    and whether the config says so (``own``) or the backend has to."""

    private: bytes
    public: bytes | None
    most: float
    own: bool


class Cached:
    """``ways`` for what is not kept. See ``Ways``. With each backend comes a number that no other has or had."""

    def __init__(self, ways: Ways, spec: CacheSpec, shelf: Shelf, backends: Mapping[str, tuple[int, Asked]]) -> None:
        self._ways = ways
        self._spec = spec
        self._shelf = shelf
        self._backends = backends
        self._reading: dict[tuple[str, str], bool] = {}
        self._table = 0

    async def send(self, call: Call, route: Route, outgoing: Outgoing) -> Outcome:
        """See ``Ways``."""
        own = self._seconds(call, route)
        refused = own is None and call.method != "resources/read"
        if refused or own == 0 or call.answers is not None or "task" in outgoing.params:
            return await self._ways.send(call, route, outgoing)
        terms = self._terms(call, route, outgoing, own)
        kept = await self._known(terms)
        return self._given(call, kept) if kept is not None else await self._alone(call, route, outgoing, terms)

    def _seconds(self, call: Call, route: Route) -> float | None:
        """How long the config lets a result be kept; None: it does not say."""
        if call.method != "tools/call":
            return self._spec.methods.get(call.method)
        for names, plain, seconds in self._spec.tools:
            if names.match(route.name):
                return seconds if plain or self._only_reads(call, route) else None
        return None

    def _only_reads(self, call: Call, route: Route) -> bool:
        if self._table != call.table.number:
            self._reading.clear()
            self._table = call.table.number
        known = (route.backend, route.name)
        if known not in self._reading:
            self._reading[known] = thing(route).hints.get("readOnlyHint", False)
        return self._reading[known]

    def _terms(self, call: Call, route: Route, outgoing: Outgoing, own: float | None) -> _Terms:
        number, backend = self._backends[route.backend]
        spec = backend.spec
        meta = {key: value for key, value in envelope.own_meta(call.meta).items() if key not in _TRACES}
        question = [
            number,
            self._shelf.memory.epoch(spec.name),
            call.method,
            outgoing.params,
            str(backend.speaks(call)),
            sending.mirrored(spec, call).decode(),
            meta,
        ]
        shared = spec.name in self._spec.public and not isinstance(spec.auth, PER_USER)
        private, public = _digest([*question, _whose(call, spec)]), _digest(question) if shared else None
        return _Terms(private, public, MOST if own is None else own, own is not None)

    async def _known(self, terms: _Terms) -> Kept | None:
        kept = await self._shelf.get(terms.private)
        return await self._shelf.get(terms.public) if kept is None and terms.public is not None else kept

    async def _alone(self, call: Call, route: Route, outgoing: Outgoing, terms: _Terms) -> Outcome:
        """Ask, unless somebody asks the very same just now: then wait for what he is told."""
        flights = self._shelf.flights
        other = flights.get(terms.private)
        if other is not None:
            left = call.deadline - asyncio.get_running_loop().time()
            await asyncio.wait([other.landed], timeout=max(0.0, left))
            kept = await self._known(terms)
            return self._given(call, kept) if kept is not None else await self._ways.send(call, route, outgoing)
        flight = flights[terms.private] = Flight(route.backend, call.name or route.original)
        try:
            outcome = await self._ways.send(call, route, outgoing)
            if isinstance(outcome, Complete) and not flight.spoilt:
                self._keep(flight, outcome, terms)
            return outcome
        finally:
            flights.pop(terms.private, None)
            flight.landed.set_result(None)

    def _keep(self, flight: Flight, outcome: Complete, terms: _Terms) -> None:
        told = _told(outcome.result)
        seconds = _seconds(told, terms) if told is not None else 0.0
        if told is None or seconds <= 0:
            return
        now = self._shelf.now()
        body, revision = bytes(outcome.result), str(outcome.revision)
        kept = Kept(flight.backend, flight.name, body, revision, now, now + seconds)
        everybody = terms.public is not None and told.get("cacheScope") == _EVERYBODY
        self._shelf.put(terms.public if everybody and terms.public is not None else terms.private, kept)

    def _given(self, call: Call, kept: Kept) -> Complete:
        call.trail.cached = True
        call.trail.backend = kept.backend
        revision = Revision(kept.revision)
        return Complete(_aged(kept, self._shelf.now()) if revision.modern else kept.body, revision)


def _whose(call: Call, spec: BackendSpec) -> list[Any]:
    """Everything about a caller that a backend can tell him by."""
    who = call.identity
    told: list[Any] = [] if who is None else [who.issuer, who.subject]
    if who is not None and isinstance(spec.auth, PER_USER):
        told.append(who.token)
    return [*told, call.peer.session if spec.isolation == "session" else None]


def _digest(question: list[Any]) -> bytes:
    return hashlib.sha256(encode(question)).digest()


def _told(result: Raw | bytes) -> Mapping[str, Raw] | None:
    """The members of a result that may be kept: complete, and no error."""
    try:
        told = members(result)
    except msgspec.MsgspecError:
        return None
    final = told.get("resultType", _FINAL) == _FINAL and "task" not in told
    return told if final and bytes(told.get("isError", jsonrpc.NULL)) != b"true" else None


def _seconds(told: Mapping[str, Raw], terms: _Terms) -> float:
    """For how long it may be kept: as long as the backend says and at most as the config says; one of them has to."""
    said = told.get("ttlMs")
    if said is None:
        return terms.most if terms.own else 0.0
    try:
        return min(terms.most, msgspec.json.decode(said, type=float) / 1000)
    except msgspec.MsgspecError:
        return 0.0


def _aged(kept: Kept, now: float) -> Raw | bytes:
    """The result with what is left of its ``ttlMs``."""
    if b'"ttlMs"' not in kept.body:
        return kept.body
    told = members(kept.body)
    if "ttlMs" in told:
        told["ttlMs"] = Raw(b"%d" % max(0, int((kept.expires - now) * 1000)))
    return encode(told)
