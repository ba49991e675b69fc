"""The gate of a configuration, with everything that it asks.

The rule: what cannot be resolved at the start keeps the process from starting: a gate with half its keys would turn people away
and nobody would know why.
"""

import importlib
import os
import time
from collections.abc import Iterable, Mapping

from vmcp.call import Identity
from vmcp.config.incoming import Incoming
from vmcp.config.model import Config
from vmcp.config.values import Text
from vmcp.egress.fetch import Fetcher
from vmcp.errors import CannotStart, Unavailable
from vmcp.middleware.auth import ANONYMOUS, Verifier
from vmcp.middleware.local import LocalKeys
from vmcp.server.address import Addresses
from vmcp.server.attempts import Attempts, SharedAttempts
from vmcp.server.gate import OS_ISSUER, Gate, system_user
from vmcp.server.metadata import Metadata
from vmcp.state.crew import Crew
from vmcp.state.ticket import Seal
from vmcp.state.vault import VaultError, seal_of
from vmcp.tasks import Nest
from vmcp.upstream.secrets import resolve


class NoEntrance(CannotStart):
    """Nobody could be let in as configured."""


def seal(config: Config, crew: Crew | None = None) -> Seal:
    """The seal of what clients bring back: with the keys of ``state.keys``, or one that ends with vmcp. Raises ``NoEntrance``."""
    if crew is not None and config.state.keys is None:
        return Seal(crew.common.key)
    try:
        return seal_of(config.state.keys)
    except VaultError as error:
        raise NoEntrance(str(error)) from None


class Proofs:
    """What is accepted as a proof of who somebody is, and what was found out of it. Raises ``NoEntrance``.

    It outlives a reload that says nothing new of it: keys that were fetched stay, and so do tokens that were verified.
    """

    def __init__(
        self, incoming: Incoming, nest: Nest, environ: Mapping[str, str] = os.environ, crew: Crew | None = None
    ) -> None:
        self.incoming = incoming
        self.attempts = Attempts(time.monotonic) if crew is None else SharedAttempts(crew.common, time.monotonic)
        self.verifier: Verifier | None = None
        self._fetchers: dict[str | None, Fetcher] = {}
        self._environ = environ
        self._keys: LocalKeys | None = None
        if incoming.type == "local":
            self.verifier = self._keys = self._local(incoming)
        elif incoming.type == "oidc":
            self.verifier = self._oidc(incoming, nest)

    def _local(self, incoming: Incoming) -> LocalKeys:
        hashes = self._resolved("incomingAuth.local.keys", {str(n): key.sha256 for n, key in enumerate(incoming.keys)})
        try:
            return LocalKeys((key, hashes[str(number)]) for number, key in enumerate(incoming.keys))
        except ValueError as wrong:
            raise NoEntrance(f"incomingAuth.local.keys: {wrong}") from None

    def _oidc(self, incoming: Incoming, nest: Nest) -> Verifier:
        wanted = {each.issuer: each.client_secret for each in incoming.issuers if each.client_secret is not None}
        secrets = self._resolved("incomingAuth: clientSecret", wanted)
        oidc = importlib.import_module(
            "vmcp.middleware.oidc"
        )  # with python-jose and cryptography, which others do not need
        clocks = oidc.Clocks(time.time, time.monotonic)
        made: Verifier = oidc.Oidc(incoming.issuers, secrets, nest, self._fetcher, clocks)
        return made

    def _resolved(self, where: str, values: Mapping[str, Text]) -> Mapping[str, str]:
        try:
            return resolve(where, values, self._environ)
        except Unavailable as missing:
            raise NoEntrance(f"{where}: {missing.why}") from None

    def _fetcher(self, ca_bundle: str | None) -> Fetcher:
        if ca_bundle not in self._fetchers:
            self._fetchers[ca_bundle] = Fetcher(ca_bundle=ca_bundle)
        return self._fetchers[ca_bundle]

    def vouch(self, identity: Identity, before: "Proofs") -> bool:
        """Whether somebody may stay who came in by these proofs, or by those of ``before``, which they have replaced."""
        if identity.issuer == OS_ISSUER:
            return self.incoming.os_user
        if self._keys is not None:
            return self._keys.vouches(identity)
        if self.verifier is None:
            return identity.principal == ANONYMOUS.principal
        rules = next((each for each in self.incoming.issuers if each.issuer == identity.issuer), None)
        same = rules is not None and rules in before.incoming.issuers
        return same or self.verifier.known(identity.token.encode()) is not None

    async def close(self) -> None:
        """Ask nobody any more."""
        for fetcher in self._fetchers.values():
            await fetcher.close()


def entrance(config: Config, proofs: Proofs, paths: Iterable[str]) -> Gate:
    """The gate for all transports. ``paths`` are those of all endpoints."""
    incoming, addresses = config.incoming, Addresses(config.server.trusted_proxies)
    if proofs.verifier is None:
        return Gate(nobody=ANONYMOUS)
    if incoming.type == "local":
        nobody = system_user() if incoming.os_user else None
        return Gate(proofs.verifier, nobody=nobody, keys=True, attempts=proofs.attempts, addresses=addresses)
    metadata = Metadata(config.name, config.server.public_url, incoming.issuers, paths)
    return Gate(proofs.verifier, metadata, nobody=None, addresses=addresses)
