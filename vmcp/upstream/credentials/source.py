"""Whose credential a request carries: for each strategy, vmcp's own and that of a caller.

The rule: what acts for each user never goes without that user's credential and never with another's; where there is none, the
call fails before anything is sent. vmcp's own serves only what is no call: greeting, listing, standing streams.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from vmcp.call import Identity
from vmcp.config.aws import AwsSts
from vmcp.config.model import BackendSpec
from vmcp.config.oauth import GatewayOAuth, OAuth, UserOAuth
from vmcp.config.outgoing import PER_USER, Basic, Bearer, CrossApp, OnBehalf, PassThrough, ServiceAccount, TokenExchange
from vmcp.config.values import Text
from vmcp.egress.fetch import Fetcher
from vmcp.errors import Code, Unavailable
from vmcp.upstream import secrets
from vmcp.upstream.credentials.aws import Aws
from vmcp.upstream.credentials.consent import Consent
from vmcp.upstream.credentials.consented import Consented, Lister
from vmcp.upstream.credentials.grants import Endpoints
from vmcp.upstream.credentials.tokens import Grant, Token, Tokens
from vmcp.upstream.wire import Credential, Headers

_PASSED: Final = re.compile(r"[A-Za-z0-9\-._~+/]{1,16384}=*")


def bearer(token: str) -> Headers:
    """The header of a bearer token."""
    return [(b"authorization", b"Bearer " + token.encode())]


def fixed(spec: BackendSpec, environ: Mapping[str, str]) -> Headers:
    """The header of a strategy that is the same for everybody and for ever; none for the others."""
    auth = spec.auth
    if isinstance(auth, Bearer):
        return bearer(_secret(spec, auth.token, environ))
    if isinstance(auth, Basic):
        pair = f"{auth.username}:{_secret(spec, auth.password, environ)}"
        return [(b"authorization", b"Basic " + base64.b64encode(pair.encode()))]
    return []


def consent_of(spec: BackendSpec, environ: Mapping[str, str]) -> Consent | None:
    """The logins at a backend; None where its strategy is another."""
    auth = spec.auth
    return Consent(spec, auth, lambda value: _secret(spec, value, environ)) if isinstance(auth, OAuth) else None


def _secret(spec: BackendSpec, value: Text, environ: Mapping[str, str]) -> str:
    return secrets.resolve(spec.name, {"credential": value}, environ)["credential"]


class Fixed:
    """A credential that does not change."""

    __slots__ = ("_headers", "owner")

    def __init__(self, headers: Headers, owner: str | None = None) -> None:
        self._headers = headers
        self.owner = owner

    async def headers(self, deadline: float) -> Headers:
        """See ``Credential``."""
        return self._headers

    def refused(self, headers: Headers) -> bool:
        """See ``Credential``. There is no other."""
        return False


class Granted:
    """A token of a token endpoint, asked for when there is none and anew when the backend refuses it."""

    __slots__ = ("_grant", "_key", "_tokens", "owner")

    def __init__(self, tokens: Tokens, key: str, grant: Grant, owner: str | None = None) -> None:
        self._tokens = tokens
        self._key = key
        self._grant = grant
        self.owner = owner

    async def headers(self, deadline: float) -> Headers:
        """See ``Credential``."""
        return bearer(await self._tokens.get(self._key, self._grant, deadline))

    def refused(self, headers: Headers) -> bool:
        """See ``Credential``."""
        self._tokens.drop(self._key, headers[0][1].decode().removeprefix("Bearer "))
        return True


class Credentials:
    """The credentials for one backend. Mutable: it owns tokens and the requests for them.

    ``own`` is vmcp's (None: none beyond the fixed headers). ``per_user``: every call needs its caller's, from ``of``.
    ``consent`` has the logins, where the strategy is one of logging in.
    """

    def __init__(self, spec: BackendSpec, environ: Mapping[str, str]) -> None:
        self.per_user = isinstance(spec.auth, PER_USER)
        self._spec = spec
        self._environ = environ
        self._tokens = Tokens(spec.name)
        self._fetcher = Fetcher()
        self._endpoints = Endpoints(spec.name, self._fetcher, lambda value: _secret(spec, value, environ))
        self._aws = Aws(spec.name, spec.auth, self._fetcher, self._tokens) if isinstance(spec.auth, AwsSts) else None
        self.consent = consent_of(spec, environ)
        self.own = self._own()

    def of(self, identity: Identity | None) -> Credential | None:
        """The credential of a caller; None where all have the same. Raises ``Unavailable`` when there can be none."""
        if not self.per_user:
            return None
        if self.consent is not None and identity is not None:
            return Consented(self.consent, identity, identity.principal)
        if identity is None or not identity.token:
            why = "it is asked with each caller's own credential, and this caller showed none"
            raise Unavailable(self._spec.name, why, Code.UNAUTHORIZED)
        auth = self._spec.auth
        if isinstance(auth, TokenExchange):
            grant: Grant = functools.partial(self._endpoints.exchanged, auth, identity)
            asked = (auth.token_url, auth.client.id, auth.audience, *auth.scopes)
        elif isinstance(auth, CrossApp):
            grant = functools.partial(self._endpoints.crossed, auth, identity)
            asked = (auth.target_url, auth.target.id, auth.audience, auth.resource, *auth.scopes)
        elif isinstance(auth, OnBehalf):
            grant = functools.partial(self._endpoints.on_behalf, auth, identity)
            asked = (auth.token_url, auth.client.id, *auth.scopes)
        elif self._aws is not None:
            return self._aws.of(identity, functools.partial(_key, identity))
        else:
            return self._passed(identity)
        return Granted(self._tokens, _key(identity, asked), grant, identity.principal)

    def _passed(self, identity: Identity) -> Credential:
        if not _PASSED.fullmatch(identity.token):
            raise Unavailable(self._spec.name, "the caller's token cannot be passed on", Code.UNAUTHORIZED)
        return Fixed(bearer(identity.token), identity.principal)

    def _own(self) -> Credential | None:
        match self._spec.auth:
            case ServiceAccount() as spec:
                return self._account(spec)
            case GatewayOAuth() if self.consent is not None:
                return Consented(self.consent, self.consent.lister, None)
            case UserOAuth(listing=None) if self.consent is not None:
                return Lister(self.consent)
            case AwsSts(listing=token) if token is not None and self._aws is not None:
                return self._aws.own(functools.partial(_secret, self._spec, token, self._environ))
            case PassThrough() | TokenExchange() | CrossApp() | OnBehalf() | UserOAuth() as spec if (
                spec.listing is not None
            ):
                return Listing(self._spec, spec.listing, self._environ)
            case TokenExchange(token_url=url, client=client) as spec if client.secret is not None:
                return self._lister(ServiceAccount(url, client, spec.audience, spec.scopes))
            case CrossApp(target_url=url, target=client) as spec if client.secret is not None:
                return self._lister(ServiceAccount(url, client, None, spec.scopes))
            case _:
                return None

    def _account(self, spec: ServiceAccount) -> Credential:
        return Granted(self._tokens, "", functools.partial(self._endpoints.own, spec))

    def _lister(self, spec: ServiceAccount) -> Credential:
        """The client of an exchange in its own name; not every endpoint lets it."""

        async def grant() -> Token:
            try:
                return await self._endpoints.own(spec)
            except Unavailable as error:
                why = f"vmcp got no token to list it with, so give it a listingToken: {error.why}"
                raise Unavailable(error.backend, why, error.vmcp_code or Code.UNAUTHORIZED) from None

        return Granted(self._tokens, "", grant)

    async def close(self) -> None:
        """Give everything back."""
        await self._tokens.close()
        await self._fetcher.close()
        if self.consent is not None:
            await self.consent.close()


class Listing:
    """The token for listing what a backend offers, read when it is needed."""

    owner: str | None = None

    def __init__(self, spec: BackendSpec, value: Text, environ: Mapping[str, str]) -> None:
        self._spec = spec
        self._value = value
        self._environ = environ

    async def headers(self, deadline: float) -> Headers:
        """See ``Credential``."""
        return bearer(_secret(self._spec, self._value, self._environ))

    def refused(self, headers: Headers) -> bool:
        """See ``Credential``."""
        return False


def _key(identity: Identity, asked: tuple[str | None, ...]) -> str:
    """One text for issuer, subject token (whose hash stands for the actor in it too), endpoint, audience and scopes."""
    token = hashlib.sha256(identity.token.encode()).hexdigest()
    parts = [identity.issuer, identity.subject, token, *(part or "" for part in asked)]
    return "".join(f"{len(part)}:{part}" for part in parts)
