"""A large body on its way from the socket into the one place where it stays.

The rule: as long as it comes nobody else is told of bytes; all else that a transport tells goes on to the connection. It takes
what belongs to the body and not a byte more.
"""

import asyncio
from typing import Final, Protocol

_NOTHING: Final = memoryview(bytearray())


class Connected(Protocol):
    """The connection that it comes over."""

    def filled(self) -> None:
        """The body is whole."""

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.BaseProtocol``, as the others."""

    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Filling(asyncio.BufferedProtocol):
    """The transport's protocol meanwhile. Pieces of a megabyte would each be copied three times, and leave holes in memory."""

    def __init__(self, connection: Connected, rest: memoryview) -> None:
        self._connection = connection
        self._rest = rest

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._rest

    def buffer_updated(self, nbytes: int) -> None:
        """So many have come."""
        self._rest = self._rest[nbytes:]
        if not self._rest:
            self._rest = _NOTHING  # a transport may remember us for as long as it lives
            self._connection.filled()

    def eof_received(self) -> None:
        """The backend has closed its side too early."""
        self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._rest = _NOTHING
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The request is still on its way."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It is out."""
        self._connection.resume_writing()
