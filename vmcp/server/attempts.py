"""How often one address may show a credential that is not accepted.

The rule: only failures count, but who has had too many is not even told of a right one; a key that was right from the
same address before still is. Memory is bounded, and the oldest is forgotten first; time is given, not taken.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from vmcp.state.buckets import Rate
from vmcp.state.cells import SharedBuckets
from vmcp.state.crew import Common

BURST = 20
"""Failures in a row before an address has to wait."""
EACH = 3.0
"""Seconds after which one of them is forgotten."""
ADDRESSES = 4096
WRONG: Final = Rate("wrong credentials", BURST, BURST * EACH)
RIGHT: Final = Rate("right credential", 1, 30 * 86400.0)
"""Who has taken this one has shown a right key, which the other workers need not know for ever."""


class Attempts:
    """Counts. Mutable; by the clock ``now``."""

    def __init__(self, now: Callable[[], float], most: int = ADDRESSES) -> None:
        self._now = now
        self._most = most
        self._full: OrderedDict[str, float] = OrderedDict()
        """When each address has nothing on its account any more."""
        self.right: dict[tuple[str, str], None] = {}
        """Who has shown a right key (``Identity.proof``), and from which address."""

    def failed(self, address: str) -> None:
        """One more."""
        now = self._now()
        self._full[address] = max(now, self._full.pop(address, now)) + EACH
        if len(self._full) > self._most:
            self._full.popitem(last=False)

    def passes(self, address: str, proof: str) -> bool:
        """Whether a right key may be accepted from there now. ``proof`` names the key (``Identity.proof``)."""
        if (address, proof) in self.right:
            return True
        if self.wait(address):
            return False
        self._keep(address, proof)
        return True

    def _keep(self, address: str, proof: str) -> None:
        self.right[address, proof] = None
        if len(self.right) > self._most:
            del self.right[next(iter(self.right))]

    def wait(self, address: str) -> int:
        """Whole seconds until the address may try again; 0 for now."""
        left = self._full.get(address, 0.0) - self._now() - (BURST - 1) * EACH
        return max(0, math.ceil(left))


class SharedAttempts(Attempts):
    """The same for all workers together: what one of them has seen the others know too."""

    def __init__(self, common: Common, now: Callable[[], float]) -> None:
        super().__init__(now)
        self._wrong = SharedBuckets(common.failures, now)
        self._proven = SharedBuckets(common.cells, now)

    def failed(self, address: str) -> None:
        """See ``Attempts``."""
        self._wrong.take([(WRONG, address)])

    def passes(self, address: str, proof: str) -> bool:
        """See ``Attempts``."""
        if (address, proof) in self.right:
            return True
        whose = f"{address} {proof}"
        if self._proven.short(RIGHT, whose) is None and self.wait(address):
            return False
        self._proven.take([(RIGHT, whose)])
        self._keep(address, proof)
        return True

    def wait(self, address: str) -> int:
        """See ``Attempts``."""
        short = self._wrong.short(WRONG, address)
        return 0 if short is None else math.ceil(short.seconds)
