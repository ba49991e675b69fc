"""Which authorization server a backend trusts, found from the backend itself (RFC 9728, RFC 8414, OpenID Connect Discovery).

The rule: whatever is learned is checked against what it was learned from: metadata of a resource are at the backend's own origin
and about it, those of an issuer say that very issuer, and no learned URL leads into a private network unless its origin stands in
the config. Without PKCE by S256 nothing begins.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from vmcp.config.model import BackendSpec
from vmcp.config.oauth import OAuth
from vmcp.egress import guard
from vmcp.egress.fetch import Fetcher
from vmcp.errors import Code, Unavailable, VmcpError
from vmcp.upstream.credentials import challenges

SECONDS: Final = 10.0
BYTES: Final = 256 << 10
_PING: Final = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
_ASKING: Final = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
_RESOURCE: Final = "/.well-known/oauth-protected-resource"
_OAUTH: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class Server:
    """An authorization server as far as a client needs it, and what the backend wants of it.

    ``documents``: it reads client-id metadata documents; ``tells``: its answers name the issuer (RFC 9207).
    """

    issuer: str
    authorize_url: str
    token_url: str
    resource: str
    registration_url: str | None = None
    revocation_url: str | None = None
    documents: bool = False
    tells: bool = False
    methods: tuple[str, ...] = ("client_secret_basic",)
    offered: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()


class Servers:
    """Finds the authorization server of one backend. ``exempt`` says which URLs may lead anywhere."""

    def __init__(self, spec: BackendSpec, auth: OAuth, fetcher: Fetcher) -> None:
        self._name = spec.name
        self._url = spec.url or ""
        self._auth = auth
        self._fetcher = fetcher
        self._here = guard.target(self._url, allow_private=True)
        literal = [self._url, *([auth.issuer] if auth.issuer else [])]
        self._literal = {guard.target(url, allow_private=True).origin for url in literal}

    def exempt(self, url: str) -> bool:
        """Whether the origin of a URL stands in the config. Raises ``Blocked`` for what is no URL."""
        return guard.target(url, allow_private=True).origin in self._literal

    async def find(self) -> Server:
        """The server that the backend names, or the config. Raises ``Unavailable``."""
        try:
            challenge = await self._challenge()
            resource, issuer, scopes = await self._resource(challenge)
            told = await self._metadata(issuer)
            return self._server(issuer, resource, challenges.scopes(challenge.get("scope")) or scopes, told)
        except Unavailable:
            raise
        except VmcpError as error:
            raise self._wrong(f"its authorization server cannot be found: {error}") from None

    # --- the backend

    async def _challenge(self) -> Mapping[str, str]:
        """What the backend answers to somebody without a credential. A ping does nothing, if it should answer that."""
        answer = await self._fetcher.post(
            self._url, body=_PING, headers=_ASKING, allow_private=True, max_bytes=BYTES, seconds=SECONDS
        )
        return challenges.parameters(answer.headers.get("www-authenticate", "")) if answer.status == 401 else {}

    async def _resource(self, challenge: Mapping[str, str]) -> tuple[str, str, tuple[str, ...]]:
        """The resource, its authorization server, and the scopes that it knows."""
        for url in self._places(challenge.get("resource_metadata")):
            told = await self._document(url)
            if told is not None:
                return self._read(told)
        # No metadata: the server of the backend's own origin, as it was before RFC 9728 (2025-03-26 basic/authorization).
        return self._url, self._auth.issuer or self._origin(), ()

    def _places(self, said: str | None) -> list[str]:
        if said is None:
            path = self._here.path.partition("?")[0].rstrip("/")
            return [self._origin() + _RESOURCE + part for part in dict.fromkeys((path, ""))]
        if guard.target(said, allow_private=True).origin != self._here.origin:
            raise self._wrong("it names metadata of another origin than its own")
        return [said]

    def _read(self, told: Mapping[str, Any]) -> tuple[str, str, tuple[str, ...]]:
        resource, servers = told.get("resource"), told.get("authorization_servers")
        if not isinstance(resource, str) or "#" in resource or not self._covers(resource):
            raise self._wrong("its metadata are about another resource")
        first = servers[0] if isinstance(servers, list) and servers else None
        issuer = self._auth.issuer or first
        if not isinstance(issuer, str):
            raise self._wrong("its metadata name no authorization server; write oauth: {issuer: …}")
        return resource, issuer, _scopes(told.get("scopes_supported"))

    def _covers(self, resource: str) -> bool:
        """Whether the backend's URL is the resource, or below it (2025-06-18 basic/authorization, canonical URI)."""
        there = guard.target(resource, allow_private=True)
        path = there.path.rstrip("/")
        here = self._here.path.partition("?")[0].rstrip("/")
        return there.origin == self._here.origin and (here == path or here.startswith(f"{path}/"))

    def _origin(self) -> str:
        return f"{self._here.scheme}://{self._here.host_header}"

    # --- the authorization server

    async def _metadata(self, issuer: str) -> Mapping[str, Any]:
        for url in _metadata_places(issuer):
            told = await self._document(url)
            if told is None:
                continue
            if told.get("issuer") != issuer:
                raise self._wrong("its authorization server calls itself by another name than it is known by")
            return told
        raise self._wrong("its authorization server has no metadata")

    def _server(self, issuer: str, resource: str, wanted: tuple[str, ...], told: Mapping[str, Any]) -> Server:
        challenge_methods = told.get("code_challenge_methods_supported")
        if not isinstance(challenge_methods, list) or "S256" not in challenge_methods:
            raise self._wrong("its authorization server does not know PKCE with S256")
        methods = told.get("token_endpoint_auth_methods_supported")
        given = {"methods": tuple(str(each) for each in methods)} if isinstance(methods, list) else {}
        return Server(
            issuer,
            self._url_of(told, "authorization_endpoint"),
            self._url_of(told, "token_endpoint"),
            resource,
            self._url_of(told, "registration_endpoint") if "registration_endpoint" in told else None,
            self._url_of(told, "revocation_endpoint") if "revocation_endpoint" in told else None,
            told.get("client_id_metadata_document_supported") is True,
            told.get("authorization_response_iss_parameter_supported") is True,
            offered=_scopes(told.get("scopes_supported")),
            wanted=self._auth.scopes or wanted,
            **given,
        )

    def _url_of(self, told: Mapping[str, Any], key: str) -> str:
        url = told.get(key)
        if not isinstance(url, str) or "#" in url:
            raise self._wrong(f"its authorization server names no {key}")
        guard.target(url, allow_private=self.exempt(url))
        return url

    async def _document(self, url: str) -> Mapping[str, Any] | None:
        """The JSON object at a URL; None where there is nothing."""
        answer = await self._fetcher.get(
            url,
            headers={"accept": "application/json"},
            allow_private=self.exempt(url),
            max_bytes=BYTES,
            seconds=SECONDS,
        )
        if answer.status != 200:
            return None
        try:
            told = msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return told if isinstance(told, dict) else None

    def _wrong(self, why: str) -> Unavailable:
        return Unavailable(self._name, f"no login is possible: {why}", Code.UNAUTHORIZED)


def _metadata_places(issuer: str) -> Iterator[str]:
    """Where an issuer's metadata may be, in the order of 2025-11-25 basic/authorization."""
    there = guard.target(issuer, allow_private=True)
    origin, path = f"{there.scheme}://{there.host_header}", there.path.rstrip("/")
    yield origin + _OAUTH + path
    yield origin + _OPENID + path
    if path:
        yield origin + path + _OPENID


def _scopes(listed: object) -> tuple[str, ...]:
    given = [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []
    return challenges.scopes(" ".join(given))
