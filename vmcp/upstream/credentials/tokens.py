"""Tokens that were asked for, until they expire: one request for each key however many wait for it.

The rule: a token is found only by its whole key, and a failure is nobody's token: it is told to all who waited and forgotten. The
request for it is a task of its own, so that whoever gives up waiting breaks nothing off for the others.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from vmcp.errors import Code, Overdue, Unavailable, VmcpError
from vmcp.tasks import Nest

log = logging.getLogger("vmcp.upstream")

CAP: Final = 10_000
"""Tokens of one backend."""
LONGEST: Final = 3600.0
UNKNOWN: Final = 300.0
"""Seconds that a token is used of which nobody says how long it lives."""
SKEW: Final = 30.0
"""Seconds before its end from which a token is not used any more; a tenth of its life, if that is less."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and how many seconds it may be used; ``skew`` is in place of ``SKEW``."""

    text: str = field(repr=False)
    seconds: float
    skew: float | None = None


Grant = Callable[[], Awaitable[Token]]


class Tokens:
    """The tokens for the backend ``name``. Mutable; ``close`` ends what is being asked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nest = Nest(f"tokens {name}")
        self._kept: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._asked: dict[str, asyncio.Future[str]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._kept)

    async def get(self, key: str, grant: Grant, deadline: float) -> str:
        """The token of ``key``, by ``grant`` where there is none. Raises what that raises, and ``Overdue``."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        kept = self._kept.get(key)
        if kept is not None and now < kept[1]:
            self._kept.move_to_end(key)
            return kept[0]
        asked = self._asked.get(key)
        if asked is None:
            if self._closed:
                raise self._closing()
            asked = self._asked[key] = loop.create_future()
            asked.add_done_callback(_seen)
            task = self._nest.start(self._ask(key, grant, asked), "token")
            task.add_done_callback(lambda _: self._over(key, asked))
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise Overdue(self._name, "timeouts.total", round(max(deadline - now, 0.0), 3)) from None

    def drop(self, key: str, text: str) -> None:
        """Forget the token of ``key`` if it is still ``text``."""
        kept = self._kept.get(key)
        if kept is not None and kept[0] == text:
            del self._kept[key]

    def forget(self, key: str) -> None:
        """Forget the token of ``key``, whatever it is."""
        self._kept.pop(key, None)

    async def close(self) -> None:
        """Ask no more, and forget all."""
        self._closed = True
        await self._nest.close()
        self._kept.clear()

    async def _ask(self, key: str, grant: Grant, asked: asyncio.Future[str]) -> None:
        try:
            token = await grant()
        except VmcpError as error:
            log.info("no credential", extra={"backend": self._name, "why": str(error)})
            asked.set_exception(error)
            return
        life = min(token.seconds, LONGEST)
        skew = min(SKEW, life / 10) if token.skew is None else token.skew
        until = asyncio.get_running_loop().time() + life - skew
        self._kept[key] = (token.text, until)
        self._kept.move_to_end(key)
        while len(self._kept) > CAP:
            self._kept.popitem(last=False)
        asked.set_result(token.text)

    def _over(self, key: str, asked: asyncio.Future[str]) -> None:
        if self._asked.get(key) is asked:
            del self._asked[key]
        if not asked.done():
            asked.set_exception(self._closing())

    def _closing(self) -> Unavailable:
        return Unavailable(self._name, "it is being closed", Code.TRANSPORT_CLOSED)


def _seen(asked: asyncio.Future[str]) -> None:
    """Whoever waited may have gone: then nobody wants to know that it failed."""
    if not asked.cancelled():
        asked.exception()
