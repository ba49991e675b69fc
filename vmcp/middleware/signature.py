"""Whether a signature is right: the only place that knows python-jose.

The rule: one function. Algorithm, key and message come from callers who have tied them to each other (``tokens``,
``keyset``); the library never sees a token, a header or a claim, in which it is more trusting than we are.
"""

from functools import lru_cache

import msgspec
from jose import jwk
from jose.backends.base import Key
from jose.exceptions import JOSEError


def signed(key: bytes, alg: str, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` was made of ``message`` by the owner of ``key`` (a JWK as JSON text), by ``alg``."""
    try:
        return bool(_key(key, alg).verify(message, signature))
    except (JOSEError, ValueError):
        return False


@lru_cache(256)
def _key(text: bytes, alg: str) -> Key:
    return jwk.construct(msgspec.json.decode(text), alg)
