"""What a link needs of a transport, whichever it is: send one request and get its reply, send a notification, close.

The rule: a wire knows framing and correlation, nothing of eras, names or policies.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from vmcp.protocol.jsonrpc import Message

Headers = Sequence[tuple[bytes, bytes]]
OnMessage = Callable[[Message], Awaitable[None]]
OnStray = Callable[[Message], None]


class Credential(Protocol):
    """What shows a backend for whom a request is. ``owner``: the principal that alone may use it; None: it is vmcp's own."""

    owner: str | None

    async def headers(self, deadline: float) -> Headers:
        """The headers that carry it, had by ``deadline`` (loop time). Raises ``VmcpError``: then nothing is sent."""

    def refused(self, headers: Headers) -> bool:
        """The backend answered 401 to these; whether to ask once more with others."""


class Outgoing(msgspec.Struct, frozen=True):
    """A request as bytes. ``replay``: to run it twice does no harm, so it may be sent again when a connection was lost.

    ``lasting``: its answer is a stream that stays open on purpose (``subscriptions/listen``), so only the deadline given
    with it counts. ``resumes``: in its revision a broken stream of answers may be taken up where it ended.
    ``credential``: the caller's, in place of the wire's own.
    """

    id: int
    body: bytes
    headers: Headers = ()
    replay: bool = False
    lasting: bool = False
    resumes: bool = True
    credential: Credential | None = None


class Answer(msgspec.Struct, frozen=True):
    """The reply to a request; ``status`` and ``session`` (the ``Mcp-Session-Id`` given) are HTTP's, 200 and None elsewhere."""

    message: Message
    status: int = 200
    session: bytes | None = None


class Wire(Protocol):
    """A way to one backend. ``closing_cancels``: leaving an exchange is how the transport says "cancelled".

    ``private_streams``: what comes with an answer belongs to that request; else everything comes on one stream.
    """

    closing_cancels: bool
    private_streams: bool
    on_stray: OnStray | None

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        """Send a request and wait for its reply until ``deadline`` (loop time). What comes before goes to ``on_message``.

        Raises ``Unavailable``, ``Overdue`` and ``WireError``.
        """

    async def tell(self, body: bytes, headers: Headers) -> None:
        """Send a notification or a reply. Raises as ``exchange`` does."""

    async def hear(self, headers: Headers) -> bool:
        """Hold the standing stream, its messages going to ``on_stray``, until the backend ends it: then True.

        False at once when the backend, or the transport, has none. Raises as ``exchange`` does.
        """

    async def close(self) -> None:
        """Give everything back. Harmless when called twice."""
