"""One negotiated connection to a backend: the envelope of its revision, our own ids and progress tokens, cancellation.

The rule: nothing minted on the client's side of the house is used here; ids and tokens are ours and are mapped back.
"""

import asyncio
import functools
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp import __version__
from vmcp.errors import Code, McpError, Overdue, SessionLost, VmcpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.jsonrpc import NONE, Message
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.tasks import Nest
from vmcp.upstream.http import HttpRefused, HttpWire
from vmcp.upstream.wire import Outgoing, Wire

Notify = Callable[[str, Mapping[str, Any]], Awaitable[None]]
OnEvent = Callable[[str], None]

INFO: Final = jsonrpc.encode({"name": "vmcp", "title": "vmcp", "version": __version__})
CAPABILITIES: Final = b"{}"
GOODBYE: Final = 2.0
_MODERN_META: Final = envelope.modern_meta(INFO, CAPABILITIES)
_LOST = (b"session", b"Session")


class Facts(msgspec.Struct, frozen=True):
    """What was negotiated: the revision, the server's capabilities, its instructions and the session it gave us."""

    revision: Revision
    capabilities: Mapping[str, Any]
    instructions: str = ""
    session: bytes | None = None


class Ask(msgspec.Struct, frozen=True):
    """A request for a backend. ``params`` are without ``_meta``; ``own_meta``, ``token`` and ``level`` are the client's."""

    method: str
    params: Mapping[str, Any]
    deadline: float
    name: str | None = None
    own_meta: Mapping[str, Raw] = {}
    token: Raw = NONE
    level: str | None = None
    param_headers: Sequence[tuple[bytes, bytes]] = ()
    notify: Notify | None = None


class Link:
    """Requests to one backend in the revision that was agreed. Several may be in flight."""

    def __init__(self, wire: Wire, facts: Facts, nest: Nest, on_event: OnEvent, ids: "itertools.count[int]") -> None:
        self.facts = facts
        self._wire = wire
        self._nest = nest
        self._on_event = on_event
        self._ids = ids
        self._modern = facts.revision.modern
        self._logs = "logging" in facts.capabilities
        self._fixed = headers_for(facts)
        wire.on_stray = self._stray

    async def request(self, ask: Ask) -> Raw:
        """The result of ``ask``. Raises ``McpError`` (the backend's own included), ``WireError`` and ``SessionLost``."""
        id_ = next(self._ids)
        body = jsonrpc.request(id_, ask.method, self._params(ask, id_))
        outgoing = Outgoing(id_, body, self._headers(ask), replay=ask.method != "tools/call")

        async def on_message(message: Message) -> None:
            await self._during(ask, id_, message)

        try:
            answer = await self._wire.exchange(outgoing, on_message, ask.deadline)
        except (asyncio.CancelledError, Overdue):
            if not (self._modern and self._wire.closing_cancels):
                self._nest.start(self._cancelled(id_), "cancelled")
            raise
        except HttpRefused as refused:
            self._check_session(refused.status, refused.text)
            raise
        self._check_session(answer.status, bytes(answer.message.error))
        return jsonrpc.result_of(answer.message)

    def _params(self, ask: Ask, id_: int) -> Mapping[str, Any]:
        meta: dict[str, Any] = dict(ask.own_meta)
        if self._modern:
            meta.update(_MODERN_META)
            if self._logs and ask.level is not None:
                meta[envelope.LOG_LEVEL] = ask.level
        if ask.token:
            meta[envelope.PROGRESS_TOKEN] = id_
        return {**ask.params, "_meta": meta} if meta else ask.params

    def _headers(self, ask: Ask) -> list[tuple[bytes, bytes]]:
        if not self._modern:
            return self._fixed
        headers = [*self._fixed, (b"mcp-method", ask.method.encode())]
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

    async def _during(self, ask: Ask, id_: int, message: Message) -> None:
        if message.id or ask.notify is None or not message.method.startswith("notifications/"):
            self._stray(message)
            return
        try:
            params = jsonrpc.members(message.params) if message.params else {}
        except msgspec.MsgspecError:
            return
        if message.method == "notifications/progress":
            if ask.token and bytes(params.get(envelope.PROGRESS_TOKEN, NONE)) == b"%d" % id_:
                await ask.notify(message.method, {**params, envelope.PROGRESS_TOKEN: ask.token})
        elif message.method == "notifications/message":
            await ask.notify(message.method, params)
        else:
            self._stray(message)

    def _stray(self, message: Message) -> None:
        """What belongs to no request in flight: a question is answered, a notification told to the backend's owner."""
        if message.id:
            self._nest.start(self._answer(message), "answer")
        else:
            self._on_event(message.method)

    async def _answer(self, message: Message) -> None:
        if message.method == "ping":
            body = jsonrpc.reply(bytes(message.id), b"{}")
        else:
            body = jsonrpc.failure(bytes(message.id), McpError(Code.METHOD_NOT_FOUND, "Method not found"))
        await self._tell(body)

    async def _cancelled(self, id_: int) -> None:
        await self._tell(jsonrpc.notification("notifications/cancelled", {"requestId": id_, "reason": "cancelled"}))

    async def _tell(self, body: bytes) -> None:
        try:
            async with asyncio.timeout(GOODBYE):
                await self._wire.tell(body, self._fixed)
        except (VmcpError, TimeoutError):
            return

    async def end(self) -> None:
        """Say goodbye to the session; a backend that does not answer in time is left alone."""
        if not isinstance(self._wire, HttpWire):
            return
        try:
            async with asyncio.timeout(GOODBYE):
                await self._wire.end_session(self._fixed)
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
