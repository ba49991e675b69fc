"""What vmcp hands to a client to bring back: sealed, so that it can be neither read, nor altered, nor made up.

The rule: a seal says only that the text is ours and for this purpose; whose it is and how long it holds stands inside, and
whoever opens it compares both. A text that cannot be opened is None, whatever is wrong with it.
"""

import base64
import binascii
import functools
import importlib
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from vmcp.state.aead import Cipher

_KEY: Final = 32
_NONCE: Final = 12
_TAG: Final = 16
_PURPOSE: Final = b"vmcp requestState 1"


class Seal:
    """AES-256-GCM under one key: of 32 bytes, or one that lives as long as the process. ``older`` keys only open."""

    def __init__(self, key: bytes | None = None, *older: bytes) -> None:
        given = (key if key is not None else secrets.token_bytes(_KEY), *older)
        if any(len(each) != _KEY for each in given):
            raise ValueError(f"the key of a seal has {_KEY} bytes")
        self._keys = given

    @functools.cached_property
    def _ciphers(self) -> "list[Cipher]":
        """The newest first."""
        return [importlib.import_module("vmcp.state.aead").Cipher(key) for key in self._keys]

    def wrap(self, text: bytes, aad: bytes) -> str:
        """``text`` sealed, in letters that a header can carry. ``aad`` is the purpose, and is not in it."""
        nonce = secrets.token_bytes(_NONCE)
        return base64.urlsafe_b64encode(nonce + self._ciphers[0].encrypt(nonce, text, aad)).rstrip(b"=").decode()

    def unwrap(self, text: str, aad: bytes) -> bytes | None:
        """What was sealed for the purpose ``aad``; None when it was not."""
        try:
            said = text.encode("ascii")
            sealed = base64.b64decode(said + b"=" * (-len(said) % 4), b"-_", validate=True)
            # Several spellings can mean the same bytes: only the one that was given out counts.
            if len(sealed) < _NONCE + _TAG or base64.urlsafe_b64encode(sealed).rstrip(b"=") != said:
                return None
        except (UnicodeEncodeError, binascii.Error):
            return None
        opened = (cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], aad) for cipher in self._ciphers)
        return next((text for text in opened if text is not None), None)


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What stands in a ``requestState``: which backend asked, whom, about which request, and until when (epoch seconds).

    ``inner`` is the backend's own state, if it ``had_state``; ``parked`` names the call that waits here for the answer;
    ``pages``: the call begins anew once its user has visited the pages that were asked for.
    """

    backend: str
    had_state: bool
    inner: str
    parked: str
    principal: str
    digest: bytes
    expires: float
    pages: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ticket).decode


def issue(seal: Seal, ticket: Ticket) -> str:
    """``ticket`` as the text that a client brings back."""
    return seal.wrap(_encode(ticket), _PURPOSE)


def redeem(seal: Seal, text: str, principal: str, digest: bytes, now: float) -> Ticket | None:
    """The ticket in ``text``, if it is ours, this principal's, for this very request, and has not expired."""
    plain = seal.unwrap(text, _PURPOSE)
    if plain is None:
        return None
    try:
        ticket = _decode(plain)
    except msgspec.MsgspecError:  # another version's, under a key that is shared
        return None
    mine = ticket.principal == principal and ticket.digest == digest and now < ticket.expires
    return ticket if mine else None
