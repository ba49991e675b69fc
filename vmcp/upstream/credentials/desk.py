"""Consents under way: who was invited to a login page, and who has left for one and is to come back.

The rule: an invitation is for one principal and is used once; whoever comes back must be the browser that left, within ten
minutes, and only once. All of it is in memory and bounded: what is forgotten is asked for anew.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from vmcp.call import Identity
from vmcp.upstream.credentials.logins import Login
from vmcp.upstream.credentials.servers import Server

VALID: Final = 600.0
"""Seconds for an invitation, and then for the way to the login page and back."""
MOST: Final = 1000
"""Invitations and journeys of one backend."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """Somebody may log in, with these scopes beside those that the backend wants. ``until`` is on the desk's clock."""

    id: str = field(repr=False)
    who: Identity
    scopes: tuple[str, ...]
    until: float


@dataclass(frozen=True, slots=True)
class Journey:
    """Somebody is at the login page. ``browser`` is the digest of what his browser keeps."""

    invitation: Invitation
    browser: bytes = field(repr=False)
    verifier: str = field(repr=False)
    redirect: str
    server: Server
    draft: Login
    until: float


class Desk:
    """Mutable: it owns the invitations and journeys of one backend. ``mark`` has ids say in which process they are known."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.mark: Callable[[str], str] = str
        self._now = now
        self._invited: OrderedDict[str, Invitation] = OrderedDict()
        self._latest: dict[tuple[str, tuple[str, ...]], str] = {}
        self._away: OrderedDict[str, Journey] = OrderedDict()

    def __len__(self) -> int:
        return len(self._invited) + len(self._away)

    def invite(self, who: Identity, scopes: tuple[str, ...] = ()) -> Invitation:
        """An invitation for ``who``: the one that he has, if it is good for a while yet."""
        now, wish = self._now(), (who.principal, scopes)
        known = self._invited.get(self._latest.get(wish, ""))
        if known is not None and known.until > now + VALID / 2:
            return known
        fresh = Invitation(self.mark(secrets.token_urlsafe(32)), who, scopes, now + VALID)
        self._invited[fresh.id] = fresh
        self._latest[wish] = fresh.id
        while len(self._invited) > MOST or next(iter(self._invited.values())).until <= now:
            self._withdraw(next(iter(self._invited.values())))
        return fresh

    def invited(self, id_: str) -> Invitation | None:
        """The invitation of this id, if it is good still."""
        found = self._invited.get(id_)
        return found if found is not None and found.until > self._now() else None

    def left(self, journey: Journey) -> str:
        """Somebody leaves: his invitation is used up. The ``state`` that he brings back."""
        self._withdraw(journey.invitation)
        state = self.mark(secrets.token_urlsafe(32))
        self._away[state] = journey
        while len(self._away) > MOST:
            self._away.popitem(last=False)
        return state

    def awaits(self, state: str) -> bool:
        """Whether somebody is to come back with this ``state``."""
        return state in self._away

    def back(self, state: str, browser: str) -> Journey | None:
        """Who came back; None when it is another browser, too late, or the second time."""
        found = self._away.get(state)
        if found is None or not hmac.compare_digest(found.browser, digest(browser)):
            return None
        del self._away[state]
        return found if found.until > self._now() else None

    def journey(self, invitation: Invitation, browser: str, redirect: str, server: Server, draft: Login) -> Journey:
        """A journey that could begin now."""
        verifier, until = secrets.token_urlsafe(48), self._now() + VALID
        return Journey(invitation, digest(browser), verifier, redirect, server, draft, until)

    def _withdraw(self, invitation: Invitation) -> None:
        self._invited.pop(invitation.id, None)
        wish = (invitation.who.principal, invitation.scopes)
        if self._latest.get(wish) == invitation.id:
            del self._latest[wish]


def digest(browser: str) -> bytes:
    """What is kept of a browser's cookie."""
    return hashlib.sha256(browser.encode()).digest()
