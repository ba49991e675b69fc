"""What comes from a backend on one stream for everybody, brought to the exchange that it is meant for.

The rule: a reply goes to the request whose id it carries, which is an id of ours; what cannot be attributed goes to nobody in
particular, and a queue that is full drops a notification, never a reply.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec
from msgspec import Raw

from vmcp.config.timeouts import Timeouts
from vmcp.errors import Code, Overdue, Unavailable, VmcpError, WireError
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream.span import Limit, Span
from vmcp.upstream.wire import Answer, Headers, OnMessage, OnStray, Outgoing

log = logging.getLogger("vmcp.upstream.inbox")

MAX_GARBAGE = 100
"""Messages that are none and are logged; the others are dropped in silence."""
QUEUE = 1024
WRITE_STALL = 10.0
"""Seconds that a backend may read nothing of what is sent to it."""

Awaited = asyncio.Queue[Message | VmcpError]


class Inbox:
    """The half of a two-way wire that they all share. ``on_gone`` is called once, when nothing can come any more.

    Who inherits says how a message is sent (``tell``), what came (``_take``), when it is over (``_end``) and why (``obituary``).
    """

    closing_cancels = False
    private_streams = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.on_stray: OnStray | None = None
        self.on_gone: Callable[[], None] | None = None
        self._pending: dict[int, Awaited] = {}
        self._lasting: set[int] = set()
        self._garbage = 0
        self.heard = 0
        """How often anything came."""
        self._ended = False
        self._writable = asyncio.Event()
        self._writable.set()

    # --- what a link asks

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        """See ``Wire``; what was asked on a wire that ended is not asked again."""
        self._pending[request.id] = queue = Awaited(QUEUE)
        if request.lasting:
            self._lasting.add(request.id)
        try:
            return await self._converse(request, queue, on_message, deadline)
        finally:
            del self._pending[request.id]
            self._lasting.discard(request.id)

    async def _converse(
        self, request: Outgoing, queue: Awaited, on_message: OnMessage | None, deadline: float
    ) -> Answer:
        now = asyncio.get_running_loop().time
        began, limits = now(), request.limits
        span = Span(limits, deadline)
        until = deadline if limits is None else span.silent(*self._patience(limits), began)
        try:
            async with asyncio.timeout_at(until) as timer:
                await self._ask(request, deadline)
                while True:
                    message = await queue.get()
                    if isinstance(message, VmcpError):
                        raise message
                    if not message.method:
                        return Answer(message)
                    if on_message is not None:
                        await on_message(message)
                    if limits is not None:
                        span.heard(message.method, now())
                        timer.reschedule(span.silent("idleStream", limits.idle_stream, now()))
        except TimeoutError:
            raise Overdue(self.name, *span.limit(began)) from None

    def _patience(self, limits: Timeouts) -> Limit:
        """What limits the time until the first word about a request."""
        return "firstByte", limits.first_byte

    async def _ask(self, request: Outgoing, deadline: float) -> None:
        """Send a request; its reply comes when it comes."""
        await self.tell(request.body, request.headers)

    async def tell(self, body: bytes, headers: Headers) -> None:
        """See ``Wire``."""
        raise NotImplementedError

    async def hear(self, headers: Headers) -> bool:
        """See ``Wire``: all that a backend says comes on the one stream anyway."""
        return False

    def obituary(self) -> str:
        """Why the backend is not there any more."""
        raise NotImplementedError

    # --- what comes

    def _take(self, text: bytes) -> None:
        """A message, or a batch of them (2025-03-26, base protocol: it must be accepted)."""
        self.heard += 1
        if not text.strip():
            return
        try:
            messages = jsonrpc.read_all(text)
        except WireError:
            self._count_garbage(text)
            return
        for message in messages:
            if message.method:
                self._incoming(message)
            elif (queue := self._pending.get(_number(message.id))) is not None:
                _put(queue, message, must=True)

    def _count_garbage(self, text: bytes) -> None:
        self._garbage += 1
        if self._garbage <= MAX_GARBAGE:
            log.warning("message is no JSON-RPC", extra={"backend": self.name, "text": printable(text)})

    def _incoming(self, message: Message) -> None:
        queue = self._owner(message)
        if queue is not None:
            _put(queue, message, must=False)
        elif self.on_stray is not None:
            self.on_stray(message)

    def _owner(self, message: Message) -> Awaited | None:
        """Whose it is: progress names its request; a log message is a request's only when no other is in flight."""
        if message.method == "notifications/progress":
            return self._pending.get(_number(_token(message)))
        if message.method == "notifications/message":
            brief = [queue for id_, queue in self._pending.items() if id_ not in self._lasting]
            return brief[0] if len(brief) == 1 else None
        return None

    def _fail(self, id_: int, error: VmcpError) -> None:
        """A request can have no reply any more."""
        if (queue := self._pending.get(id_)) is not None:
            _put(queue, error, must=True)

    def _end(self) -> None:
        """Nothing can come any more."""
        if not self._ended:
            self._ended = True
            for id_ in self._pending:
                self._fail(id_, self._gone_error())
            if self.on_gone is not None:
                self.on_gone()

    def _gone_error(self) -> Unavailable:
        return Unavailable(self.name, self.obituary(), Code.TRANSPORT_CLOSED)

    # --- what goes out, where a transport says how much it holds

    def pause_writing(self) -> None:
        """The backend does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The backend reads again."""
        self._writable.set()

    async def _until_writable(self, what: str) -> None:
        """Wait until the backend reads. Raises ``Overdue`` when it does not."""
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(WRITE_STALL):
                    await self._writable.wait()
            except TimeoutError:
                raise Overdue(self.name, what, WRITE_STALL) from None


def _put(queue: Awaited, message: Message | VmcpError, *, must: bool) -> None:
    """Queue a message; when full, an old notification makes room for a reply, and a new notification is dropped."""
    if queue.full():
        if not must:
            return
        queue.get_nowait()
    queue.put_nowait(message)


def _token(message: Message) -> Raw:
    try:
        return jsonrpc.members(message.params).get("progressToken", jsonrpc.NONE)
    except msgspec.MsgspecError:
        return jsonrpc.NONE


def _number(raw: Raw) -> int:
    text = bytes(raw)
    return int(text) if text.isdigit() and len(text) < 20 else -1


def printable(text: bytes) -> str:
    """What may stand in a log line."""
    told = text.decode("utf-8", "replace").rstrip()
    return "".join(c if c.isprintable() else " " for c in told[:2048])
