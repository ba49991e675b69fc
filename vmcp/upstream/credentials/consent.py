"""OAuth towards one backend: whose login serves whom, how one comes about, and how it stays.

The rule: a login is found by backend and principal and by nothing else; one process at a time renews it, and stores it before
it is used, so that a refresh token is never shown twice. Where there is none, nothing is sent and its user is told where to
consent.
"""

import asyncio
import base64
import contextlib
import functools
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import urlencode

import msgspec

from vmcp.call import Identity
from vmcp.config.model import BackendSpec
from vmcp.config.oauth import OAuth, UserOAuth
from vmcp.config.values import Text
from vmcp.egress.fetch import Fetcher
from vmcp.errors import Code, ConsentRequired, Unavailable, VmcpError
from vmcp.state.vault import Owner, Vault, VaultError
from vmcp.upstream.credentials.alone import alone
from vmcp.upstream.credentials.desk import Desk, Invitation, Journey
from vmcp.upstream.credentials.grants import claims_of
from vmcp.upstream.credentials.logins import Login, Logins, Refused
from vmcp.upstream.credentials.person import OS_ISSUER, system_user
from vmcp.upstream.credentials.registration import Registration
from vmcp.upstream.credentials.servers import Server, Servers
from vmcp.upstream.credentials.tokens import Token, Tokens

log = logging.getLogger("vmcp.upstream")

START: Final = "/oauth/start"
GATEWAY: Final = Identity("vmcp-gateway", "gateway")
"""In whose name vmcp logs in where all callers share one login."""
FRESH: Final = 60.0
"""Seconds after which one looks again whether a login is still there: a shell may have ended it."""
KNOWN: Final = 3600.0
"""Seconds that the authorization server of a backend is not looked for again."""
PAUSE: Final = 5.0
"""The same, where it was not found."""
SKEW: Final = 30.0
"""Seconds before its end from which an access token is renewed."""
_CAP: Final = 10_000
_OFFLINE: Final = "offline_access"
_OVER: Final = frozenset({"invalid_grant", "invalid_client", "unauthorized_client", "invalid_token"})
"""What a server answers when a refresh token is good no more."""


class Consent:
    """The logins at one backend. Mutable: it owns what is under way; ``close`` ends it."""

    def __init__(self, spec: BackendSpec, auth: OAuth, secret: Callable[[Text], str]) -> None:
        self.name = spec.name
        self.auth = auth
        self.per_user = isinstance(auth, UserOAuth)
        self.desk = Desk(time.monotonic)
        self._fetcher = Fetcher(ca_bundle=spec.tls.ca_bundle)
        self._servers = Servers(spec, auth, self._fetcher)
        self._vault = Vault(auth.state.directory, auth.state.keys)
        self._registration = Registration(spec.name, auth, self._fetcher, self._vault)
        self._logins = Logins(
            spec.name, auth, self._fetcher, self._servers.exempt, lambda: secret(auth.client_secret or "")
        )
        self._tokens = Tokens(spec.name)
        self._finding = asyncio.Lock()
        self._found: tuple[Server | Unavailable, float] | None = None
        self._spent: dict[str, str] = {}
        self._unsaved: dict[Owner, Login] = {}

    @property
    def lister(self) -> Identity:
        """With whose login vmcp lists the backend: with that of the gateway, or of the user who runs it."""
        return system_user() if self.per_user else GATEWAY

    # --- tokens

    async def token(self, who: Identity, deadline: float) -> str:
        """The access token of ``who``. Raises ``ConsentRequired``, ``Unavailable`` and ``Overdue``."""
        return await self._tokens.get(who.principal, functools.partial(self._granted, who), deadline)

    def refused(self, who: Identity, text: str) -> None:
        """The backend takes the token ``text`` no more."""
        self._tokens.drop(who.principal, text)
        if len(self._spent) >= _CAP:
            self._spent.clear()
        self._spent[who.principal] = text

    async def asks(self, who: Identity, scopes: tuple[str, ...] = ()) -> Unavailable:
        """What to tell ``who``, who has not consented, or not to these scopes."""
        run = f"vmcp auth login {self.name}" + (f" --scope '{' '.join(scopes)}'" if scopes else "")
        if not self.per_user:
            why = f"nobody has logged in{' with the scopes that it wants' if scopes else ''}; run: {run}"
            return Unavailable(self.name, why, Code.UNAUTHORIZED)
        await self.server()  # nobody is sent to a page that cannot lead on
        url = f"{self.auth.base}{START}?{urlencode({'invitation': self.desk.invite(who, scopes).id})}"
        return ConsentRequired(self.name, url, f" (or run: {run})" if who.issuer == OS_ISSUER else "")

    async def _granted(self, who: Identity) -> Token:
        owner = Owner(self.name, who.principal)
        login = await self._kept(owner)
        if login is not None and not self._good(who, login):
            async with alone(self._vault, self.name, owner):
                # Whoever had it to himself before us may have renewed it, or ended it.
                login = await self._kept(owner)
                if login is not None and not self._good(who, login):
                    login = await self._renewed(owner, login)
        if login is None:
            raise await self.asks(who)
        self._spent.pop(who.principal, None)
        return Token(login.access, min(login.until - time.time(), FRESH))

    def _good(self, who: Identity, login: Login) -> bool:
        return login.until - time.time() > SKEW and self._spent.get(who.principal) != login.access

    async def _renewed(self, owner: Owner, login: Login) -> Login | None:
        """A login with newer tokens; None when its user has to consent again."""
        if not login.refresh:
            return None
        try:
            fresh = await self._logins.renew(login)
        except Refused as refused:
            return await self._over(owner, login, refused)
        except Unavailable:
            raise
        except VmcpError as error:
            raise Unavailable(self.name, f"its login cannot be renewed: {error}") from None
        await self._keep(owner, fresh)
        return fresh

    async def _over(self, owner: Owner, login: Login, refused: Refused) -> Login | None:
        if refused.error not in _OVER:
            raise Unavailable(self.name, f"its login cannot be renewed: {refused}")
        now = await self._kept(owner)
        if now is not None and now.refresh != login.refresh and now.until - time.time() > SKEW:
            return now  # another process was faster
        log.info("login over", extra={"backend": self.name, "why": str(refused)})
        await self._unknown(refused, login.issuer, self.auth.redirect)
        await self._drop(owner)
        return None

    async def _unknown(self, refused: Refused, issuer: str, redirect: str) -> None:
        """A server that does not know vmcp (any more) is asked to register it anew."""
        if refused.error == "invalid_client":
            with contextlib.suppress(VaultError):
                await self._registration.forget(issuer, redirect)

    # --- what is kept

    async def _kept(self, owner: Owner) -> Login | None:
        unsaved = self._unsaved.get(owner)
        if unsaved is not None:
            await self._keep(owner, unsaved)
            return unsaved
        try:
            kept = await asyncio.to_thread(self._vault.get, owner)
            return msgspec.json.decode(kept, type=Login) if kept is not None else None
        except VaultError as error:
            raise Unavailable(self.name, str(error), Code.CONFIGURATION_ERROR) from None
        except msgspec.MsgspecError:  # another version's
            return None

    async def _keep(self, owner: Owner, login: Login) -> None:
        """Store a login. Until that succeeds it is not used, but not forgotten either: its predecessor is worth nothing."""
        self._unsaved[owner] = login
        try:
            await asyncio.to_thread(self._vault.put, owner, msgspec.json.encode(login))
        except VaultError as error:
            log.error("login not stored", extra={"backend": self.name, "why": str(error)})
            raise Unavailable(self.name, "a login could not be stored, so it is not used", Code.GATEWAY_ERROR) from None
        self._unsaved.pop(owner, None)

    async def _check(self) -> None:
        """Nobody logs in for a token that could not be kept."""
        try:
            await asyncio.to_thread(self._vault.check)
        except VaultError as error:
            raise Unavailable(self.name, f"no login is possible: {error}", Code.CONFIGURATION_ERROR) from None

    async def _drop(self, owner: Owner) -> bool:
        self._unsaved.pop(owner, None)
        try:
            return await asyncio.to_thread(self._vault.drop, owner)
        except VaultError as error:
            raise Unavailable(self.name, str(error), Code.CONFIGURATION_ERROR) from None

    async def login_of(self, who: Identity) -> Login | None:
        """What is kept for ``who``."""
        return await self._kept(Owner(self.name, who.principal))

    async def end(self, who: Identity) -> bool:
        """Forget the login of ``who``, and tell its server; whether there was one."""
        login = await self.login_of(who)
        self._tokens.forget(who.principal)
        async with alone(self._vault, self.name, Owner(self.name, who.principal)):
            gone = await self._drop(Owner(self.name, who.principal))
        if login is not None:
            await self._logins.revoke(login)
        return gone

    def principals(self) -> Iterator[str]:
        """Whose logins are kept. It reads files."""
        return (owner.principal for owner in self._vault.owners(self.name))

    # --- logging in

    async def server(self) -> Server:
        """The authorization server, looked for when it is not known. Raises ``Unavailable``."""
        async with self._finding:  # one looks, however many ask
            if self._found is None or self._found[1] <= time.monotonic():
                self._found = await self._look()
            if isinstance(self._found[0], Unavailable):
                raise self._found[0]
            return self._found[0]

    async def _look(self) -> tuple[Server | Unavailable, float]:
        try:
            return await self._servers.find(), time.monotonic() + KNOWN
        except Unavailable as error:
            return error, time.monotonic() + PAUSE

    async def depart(self, invitation: Invitation, browser: str, redirect: str | None = None) -> str:
        """Send a browser to the login page: its URL. Raises ``Unavailable``."""
        server, redirect = await self.server(), redirect or self.auth.redirect
        await self._check()
        exempt = server.registration_url is not None and self._servers.exempt(server.registration_url)
        client = await self._registration.client(server, redirect, exempt=exempt)
        scopes = tuple(dict.fromkeys((*server.wanted, *invitation.scopes, *await self._held(invitation.who))))
        scopes += (_OFFLINE,) if _OFFLINE in server.offered and _OFFLINE not in scopes else ()
        draft = Login(
            server.issuer, server.token_url, client, server.resource, "", 0.0, "", scopes, server.revocation_url
        )
        journey = self.desk.journey(invitation, browser, redirect, server, draft)
        query = _query(journey, self.desk.left(journey))
        return f"{server.authorize_url}{'&' if '?' in server.authorize_url else '?'}{urlencode(query)}"

    async def _held(self, who: Identity) -> tuple[str, ...]:
        """The scopes that ``who`` has already, which more of them shall not replace."""
        login = await self.login_of(who)
        return login.scopes if login is not None else ()

    async def arrive(self, journey: Journey, answer: Mapping[str, str]) -> None:
        """Take what the browser brought back. Raises ``Unavailable``, and then there is no login."""
        server, who = journey.server, journey.invitation.who
        if answer.get("iss", "" if server.tells else server.issuer) != server.issuer:
            raise self._failed("the answer is of another authorization server")
        if "code" not in answer or "error" in answer:
            raise self._failed("the authorization server gave no consent")
        try:
            login = await self._logins.redeem(journey.draft, answer["code"], journey.verifier, journey.redirect)
        except Refused as refused:
            await self._unknown(refused, server.issuer, journey.redirect)
            raise self._failed(str(refused)) from None
        except VmcpError as error:
            raise self._failed(str(error)) from None
        claims = claims_of(login.access)
        if claims.get("iss") == who.issuer and claims.get("sub") != who.subject:
            raise self._failed("somebody else logged in than was invited")
        async with alone(self._vault, self.name, Owner(self.name, who.principal)):
            await self._keep(Owner(self.name, who.principal), login)
        self._tokens.forget(who.principal)
        self._spent.pop(who.principal, None)
        log.info("logged in", extra={"backend": self.name, "issuer": login.issuer})

    def _failed(self, why: str) -> Unavailable:
        return Unavailable(self.name, f"the login failed: {why}", Code.UNAUTHORIZED)

    async def close(self) -> None:
        """Give everything back."""
        await self._tokens.close()
        await self._fetcher.close()


def _query(journey: Journey, state: str) -> Mapping[str, str]:
    challenge = hashlib.sha256(journey.verifier.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": journey.draft.client.id,
        "redirect_uri": journey.redirect,
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "resource": journey.draft.resource,
    }
    if journey.draft.scopes:
        query["scope"] = " ".join(journey.draft.scopes)
    if _OFFLINE in journey.draft.scopes:
        query["prompt"] = "consent"  # OpenID Connect Core, 11
    return query
