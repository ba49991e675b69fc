"""Asking token endpoints, and reading what they answer.

The rule: an answer is a token for the backend only if everything that has to be said of it is said: its kind, that it is a bearer
token, and that it is not the token which was shown. What an endpoint says in prose reaches nobody, for it may quote secrets.
Source: RFC 6749 (2.3.1, 4.4, 5), RFC 8693, RFC 7523, draft-ietf-oauth-identity-assertion-authz-grant.
"""

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import msgspec

from vmcp.call import Identity
from vmcp.config.outgoing import TOKEN_TYPE, Client, CrossApp, OnBehalf, ServiceAccount, TokenExchange
from vmcp.config.values import Text
from vmcp.egress.fetch import Fetched, Fetcher
from vmcp.errors import Code, Unavailable, VmcpError
from vmcp.upstream.credentials.tokens import LONGEST, UNKNOWN, Token

SECONDS: Final = 10.0
BYTES: Final = 64 << 10
ACTORS: Final = 10
ID_JAG: Final = TOKEN_TYPE + "id-jag"
_ACCESS: Final = frozenset({TOKEN_TYPE + "access_token", TOKEN_TYPE + "jwt"})
_GRANT: Final = "urn:ietf:params:oauth:grant-type:"
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{1,16384}=*")
_ERROR = re.compile(r"[a-z_]{1,40}")

Secret = Callable[[Text], str]
"""The text of a secret; raises ``Unavailable`` where it is missing."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """A way to the token endpoints of the backend ``name``."""

    name: str
    fetcher: Fetcher
    secret: Secret

    async def own(self, spec: ServiceAccount) -> Token:
        """A token of vmcp's own (client credentials)."""
        asked = {"grant_type": "client_credentials", **_wanted(spec.audience, spec.scopes)}
        return self._bearer(await self._ask(spec.token_url, spec.client, asked))

    async def exchanged(self, spec: TokenExchange, caller: Identity) -> Token:
        """The token for the backend in exchange for the caller's."""
        asked = {
            "grant_type": _GRANT + "token-exchange",
            "subject_token": caller.token,
            "subject_token_type": spec.subject_type,
            "requested_token_type": TOKEN_TYPE + "access_token",
            **_wanted(spec.audience, spec.scopes),
        }
        said = await self._ask(spec.token_url, spec.client, asked)
        if said.get("issued_token_type") not in _ACCESS:
            raise self._odd("it issued something else than an access token")
        return self._for(caller, spec.audience, self._bearer(said, caller.token))

    async def crossed(self, spec: CrossApp, caller: Identity) -> Token:
        """The target's token for an assertion of the identity provider about the caller."""
        resource = {"resource": spec.resource} if spec.resource else {}
        asked = {
            "grant_type": _GRANT + "token-exchange",
            "subject_token": caller.token,
            "subject_token_type": spec.subject_type,
            "requested_token_type": ID_JAG,
            **_wanted(spec.audience, spec.scopes),
            **resource,
        }
        assertion = self._assertion(spec, await self._ask(spec.idp_url, spec.idp, asked), caller)
        asked = {"grant_type": _GRANT + "jwt-bearer", "assertion": assertion, **_wanted(None, spec.scopes)}
        said = await self._ask(spec.target_url, spec.target, asked)
        token = self._bearer(said, caller.token)
        if token.text == assertion:
            raise self._odd("it gave back the token that it was shown")
        return self._for(caller, None, token)

    async def on_behalf(self, spec: OnBehalf, caller: Identity) -> Token:
        """Entra's token for the caller's. Its own form: the client in the body, the audience in the scopes."""
        secret = {"client_secret": self.secret(spec.client.secret)} if spec.client.secret is not None else {}
        asked = {
            "grant_type": _GRANT + "jwt-bearer",
            "requested_token_use": "on_behalf_of",
            "client_id": spec.client.id or "",
            "assertion": caller.token,
            **_wanted(None, spec.scopes),
            **secret,
        }
        token = self._bearer(await self._ask(spec.token_url, Client(), asked), caller.token)
        return replace(self._for(caller, None, token, by="oid"), skew=spec.skew)

    # --- what is asked

    async def _ask(self, url: str, client: Client, fields: Mapping[str, str]) -> Mapping[str, Any]:
        form, headers = (
            dict(fields),
            {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
        )
        if client.id is not None and client.secret is not None:
            pair = f"{quote_plus(client.id)}:{quote_plus(self.secret(client.secret))}"
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif client.id is not None:
            form["client_id"] = client.id
        body = urlencode(form).encode()
        post = self.fetcher.post(url, body=body, headers=headers, allow_private=True, max_bytes=BYTES, seconds=SECONDS)
        try:
            answer = await post
        except VmcpError as error:
            raise Unavailable(
                self.name, f"its token endpoint gave no answer: {error}", Code.CONNECTION_FAILED
            ) from None
        return self._read(answer)

    # --- what is answered

    def _read(self, answer: Fetched) -> Mapping[str, Any]:
        try:
            said = msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None
        if answer.status == 200 and isinstance(said, dict):
            return said
        error = said.get("error") if isinstance(said, dict) else None
        told = error if isinstance(error, str) and _ERROR.fullmatch(error) else f"HTTP {answer.status}"
        raise Unavailable(self.name, f"its token endpoint refused to give a token ({told})", Code.UNAUTHORIZED)

    def _bearer(self, said: Mapping[str, Any], shown: str | None = None) -> Token:
        kind = said.get("token_type")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._odd("it issued a token of another type than Bearer")
        return Token(self._text(said, shown), life(said.get("expires_in")))

    def _text(self, said: Mapping[str, Any], shown: str | None) -> str:
        text = said.get("access_token")
        if not isinstance(text, str) or not _TOKEN.fullmatch(text):
            raise self._odd("it issued no usable token")
        if text == shown:
            raise self._odd("it gave back the token that it was shown")
        return text

    def _for(self, caller: Identity, audience: str | None, token: Token, by: str = "sub") -> Token:
        """``token``, if it is nobody else's and for nowhere else, as far as it can be read; it lives no longer than the caller's.

        Its signature is the backend's to check. Where it is of the caller's own issuer, it has to be about the caller; ``by`` is
        the claim that says so (``sub`` of Entra is another for each application).
        """
        claims, now = claims_of(token.text), time.time()
        if claims and audience is not None and audience not in _several(claims.get("aud")):
            raise self._odd("the token is for another audience")
        who = caller.subject if by == "sub" else caller.claims.get(by)
        if claims.get("iss") == caller.issuer and claims.get(by) != who:
            raise self._odd("the token is about somebody else than the caller")
        ends = claims.get("exp", now + LONGEST)
        if isinstance(ends, bool) or not isinstance(ends, int | float) or ends <= now:
            raise self._odd("the token has expired")
        if not _is_chain(claims.get("act")):
            raise self._odd("the token names its actors in no proper way")
        return Token(token.text, min(token.seconds, ends - now, remaining(caller.expires)))

    def _assertion(self, spec: CrossApp, said: Mapping[str, Any], caller: Identity) -> str:
        """An ID-JAG for this very target. Its signature is the target's to check; here it must not be for somebody else."""
        kind = said.get("token_type")
        if said.get("issued_token_type") != ID_JAG or not isinstance(kind, str) or kind.lower() != "n_a":
            raise self._odd("the identity provider issued something else than an ID-JAG")
        text = self._text(said, caller.token)
        claims = claims_of(text)
        if spec.audience not in _several(claims.get("aud")):
            raise self._odd("the identity provider's assertion is for another audience")
        if spec.resource is not None and spec.resource not in _several(claims.get("resource")):
            raise self._odd("the identity provider's assertion is for another resource")
        if claims.get("iss") == caller.issuer and claims.get("sub") != caller.subject:
            raise self._odd("the identity provider's assertion is about somebody else than the caller")
        return text

    def _odd(self, what: str) -> Unavailable:
        return Unavailable(self.name, f"its token endpoint's answer is not acceptable: {what}", Code.UNAUTHORIZED)


def _wanted(audience: str | None, scopes: tuple[str, ...]) -> dict[str, str]:
    wanted = {"audience": audience} if audience else {}
    return wanted | ({"scope": " ".join(scopes)} if scopes else {})


def life(said: object) -> float:
    """Seconds that a token lives; some endpoints write the number as a text."""
    if isinstance(said, str) and said.isascii() and said.isdigit():
        said = int(said[:10])
    if isinstance(said, bool) or not isinstance(said, int | float):
        return UNKNOWN
    return min(max(float(said), 0.0), LONGEST)


def remaining(expires: float | None) -> float:
    """Seconds that a caller's token is still good for; what was made of it is not kept longer."""
    return UNKNOWN if expires is None else max(expires - time.time(), 0.0)


def claims_of(token: str) -> Mapping[str, Any]:
    """The claims of a JWT, unverified; none where it is no JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_chain(actor: object) -> bool:
    """Whether an ``act`` claim is what RFC 8693, 4.1 says: actors with a subject, one in the other, and not endlessly."""
    for _ in range(ACTORS):
        if actor is None:
            return True
        if not isinstance(actor, dict) or not isinstance(actor.get("sub"), str):
            return False
        actor = actor.get("act")
    return False


def _several(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
