"""Sessions of the handshake era: an id that nobody can guess, bound to who opened it and where.

The rule: an id is looked up together with its owner and its path, on every verb; a wrong one looks like an unknown one.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from vmcp.errors import Code, McpError
from vmcp.protocol.revisions import Revision


@dataclass(slots=True)
class Session:
    """What ``initialize`` agreed on. Only ``seen`` (loop time of the last use) and ``level`` ever change."""

    id: str
    revision: Revision
    capabilities: bytes
    info: bytes | None
    path: str
    owner: str
    seen: float
    level: str = "info"


class Sessions:
    """All sessions of this process. Mutable; used by the door only."""

    def __init__(self, limit: int, idle: float, now: Callable[[], float]) -> None:
        self._limit = limit
        self._idle = idle
        self._now = now
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, revision: Revision, capabilities: bytes, info: bytes | None, path: str, owner: str) -> Session:
        """A new session. Raises ``McpError`` when there are too many."""
        if len(self._sessions) >= self._limit:
            self.sweep()
        if len(self._sessions) >= self._limit:
            text = f"this server has its limit of {self._limit} sessions; try again later"
            raise McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.GATEWAY_ERROR)
        session = Session(secrets.token_urlsafe(32), revision, capabilities, info, path, owner, self._now())
        self._sessions[session.id] = session
        return session

    def find(self, id_: str, path: str, owner: str) -> Session | None:
        """The session, if it is this owner's and for this path; it counts as used."""
        session = self._sessions.get(id_)
        if session is None or session.path != path or session.owner != owner:
            return None
        now = self._now()
        if now - session.seen > self._idle:
            del self._sessions[id_]
            return None
        session.seen = now
        return session

    def get(self, id_: str) -> Session | None:
        """The session of an id that ``find`` has accepted, if it is still there."""
        return self._sessions.get(id_)

    def end(self, session: Session) -> None:
        """Forget a session at once."""
        self._sessions.pop(session.id, None)

    def sweep(self) -> None:
        """Forget what has been idle for too long."""
        oldest = self._now() - self._idle
        for id_ in [id_ for id_, session in self._sessions.items() if session.seen < oldest]:
            del self._sessions[id_]
