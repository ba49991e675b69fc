"""What is late on one connection: a head, a body, the next request, a client that does not read.

The rule: nothing here has a timer. A connection notes when something began, on the clock of the watch, and is asked now and then.
A body may take ``bodyTimeout``, and as much longer as its bytes so far take at ``bodyRate``.
"""

import asyncio
from math import inf
from typing import Any, ClassVar

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from vmcp.config.model import Limits
from vmcp.server.cycle import Cycle
from vmcp.server.vigil import HURRY, Vigil


class Timed(HttpToolsProtocol):
    """The part of a connection that the watch asks. ``limits`` and ``vigil`` are set on a subclass."""

    limits: ClassVar[Limits]
    vigil: ClassVar[Vigil]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = True
        self._in_body = False
        self._since = inf
        """When the client began what is not whole yet; on the clock of the watch, as the next two."""
        self._idle_since = inf
        self._closing_since = inf
        self._received = 0
        """Bytes of a body that comes in pieces."""
        self._served: Cycle | None = None

    def refuse_late(self) -> None:
        """A body is late: say so, if that can be said."""
        raise NotImplementedError

    def look(self, now: float, *, hurry: bool) -> bool:
        """See ``vigil.Watched``."""
        if self.transport.is_closing():
            self._look_after(now)
        elif self._since < inf:
            self._look_at_request(now)
        elif now - self._idle_since >= (min(self.limits.keep_alive, HURRY) if hurry else self.limits.keep_alive):
            self._close()
        served = self._served
        return served is not None and served.response_started and not served.response_complete

    def _look_after(self, now: float) -> None:
        """What is unread when we close stays in the buffer, for ever if the client does not care."""
        if self.vigil.stalled(self):
            return
        if self._closing_since == inf:
            self._closing_since = now
        elif now - self._closing_since >= self.limits.write_stall:
            self.transport.abort()

    def _look_at_request(self, now: float) -> None:
        if self.flow.read_paused:
            self._since = now  # We do not read at the moment.
        elif self._in_body:
            if now - self._since >= self.limits.body_timeout + self._received / max(1, self.limits.body_rate):
                self.refuse_late()
        elif now - self._since >= self.limits.header_timeout:
            self._close()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self.vigil.stalls(self, self._served.holds if self._served is not None else 0)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self.vigil.flows(self)
