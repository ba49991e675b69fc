"""The older HTTP transport towards a backend: everything comes on one event stream, everything goes by POST.

The rule: the address for the POSTs, which the backend names in its first event, is of the origin that we were told to talk to;
another one would get our credentials.
Source: 2024-11-05 basic/transports, "HTTP with SSE".
"""

import asyncio
from urllib.parse import urljoin

from vmcp.config.timeouts import Timeouts
from vmcp.errors import Code, Overdue, Unavailable, VmcpError
from vmcp.protocol import sse
from vmcp.tasks import Nest
from vmcp.upstream.endpoint import BadEndpoint, Endpoint, endpoint
from vmcp.upstream.http import LISTENING, refused
from vmcp.upstream.inbox import Inbox
from vmcp.upstream.pool import Pool
from vmcp.upstream.response import Response
from vmcp.upstream.span import Limit
from vmcp.upstream.wire import Credential, Headers, Outgoing

ENDPOINT_WAIT = 10.0
"""Seconds until the backend has named the address for what we send."""
_FORGOTTEN = (404, 410)
"""How a POST is answered whose address, which is the session, means nothing to the backend, though the stream stands."""
_POSTING = (b"content-type", b"application/json")


class LegacySse(Inbox):
    """One stream and the address that belongs to it. Make it with ``connect``; ``pool`` leads to its url.

    ``credential`` is vmcp's own: what is shared by a stream cannot be one caller's.
    """

    def __init__(
        self, name: str, target: Endpoint, pool: Pool, fixed: Headers, credential: Credential | None = None
    ) -> None:
        super().__init__(name)
        self._credential = credential
        self._target = target
        self._streams = pool
        self._posts: Pool | None = None
        self._address: asyncio.Future[Pool] = asyncio.get_running_loop().create_future()
        self._fixed = fixed
        self._nest = Nest(f"sse {name}")
        self._why = "it closed its event stream"

    async def open(self) -> None:
        """Listen, until the backend has said where to post."""
        self._nest.start(self._read(), "stream")
        try:
            async with asyncio.timeout(ENDPOINT_WAIT):
                self._posts = await self._address
                self._posts.keep(self._nest)
        except TimeoutError:
            raise Overdue(self.name, "endpoint event", ENDPOINT_WAIT) from None

    async def _read(self) -> None:
        try:
            await self._listen()
            self._give_up(Unavailable(self.name, "it named no address for messages", Code.PROTOCOL_ERROR))
        except VmcpError as broken:
            self._why = "its event stream broke off"
            self._give_up(broken)
        finally:
            self._end()

    def _give_up(self, why: VmcpError) -> None:
        if not self._address.done():
            self._address.set_exception(why)

    async def _listen(self) -> None:
        headers = [*LISTENING, *self._fixed, *await self._own()]
        response = await self._streams.request(b"GET", headers, b"", replay=True, lasting=True)
        limit = self._streams.max_response
        parser = sse.Parser(max_line=limit, max_event=limit)
        try:
            self._check(response)
            async for chunk in response.chunks():
                for event in parser.feed(chunk):
                    self._heard(event)
        finally:
            response.close()

    def _check(self, response: Response) -> None:
        kind = response.header(b"content-type") or b""
        if response.status != 200:
            raise refused(self.name, response.status)
        if not kind.startswith(b"text/event-stream"):
            raise Unavailable(self.name, "there is no event stream at its URL", Code.PROTOCOL_ERROR)

    def _heard(self, event: sse.Event) -> None:
        if event.event == b"message":
            self._take(event.data)
        elif event.event == b"endpoint" and not self._address.done():
            self._address.set_result(self._named(event.data))

    def _named(self, data: bytes) -> Pool:
        """The way to the address in an ``endpoint`` event."""
        ours, host = self._target, self._target.host_header.decode()
        try:
            said = urljoin(f"{ours.scheme}://{host}{ours.path}", data.decode("ascii").strip())
            theirs = endpoint(said.partition("#")[0], ours.tls)
        except (BadEndpoint, ValueError):
            raise Unavailable(self.name, "it named a malformed address for messages", Code.PROTOCOL_ERROR) from None
        if (theirs.scheme, theirs.host, theirs.port) != (ours.scheme, ours.host, ours.port):
            why = "it named an address for messages on another origin than its url"
            raise Unavailable(self.name, why, Code.PROTOCOL_ERROR)
        return self._streams.beside(theirs.path)

    # --- what a link asks

    async def _ask(self, request: Outgoing, deadline: float) -> None:
        """The reply may come while the POST is still on its way, or the POST be answered only after the reply."""
        if self._ended:
            raise self._gone_error()
        self._nest.start(self._post(request, deadline), "post")

    def _patience(self, limits: Timeouts) -> Limit:
        """The first byte is awaited where it was posted; here the stream is open."""
        return "idleStream", limits.idle_stream

    async def _post(self, request: Outgoing, deadline: float) -> None:
        try:
            await self._sent(request.body, request.headers, deadline, request.limits)
        except VmcpError as failed:
            self._fail(request.id, failed)

    async def tell(self, body: bytes, headers: Headers) -> None:
        """See ``Wire``."""
        if self._ended:
            raise self._gone_error()
        await self._sent(body, headers, None)

    async def _sent(
        self, body: bytes, headers: Headers, deadline: float | None, limits: Timeouts | None = None
    ) -> None:
        assert self._posts is not None
        sent = [_POSTING, *self._fixed, *await self._own(), *headers]
        response = await self._posts.request(b"POST", sent, body, total=deadline, limits=limits)
        text = await response.read()
        if response.status in _FORGOTTEN:
            self._why = f"it does not know our session any more (HTTP {response.status})"
            self._end()
        if not 200 <= response.status < 300:
            raise refused(self.name, response.status, text)

    async def _own(self) -> Headers:
        if self._credential is None:
            return ()
        return await self._credential.headers(asyncio.get_running_loop().time() + ENDPOINT_WAIT)

    def obituary(self) -> str:
        """Why the stream is not there any more."""
        return self._why

    async def close(self) -> None:
        """See ``Wire``."""
        await self._nest.close()
        self._end()
        if self._posts is not None:
            await self._posts.close()
        await self._streams.close()


async def connect(
    name: str, target: Endpoint, pool: Pool, fixed: Headers, credential: Credential | None = None
) -> LegacySse:
    """Open the stream at ``target``, which ``pool`` leads to and which it owns then. Raises as ``Wire.exchange`` does."""
    wire = LegacySse(name, target, pool, fixed, credential)
    opened = False
    try:
        await wire.open()
        opened = True
    finally:
        if not opened:
            await wire.close()
    return wire
