"""API keys that the configuration names, by their hashes.

The rule: a key is found by the hash of what was shown, and compared in constant time; the key itself is nowhere. One that was
found before is known by another hash, of which nobody knows with what it begins: that takes a quarter of the time.
"""

import re
import secrets
from collections.abc import Iterable
from hashlib import blake2b
from hashlib import sha256 as _sha256
from hmac import compare_digest as _same
from typing import Final

from vmcp.call import Identity, refine
from vmcp.config.incoming import LocalKey
from vmcp.middleware.auth import LOCAL, Unproven

_HASH: Final = re.compile(r"[0-9a-f]{64}")


class LocalKeys:
    """A ``Verifier``. ``keys``: each with its hash as text. Raises ``ValueError`` naming the first whose hash is none."""

    def __init__(self, keys: Iterable[tuple[LocalKey, str]]) -> None:
        self._keys: dict[bytes, tuple[bytes, Identity]] = {}
        # (Salt and person are mixed in without a block of their own, which a key would have.)
        self._begun = blake2b(salt=secrets.token_bytes(16), person=secrets.token_bytes(16), digest_size=32)
        self._met: dict[bytes, Identity] = {}
        for key, said in keys:
            text = said.strip().lower()
            if not _HASH.fullmatch(text):
                raise ValueError(f"the sha256 of '{key.subject}' is not 64 hexadecimal digits")
            digest = bytes.fromhex(text)
            if digest in self._keys:
                raise ValueError(f"the key of '{key.subject}' is another client's too")
            claims = {**key.claims, "iss": LOCAL, "sub": key.subject}
            self._keys[digest] = digest, Identity(LOCAL, key.subject, claims, frozenset(key.scopes), proof=text)

    def known(self, token: bytes) -> Identity | None:
        """See ``Verifier``."""
        mark = self._begun.copy()
        mark.update(token)
        place = mark.digest()
        met = self._met.get(place)
        if met is not None:
            return met
        shown = _sha256(token).digest()
        found = self._keys.get(shown)
        if found is None or not _same(found[0], shown):
            return None
        self._met[place] = found[1]  # one for each key, as no two texts have one hash
        return found[1]

    async def verify(self, token: str) -> Identity:
        """See ``Verifier``."""
        found = self.known(token.encode("utf-8", "replace"))
        if found is None:
            raise Unproven("this key is not known here")
        return found

    def vouches(self, identity: Identity) -> bool:
        """Whether the key by which somebody came in is still there, and still says the same of him."""
        found = self._keys.get(bytes.fromhex(identity.proof))
        return found is not None and found[1] == refine(identity, persona=None)
