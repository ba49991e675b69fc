"""Tokens of OpenID Connect issuers: each by the rules of the issuer that it names, and remembered once proven.

The rule: what is remembered is keyed by the hash of the whole token and ends with it, after five minutes at the latest, and when
its issuer has dropped a key. A signed token is checked here, an opaque one by its issuer; neither is ever tried as the other.
"""

import secrets as chance
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

from vmcp.call import Identity
from vmcp.config.incoming import Issuer
from vmcp.egress.fetch import Fetcher
from vmcp.middleware import keyset, tokens
from vmcp.middleware.auth import Unproven
from vmcp.middleware.introspection import Introspection
from vmcp.middleware.keyring import Keyring
from vmcp.middleware.signature import signed
from vmcp.tasks import Nest

REMEMBERED: Final = 300.0
ASKED: Final = 60.0
"""Seconds for which a proof is remembered: our own, and that of an issuer that was asked."""
MOST: Final = 10_000


class Clocks(NamedTuple):
    """``wall`` is the time of day, ``now`` runs evenly."""

    wall: Callable[[], float]
    now: Callable[[], float]


class Oidc:
    """A ``Verifier``. ``secrets`` are those of the clients, by issuer; ``fetchers`` makes one that trusts a bundle too."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        secrets: Mapping[str, str],
        nest: Nest,
        fetchers: Callable[[str | None], Fetcher],
        clocks: Clocks,
    ) -> None:
        self._wall = clocks.wall
        self._known: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()
        # Begun once, with what nobody knows: OpenSSL's SHA-256 takes three times as long in the midst of a call.
        self._begun = blake2b(salt=chance.token_bytes(16), person=chance.token_bytes(16), digest_size=32)
        self._rules = {rules.issuer: rules for rules in issuers}
        self._rings: dict[str, Keyring] = {}
        self._asked: Introspection | None = None
        for rules in issuers:
            fetcher = fetchers(rules.ca_bundle)
            self._rings[rules.issuer] = Keyring(rules, fetcher, nest, clocks.now, self._known.clear)
            if rules.introspection_url is not None:
                self._asked = Introspection(rules, secrets.get(rules.issuer), fetcher, nest, clocks.wall)

    def known(self, token: bytes) -> Identity | None:
        """See ``Verifier``."""
        digest = self._digest(token)
        found = self._known.get(digest)
        if found is None:
            return None
        if found[0] <= self._wall():
            del self._known[digest]
            return None
        return found[1]

    def _digest(self, token: bytes) -> bytes:
        mark = self._begun.copy()
        mark.update(token)
        return mark.digest()

    async def verify(self, token: str) -> Identity:
        """See ``Verifier``."""
        if tokens.looks_signed(token):
            return self._remember(token, await self._signed(token), REMEMBERED)
        if self._asked is None:
            raise Unproven("this is no signed token")
        return self._remember(token, await self._asked.verify(token), ASKED)

    def _remember(self, token: str, identity: Identity, seconds: float) -> Identity:
        until = self._wall() + seconds
        if identity.expires is not None:
            until = min(until, identity.expires)
        self._known[self._digest(token.encode())] = until, identity
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return identity

    async def _signed(self, token: str) -> Identity:
        parts = tokens.take_apart(token)
        issuer = parts.claims.get("iss")
        rules = self._rules.get(issuer) if isinstance(issuer, str) else None
        if rules is None:
            raise Unproven("the token is of an issuer that is not trusted here")
        tokens.judge(parts, rules, self._wall())
        if not keyset.signature_fits(parts.alg, len(parts.signature)):
            raise Unproven("the token's signature is wrong")
        key = await self._rings[rules.issuer].key(parts.kid, keyset.kind_of(parts.alg))
        if key is None or key.alg not in (None, parts.alg):
            raise Unproven("the token's key is not one of its issuer's")
        if not signed(key.jwk, parts.alg, parts.message, parts.signature):
            raise Unproven("the token's signature is wrong")
        return tokens.identity(parts.claims, rules, token)
