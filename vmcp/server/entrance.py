"""The gate of a configuration, with everything that it asks.

The rule: what cannot be resolved at the start keeps the process from starting: a gate with half its keys would turn people away
and nobody would know why.
"""

import os
import time
from collections.abc import Iterable, Mapping

from vmcp.config.incoming import Incoming
from vmcp.config.model import Config
from vmcp.config.values import Text
from vmcp.egress.fetch import Fetcher
from vmcp.errors import Unavailable, VmcpError
from vmcp.middleware.auth import ANONYMOUS, Verifier
from vmcp.middleware.local import LocalKeys
from vmcp.middleware.oidc import Clocks, Oidc
from vmcp.server.address import Addresses
from vmcp.server.attempts import Attempts
from vmcp.server.gate import Gate, system_user
from vmcp.server.metadata import Metadata
from vmcp.tasks import Nest
from vmcp.upstream.secrets import resolve


class NoEntrance(VmcpError):
    """Nobody could be let in as configured; the text says what is missing."""


class Entrance:
    """``gate`` for the transports. ``paths`` are those of all endpoints. Raises ``NoEntrance``."""

    def __init__(
        self, config: Config, nest: Nest, paths: Iterable[str], environ: Mapping[str, str] = os.environ
    ) -> None:
        self._fetchers: dict[str | None, Fetcher] = {}
        self._environ = environ
        incoming = config.incoming
        addresses = Addresses(config.server.trusted_proxies)
        if incoming.type == "anonymous":
            self.gate = Gate(nobody=ANONYMOUS)
        elif incoming.type == "local":
            nobody = system_user() if incoming.os_user else None
            attempts = Attempts(time.monotonic)
            self.gate = Gate(self._keys(incoming), nobody=nobody, keys=True, attempts=attempts, addresses=addresses)
        else:
            metadata = Metadata(config.name, config.server.public_url, incoming.issuers, paths)
            self.gate = Gate(self._oidc(incoming, nest), metadata, nobody=None, addresses=addresses)

    def _keys(self, incoming: Incoming) -> Verifier:
        hashes = self._resolved("incomingAuth.local.keys", {str(n): key.sha256 for n, key in enumerate(incoming.keys)})
        try:
            return LocalKeys((key, hashes[str(number)]) for number, key in enumerate(incoming.keys))
        except ValueError as wrong:
            raise NoEntrance(f"incomingAuth.local.keys: {wrong}") from None

    def _oidc(self, incoming: Incoming, nest: Nest) -> Verifier:
        wanted = {each.issuer: each.client_secret for each in incoming.issuers if each.client_secret is not None}
        secrets = self._resolved("incomingAuth: clientSecret", wanted)
        return Oidc(incoming.issuers, secrets, nest, self._fetcher, Clocks(time.time, time.monotonic))

    def _resolved(self, where: str, values: Mapping[str, Text]) -> Mapping[str, str]:
        try:
            return resolve(where, values, self._environ)
        except Unavailable as missing:
            raise NoEntrance(f"{where}: {missing.why}") from None

    def _fetcher(self, ca_bundle: str | None) -> Fetcher:
        if ca_bundle not in self._fetchers:
            self._fetchers[ca_bundle] = Fetcher(ca_bundle=ca_bundle)
        return self._fetchers[ca_bundle]

    async def close(self) -> None:
        """Ask nobody any more."""
        for fetcher in self._fetchers.values():
            await fetcher.close()
