"""The credentials of those who log in: a caller's own, and the one with which vmcp greets and lists.

The rule: each is bound to its principal; what a backend says about missing scopes concerns the one call that lacks them.
"""

import asyncio

from vmcp.call import Identity
from vmcp.errors import Code, Overdue, Unavailable
from vmcp.upstream.credentials import challenges
from vmcp.upstream.credentials.consent import Consent
from vmcp.upstream.wire import Headers, Widening

_PREFIX = "Bearer "


class Consented:
    """The token of a login, renewed when the backend refuses it. ``owner`` as in ``Credential``."""

    __slots__ = ("_consent", "_lacking", "_who", "owner")

    def __init__(self, consent: Consent, who: Identity, owner: str | None) -> None:
        self.owner = owner
        self._consent = consent
        self._who = who
        self._lacking: tuple[str, ...] = ()

    async def headers(self, deadline: float) -> Headers:
        """See ``Credential``."""
        if self._lacking:
            raise await self._more(deadline)
        text = await self._consent.token(self._who, deadline)
        return Widening([(b"authorization", (_PREFIX + text).encode())], self._lacks)

    def refused(self, headers: Headers) -> bool:
        """See ``Credential``."""
        self._consent.refused(self._who, headers[0][1].decode().removeprefix(_PREFIX))
        return True

    def _lacks(self, challenge: str) -> bool:
        self._lacking = challenges.missing_scopes(challenge)
        return bool(self._lacking)

    async def _more(self, deadline: float) -> Exception:
        lacking, self._lacking = self._lacking, ()
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._consent.asks(self._who, lacking)
        except TimeoutError:
            return Overdue(self._consent.name, "timeouts.total", round(max(deadline - began, 0.0), 3))


class Lister:
    """What vmcp lists a backend with whose callers each have a login: that of who runs it, if there is one, else nothing."""

    owner: str | None = None

    def __init__(self, consent: Consent) -> None:
        self._consent = consent
        self._login = Consented(consent, consent.lister, None)
        self._wanted = False

    async def headers(self, deadline: float) -> Headers:
        """See ``Credential``."""
        if await self._consent.login_of(self._consent.lister) is not None:
            return await self._login.headers(deadline)
        if not self._wanted:
            return ()
        self._wanted = False
        name = self._consent.name
        why = f"it lists nothing without a login; run: vmcp auth login {name}, or give it a listingToken"
        raise Unavailable(name, why, Code.UNAUTHORIZED)

    def refused(self, headers: Headers) -> bool:
        """See ``Credential``."""
        self._wanted = not headers
        return self._wanted or self._login.refused(headers)
