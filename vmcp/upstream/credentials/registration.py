"""How vmcp becomes a client of an authorization server: by the config, by a document it serves, or by asking to be registered.

The rule: a registration is for one server and one redirect URL, and is used with no other; redirect URLs are compared whole.
Source: RFC 7591; draft-ietf-oauth-client-id-metadata-document.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from vmcp.config.oauth import OAuth
from vmcp.config.urls import is_loopback
from vmcp.egress.fetch import Fetcher
from vmcp.errors import Code, Unavailable, VmcpError
from vmcp.state.vault import Owner, Vault, VaultError
from vmcp.upstream.credentials.alone import alone
from vmcp.upstream.credentials.logins import Client
from vmcp.upstream.credentials.servers import Server

DOCUMENT: Final = "/oauth/client.json"
"""The path of the document about vmcp as a client."""
NAME: Final = "vmcp"
SECONDS: Final = 15.0
_METHODS: Final = ("none", "client_secret_basic", "client_secret_post")
_GRANTS: Final = ["authorization_code", "refresh_token"]


class _Registered(msgspec.Struct, frozen=True):
    """``until`` is in seconds of the epoch; 0: for ever."""

    client: Client
    until: float


def document(auth: OAuth) -> Mapping[str, Any]:
    """The client-id metadata document; the loopback redirect is for logins from a shell, at whatever port (RFC 8252, 7.3)."""
    loopback = "http://127.0.0.1/oauth/callback"
    return {"client_id": auth.base + DOCUMENT, **_about([auth.redirect, loopback], "none"), "client_uri": auth.base}


def _about(redirects: list[str], method: str) -> Mapping[str, Any]:
    return {
        "client_name": NAME,
        "redirect_uris": redirects,
        "grant_types": _GRANTS,
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
    }


class Registration:
    """Who vmcp is at the servers of the backend ``name``. What it registered is kept in ``vault``."""

    def __init__(self, name: str, auth: OAuth, fetcher: Fetcher, vault: Vault) -> None:
        self._name = name
        self._auth = auth
        self._fetcher = fetcher
        self._vault = vault
        self._one = asyncio.Lock()

    async def client(self, server: Server, redirect: str, *, exempt: bool) -> Client:
        """The client for a server and a redirect URL. ``exempt``: the registration URL may lead anywhere."""
        kind = self._kind(server)
        if kind == "fixed":
            return self._fixed(server)
        if kind == "metadataDocument":
            return Client(self._auth.base + DOCUMENT)
        async with self._one:  # whoever comes second takes what the first one registered
            try:
                async with alone(self._vault, self._name, _owner(server.issuer, redirect)):
                    return await self._registered(server, redirect, exempt=exempt)
            except VaultError as error:
                raise Unavailable(self._name, f"no login is possible: {error}", Code.CONFIGURATION_ERROR) from None

    async def forget(self, issuer: str, redirect: str) -> None:
        """The server does not know what it registered any more. Raises ``VaultError``."""
        await asyncio.to_thread(self._vault.drop, _owner(issuer, redirect))

    def _kind(self, server: Server) -> str:
        if self._auth.registration != "auto":
            return self._auth.registration
        if self._auth.client_id is not None:
            return "fixed"
        return "metadataDocument" if server.documents and self._auth.base.startswith("https:") else "dynamic"

    def _fixed(self, server: Server) -> Client:
        assert self._auth.client_id is not None
        if self._auth.client_secret is None:
            return Client(self._auth.client_id)
        posts = "client_secret_basic" not in server.methods and "client_secret_post" in server.methods
        method = "client_secret_post" if posts else "client_secret_basic"
        return Client(self._auth.client_id, method, configured=True)

    async def _registered(self, server: Server, redirect: str, *, exempt: bool) -> Client:
        owner = _owner(server.issuer, redirect)
        kept = _read(await asyncio.to_thread(self._vault.get, owner))
        if kept is not None and (kept.until <= 0 or kept.until > time.time()):
            return kept.client
        fresh = await self._register(server, redirect, exempt=exempt)
        if redirect == self._auth.redirect:  # from a shell it is another one each time, and kept with the login
            await asyncio.to_thread(self._vault.put, owner, msgspec.json.encode(fresh))
        return fresh.client

    async def _register(self, server: Server, redirect: str, *, exempt: bool) -> _Registered:
        if server.registration_url is None:
            raise self._wrong("it registers nobody by itself; register vmcp there and write oauth: {clientId: …}")
        method = next((each for each in _METHODS if each in server.methods), "client_secret_basic")
        native = redirect.startswith("http:") and is_loopback(urlsplit(redirect).hostname or "")
        told = {**_about([redirect], method), "application_type": "native" if native else "web"}
        try:
            answer = await self._fetcher.post(
                server.registration_url,
                body=msgspec.json.encode(told),
                headers={"content-type": "application/json", "accept": "application/json"},
                allow_private=exempt,
                seconds=SECONDS,
            )
        except VmcpError as error:
            raise self._wrong(f"it did not register vmcp: {error}") from None
        if answer.status not in (200, 201):
            raise self._wrong(f"it did not register vmcp (HTTP {answer.status})")
        return self._taken(answer.body, method, redirect)

    def _taken(self, body: bytes, method: str, redirect: str) -> _Registered:
        try:
            said = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            said = {}
        name, secret = said.get("client_id"), said.get("client_secret", "")
        method = said.get("token_endpoint_auth_method", method)
        redirects = said.get("redirect_uris", [redirect])
        if not isinstance(name, str) or not name or not isinstance(secret, str) or method not in _METHODS:
            raise self._wrong("its registration cannot be used")
        if not isinstance(redirects, list) or redirect not in redirects or (method != "none" and not secret):
            raise self._wrong("it registered something else than was asked for")
        ends = said.get("client_secret_expires_at", 0)
        until = float(ends) if isinstance(ends, int | float) and not isinstance(ends, bool) else 0.0
        return _Registered(Client(name, method, secret if method != "none" else ""), until)

    def _wrong(self, why: str) -> Unavailable:
        return Unavailable(self._name, f"no login is possible at its authorization server: {why}", Code.UNAUTHORIZED)


def _owner(issuer: str, redirect: str) -> Owner:
    return Owner("", f"client of {issuer} at {redirect}")


def _read(kept: bytes | None) -> _Registered | None:
    try:
        return msgspec.json.decode(kept, type=_Registered) if kept is not None else None
    except msgspec.MsgspecError:
        return None
