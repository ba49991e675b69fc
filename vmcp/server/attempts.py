"""How often one address may show a credential that is not accepted.

The rule: only failures count, but who has had too many is not even told of a right one; a key that was right from the
same address before still is. Memory is bounded, and the oldest is forgotten first; time is given, not taken.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable

BURST = 20
"""Failures in a row before an address has to wait."""
EACH = 3.0
"""Seconds after which one of them is forgotten."""
ADDRESSES = 4096


class Attempts:
    """Counts. Mutable; by the clock ``now``."""

    def __init__(self, now: Callable[[], float], most: int = ADDRESSES) -> None:
        self._now = now
        self._most = most
        self._full: OrderedDict[str, float] = OrderedDict()
        """When each address has nothing on its account any more."""
        self._right: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def failed(self, address: str) -> None:
        """One more."""
        now = self._now()
        self._full[address] = max(now, self._full.pop(address, now)) + EACH
        if len(self._full) > self._most:
            self._full.popitem(last=False)

    def passes(self, address: str, token: str) -> bool:
        """Whether a right ``token`` may be accepted from there now."""
        pair = address, hashlib.sha256(token.encode("utf-8", "replace")).digest()
        if pair not in self._right and self.wait(address):
            return False
        self._right[pair] = None
        self._right.move_to_end(pair)
        if len(self._right) > self._most:
            self._right.popitem(last=False)
        return True

    def wait(self, address: str) -> int:
        """Whole seconds until the address may try again; 0 for now."""
        left = self._full.get(address, 0.0) - self._now() - (BURST - 1) * EACH
        return max(0, math.ceil(left))
