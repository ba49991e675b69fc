"""The keys of one issuer, fetched when they are needed and kept.

The rule: however many ask, one request runs at a time, and a key that nobody knows starts one at most every 30 seconds. What is
there is used while it is renewed, and for a day when it cannot be; only who has no keys at all has to turn people away.
Source: OpenID Connect Discovery 1.0; RFC 8414.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from vmcp.config.incoming import Issuer
from vmcp.egress import guard
from vmcp.egress.fetch import Blocked, Fetched, Fetcher, Unfetched
from vmcp.errors import McpError
from vmcp.middleware import keyset
from vmcp.middleware.auth import Unproven
from vmcp.middleware.keyset import Key, Keys
from vmcp.protocol import jsonrpc
from vmcp.tasks import Nest

log = logging.getLogger("vmcp.auth")

AGAIN: Final = 30.0
"""Seconds between two requests for keys; ``SOON`` while there are none at all."""
SOON: Final = 2.0
STALE: Final = 86_400.0
FRESH: Final = range(60, 3601)
USUAL: Final = 600
BYTES: Final = 256 << 10
SECONDS: Final = 5.0
_MAX_AGE = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,9})(?:$|[,\s])")


class Keyring:
    """Mutable. ``on_loss`` is called when a key that was there is gone: what was verified with it must be again."""

    def __init__(
        self, rules: Issuer, fetcher: Fetcher, nest: Nest, now: Callable[[], float], on_loss: Callable[[], None]
    ) -> None:
        self._rules = rules
        self._fetcher = fetcher
        self._nest = nest
        self._now = now
        self._on_loss = on_loss
        self._keys: Keys | None = None
        self._place = rules.jwks_url
        self._fetched = self._tried = float("-inf")
        self._fresh = float(USUAL)
        self._flight: asyncio.Task[None] | None = None

    async def key(self, kid: str, kind: str) -> Key | None:
        """The key of this id and kind; None when the issuer has none. Raises ``Unproven`` (503) when it cannot be asked."""
        age = self._now() - self._fetched
        if age > STALE:
            self._keys = None
        found = self._keys.get((kid, kind)) if self._keys is not None else None
        if found is None:
            flight = self._refresh()
            if flight is not None:
                await asyncio.wait([flight])
        elif age > self._fresh * 0.8:
            self._refresh()
        if self._keys is None:
            raise Unproven("the issuer of the token cannot be asked for its keys now; try again", status=503)
        return self._keys.get((kid, kind))

    def _refresh(self) -> "asyncio.Task[None] | None":
        """The request that runs; one is started if the last is long enough ago."""
        if self._flight is None and self._now() - self._tried >= (SOON if self._keys is None else AGAIN):
            self._tried = self._now()
            self._flight = self._nest.start(self._fetch(), "keys")
            self._flight.add_done_callback(self._landed)
        return self._flight

    def _landed(self, _: object) -> None:
        self._flight = None

    async def _fetch(self) -> None:
        try:
            answer = await self._get(await self._found())
            keys = keyset.read(answer.body) if answer.status == 200 else None
            if keys is None:
                raise Unfetched(f"it answered with status {answer.status} and no key set")
        except (Blocked, Unfetched) as why:
            self._place = self._rules.jwks_url
            log.warning("no keys of an issuer", extra={"issuer": self._rules.issuer, "why": str(why)})
            return
        before, self._keys = self._keys, keys
        self._fetched = self._now()
        self._fresh = float(_fresh(answer.headers))
        if before is not None and any(keys.get(place) != key for place, key in before.items()):
            self._on_loss()
        log.info("keys of an issuer", extra={"issuer": self._rules.issuer, "keys": len(keys)})

    async def _get(self, url: str) -> Fetched:
        trusted = self._trusts(url)
        return await self._fetcher.get(
            url,
            headers={"accept": "application/json"},
            allow_private=trusted,
            max_bytes=BYTES,
            seconds=SECONDS,
        )

    def _trusts(self, url: str) -> bool:
        """Whether a URL may lead anywhere: it stands in the config, is the issuer's own, or the config says so."""
        if url == self._rules.jwks_url:
            return True
        if url.startswith("http:") and not self._rules.plain_http:
            raise Blocked("the issuer's keys are not behind TLS")
        issuer = guard.target(self._rules.issuer, allow_private=True)
        return self._rules.private_addresses or guard.target(url, allow_private=True).origin == issuer.origin

    async def _found(self) -> str:
        """Where the keys are. Raises ``Unfetched`` when the issuer does not say."""
        if self._place is not None:
            return self._place
        for url in places(self._rules.issuer):
            answer = await self._get(url)
            said = _said(answer)
            if said is None:
                continue
            if said.get("issuer") != self._rules.issuer:
                raise Unfetched("its metadata are those of another issuer")
            place = said.get("jwks_uri")
            if isinstance(place, str):
                self._place = place
                return place
        raise Unfetched("it has no metadata with a jwks_uri")


def places(issuer: str) -> tuple[str, ...]:
    """Where an issuer's metadata may be, by OpenID Connect and by RFC 8414."""
    parts = urlsplit(issuer)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    first = f"{base}{path}/.well-known/openid-configuration"
    return first, f"{base}/.well-known/oauth-authorization-server{path}"


def _said(answer: Fetched) -> Mapping[str, object] | None:
    try:
        tree = jsonrpc.strict(answer.body, 16, 10_000) if answer.status == 200 else None
    except McpError:
        return None
    return tree if isinstance(tree, dict) else None


def _fresh(headers: Mapping[str, str]) -> int:
    match = _MAX_AGE.search(headers.get("cache-control", "").lower())
    said = int(match[1]) if match is not None else USUAL
    return min(max(said, FRESH.start), FRESH.stop - 1)
