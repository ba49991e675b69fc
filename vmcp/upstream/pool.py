"""The connections to one backend: how many, who gets which, and when one is closed.

Rule: every slot is either idle, lent, or free, and changes hands synchronously; no cancellation can come in between.
"""

import asyncio
import contextlib
import functools
import logging
import random
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

from vmcp.config.model import PoolSpec, Timeouts
from vmcp.errors import Code, McpError, Unavailable, WireError
from vmcp.tasks import Nest
from vmcp.upstream.budget import Budget
from vmcp.upstream.dial import dial, keep_alive, passing, why
from vmcp.upstream.endpoint import Endpoint
from vmcp.upstream.faults import Dropped, UnsentOverdue, UnsentUnavailable
from vmcp.upstream.http1 import Connection
from vmcp.upstream.response import Lasting, Response
from vmcp.upstream.span import Limit, whole

log = logging.getLogger("vmcp.upstream.pool")

MAX_WAITING = 10_000
_FAREWELL = 1.0
_SHORTEST = 0.01
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"accept-encoding", b"te", b"upgrade", b"expect"}
)
_METHOD = re.compile(rb"[A-Z]+")


class Pool:
    """Keep-alive connections to one endpoint. ``name`` is the backend's, for errors; only the event loop changes it."""

    def __init__(
        self, endpoint: Endpoint, spec: PoolSpec, timeouts: Timeouts, *, max_response: int, name: str = "backend"
    ) -> None:
        self.name = name
        self.timeouts = timeouts
        self.max_response = max_response
        self._endpoint = endpoint
        self._spec = spec
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiters: OrderedDict[asyncio.Future[Connection], None] = OrderedDict()
        self._starts: dict[bytes, bytes] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._live: set[Connection] = set()
        self._gone: asyncio.Future[None] | None = None
        self._nest: Nest | None = None
        self._round = max(min(spec.idle_timeout, spec.validation_interval or inf), _SHORTEST)
        self.budget = Budget()

    def beside(self, path: str) -> "Pool":
        """Connections to another path of the same origin, as many again."""
        target = replace(self._endpoint, path=path)
        return Pool(target, self._spec, self.timeouts, max_response=self.max_response, name=self.name)

    @property
    def target(self) -> Endpoint:
        """Where its connections go."""
        return self._endpoint

    @property
    def active(self) -> int:
        """Slots that a call holds: connecting, waiting for a response, or reading one."""
        return len(self._open) - len(self._idle)

    @property
    def idle(self) -> int:
        """Connections kept alive for the next call."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot."""
        return len(self._waiters)

    def numbers(self) -> Mapping[str, int]:
        """What it has at the moment, and what was asked and tried again so far."""
        held = {"active": self.active, "idle": self.idle, "waiting": self.waiting}
        return {**held, "requests": self.budget.requests, "retries": self.budget.taken}

    # ---- requests

    async def request(
        self,
        method: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        total: float | None = None,
        replay: bool = False,
        lasting: bool = False,
        limits: Timeouts | None = None,
    ) -> Response:
        """Send a request and return its response as soon as the head is there.

        ``total`` is an absolute deadline in loop time. ``replay`` allows to send once more what a kept-alive connection
        lost without a byte of answer (RFC 9112, 9.3.1): only for requests that may run twice. ``lasting``: once connected
        only ``total`` limits it, for its answer is a stream that may be silent for days. ``limits`` are the request's own.
        """
        data = self._request(method, headers, body)
        kind = Lasting if lasting else Response
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        now = loop.time()
        self.budget.requests += 1
        latest = inf if lasting else now + (limits or self.timeouts).total
        if total is not None and total < latest:
            latest = total
        if latest <= now:
            raise UnsentOverdue(self.name, *whole(limits, 0.0))
        connection = self._take(now, loop)
        if connection is None or connection.transport is None:
            connection = await self._ready(connection, latest, loop, limits)
        try:
            return await connection.ask(data, method == b"HEAD", now, latest, kind, limits)
        except Dropped:
            if not replay:
                raise
        self._close_idle()  # they are as old as the one that failed
        connection = await self._ready(self._take(now, loop), latest, loop, limits)
        return await connection.ask(data, method == b"HEAD", now, latest, kind, limits)

    async def rest(self, attempt: int, until: float) -> bool:
        """Whether what failed the ``attempt``-th time (from 0) may be tried again before ``until``; then after a pause."""
        if attempt >= self._spec.retry_attempts:
            return False
        now = asyncio.get_running_loop().time()
        pause = self._spec.retry_delay * 2.0**attempt * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
        if now + pause >= until or not self.budget.take(now):
            return False
        await asyncio.sleep(pause)
        return True

    def _request(self, method: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
        """The bytes of a request: one write, so that it is one packet where it fits."""
        start = self._starts.get(method) or self._start(method)
        fields = _fields(tuple(headers))
        if fields is None:
            raise WireError(f"backend '{self.name}' was to get a header that cannot be sent")
        if body or method == b"POST":
            return b"%b%bcontent-length: %d\r\n\r\n%b" % (start, fields, len(body), body)
        return b"%b%b\r\n" % (start, fields)

    def _start(self, method: bytes) -> bytes:
        if _METHOD.fullmatch(method) is None:
            raise WireError("a method that cannot be sent")
        target, host = self._endpoint.path.encode("ascii"), self._endpoint.host_header
        start = b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n" % (method, target, host)
        if len(self._starts) < 16:
            self._starts[method] = start
        return start

    # ---- slots

    def _take(self, now: float, loop: asyncio.AbstractEventLoop) -> Connection | None:
        """The connection used last, else a free slot (a connection without transport), else None."""
        if self._closed:
            raise UnsentUnavailable(self.name, "it is being closed", Code.TRANSPORT_CLOSED)
        while self._idle:
            connection = self._idle.pop()
            if connection.usable(now):
                return connection
            self.discard(connection)
        return self._slot(loop) if len(self._open) < self._spec.max_size else None

    def _slot(self, loop: asyncio.AbstractEventLoop) -> Connection:
        connection = Connection(self, loop)
        self._open.add(connection)
        return connection

    async def _ready(
        self, connection: Connection | None, latest: float, loop: asyncio.AbstractEventLoop, limits: Timeouts | None
    ) -> Connection:
        """The slow path: wait in line if there is no ``connection``, and connect if it is only a slot."""
        allowed = latest - loop.time()
        total = whole(limits, allowed)
        if connection is None:
            connection = await self._acquire(loop.time(), latest, loop, total)
        if connection.transport is None:
            await self._connect(connection, loop.time(), latest, total)
        return connection

    async def _acquire(self, now: float, latest: float, loop: asyncio.AbstractEventLoop, total: Limit) -> Connection:
        """Wait in line for a connection or a slot."""
        if len(self._waiters) >= MAX_WAITING:
            raise UnsentUnavailable(self.name, "too many calls wait for a connection")
        until = now + self._spec.acquire_timeout
        first = False
        while True:
            future: asyncio.Future[Connection] = loop.create_future()
            self._waiters[future] = None
            if first:
                self._waiters.move_to_end(future, last=False)
            late = total if latest < until else ("pool.acquireTimeout", self._spec.acquire_timeout)
            connection = await self._turn(future, min(until, latest), late)
            if connection.transport is None or connection.usable(loop.time()):
                return connection
            # It died between being handed over and our waking up: that is not a reason to go to the end of the line.
            self.discard(connection)
            if (free := self._take(now, loop)) is not None:
                return free
            first = True

    async def _turn(self, future: "asyncio.Future[Connection]", at: float, late: Limit) -> Connection:
        timer = future.get_loop().call_at(at, self._expire, future, late)
        kept = False
        try:
            connection = await future
            kept = True
        finally:
            timer.cancel()
            if not kept:
                self._forget(future)
        return connection

    def _expire(self, future: "asyncio.Future[Connection]", late: Limit) -> None:
        if not future.done():
            future.set_exception(UnsentOverdue(self.name, *late))

    def _forget(self, future: "asyncio.Future[Connection]") -> None:
        """A waiter left; what it was given in the same moment goes to the next one."""
        self._waiters.pop(future, None)
        if future.done() and not future.cancelled() and future.exception() is None:
            connection = future.result()
            if connection.transport is None:
                self.discard(connection)
            else:
                self.release(connection)

    def _next_waiter(self) -> "asyncio.Future[Connection] | None":
        while self._waiters:
            future, _ = self._waiters.popitem(last=False)
            if not future.done():
                return future
        return None

    # ---- what connections tell

    def lost(self, connection: Connection) -> None:
        """A transport is gone."""
        self._live.discard(connection)
        if self._gone is not None and not self._live and not self._gone.done():
            self._gone.set_result(None)

    def release(self, connection: Connection) -> None:
        """Lend the connection to the one who has waited longest, or keep it."""
        if connection not in self._open:
            return
        now = connection.loop.time()
        connection.idle_since = now
        if not connection.usable(now):
            self.discard(connection)
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = connection.loop.call_at(now + self._round, self._look, connection.loop)

    def discard(self, connection: Connection) -> None:
        """Close the connection; its slot is free at once, or belongs to the one who has waited longest."""
        if connection not in self._open:
            return
        self._open.remove(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        connection.abort()
        if (waiter := self._next_waiter()) is not None:
            waiter.set_result(self._slot(connection.loop))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what is too old, or what its peer has told that it would close by now, and open what is missing."""
        self._sweep = None
        now = loop.time()
        oldest = now - self._spec.idle_timeout
        for connection in list(self._idle):  # the oldest stand first, as the one used last is taken first
            surplus = connection.idle_since <= oldest and len(self._open) > self._spec.min_size
            if surplus or not connection.usable(now):
                self.discard(connection)
        if self._nest is not None and len(self._open) < self._spec.min_size:
            self._nest.start(self._fill(loop), "connections in advance")
        if self._idle or self._nest is not None:
            self._sweep = loop.call_at(now + self._round, self._look, loop)

    def _close_idle(self) -> None:
        for connection in list(self._idle):
            self.discard(connection)

    # ---- connecting

    async def _connect(
        self, connection: Connection, now: float, latest: float, total: Limit, *, patient: bool = True
    ) -> None:
        """Connect, in several attempts if ``patient``; ``timeouts.connect`` is for all of them together."""
        until = min(now + self.timeouts.connect, latest)
        late = total if latest < now + self.timeouts.connect else ("timeouts.connect", self.timeouts.connect)
        connected = False
        attempt = 0 if patient else self._spec.retry_attempts
        try:
            while not connected:
                connected = await self._attempt(connection, until, attempt, late)
                attempt += 1
        finally:
            if not connected:
                self.discard(connection)
        if connection not in self._open:
            connection.abort()
            raise UnsentUnavailable(self.name, "the connection closed at once", Code.TRANSPORT_CLOSED)
        self._live.add(connection)
        if self._spec.validation_interval:
            keep_alive(connection.transport, self._spec.validation_interval)

    async def _attempt(self, connection: Connection, until: float, attempt: int, late: Limit) -> bool:
        """Whether it is connected; False: it shall be tried again. Raises ``UnsentUnavailable`` and ``UnsentOverdue``."""
        try:
            await dial(connection, self._endpoint, until)
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:  # ours, not ETIMEDOUT
                raise UnsentOverdue(self.name, *late) from error
            if not self._closed and passing(error) and await self.rest(attempt, until):
                return False
            raise UnsentUnavailable(self.name, why(error), Code.CONNECTION_FAILED) from error
        return True

    # ---- connections in advance, and the look after those that nobody uses

    def keep(self, nest: Nest) -> None:
        """Have ``minSize`` connections open from now on; ``nest`` owns the task that opens them."""
        if self._spec.min_size and self._nest is None:
            self._nest = nest
            self._look(asyncio.get_running_loop())

    async def _fill(self, loop: asyncio.AbstractEventLoop) -> None:
        while len(self._open) < self._spec.min_size and not self._closed:
            connection = self._slot(loop)
            try:
                await self._connect(connection, loop.time(), inf, ("", 0.0), patient=False)
            except McpError as failed:
                log.debug("no connection in advance", extra={"backend": self.name, "why": failed.message})
                return
            self.release(connection)

    async def close(self) -> None:
        """Close every connection; calls under way and waiting end with ``Unavailable``. The pool is spent then."""
        self._closed = True
        gone = Unavailable(self.name, "the connection was closed by the gateway", Code.TRANSPORT_CLOSED)
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(UnsentUnavailable(self.name, "it is being closed", Code.TRANSPORT_CLOSED))
        for connection in list(self._open):
            connection.abort(gone)
            self.discard(connection)
        if self._sweep is not None:
            self._sweep.cancel()
        if self._live:
            self._gone = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._gone


@functools.lru_cache(256)
def _fields(headers: tuple[tuple[bytes, bytes], ...]) -> bytes | None:
    """Headers as text; None when one of them would break the framing, or is the pool's own to say."""
    fields = b"".join([b"%b: %b\r\n" % header for header in headers])
    whole = fields.count(b"\r") == fields.count(b"\n") == len(headers) and b"\0" not in fields
    named = all(_TOKEN.fullmatch(name) is not None and name.lower() not in _OURS for name, _ in headers)
    return fields if whole and named else None
