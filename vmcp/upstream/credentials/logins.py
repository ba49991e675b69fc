"""Logins at an authorization server: the code for tokens, tokens for newer ones, and what is kept of them.

The rule: a code or a refresh token goes to the server that it is of, and to nobody else; an answer is a login only if everything
that has to be said of it is said. What the server says in prose reaches nobody.
Source: OAuth 2.1 (draft), RFC 6749, RFC 7009, RFC 8707, RFC 9207.
"""

import base64
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import msgspec

from vmcp.config.oauth import OAuth
from vmcp.egress.fetch import Fetcher
from vmcp.errors import Code, Unavailable, VmcpError
from vmcp.upstream.credentials.challenges import scopes

SECONDS: Final = 15.0
BYTES: Final = 64 << 10
FOR_EVER: Final = 10 * 365 * 86_400.0
"""Seconds."""
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]{1,16384}=*")
_OPAQUE = re.compile(r"[\x21-\x7e]{1,16384}")
_ERROR = re.compile(r"[a-z_]{1,40}")


class Client(msgspec.Struct, frozen=True):
    """Who vmcp is there. ``configured``: the secret is that of the config, and is not kept. ``method`` as RFC 7591 has it."""

    id: str
    method: str = "none"
    secret: str = ""
    configured: bool = False

    def __repr__(self) -> str:
        return f"Client(id={self.id!r}, method={self.method!r})"


class Login(msgspec.Struct, frozen=True):
    """What is kept of a login: its tokens, and all that it takes to renew them. ``until`` is in seconds of the epoch."""

    issuer: str
    token_url: str
    client: Client
    resource: str
    access: str
    until: float
    refresh: str = ""
    scopes: tuple[str, ...] = ()
    revocation_url: str | None = None

    def __repr__(self) -> str:
        return f"Login(issuer={self.issuer!r})"


class Refused(VmcpError):
    """The server refused; ``error`` is its code, empty when it gave none."""

    def __init__(self, error: str, status: int) -> None:
        super().__init__(f"the authorization server refused ({error or f'HTTP {status}'})")
        self.error = error


@dataclass(frozen=True, slots=True)
class Logins:
    """Asks token endpoints for the backend ``name``. ``exempt`` says which URLs may lead anywhere."""

    name: str
    auth: OAuth
    fetcher: Fetcher
    exempt: Callable[[str], bool]
    secret: Callable[[], str]

    async def redeem(self, draft: Login, code: str, verifier: str, redirect: str) -> Login:
        """``draft`` with the tokens for a code. Raises ``Refused`` and others of ``VmcpError``."""
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier}
        return self._read(draft, await self._ask(draft, form))

    async def renew(self, login: Login) -> Login:
        """``login`` with newer tokens. Raises the same."""
        form = {"grant_type": "refresh_token", "refresh_token": login.refresh}
        return self._read(login, await self._ask(login, form))

    async def revoke(self, login: Login) -> bool:
        """Tell the server that the login is over, if it wants to know; whether it heard."""
        token = login.refresh or login.access
        if login.revocation_url is None:
            return False
        try:
            form = {"token": token, "token_type_hint": "refresh_token" if login.refresh else "access_token"}
            status, _ = await self._post(login.revocation_url, login.client, form)
        except VmcpError:
            return False
        return status == 200

    async def _ask(self, login: Login, form: Mapping[str, str]) -> Mapping[str, Any]:
        status, said = await self._post(login.token_url, login.client, {**form, "resource": login.resource})
        if status == 200 and said:
            return said
        error = said.get("error")
        raise Refused(error if isinstance(error, str) and _ERROR.fullmatch(error) else "", status)

    async def _post(self, url: str, client: Client, form: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        fields, headers = self._proven(client, form)
        answer = await self.fetcher.post(
            url,
            body=urlencode(fields).encode(),
            headers=headers,
            allow_private=self.exempt(url),
            max_bytes=BYTES,
            seconds=SECONDS,
        )
        try:
            said = msgspec.json.decode(answer.body) if answer.body else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = {}
        return answer.status, said if isinstance(said, dict) else {}

    def _proven(self, client: Client, form: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """The form and the headers that say who asks."""
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if client.method == "none":
            return {**form, "client_id": client.id}, headers
        secret = self.secret() if client.configured else client.secret
        if client.method == "client_secret_post":
            return {**form, "client_id": client.id, "client_secret": secret}, headers
        pair = f"{quote_plus(client.id)}:{quote_plus(secret)}"
        return form, {**headers, "authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def _read(self, login: Login, said: Mapping[str, Any]) -> Login:
        kind, access = said.get("token_type"), said.get("access_token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._odd("it issued a token of another type than Bearer")
        if not isinstance(access, str) or not _TOKEN.fullmatch(access):
            raise self._odd("it issued no usable token")
        refresh = said.get("refresh_token", login.refresh)
        if not isinstance(refresh, str) or not (_OPAQUE.fullmatch(refresh) or not refresh):
            raise self._odd("it issued no usable refresh token")
        given = scopes(said["scope"]) if "scope" in said else login.scopes
        until = time.time() + _life(said.get("expires_in"))
        return msgspec.structs.replace(login, access=access, until=until, refresh=refresh, scopes=given)

    def _odd(self, what: str) -> Unavailable:
        return Unavailable(self.name, f"the authorization server's answer is not acceptable: {what}", Code.UNAUTHORIZED)


def _life(said: object) -> float:
    """Seconds that an access token lives; one of which nobody says it lives until it is refused."""
    if isinstance(said, str) and said.isascii() and said.isdigit():
        said = int(said[:10])
    if isinstance(said, bool) or not isinstance(said, int | float):
        return FOR_EVER
    return min(max(float(said), 0.0), FOR_EVER)
