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


class Outgoing(msgspec.Struct, frozen=True):
    """A request as bytes. ``replay``: to run it twice does no harm, so it may be sent again when a connection was lost."""

    id: int
    body: bytes
    headers: Headers = ()
    replay: bool = False


class Answer(msgspec.Struct, frozen=True):
    """The reply to a request; ``status`` and ``session`` (the ``Mcp-Session-Id`` given) are HTTP's, 200 and None elsewhere."""

    message: Message
    status: int = 200
    session: bytes | None = None


class Wire(Protocol):
    """A way to one backend. ``closing_cancels``: leaving an exchange is how the transport says "cancelled"."""

    closing_cancels: bool
    on_stray: OnStray | None

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        """Send a request and wait for its reply until ``deadline`` (loop time). What comes before goes to ``on_message``.

        Raises ``Unavailable``, ``Overdue`` and ``WireError``.
        """

    async def tell(self, body: bytes, headers: Headers) -> None:
        """Send a notification or a reply. Raises as ``exchange`` does."""

    async def close(self) -> None:
        """Give everything back. Harmless when called twice."""
