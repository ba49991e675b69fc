"""AES-256-GCM: the one door to ``cryptography``.

The rule: it is loaded (``importlib``) when the first thing is sealed or opened, as it takes 7 MB and 30 ms which a process that
seals nothing need not pay.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Cipher:
    """One key of 32 bytes."""

    __slots__ = ("_aes",)

    def __init__(self, key: bytes) -> None:
        self._aes = AESGCM(key)

    def encrypt(self, nonce: bytes, text: bytes, aad: bytes) -> bytes:
        """``text`` sealed for ``aad``; no nonce is used twice."""
        return self._aes.encrypt(nonce, text, aad)

    def decrypt(self, nonce: bytes, sealed: bytes, aad: bytes) -> bytes | None:
        """What was sealed with this key for ``aad``; None when it was not."""
        try:
            return self._aes.decrypt(nonce, sealed, aad)
        except InvalidTag:
            return None
