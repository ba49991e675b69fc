"""An authorization server and an MCP server that it protects, both real HTTP, for tests of logins.

The rule: the server keeps its own books (codes, PKCE, rotation) and refuses what does not fit; a test that wants it wrong says so
by a member.
"""

import base64
import contextlib
import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.egress.web import Asked, Said, Web, serving
from tests.upstream.issuing import said
from vmcp.call import Identity
from vmcp.config.model import BackendSpec
from vmcp.config.oauth import OAuth, StateSpec, UserOAuth
from vmcp.upstream.credentials.consent import Consent
from vmcp.upstream.credentials.desk import Invitation

Json = dict[str, Any]
BASE = "http://127.0.0.1:4483"
LATEST = "2025-11-25"
LISTING = ("initialize", "server/discover", "tools/list", "notifications/initialized")


@dataclass
class Authority:
    """An authorization server: everybody who comes consents. ``change`` spoils metadata or answers of the token endpoint."""

    url: str = ""
    metadata: Callable[[Json], Json] = field(default=lambda told: told)
    tokens: Callable[[Json], Json] = field(default=lambda told: told)
    scopes: tuple[str, ...] = ("read", "write", "offline_access")
    clients: dict[str, Json] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    refreshes: dict[str, str] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    life: int = 600
    number: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    async def __call__(self, asked: Asked) -> Said:
        path = urlsplit(asked.path).path
        if path == "/.well-known/oauth-authorization-server":
            return said(self.metadata(self._metadata()))
        if path == "/register":
            return self._register(json.loads(asked.body))
        if path in ("/token", "/revoke"):
            form = asked.form
            self.asked.append((path, form))
            return self._token(form) if path == "/token" else self._revoke(form)
        if path == "/authorize":
            return self._authorize(dict(parse_qsl(urlsplit(asked.path).query)))
        return Said(404)

    def _metadata(self) -> Json:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "revocation_endpoint": f"{self.url}/revoke",
            "code_challenge_methods_supported": ["plain", "S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            "authorization_response_iss_parameter_supported": True,
            "scopes_supported": list(self.scopes),
        }

    def _register(self, told: Json) -> Said:
        name = f"client-{len(self.clients) + 1}"
        self.clients[name] = told
        return said({**told, "client_id": name}, 201)

    def _authorize(self, query: dict[str, str]) -> Said:
        self.asked.append(("/authorize", query))
        client = self.clients.get(query["client_id"])
        if client is not None and query["redirect_uri"] not in client["redirect_uris"]:
            return Said(400, b"no such redirect")
        code = f"code-{next(self.number)}"
        self.codes[code] = query
        back = urlencode({"code": code, "state": query["state"], "iss": self.url})
        return Said(302, headers={"Location": f"{query['redirect_uri']}?{back}"})

    def _token(self, form: dict[str, str]) -> Said:
        if form["grant_type"] == "refresh_token":
            scope = self.refreshes.pop(form["refresh_token"], None)  # each is good once
        else:
            query = self.codes.pop(form["code"], None)
            fits = query is not None and _proves(form["code_verifier"], query) and query["resource"] == form["resource"]
            scope = query.get("scope", "") if fits and query is not None else None
        if scope is None:
            return said({"error": "invalid_grant", "error_description": "sensitive words"}, 400)
        return said(self.tokens(self._issued(scope)))

    def _issued(self, scope: str) -> Json:
        number = next(self.number)
        access, refresh = f"access-{number}", f"refresh-{number}"
        self.live[access] = scope
        self.refreshes[refresh] = scope
        told = {"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": self.life}
        return told | {"scope": scope}

    def _revoke(self, form: dict[str, str]) -> Said:
        self.revoked.append(form["token"])
        return Said(200)

    def grants(self) -> list[str]:
        """The kinds of grants that were asked for."""
        return [form["grant_type"] for path, form in self.asked if path == "/token"]


def _proves(verifier: str, query: dict[str, str]) -> bool:
    made = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return query["code_challenge_method"] == "S256" and made == query["code_challenge"]


@dataclass
class Locked:
    """An MCP server that takes nothing without a token of ``authority``, and ``admin`` only with the scope ``write``."""

    authority: Authority
    url: str = ""
    metadata: Callable[[Json], Json] = field(default=lambda told: told)
    challenge: str | None = None
    revision: str = LATEST
    calls: list[tuple[str, str]] = field(default_factory=list)
    open_listing: bool = False

    async def __call__(self, asked: Asked) -> Said:
        path = urlsplit(asked.path).path
        if path == "/.well-known/oauth-protected-resource/mcp":
            servers = {"resource": f"{self.url}/mcp", "authorization_servers": [self.authority.url]}
            return said(self.metadata({**servers, "scopes_supported": ["read"]}))
        if asked.method != "POST":
            return Said(405)
        message = json.loads(asked.body)
        shown = asked.headers.get("authorization", "").removeprefix("Bearer ")
        self.calls.append((message["method"], shown))
        listing = self.open_listing and message["method"] in LISTING
        if not listing and shown not in self.authority.live:
            place = f"{self.url}/.well-known/oauth-protected-resource/mcp"
            told = (
                f'Bearer error="invalid_token", resource_metadata="{place}"'
                if self.challenge is None
                else self.challenge
            )
            return Said(401, b"no", {"WWW-Authenticate": told})
        if message.get("params", {}).get("name") == "admin" and "write" not in self.authority.live[shown].split():
            told = 'Bearer error="insufficient_scope", scope="write"'
            return Said(403, b"no", {"WWW-Authenticate": told})
        if "id" not in message:
            return Said(202)
        return said({"jsonrpc": "2.0", "id": message["id"], "result": self._result(message["method"], shown)})

    def _result(self, method: str, shown: str) -> Json:
        common = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        info = {"capabilities": {"tools": {}}, "serverInfo": {"name": "locked", "version": "1"}}
        if method == "initialize":
            return {"protocolVersion": self.revision, **info}
        if method == "server/discover":
            return {**common, "supportedVersions": [self.revision], **info}
        if method == "tools/list":
            return {
                **common,
                "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "admin")],
            }
        return {"resultType": "complete", "content": [{"type": "text", "text": shown}]}

    def shown(self, method: str = "tools/call") -> list[str]:
        """The tokens that a method came with."""
        return [token for name, token in self.calls if name == method]


@dataclass
class World:
    """Both of them, and the spec of a backend that leads there."""

    authority: Authority
    locked: Locked
    spec: BackendSpec

    def consent(self, **changes: Any) -> Consent:
        """The logins there; ``changes`` are of the strategy."""
        assert isinstance(self.spec.auth, OAuth)
        auth = replace(self.spec.auth, **changes)
        return Consent(replace(self.spec, auth=auth), auth, str)


@contextlib.asynccontextmanager
async def world(
    auth: OAuth | None = None, *, directory: str | None = None, revision: str = LATEST
) -> AsyncIterator[World]:
    """An authority, what it protects, and a backend of that; the authority's URL stands in the config."""
    authority = Authority()
    locked = Locked(authority, revision=revision)
    async with serving(authority) as one, serving(locked) as two:
        authority.url, locked.url = one.url("").rstrip("/"), two.url("").rstrip("/")
        made = auth if auth is not None else UserOAuth()
        made = replace(
            made,
            issuer=made.issuer or authority.url,
            base=made.base or BASE,
            redirect=made.redirect or f"{BASE}/oauth/callback",
            state=StateSpec(directory) if directory is not None else made.state,
        )
        url = f"{locked.url}/mcp"
        spec = BackendSpec("notes", "g", "streamable-http", url=url, protocol=revision, isolation="session", auth=made)
        yield World(authority, locked, spec)


def person(name: str) -> Identity:
    """A caller."""
    return Identity("https://idp.example", name)


async def visited(url: str, authority: Authority) -> dict[str, str]:
    """What a browser brings back from a login page."""
    asked = Asked("GET", url.removeprefix(authority.url), {}, b"")
    answer = await authority(asked)
    assert answer.status == 302, answer
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


async def consented(
    consent: Consent, who: Identity, authority: Authority, scopes: tuple[str, ...] = ()
) -> dict[str, str]:
    """The whole way of ``who`` through the login; what the browser brought back."""
    answer = await visited(await consent.depart(invited(consent, who, scopes), "browser"), authority)
    journey = consent.desk.back(answer["state"], "browser")
    assert journey is not None
    await consent.arrive(journey, answer)
    return answer


def invited(consent: Consent, who: Identity, scopes: tuple[str, ...] = ()) -> Invitation:
    return consent.desk.invite(who, scopes)


__all__ = ["Authority", "Locked", "Web", "World", "consented", "invited", "person", "visited", "world"]
