"""The gate: who is calling is decided here, from the headers of a request and before anything of it is read.

The rule: one credential, in ``Authorization`` (or ``X-API-Key`` where there are keys), never in the URL; what is not proven is
refused with a challenge (RFC 6750) that says where tokens come from (RFC 9728) and nothing about what was wrong with the keys of
others. Every transport passes it, on every verb.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

from vmcp.call import Identity
from vmcp.middleware.auth import ANONYMOUS, Unproven, Verifier
from vmcp.server.address import Addresses
from vmcp.server.asgi import Header, Refused
from vmcp.server.attempts import Attempts
from vmcp.server.metadata import Metadata
from vmcp.upstream.credentials.person import OS_ISSUER, system_user

__all__ = ["OS_ISSUER", "system_user"]  # besides what is defined here

LONGEST: Final = 16 << 10
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_UNEXPANDED = re.compile(r"\$\{[^}]{0,128}\}|\$[A-Za-z_]\w{0,127}|%[A-Za-z_]\w{0,127}%|\{\{.{0,128}\}\}")


class Gate:
    """Lets in and refuses. ``nobody`` is who comes without a credential (None: he is refused); ``keys``: X-API-Key counts too.

    Without a ``verifier`` nobody is asked for anything.
    """

    def __init__(
        self,
        verifier: Verifier | None = None,
        metadata: Metadata | None = None,
        *,
        nobody: Identity | None = ANONYMOUS,
        keys: bool = False,
        attempts: Attempts | None = None,
        addresses: Addresses | None = None,
    ) -> None:
        self._verifier = verifier
        self.metadata = metadata
        self._nobody = nobody
        # What stands before the value of a header for it to be a credential.
        self._names = {b"authorization": b"", **({b"x-api-key": b"Bearer "} if keys else {})}
        self.names: frozenset[bytes] = frozenset(self._names if verifier is not None else ())
        """The headers by which somebody may say who he is."""
        self._attempts = attempts
        self._addresses = addresses or Addresses(())
        self.failures: dict[str, int] = {}
        """Why somebody was turned away, and how often."""

    def known(
        self, headers: Iterable[Header], client: Any, shown_by: Iterable[Header] | None = None
    ) -> Identity | None:
        """Who it is, if that can be said at once; for everything else there is ``admit``. ``client``: address and port.

        ``shown_by`` are those of the headers that are called by one of ``names``, where they have been picked out already.
        """
        verifier, names, shown = self._verifier, self._names, None
        if verifier is None:
            return self._nobody
        for name, value in headers if shown_by is None else shown_by:
            if name in names:
                if shown is not None:
                    return None
                shown = names[name] + value.strip()
        if shown is None:
            return None
        token = shown[7:] if shown.startswith(b"Bearer ") else _rest(shown)
        identity = verifier.known(token) if token is not None else None
        attempts = self._attempts
        if identity is None or attempts is None:
            return identity
        address = client[0] if client and not self._addresses.trusting else self._address(client, headers)
        proof = identity.proof
        return identity if (address, proof) in attempts.right or attempts.passes(address, proof) else None

    def _address(self, client: Any, headers: Iterable[Header]) -> str:
        return self._addresses.of(str(client[0]) if client else "", headers)

    async def admit(self, headers: Iterable[Header], path: str, client: Any, host: str = "") -> Identity:
        """Who it is. Raises ``Refused``: 401, 403 or 400 with a challenge, 429, 503."""
        assert self._verifier is not None
        said = self._credentials(headers)
        address = self._address(client, headers)
        try:
            if not said:
                return self._without()
            token = _token(said)
            if self._attempts is not None:
                wait = self._attempts.wait(address)
                if wait:
                    self._count("too_many_attempts")
                    raise Refused(429, "too many attempts; try again later", [(b"retry-after", b"%d" % wait)])
            return await self._verifier.verify(token)
        except Unproven as why:
            self._count(why.error or ("no_credential" if why.status == 401 else "unavailable"))
            if self._attempts is not None and why.status == 401 and said:
                self._attempts.failed(address)
            raise self._refused(why, path, host) from None

    def _count(self, reason: str) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def _without(self) -> Identity:
        if self._nobody is None:
            raise Unproven("a token is needed: Authorization: Bearer …", error="")
        return self._nobody

    def _credentials(self, headers: Iterable[Header]) -> list[str]:
        names = self._names
        return [names[name].decode() + value.decode("latin-1").strip() for name, value in headers if name in names]

    def _refused(self, why: Unproven, path: str, host: str) -> Refused:
        if why.status not in (400, 401, 403):
            return Refused(why.status, why.why, [(b"retry-after", b"5")])
        fields = [f'error="{why.error}"', f'error_description="{why.why}"'] if why.error else []
        if self.metadata is not None:
            fields.append(f'resource_metadata="{self.metadata.place(path, host)}"')
            scopes = self.metadata.scopes(needed=why.error == "insufficient_scope")
            fields += [f'scope="{scopes}"'] if scopes else []
        else:
            fields.append('realm="vmcp"')
        return Refused(
            why.status, why.why, [(b"www-authenticate", f"Bearer {', '.join(fields)}".encode("latin-1", "replace"))]
        )


def _rest(shown: bytes) -> bytes | None:
    """What stands behind the scheme, if that is Bearer, however it is written."""
    scheme, _, token = shown.partition(b" ")
    return token if scheme.lower() == b"bearer" else None


def _token(said: list[str]) -> str:
    """The one bearer token. Raises ``Unproven``."""
    if len(said) > 1:
        raise Unproven("there is more than one credential", status=400, error="invalid_request")
    scheme, _, token = said[0].partition(" ")
    if scheme.lower() != "bearer":
        raise Unproven("the scheme must be Bearer", error="")
    if _UNEXPANDED.search(token):
        raise Unproven("the token is a variable that your client did not expand; set it where the client runs")
    if len(token) > LONGEST or not _TOKEN.fullmatch(token):
        raise Unproven("this is no bearer token")
    return token
