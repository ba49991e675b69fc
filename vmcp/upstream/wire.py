"""What a link needs of a transport, whichever it is: send one request and get its reply, send a notification, close.

The rule: a wire knows framing and correlation, nothing of eras, names or policies.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from vmcp.config.timeouts import Timeouts
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream.endpoint import Endpoint

Headers = Sequence[tuple[bytes, bytes]]
OnMessage = Callable[[Message], Awaitable[None]]
OnStray = Callable[[Message], None]


class Signing(list[tuple[bytes, bytes]]):
    """Headers of which some are made for each request: ``over`` (to where, a method, a body) gives them all.

    As a list it has those that are always the same. ``proof`` is what its credential knows it again by.
    """

    __slots__ = ("over", "proof")

    def __init__(self, same: Headers, over: Callable[[Endpoint, bytes, bytes], Headers], proof: str) -> None:
        super().__init__(same)
        self.over = over
        self.proof = proof


class Widening(list[tuple[bytes, bytes]]):
    """Headers whose credential may be had with more scopes: ``lacks`` hears a 403's challenge; whether to ask for it again."""

    __slots__ = ("lacks",)

    def __init__(self, same: Headers, lacks: Callable[[str], bool]) -> None:
        super().__init__(same)
        self.lacks = lacks


def carried(shown: Headers, target: Endpoint, method: bytes, body: bytes) -> Headers:
    """What a request carries of what its credential showed."""
    return shown.over(target, method, body) if isinstance(shown, Signing) else shown


class Credential(Protocol):
    """What shows a backend for whom a request is. ``owner``: the principal that alone may use it; None: it is vmcp's own."""

    owner: str | None

    async def headers(self, deadline: float) -> Headers:
        """The headers that carry it, had by ``deadline`` (loop time). Raises ``VmcpError``: then nothing is sent."""

    def refused(self, headers: Headers) -> bool:
        """The backend took these for no good (any more); whether to ask once more with others."""


class Outgoing(msgspec.Struct, frozen=True):
    """A request as bytes. ``replay``: to run it twice does no harm, so it may be sent again when a connection was lost.

    ``lasting``: its answer is a stream that stays open on purpose (``subscriptions/listen``), so only the deadline given
    with it counts. ``resumes``: in its revision a broken stream of answers may be taken up where it ended.
    ``credential``: the caller's, in place of the wire's own. ``limits``: of its tool or backend; None where it is no call.
    ``again``: if its answer is lost, it is asked once more, within the budget.
    """

    id: int
    body: bytes
    headers: Headers = ()
    replay: bool = False
    lasting: bool = False
    resumes: bool = True
    credential: Credential | None = None
    limits: Timeouts | None = None
    again: bool = False


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
