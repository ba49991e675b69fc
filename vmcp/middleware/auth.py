"""Who is calling: what a proof of it is, and the layer that puts the answer on the call.

The rule: an identity comes from what was verified at the door (``server/gate``), never from what a client says about itself; a
call that comes without one is refused, whoever forgot it.
"""

from collections.abc import Awaitable
from typing import Protocol

from vmcp.call import ANONYMOUS, LOCAL, Call, Handler, Identity, Middleware, Outcome, refine
from vmcp.errors import Code, McpError, VmcpError

__all__ = ["ANONYMOUS", "LOCAL"]  # besides what is defined here


class Unproven(VmcpError):
    """A credential that is not accepted. ``error`` is the code of RFC 6750; the text names no part of the credential.

    ``status``: 401 for a bad one, 403 for a good one that may too little, 503 when nobody could be asked about it.
    """

    def __init__(self, why: str, *, status: int = 401, error: str = "invalid_token") -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.error = error


class Verifier(Protocol):
    """Checks credentials of one kind."""

    def known(self, token: bytes) -> Identity | None:
        """Whose token this is, as it came, if that was found out before and still holds. Asks nobody."""

    async def verify(self, token: str) -> Identity:
        """Whose token this is. Raises ``Unproven``."""


def identified() -> Middleware:
    """The layer that sees to it that a call is whose it was found to be at the door."""

    def layer(handler: Handler) -> Handler:
        def handle(call: Call) -> Awaitable[Outcome]:
            identity = call.peer.identity
            if identity is None:
                raise McpError(Code.INVALID_REQUEST, "nobody was asked who is calling", vmcp_code=Code.UNAUTHORIZED)
            return handler(call if call.identity is identity else refine(call, identity=identity))

        return handle

    return layer
