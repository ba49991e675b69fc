"""A request to turn a connection into a WebSocket, on its way from the listener to who takes it over.

The rule: it is handed on whole; nobody on the way takes it apart but to look at it.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from vmcp.server.asgi import Header
from vmcp.server.vigil import Places


class Connections(Protocol):
    """What uvicorn knows of its server: the connections that it asks to end with it."""

    @property
    def connections(self) -> Places:
        """Those."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """``rest`` is what its client has sent already, behind the head."""

    transport: asyncio.Transport
    server: Connections
    raw_path: bytes
    headers: tuple[Header, ...]
    rest: bytes
