"""What stays where it is while configurations come and go: transports and the listener hold on to it, and it to the newest.

The rule: what is behind is replaced by one assignment, and asked anew for every request and every message; so whatever begins
after a reload is judged by the new configuration, also on a connection that is older.
"""

from collections.abc import Awaitable
from typing import Any

from vmcp.call import Client, Identity, Origin, Peer
from vmcp.errors import McpError
from vmcp.protocol.jsonrpc import Request
from vmcp.server.app import App
from vmcp.server.asgi import Receive, Scope, Send
from vmcp.server.audited import Audited
from vmcp.server.exchange import Exchange
from vmcp.server.load import Load
from vmcp.server.upgrade import Upgrade


class Passage:
    """The newest ``Exchange``. See ``Doorway``. While memory is short some methods do not pass (``load``)."""

    __slots__ = ("_load", "behind")

    behind: Exchange

    def __init__(self, load: Load) -> None:
        self._load = load

    def result(self, request: Request, peer: Peer, path: str, client: Client) -> Awaitable[bytes]:
        """See ``Doorway``."""
        if self._load.step:
            self._admit(request, peer)
        return self.behind.result(request, peer, path, client)

    def turned_away(
        self, method: str, error: McpError, origin: Origin | None, identity: Identity | None = None
    ) -> None:
        """See ``Doorway``."""
        self.behind.turned_away(method, error, origin, identity)

    def _admit(self, request: Request, peer: Peer) -> None:
        try:
            self._load.admit(request.method)
        except McpError as error:
            self.turned_away(request.method, error, peer.origin, peer.identity)
            raise


class Front:
    """The newest application: an ASGI application and a ``listener.Door``."""

    __slots__ = ("behind",)

    behind: App | Audited

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Answer one request (ASGI 3)."""
        return self.behind(scope, receive, send)

    def upgrades(self, raw_path: bytes) -> bool:
        """See ``listener.Door``."""
        return self.behind.upgrades(raw_path)

    def upgrade(self, asked: Upgrade) -> None:
        """See ``listener.Door``."""
        self.behind.upgrade(asked)

    def rejected(self, status: int, client: Any, raw_path: bytes) -> None:
        """The listener has refused something; it is recorded if anything is."""
        if isinstance(self.behind, Audited):
            self.behind.rejected(status, client, raw_path)

    def drain(self) -> None:
        """See ``App``."""
        self.behind.drain()
