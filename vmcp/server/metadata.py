"""Where tokens for this server come from: the protected-resource metadata (RFC 9728), for the server and for each endpoint.

The rule: what is said comes from the configuration alone; only where no public URL is configured does the request's Host, which
the guard has accepted, complete a URL.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from vmcp.config.incoming import Issuer
from vmcp.protocol import jsonrpc

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


class Metadata:
    """What is served below ``/.well-known``, and how challenges point there. ``paths`` are those of all endpoints.

    The first issuer's ``resource`` and audience count.
    """

    def __init__(self, name: str, public_url: str | None, issuers: Sequence[Issuer], paths: Iterable[str]) -> None:
        self._name = name
        self._public = (public_url or "").rstrip("/")
        self._prefix = urlsplit(self._public).path.rstrip("/")
        self._issuers = [each.issuer for each in issuers]
        self._resource = issuers[0].resource
        self._audience = issuers[0].audience
        self._required = [scope for each in issuers for scope in each.required_scopes]
        self._scopes = list(dict.fromkeys([*self._required, *(scope for each in issuers for scope in each.scopes)]))
        self._paths = self._served(paths)

    def _served(self, paths: Iterable[str]) -> dict[bytes, str]:
        """The endpoint by where its metadata are: with and without the path that a proxy serves us below."""
        found = {}
        for path in ("", *paths):
            for before in {"", self._prefix}:
                found[f"{WELL_KNOWN}{before}{path}".encode()] = path
        found[f"{WELL_KNOWN}/".encode()] = ""
        return found

    def serves(self, raw_path: bytes) -> bool:
        """Whether there is something at this path."""
        return raw_path in self._paths

    def document(self, raw_path: bytes, host: str) -> bytes:
        """The metadata at a path that ``serves``."""
        told: dict[str, object] = {
            "resource": self._named(self._paths[raw_path], host),
            "authorization_servers": self._issuers,
            "bearer_methods_supported": ["header"],
            "resource_name": self._name,
        }
        if self._scopes:
            told["scopes_supported"] = self._scopes
        return jsonrpc.encode(told)

    def _named(self, path: str, host: str) -> str:
        base = self._base(host)
        if self._resource is not None:
            return self._resource
        if not path and self._audience.startswith(base):
            return self._audience
        return base + path

    def _base(self, host: str) -> str:
        return self._public or f"http://{host}"

    def place(self, path: str, host: str) -> str:
        """The URL of the metadata of an endpoint."""
        parts = urlsplit(self._base(host))
        return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{self._prefix}{path}"

    def scopes(self, *, needed: bool) -> str:
        """What a client should ask for: what is ``needed`` at least, or what is there."""
        return " ".join(dict.fromkeys(self._required) if needed else self._scopes)
