"""Signature Version 4 of AWS: the header that proves who sent this very request, and that nobody changed it.

The rule: pure; the same request, keys and time give the same bytes. Every header that is handed in is signed.
Source: "Create a signed AWS API request", Signature Version 4 (the test suite that AWS publishes is in the tests).
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SAFE: Final = "-_.~"
_SPACES = re.compile(r" {2,}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature is good for besides its day."""

    region: str
    service: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests go, in canonical form."""

    path: str
    query: str


@dataclass(frozen=True, slots=True)
class Keys:
    """Temporary credentials."""

    access: str
    secret: str = field(repr=False)
    session: str = field(repr=False)


def place(target: str) -> Place:
    """The canonical form of a request target: path without dot segments, each of its octets encoded, the query sorted."""
    path, _, query = target.partition("?")
    pairs = (part.partition("=") for part in query.split("&") if part)
    coded = sorted((_coded(unquote(name)), _coded(unquote(value))) for name, _, value in pairs)
    return Place(quote(_normal(path), safe="/" + _SAFE), "&".join(f"{name}={value}" for name, value in coded))


def signature(
    keys: Keys, scope: Scope, moment: str, method: str, where: Place, headers: Mapping[str, str], body: bytes
) -> str:
    """The value of ``Authorization``. ``moment`` is ``YYYYMMDDTHHMMSSZ``; names of ``headers`` are lowercase."""
    signed = ";".join(sorted(headers))
    lines = [f"{name}:{_SPACES.sub(' ', headers[name].strip())}" for name in sorted(headers)]
    digest = hashlib.sha256(body).hexdigest()
    request = "\n".join([method, where.path, where.query, *lines, "", signed, digest])
    day = moment[:8]
    span = f"{day}/{scope.region}/{scope.service}/aws4_request"
    text = "\n".join([ALGORITHM, moment, span, hashlib.sha256(request.encode()).hexdigest()])
    proof = _keyed(_key(keys.secret, day, scope), text).hex()
    return f"{ALGORITHM} Credential={keys.access}/{span}, SignedHeaders={signed}, Signature={proof}"


def _key(secret: str, day: str, scope: Scope) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = _keyed(key, part)
    return key


def _keyed(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _coded(text: str) -> str:
    return quote(text, safe=_SAFE)


def _normal(path: str) -> str:
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    ends = "/" if kept and path.endswith("/") else ""
    return f"/{'/'.join(kept)}{ends}"
