"""Signed tokens (JWT) before and beside the signature: taken apart strictly, and judged by their issuer's rules.

The rule: what two readers could read in two ways is refused before a key is looked for: three parts in canonical base64url,
bounded, no member twice, no header that names or carries a key, no extension that we would have to understand. Types are exact.
Nothing here asks anybody, and nothing raises but ``Unproven``.
Source: RFC 7515, 7519, 8725 and 9068.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vmcp.call import Identity
from vmcp.config.incoming import Issuer
from vmcp.errors import McpError
from vmcp.middleware.auth import Unproven
from vmcp.protocol import jsonrpc

LONGEST: Final = 16 << 10
HEADER: Final = 4 << 10
KEY_ID: Final = 128
SUBJECT: Final = 255
_PART = re.compile(r"[A-Za-z0-9_-]+")
_FOREIGN_KEYS: Final = frozenset({"jwk", "jku", "x5u", "x5c"})
_EXTENSIONS: Final = frozenset({"crit", "b64", "zip", "enc", "cty", "epk", "p2s", "p2c"})
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_ACCESS: Final = frozenset({"at+jwt", "application/at+jwt"})
_OF_AN_ID: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash"})
"""Claims that only ID tokens have: those are for the client, not for us."""
_MOST: Final = 1 << 53


@dataclass(frozen=True, slots=True)
class Token:
    """A token taken apart. ``message`` is what ``signature`` signs."""

    alg: str
    kid: str
    typ: str
    claims: Mapping[str, Any]
    message: bytes
    signature: bytes

    def __repr__(self) -> str:
        return f"Token(alg={self.alg!r}, kid={self.kid!r})"


def looks_signed(token: str) -> bool:
    """Whether it is to be read as a JWT; everything else is opaque."""
    return token.count(".") == 2


def take_apart(token: str) -> Token:
    """The parts of a token, nothing of them proven. Raises ``Unproven``."""
    parts = token.split(".")
    if len(token) > LONGEST or len(parts) != 3 or len(parts[0]) > HEADER:
        raise Unproven("the token is no signed token of usual size")
    header = _object(_decoded(parts[0]), 4)
    if _FOREIGN_KEYS & header.keys():
        raise Unproven("the token brings a key of its own")
    if _EXTENSIONS & header.keys():
        raise Unproven("the token needs extensions that are not supported")
    alg, kid, typ = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(alg, str) or not isinstance(typ, str):
        raise Unproven("the token's header is malformed")
    if not isinstance(kid, str) or not 0 < len(kid) <= KEY_ID:
        raise Unproven("the token does not name its key")
    claims = _object(_decoded(parts[1]), 16)
    return Token(alg, kid, typ.lower(), claims, f"{parts[0]}.{parts[1]}".encode("ascii"), _decoded(parts[2]))


def _decoded(part: str) -> bytes:
    if not _PART.fullmatch(part):
        raise Unproven("the token is not base64url")
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise Unproven("the token is not base64url") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode("ascii"):
        raise Unproven("the token is not canonical base64url")
    return decoded


def _object(text: bytes, depth: int) -> Mapping[str, Any]:
    try:
        found = jsonrpc.strict(text, depth, 2_000)
    except McpError:
        raise Unproven("the token holds no proper JSON") from None
    if not isinstance(found, dict):
        raise Unproven("the token holds no JSON object")
    return found


def judge(token: Token, rules: Issuer, now: float) -> None:
    """Whether a token of this issuer would be accepted if its signature is right. Raises ``Unproven``."""
    if token.alg not in rules.algorithms:
        raise Unproven("the token's algorithm is not accepted")
    if token.typ not in (_ACCESS if rules.require_typ else _TYPES):
        raise Unproven("the token is no access token")
    claims = token.claims
    if _OF_AN_ID & claims.keys() or claims.get("token_use") == "id":
        raise Unproven("this is an ID token; an access token is needed")
    check_claims(claims, rules, now, must_end=True)


def check_claims(claims: Mapping[str, Any], rules: Issuer, now: float, *, must_end: bool) -> None:
    """Issuer, audience, times and subject, for tokens of both kinds. Raises ``Unproven``."""
    if claims.get("iss", rules.issuer if not must_end else None) != rules.issuer:
        raise Unproven("the token is of another issuer")
    if not _names(claims.get("aud"), rules.audience):
        raise Unproven("the token is for another audience")
    exp, nbf, iat = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    if exp is None and must_end:
        raise Unproven("the token never ends")
    if exp is not None and exp + rules.leeway <= now:
        raise Unproven("the token has expired")
    if max(nbf or 0, iat or 0) > now + rules.leeway:
        raise Unproven("the token is not valid yet")
    if exp is not None and exp - (iat or now) > rules.max_lifetime + rules.leeway:
        raise Unproven("the token is valid for longer than is accepted")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT or not subject.isprintable():
        raise Unproven("the token has no proper subject")


def _names(audience: object, wanted: str) -> bool:
    if isinstance(audience, list):
        return all(isinstance(each, str) for each in audience) and wanted in audience
    return isinstance(audience, str) and audience == wanted


def _time(claims: Mapping[str, Any], name: str) -> int | None:
    """A time of the token. Whole seconds: what is a float to one reader is something else to another."""
    if name not in claims:
        return None
    found = claims[name]
    if type(found) is not int or not 0 < found < _MOST:
        raise Unproven(f"the token's {name} is no time")
    return found


def identity(claims: Mapping[str, Any], rules: Issuer, token: str) -> Identity:
    """Who a proven token speaks for. Raises ``Unproven`` (403) when it lacks a scope that everybody needs."""
    scopes = _scopes(claims)
    if not scopes.issuperset(rules.required_scopes):
        raise Unproven("the token lacks a scope", status=403, error="insufficient_scope")
    exp = claims.get("exp")
    expires = None if exp is None else exp + rules.leeway
    return Identity(rules.issuer, claims["sub"], claims, scopes, token, expires=expires)


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    found: set[str] = set()
    for name in ("scope", "scp"):
        said = claims.get(name, "")
        words = said.split(" ") if isinstance(said, str) else said
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise Unproven(f"the token's {name} is malformed")
        found.update(words)
    return frozenset(found - {""})
