"""How connections to one backend are made: the wire of its transport, a greeting on it, and a link.

The rule: what a backend taught us (it has only HTTP+SSE, a probe kills it) is kept for the next connection and given up when it
contradicts itself. Every wire that was opened is closed here, whatever became of its link.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol, cast

from vmcp.config.model import BackendSpec, Limits
from vmcp.config.outgoing import PER_USER
from vmcp.errors import Code, McpError, Unavailable
from vmcp.protocol.revisions import MODERN
from vmcp.tasks import Nest
from vmcp.upstream import secrets, sse, websocket
from vmcp.upstream.ask import NOTHING, Ask, Asker, OnEvent
from vmcp.upstream.credentials import source
from vmcp.upstream.endpoint import Endpoint, endpoint, tls_context
from vmcp.upstream.handshake import Greeter
from vmcp.upstream.http import HttpRefused, HttpWire
from vmcp.upstream.link import Facts, Link
from vmcp.upstream.pool import Pool
from vmcp.upstream.spare import Spare
from vmcp.upstream.stdio import STDERR_LINES, Program, StdioWire, environment, spawn
from vmcp.upstream.wire import Credential, Headers, Wire

CALLS: Final = "calls"
GREETING = 30.0
"""Seconds for a backend to agree on a revision."""
HEARERS: Final = 1024
"""Standing streams to one backend; they have connections of their own, so that no call waits for one."""
_PERHAPS_SSE: Final = frozenset({400, 404, 405})


class TwoWay(Wire, Protocol):
    """A wire on which both sides may speak at any time; ``on_gone`` is called once, when it has ended by itself."""

    on_gone: Callable[[], None] | None

    def obituary(self) -> str:
        """Why it is not there any more."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a link is made for. ``probe`` off: it shall be of the handshake era. ``credential`` is for what is no call on it.

    ``opener`` is what is asked over it first, and ``host`` who answers what is asked while nothing is in flight. ``whose`` is the
    principal that it is made for; empty: nobody in particular.
    """

    on_event: OnEvent
    on_gone: Callable[[], None]
    capabilities: bytes = NOTHING
    private: bool = False
    probe: bool = True
    credential: Credential | None = None
    opener: Ask | None = None
    host: Asker | None = None
    whose: str = ""


class Connector:
    """Makes links to one backend. Mutable: it owns the wires and pools, and what it learned.

    ``own`` is vmcp's credential, for the transports that cannot show another with each request.
    """

    def __init__(self, spec: BackendSpec, limits: Limits, environ: Mapping[str, str], nest: Nest) -> None:
        self._spec = spec
        self._environ = environ
        self._nest = nest
        self._limits = limits
        self._child: StdioWire | None = None
        self._starts = 0
        self._spare = Spare(spec.name, self._started, limits, nest) if spec.process.warm else None
        self._size = max(limits.response_bytes, limits.list_bytes)
        self.own: Credential | None = None
        self._ids = itertools.count(1)
        self._wires: set[Wire] = set()
        self._pools: dict[str, Pool] = {}
        self._sse = spec.transport == "sse"
        self._probes = not self._sse

    async def connect(self, terms: Terms) -> Link:
        """A greeted link. Raises ``VmcpError``: what the backend said, or why it cannot be reached."""
        fresh = await self._opened(terms)
        probe = terms.probe and self._probes
        try:
            return await self._greet(fresh, terms, probe=probe)
        except HttpRefused as refused:
            if refused.status not in _PERHAPS_SSE or not self._may_be_sse():
                raise
            return await self._fall_back(terms, refused)
        except Unavailable:
            if not (fresh.dead and probe and self._spec.protocol == "auto"):
                raise
        # Some stdio servers end when the first thing they hear is no ``initialize``: another one, and no probe.
        link = await self._greet(await self._opened(terms), terms, probe=False)
        self._probes = False
        return link

    async def _greet(self, fresh: "_Fresh", terms: Terms, *, probe: bool) -> Link:
        spec, wire, declared = self._spec, fresh.wire, terms.capabilities
        made: list[Link] = []  # before its server may speak, so that nothing which it says is lost

        def agreed(facts: Facts) -> None:
            made.append(self._link(wire, facts, terms))

        greeter = Greeter(spec.name, wire, spec.protocol, self._ids, probe=probe, capabilities=declared, agreed=agreed)
        greeted = False
        try:
            facts = await greeter.greet(asyncio.get_running_loop().time() + GREETING)
            if fresh.dead:
                raise Unavailable(spec.name, obituary(wire), Code.TRANSPORT_CLOSED)
            greeted = True
        finally:
            if not greeted:
                for link in made:
                    link.leave()
                await self.shut(wire)
        _tell_end(wire, terms.on_gone)
        return made[-1] if made else self._link(wire, facts, terms)

    def _link(self, wire: Wire, facts: Facts, terms: Terms) -> Link:
        on_event, declared = terms.on_event, terms.capabilities
        link = Link(wire, facts, self._nest, on_event, self._ids, capabilities=declared, private=terms.private)
        if isinstance(wire, HttpWire):
            link.ear = self._http("standing streams", HEARERS)
            link.ear.credential = terms.credential
        link.expect(terms.opener, terms.host)
        return link

    # --- HTTP+SSE, when nothing says which of the two HTTP transports it is (basic/transports, "Backwards Compatibility")

    def _may_be_sse(self) -> bool:
        spec = self._spec
        if isinstance(spec.auth, PER_USER):
            return False  # one stream cannot be told whose it is
        return spec.guessed and spec.transport == "streamable-http" and not self._sse and spec.protocol != MODERN

    async def _fall_back(self, terms: Terms, refused: HttpRefused) -> Link:
        self._sse = True
        kept = False
        try:
            try:
                fresh = await self._opened(terms)
            except McpError:
                raise refused from None
            link = await self._greet(fresh, terms, probe=False)
            kept = True
        finally:
            self._sse = kept
        return link

    # --- wires

    async def _opened(self, terms: Terms) -> "_Fresh":
        fresh = _Fresh(await self.open(terms.whose))
        if isinstance(fresh.wire, HttpWire):
            fresh.wire.credential = terms.credential
        self._wires.add(fresh.wire)
        _tell_end(fresh.wire, fresh.die)
        return fresh

    async def open(self, whose: str = "") -> Wire:
        """A wire of the backend's transport, for ``whose`` alone if that is said. Raises ``VmcpError``."""
        spec = self._spec
        if spec.transport == "stdio":
            return await self._local(whose)
        if self._sse:
            return await self._legacy()
        if spec.transport == "websocket":
            connect = spec.timeouts.connect
            headers, target = [*self._headers(), *await self._shown(connect)], self._target()
            return await websocket.connect(spec.name, target, headers, within=connect, max_message=self._size)
        return self._http(CALLS, spec.pool.max_size)

    async def _local(self, whose: str) -> StdioWire:
        """A child process; one that is somebody's own may have been started already."""
        if whose:
            return await (self._started(whose) if self._spare is None else self._spare.take(whose))
        self._child = await self._started(whose)
        if self._spare is not None:
            self._spare.fill()
        return self._child

    async def _started(self, whose: str) -> StdioWire:
        spec = self._spec
        self._starts += 1
        env = environment(secrets.resolve(spec.name, spec.env, self._environ), self._environ)
        return await spawn(spec.name, Program(spec.command, env, spec.cwd, spec.process), self._limits, whose)

    async def _legacy(self) -> Wire:
        headers, target = self._headers(), self._target()
        pool = self._pool(target, self._spec.pool.max_size)
        try:
            return await sse.connect(self._spec.name, target, pool, headers, self.own)
        except HttpRefused:
            self._sse = self._spec.transport == "sse"  # it may have changed its mind
            raise

    def _http(self, use: str, size: int) -> HttpWire:
        headers = self._headers()
        if use not in self._pools:
            self._pools[use] = self._pool(self._target(), size)
            if use == CALLS:
                self._pools[use].keep(self._nest)
        return HttpWire(self._spec.name, self._pools[use], headers)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        resolved = secrets.resolve(self._spec.name, self._spec.headers, self._environ)
        plain = [(key.lower().encode(), value.encode()) for key, value in resolved.items()]
        return [*plain, *source.fixed(self._spec, self._environ)]

    async def _shown(self, seconds: float) -> Headers:
        """What a connection shows that carries no headers later."""
        if self.own is None:
            return ()
        return await self.own.headers(asyncio.get_running_loop().time() + max(seconds, GREETING))

    def _target(self) -> Endpoint:
        url = self._spec.url or ""
        return endpoint(url, tls_context(self._spec.tls) if url.startswith(("https:", "wss:")) else None)

    def _pool(self, target: Endpoint, size: int) -> Pool:
        spec = self._spec
        kept = replace(spec.pool, max_size=size)
        return Pool(target, kept, spec.timeouts, max_response=self._size, name=spec.name)

    def facts(self) -> Mapping[str, object]:
        """What is known of the child process that all share, or shared last, or of the connections that calls go over."""
        calls = self._pools.get(CALLS)
        if calls is not None:
            return {"pool": calls.numbers()}
        if self._child is None:
            return {"starts": self._starts} if self._starts else {}
        return {"starts": self._starts, "pid": self._child.pid, **self._child.facts(STDERR_LINES)}

    @property
    def pids(self) -> list[int]:
        """Of the child processes that somebody uses."""
        running = [wire.pid for wire in self._wires if isinstance(wire, StdioWire)]
        return [pid for pid in running if pid is not None]

    async def shut(self, wire: Wire) -> None:
        """Close a wire that is of no more use. Connections over HTTP stay for the others."""
        _tell_end(wire, None)
        if not isinstance(wire, HttpWire):
            await wire.close()
        self._wires.discard(wire)

    async def close(self) -> None:
        """Close all that is still open."""
        if self._spare is not None:
            await self._spare.close()
        for wire in list(self._wires):
            await self.shut(wire)
        for pool in self._pools.values():
            await pool.close()
        self._pools.clear()


@dataclass(slots=True)
class _Fresh:
    """A wire that nobody has been greeted on yet, and whether it ended meanwhile."""

    wire: Wire
    dead: bool = False

    def die(self) -> None:
        self.dead = True


def _tell_end(wire: Wire, on_gone: Callable[[], None] | None) -> None:
    """Whom to tell that a two-way wire has ended by itself."""
    if not isinstance(wire, HttpWire):
        cast(TwoWay, wire).on_gone = on_gone


def obituary(wire: Wire) -> str:
    """Why a wire is not there any more."""
    return "it is gone" if isinstance(wire, HttpWire) else cast(TwoWay, wire).obituary()


def complaint(wire: Wire) -> str:
    """Why what is at the other end is not well though it answers; empty when it is."""
    return wire.wrong if isinstance(wire, StdioWire) else ""
