"""Who may see the web pages: a code that works once leads to a cookie, and the cookie to a guest.

The rule: neither is kept, only its digest; both end by themselves, and there is only so much room for either.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

CODE_LASTS: Final = 60.0
COOKIE_LASTS: Final = 12 * 3600.0
MOST: Final = 64


@dataclass(slots=True)
class Guest:
    """Somebody with a cookie. Mutable: ``notice`` is what the next page says once. ``csrf`` stands in every form."""

    until: float
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    notice: str = ""

    def shows(self, csrf: str) -> bool:
        """Whether a form comes from a page that he was shown."""
        return hmac.compare_digest(csrf.encode("utf-8", "replace"), self.csrf.encode())

    def told(self) -> str:
        """What there is to say, once."""
        notice, self.notice = self.notice, ""
        return notice


class Logins:
    """Mutable: the door is its one owner. ``url`` is where the port is; ``now`` a clock that never goes back."""

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self.url = url
        self._now = now
        self._codes: dict[bytes, float] = {}
        self._guests: dict[bytes, Guest] = {}

    def code(self) -> str:
        """A new code, for one login within ``CODE_LASTS``."""
        made = secrets.token_urlsafe(24)
        _room(self._codes)
        self._codes[_digest(made)] = self._now() + CODE_LASTS
        return made

    def link(self) -> str:
        """A link that logs in whoever follows it first."""
        return f"{self.url}/ui/?code={self.code()}"

    def redeemed(self, code: str) -> str | None:
        """The cookie for a code, which is used up by this; None when it is none, or too late."""
        until = self._codes.pop(_digest(code), 0.0)
        if until <= self._now():
            return None
        cookie = secrets.token_urlsafe(32)
        _room(self._guests)
        self._guests[_digest(cookie)] = Guest(self._now() + COOKIE_LASTS)
        return cookie

    def guest(self, cookie: str) -> Guest | None:
        """Who shows it."""
        key = _digest(cookie)
        found = self._guests.get(key)
        if found is None or found.until > self._now():
            return found
        del self._guests[key]
        return None

    def end(self, cookie: str) -> None:
        """Whoever shows it later is nobody."""
        self._guests.pop(_digest(cookie), None)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def _room(kept: dict[bytes, float] | dict[bytes, Guest]) -> None:
    """The oldest make room."""
    while len(kept) >= MOST:
        del kept[next(iter(kept))]


def cookie_name(port: int) -> str:
    """With the port, as cookies know none."""
    return f"vmcp-{port}"


def cookie_of(port: int, header: str) -> str:
    """Ours in a ``Cookie`` header; empty when it is not there."""
    for each in header.split(";"):
        name, _, value = each.strip().partition("=")
        if name == cookie_name(port):
            return value
    return ""
