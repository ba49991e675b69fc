"""Sessions of the handshake era: an id that nobody can guess, bound to who opened it and where.

The rule: an id is looked up together with its owner and its path, on every verb; a wrong one looks like an unknown one. What a
session holds ends with it, at once.
"""

import secrets
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from vmcp.call import Peer, refine
from vmcp.config.model import Limits
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, jsonrpc, questions
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import Revision
from vmcp.server.inflight import InFlight
from vmcp.server.journal import Journal, Shelf
from vmcp.server.standing import Standing
from vmcp.server.voice import Say, Voice
from vmcp.state.crew import Crew


class Session:
    """What ``initialize`` agreed on, and what goes on within it. It is the hub's ``Ear`` for its standing streams.

    ``peer`` changes with the log level and in nothing else; ``seen`` is the loop time of the last use, ``born`` of the first.
    ``hang_up`` is what a transport that holds a connection wants done when the session ends.
    """

    __slots__ = (
        "born",
        "calls",
        "hang_up",
        "held",
        "journal",
        "owner",
        "path",
        "peer",
        "say",
        "seen",
        "standing",
        "voice",
    )

    def __init__(self, peer: Peer, path: str, owner: str, now: float, shelf: Shelf) -> None:
        self.peer = peer
        self.path = path
        self.owner = owner
        self.born = self.seen = now
        self.held = 0
        """Connections that are open for this session; while there is one, it is not idle."""
        self.hang_up: Callable[[], None] | None = None
        self.calls = InFlight()
        self.voice = Voice(peer.capabilities)
        self.journal = Journal(shelf)
        self.standing = Standing(self.journal)
        self.say: Say = self.standing.say
        """How it is told something at once; who serves it over a two-way stream has a way of its own."""

    @property
    def id(self) -> str:
        """What the client says to be recognised."""
        assert self.peer.session is not None
        return self.peer.session

    @property
    def revision(self) -> Revision:
        """The revision that was agreed on."""
        return self.peer.revision

    @property
    def level(self) -> str | None:
        """The least severe log message that the client wants."""
        return self.peer.level

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """See ``Ear``: say on the standing stream what belongs to no request."""
        if method == "notifications/message" and not wanted(params, self.peer.level):
            return
        self.standing.put(method, params)

    async def ask(self, question: Question) -> Raw:
        """Ask the client what belongs to no request of its own. Raises ``McpError``."""
        return await self.voice.ask(self.say, questions.passed_on(question))

    def close(self) -> None:
        """End what goes on."""
        self.calls.cancel_all()
        self.voice.close()
        self.standing.close()
        self.journal.close()
        if self.hang_up is not None:
            self.hang_up()


def wanted(params: Mapping[str, Any], level: str | None) -> bool:
    """Whether a log message passes ``level``."""
    said = params.get("level", jsonrpc.NONE)
    if isinstance(said, msgspec.Raw):
        said = msgspec.json.decode(said) if said else None
    return envelope.allows(said, level)


TOLD = frozenset({"notifications/roots/list_changed"})
"""What a client notifies of that backends may want to know."""


def _nothing(*_: object) -> None:
    return


class Sessions:
    """All sessions of this process. Mutable; used by the door only.

    ``on_end`` hears of each session that ends, ``on_told`` of what a client notified of (the method).
    """

    def __init__(
        self,
        limits: Limits,
        now: Callable[[], float],
        on_end: Callable[[Session], None] = _nothing,
        on_told: Callable[[Session, str], None] = _nothing,
        crew: Crew | None = None,
    ) -> None:
        self._limits = limits
        self._now = now
        self._on_end = on_end
        self._on_told = on_told
        self._crew = crew
        self._sessions: dict[str, Session] = {}
        self._owned: dict[str, int] = {}
        self._shelf = Shelf()
        self.draining = False

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def open(self, peer: Peer, path: str, owner: str) -> Session:
        """A new session. Raises ``McpError`` when there are too many."""
        if self._full(owner):
            self.sweep()
        limit = self._full(owner)
        if limit:
            text = f"this server has its limit of {limit} sessions; try again later"
            raise McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.GATEWAY_ERROR)
        id_ = secrets.token_urlsafe(32)
        if self._crew is not None:
            id_ = self._crew.mark(id_)
        session = Session(refine(peer, session=id_), path, owner, self._now(), self._shelf)
        self._sessions[id_] = session
        self._owned[owner] = self._owned.get(owner, 0) + 1
        return session

    def _full(self, owner: str) -> int:
        """The limit that is reached, 0 when there is room."""
        limits = self._limits
        if len(self._sessions) >= limits.sessions:
            return limits.sessions
        return limits.sessions_per_principal if self._owned.get(owner, 0) >= limits.sessions_per_principal else 0

    def find(self, id_: str, path: str, owner: str) -> Session | None:
        """The session, if it is this owner's and for this path; it counts as used."""
        session = self._sessions.get(id_)
        if session is None or session.path != path or session.owner != owner:
            return None
        now = self._now()
        if self._over(session, now):
            self.end(session)
            return None
        session.seen = now
        return session

    def _over(self, session: Session, now: float) -> bool:
        if now - session.born > self._limits.session_max:
            return True
        return now - session.seen > self._limits.session_idle and not (session.held or session.calls)

    def get(self, id_: str) -> Session | None:
        """The session of an id that ``find`` has accepted, if it is still there."""
        return self._sessions.get(id_)

    def end(self, session: Session) -> None:
        """Forget a session at once, and end what goes on in it."""
        if self._sessions.pop(session.id, None) is None:
            return
        left = self._owned[session.owner] - 1
        if left:
            self._owned[session.owner] = left
        else:
            del self._owned[session.owner]
        session.close()
        self._on_end(session)

    def told(self, session: Session, method: str) -> None:
        """The client has sent a notification; most concern nobody."""
        if method in TOLD:
            self._on_told(session, method)

    def release(self, session: Session) -> None:
        """A connection of the session is closed; it counts as used until now."""
        session.held -= 1
        session.seen = self._now()

    def sweep(self) -> None:
        """Forget what has been idle, or there, for too long."""
        now = self._now()
        for session in [session for session in self._sessions.values() if self._over(session, now)]:
            self.end(session)

    def keep(self, paths: Container[str]) -> None:
        """Only these endpoints are served: the sessions of all others end."""
        for session in [session for session in self._sessions.values() if session.path not in paths]:
            self.end(session)

    def drain(self) -> None:
        """The server is stopping: end the standing streams, and open no more."""
        self.draining = True
        for session in self._sessions.values():
            session.standing.close()
