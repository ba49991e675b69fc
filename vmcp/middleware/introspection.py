"""Opaque tokens, about which their issuer is asked (RFC 7662).

The rule: no answer is no permission; an answer has to name the subject and our audience as a signed token would. A token is asked
about once at a time, and an answer is kept for a minute at most, so that a revoked token does not live on.
"""

import asyncio
import hashlib
import logging
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_plus, urlencode

from vmcp.call import Identity
from vmcp.config.incoming import Issuer
from vmcp.egress.fetch import Blocked, Fetcher, Unfetched
from vmcp.errors import McpError
from vmcp.middleware import tokens
from vmcp.middleware.auth import Unproven
from vmcp.protocol import jsonrpc
from vmcp.tasks import Nest

log = logging.getLogger("vmcp.auth")

REFUSED: Final = 10.0
"""Seconds for which a refusal is remembered."""
MOST: Final = 2048
_BYTES: Final = 64 << 10
_SECONDS: Final = 5.0

Answer = Identity | Unproven


class Introspection:
    """Asks one issuer. ``secret`` is the client's."""

    def __init__(
        self, rules: Issuer, secret: str | None, fetcher: Fetcher, nest: Nest, wall: Callable[[], float]
    ) -> None:
        self._rules = rules
        self._url = rules.introspection_url or ""
        self._fetcher = fetcher
        self._nest = nest
        self._wall = wall
        self._flights: dict[bytes, asyncio.Future[Answer]] = {}
        self._refused: OrderedDict[bytes, tuple[float, Unproven]] = OrderedDict()
        self._headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        if rules.client_id is not None:
            pair = f"{quote_plus(rules.client_id)}:{quote_plus(secret or '')}"
            self._headers["authorization"] = "Basic " + b64encode(pair.encode()).decode()

    async def verify(self, token: str) -> Identity:
        """Whose token it is. Raises ``Unproven``."""
        digest = hashlib.sha256(token.encode()).digest()
        until, before = self._refused.get(digest, (0.0, None))
        if before is not None and until > self._wall():
            raise Unproven(before.why, status=before.status, error=before.error)
        flight = self._flights.get(digest)
        if flight is None:
            flight = self._flights[digest] = asyncio.get_running_loop().create_future()
            task = self._nest.start(self._ask(token, digest, flight), "introspection")
            task.add_done_callback(lambda _: self._landed(digest))
        answer = await asyncio.shield(flight)
        if isinstance(answer, Unproven):
            raise Unproven(answer.why, status=answer.status, error=answer.error)
        return answer

    def _landed(self, digest: bytes) -> None:
        flight = self._flights.pop(digest)
        if not flight.done():
            flight.set_result(_away())

    async def _ask(self, token: str, digest: bytes, flight: "asyncio.Future[Answer]") -> None:
        try:
            flight.set_result(await self._answer(token))
        except Unproven as refused:
            if refused.status != 503:
                self._refused[digest] = self._wall() + REFUSED, refused
                if len(self._refused) > MOST:
                    self._refused.popitem(last=False)
            flight.set_result(refused)

    async def _answer(self, token: str) -> Identity:
        body = urlencode({"token": token, "token_type_hint": "access_token"}).encode()
        try:
            answer = await self._fetcher.post(
                self._url,
                body=body,
                headers=self._headers,
                allow_private=True,
                max_bytes=_BYTES,
                seconds=_SECONDS,
            )
            claims = jsonrpc.strict(answer.body, 16, 2_000) if answer.status == 200 else None
        except (Blocked, Unfetched, McpError) as why:
            log.warning("no answer about a token", extra={"issuer": self._rules.issuer, "why": str(why)})
            raise _away() from None
        if not isinstance(claims, dict) or not isinstance(claims.get("active"), bool):
            log.warning("no answer about a token", extra={"issuer": self._rules.issuer, "status": answer.status})
            raise _away()
        if claims["active"] is not True:
            raise Unproven("the token is not active")
        tokens.check_claims(claims, self._rules, self._wall(), must_end=False)
        return tokens.identity(claims, self._rules, token)


def _away() -> Unproven:
    return Unproven("the issuer of the token cannot be asked now; try again", status=503)
