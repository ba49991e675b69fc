"""The keys of an issuer (JWKS), as far as we would use them.

The rule: a key is chosen by its exact id and the kind that the algorithm needs; one that is weak, private, for something else or
there twice is left out, and the others still count. Pure.
Source: RFC 7517, 7518.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from vmcp.errors import McpError
from vmcp.protocol import jsonrpc

MOST: Final = 64
_CURVES: Final = {"ES256": ("P-256", 32), "ES384": ("P-384", 48), "ES512": ("P-521", 66)}
_RSA_BITS: Final = range(2048, 8193)


@dataclass(frozen=True, slots=True)
class Key:
    """A public key as JSON text with what is needed of it alone. ``alg`` None: any that fits ``kind`` (RSA, or a curve)."""

    jwk: bytes
    kind: str
    alg: str | None


def kind_of(alg: str) -> str:
    """The kind of key that an algorithm needs: ``RSA``, or the name of a curve."""
    return _CURVES[alg][0] if alg in _CURVES else "RSA"


def signature_fits(alg: str, size: int) -> bool:
    """Whether a signature has the size that it has with this algorithm."""
    return size == 2 * _CURVES[alg][1] if alg in _CURVES else size >= _RSA_BITS.start // 8


Keys = Mapping[tuple[str, str], Key]
"""By id and kind."""


def read(body: bytes) -> Keys | None:
    """The usable keys of a key set; None when it is none."""
    try:
        tree = jsonrpc.strict(body, 8, 10_000)
    except McpError:
        return None
    listed = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(listed, list):
        return None
    found: dict[tuple[str, str], Key | None] = {}
    for entry in listed[:MOST]:
        key = _key(entry) if isinstance(entry, dict) else None
        if key is not None:
            place = entry["kid"], key.kind
            # Nobody can say which of two is meant.
            found[place] = None if place in found else key
    return {place: key for place, key in found.items() if key is not None}


def _key(entry: Mapping[str, Any]) -> Key | None:
    if not isinstance(entry.get("kid"), str) or "d" in entry or entry.get("use", "sig") != "sig":
        return None
    uses = entry.get("key_ops", ["verify"])
    if not isinstance(uses, list) or "verify" not in uses:
        return None
    alg = entry.get("alg")
    if alg is not None and not isinstance(alg, str):
        return None
    kind, public = _public(entry)
    return Key(msgspec.json.encode(public), kind, alg) if public else None


def _public(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    """The kind of a key and its public numbers; none when it is not to be used."""
    if entry.get("kty") == "RSA":
        modulus, exponent = _number(entry.get("n")), _number(entry.get("e"))
        if modulus.bit_length() in _RSA_BITS and 2 < exponent < 1 << 33 and exponent % 2 and modulus % 2:
            return "RSA", {"kty": "RSA", "n": entry["n"], "e": entry["e"]}
    elif entry.get("kty") == "EC":
        for curve, size in _CURVES.values():
            if curve == entry.get("crv") and _size(entry.get("x")) == size == _size(entry.get("y")):
                return curve, {"kty": "EC", "crv": curve, "x": entry["x"], "y": entry["y"]}
    return "", {}


def _number(said: object) -> int:
    return int.from_bytes(_bytes(said), "big")


def _size(said: object) -> int:
    return len(_bytes(said))


def _bytes(said: object) -> bytes:
    """What a text says in base64url; nothing when it says nothing."""
    if not isinstance(said, str) or not said.isascii() or len(said) > 2048:
        return b""
    try:
        return base64.b64decode(said + "=" * (-len(said) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
