"""One negotiated connection to a backend: the envelope of its revision, our own ids and progress tokens, cancellation.

The rule: nothing minted on the client's side of the house is used here; ids and tokens are ours and are mapped back.
"""

import asyncio
import functools
import itertools
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp import __version__
from vmcp.errors import Overdue, SessionLost, VmcpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.jsonrpc import NONE, Message
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.tasks import Nest
from vmcp.upstream.answering import Answering
from vmcp.upstream.ask import NOTHING, Ask, Asker, OnEvent, params_of
from vmcp.upstream.faults import Unsent
from vmcp.upstream.http import HttpRefused, HttpWire
from vmcp.upstream.wire import Outgoing, Wire

INFO: Final = jsonrpc.encode({"name": "vmcp", "title": "vmcp", "version": __version__})
GOODBYE: Final = 2.0
THINKING: Final = 600.0
"""Seconds that a person may think about what a backend asks outside of any request."""
SUBSCRIPTION: Final = envelope.RESERVED + "subscriptionId"
_MODERN_META: Final = envelope.modern_meta(INFO, NOTHING)
_LOST = (b"session", b"Session")
_CANCELLED = "notifications/cancelled"
READS: Final = frozenset(
    {
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "prompts/get",
        "completion/complete",
        "ping",
    }
)
"""What changes nothing at a backend, so that it is asked once more when its answer was lost."""


class Facts(msgspec.Struct, frozen=True):
    """What was negotiated: the revision, the server's capabilities, its instructions and the session it gave us."""

    revision: Revision
    capabilities: Mapping[str, Any]
    instructions: str = ""
    session: bytes | None = None


class Link:
    """Requests to one backend in the revision that was agreed. Several may be in flight.

    ``capabilities`` is what its greeting declared that clients can do. ``private``: all its requests are one client's, so that
    a question on no stream of theirs may be taken to belong to the latest of them. ``ear`` is the wire that standing streams
    are heard on, and ``level`` the log level that the backend was told.
    """

    def __init__(
        self,
        wire: Wire,
        facts: Facts,
        nest: Nest,
        on_event: OnEvent,
        ids: "itertools.count[int]",
        *,
        capabilities: bytes = NOTHING,
        private: bool = False,
    ) -> None:
        self.facts = facts
        self.wire = self.ear = wire
        self.capabilities = capabilities
        self.level: str | None = None
        self._nest = nest
        self._on_event = on_event
        self._ids = ids
        self._modern = facts.revision.modern
        self._logs = "logging" in facts.capabilities
        self._fixed = headers_for(facts)
        self._answering = Answering(nest, self._tell, capabilities)
        self._attributes = private
        self._asks: dict[int, Ask] = {}  # in flight, oldest first: those that what names no stream may belong to
        self._opener: Ask | None = None
        self._host: Asker | None = None
        self._first = 0
        self._hears = asyncio.Event()
        wire.on_stray = self._stray

    async def request(self, ask: Ask) -> Raw:
        """The result of ``ask``. Raises ``McpError`` (the backend's own included), ``WireError`` and ``SessionLost``."""
        id_ = next(self._ids) if ask is not self._opener else self._opened()
        body = jsonrpc.request(id_, ask.method, self._params(ask, id_))
        again = ask.again or ask.method in READS
        outgoing = Outgoing(
            id_,
            body,
            self._headers(ask),
            again or ask.method != "tools/call",
            ask.lasting,
            not self._modern,
            ask.credential,
            ask.limits,
            again,
        )
        if self._attributes or ask.lasting:
            self._asks[id_] = ask

        async def on_message(message: Message) -> None:
            await self._during(ask, id_, message)

        try:
            answer = await (self.ear if ask.lasting else self.wire).exchange(outgoing, on_message, ask.deadline)
        except (asyncio.CancelledError, Overdue) as left:
            if not (self._modern and self.wire.closing_cancels) and not isinstance(left, Unsent):
                self._nest.start(self._cancelled(id_), "cancelled")
            raise
        except HttpRefused as refused:
            self._check_session(refused.status, refused.text)
            raise
        finally:
            if self._asks:
                self._asks.pop(id_, None)
            if self._answering.open:
                self._answering.end(id_)
        self._check_session(answer.status, bytes(answer.message.error))
        return jsonrpc.result_of(answer.message)

    async def notify(self, method: str) -> None:
        """Tell the backend something without params; one that does not listen is left alone."""
        await self._tell(jsonrpc.notification(method))

    async def hear(self) -> bool:
        """Hold the backend's standing stream until it ends; False at once when it has none. Raises as ``request`` does."""
        self.ear.on_stray = self._stray
        if isinstance(self.ear, HttpWire):
            self.ear.on_open = self._hears.set
        try:
            return await self.ear.hear(self._fixed)
        finally:
            self._hears.set()  # there is nothing to wait for

    # --- the first request

    def expect(self, opener: Ask | None, host: Asker | None) -> None:
        """``opener`` will be the first request, so what the backend asks before may belong to it already.

        ``host`` answers what is asked while no request is in flight that could.
        """
        self._opener, self._host = opener, host
        if opener is not None:
            self._first = next(self._ids)
            self._asks[self._first] = opener

    async def ready(self, seconds: float) -> bool:
        """Wait until the standing stream is open, or refused, and what was asked by then is answered.

        False when there was no word of the stream within ``seconds``: nothing waits for longer.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._hears.wait()
                await self._answering.quiet()
        except TimeoutError:
            return self._hears.is_set()
        return True

    def _opened(self) -> int:
        self._opener = None
        return self._first

    def spare(self, opener: Ask) -> None:
        """``opener`` is over; if it never became a request, nothing belongs to it any more."""
        if opener is self._opener:
            del self._asks[self._opened()]
            self._answering.end(self._first)

    def _params(self, ask: Ask, id_: int) -> Mapping[str, Any]:
        meta: dict[str, Any] = dict(ask.own_meta)
        if self._modern:
            meta.update(_MODERN_META)
            if ask.capabilities is not NOTHING:
                meta[envelope.CAPABILITIES] = Raw(ask.capabilities)
            if self._logs and ask.level is not None:
                meta[envelope.LOG_LEVEL] = ask.level
        if ask.token:
            meta[envelope.PROGRESS_TOKEN] = id_
        return {**ask.params, "_meta": meta} if meta else ask.params

    def _headers(self, ask: Ask) -> list[tuple[bytes, bytes]]:
        if not self._modern:
            return [*self._fixed, *ask.trace] if ask.trace else self._fixed
        headers = [*self._fixed, *ask.trace, (b"mcp-method", ask.method.encode())]
        if ask.name is not None:
            headers.append((b"mcp-name", _name_value(ask.name)))
        headers.extend(ask.param_headers)
        return headers

    def _check_session(self, status: int, text: bytes) -> None:
        """404 is how a forgotten session is told; some servers say it with 400 and words."""
        if self.facts.session is None or status not in (400, 404):
            return
        if status == 404 or any(word in text for word in _LOST):
            raise SessionLost(f"HTTP {status}")

    # --- what comes from the backend

    async def _during(self, ask: Ask, id_: int, message: Message) -> None:
        """A message on the response to ``ask``, or one that the wire knows to be meant for it."""
        if message.id:
            self._answering.take(message, id_, ask)
        elif ask.notify is not None and message.method == "notifications/progress":
            params = params_of(message.params)
            if params and ask.token and bytes(params.get(envelope.PROGRESS_TOKEN, NONE)) == b"%d" % id_:
                await ask.notify(message.method, {**params, envelope.PROGRESS_TOKEN: ask.token})
        elif ask.notify is not None and message.method == "notifications/message":
            params = params_of(message.params)
            if params is not None:
                await ask.notify(message.method, params)
        elif message.method == _CANCELLED and not ask.lasting:
            self._answering.cancelled(message.params, id_)
        else:
            (ask.on_event or self._on_event)(message.method, message.params)

    def _stray(self, message: Message) -> None:
        """What no stream attributes: a question is of the latest request of a private link, a notification of whom it names."""
        if message.id:
            self._answering.take(message, *self._latest())
        elif (ask := self._named(message)) is not None:
            (ask.on_event or self._on_event)(message.method, message.params)
        elif message.method == _CANCELLED:
            self._answering.cancelled(message.params, None)
        else:
            self._on_event(message.method, message.params)

    def _latest(self) -> tuple[int, Ask | None]:
        """Whose a question on no stream is: of the last request that can answer any, else of who is always there."""
        if not self._attributes:
            return 0, None
        for id_, ask in reversed(self._asks.items()):
            if ask.asker is not None:
                return id_, ask
        if self._host is None:
            return 0, None
        return 0, Ask("", {}, asyncio.get_running_loop().time() + THINKING, asker=self._host)

    def _named(self, message: Message) -> Ask | None:
        """The lasting request that a notification names, by its subscription or as what it cancels."""
        if not (self._asks and self._modern):
            return None
        params = params_of(message.params) or {}
        if message.method == _CANCELLED:
            named = params.get("requestId", NONE)
        else:
            named = (params_of(params.get("_meta", NONE)) or {}).get(SUBSCRIPTION, NONE)
        ask = self._asks.get(int(bytes(named))) if bytes(named).isdigit() else None
        return ask if ask is not None and ask.lasting else None

    # --- what is told to the backend

    async def _cancelled(self, id_: int) -> None:
        await self._tell(jsonrpc.notification(_CANCELLED, {"requestId": id_, "reason": "cancelled"}))

    async def _tell(self, body: bytes) -> None:
        try:
            async with asyncio.timeout(GOODBYE):
                await self.ear.tell(body, self._fixed)  # for an answer that a call waits for there must be a way
        except (VmcpError, TimeoutError):
            return

    def leave(self) -> None:
        """Nothing that the backend asked will be answered any more."""
        self._answering.close()

    async def end(self) -> None:
        """Say goodbye to the session, if there is one; a backend that does not answer in time is left alone."""
        self.leave()
        if not isinstance(self.wire, HttpWire) or self.facts.session is None:
            return
        try:
            async with asyncio.timeout(GOODBYE):
                await self.wire.end_session(self._fixed)
        except (VmcpError, TimeoutError):
            return


@functools.lru_cache(4096)
def _name_value(name: str) -> bytes:
    return envelope.encode_value(name).encode()


def headers_for(facts: Facts) -> list[tuple[bytes, bytes]]:
    """The headers that every message on a connection of these facts carries."""
    headers = []
    if facts.revision >= Revision.V2025_06_18:
        headers.append((b"mcp-protocol-version", str(facts.revision).encode()))
    if facts.session is not None:
        headers.append((b"mcp-session-id", facts.session))
    return headers


MODERN_FACTS: Final = Facts(MODERN, {})
