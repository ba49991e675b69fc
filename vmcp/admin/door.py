"""The door of the admin listener: who is there, and what he asks for, as an ASGI application.

The rule: who it is comes first, and then what he wants; nobody who was not let in learns what there is. No page of another origin
may ask, whatever it shows.
"""

import asyncio
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec

from vmcp.admin.desk import Asked, Desk, Way, Wrong
from vmcp.admin.logins import Guest, Logins, cookie_of
from vmcp.admin.token import Token
from vmcp.server.asgi import AS_JSON, CLOSE, Header, Receive, Refused, Scope, Send
from vmcp.server.guard import host_name, is_loopback, origin

PEER: Final = "vmcp.peer"
"""Key of the scope: whether who is at the other end of a UNIX socket may come in; None when it is none."""
UID: Final = "vmcp.uid"
"""Key of the scope: the user at the other end of a UNIX socket."""
MOST: Final = 64 << 10
"""Bytes of a body."""
PAGES: Final = "/ui"
_DENIED: Final = frozenset({401, 403, 421})
_PATIENCE: Final = 10.0
"""Seconds for it."""
Headers = Mapping[bytes, str]


class Pages(Protocol):
    """The web pages, which have a door of their own behind this one."""

    async def __call__(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Answer one request for a page; its host and origin are ours."""


class Door:
    """Answers those who may ask. ``token`` is for those who come over a port; None: nobody does. ``pages`` are there for them."""

    def __init__(self, desk: Desk, token: Token | None, pages: Pages | None = None) -> None:
        self._desk = desk
        self._token = token
        self._pages = pages
        self._found: Callable[[str], tuple[tuple[Way, ...], str]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        status, extra = 200, list[Header]()
        try:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            _at_home(scope, headers)
            if self._pages is not None and scope[PEER] is None and _is_page(scope["raw_path"]):
                await self._pages(scope, headers, receive, send)
                return
            told = await self._answer(scope, self._admitted(scope, headers), receive)
        except Refused as refused:
            status, extra, told = refused.status, refused.headers, {"error": refused.why}
            if status in _DENIED and scope["method"] != "GET":
                who = "nobody" if scope[PEER] is None else f"uid:{scope[UID]}"
                self._desk.acts.recorded(who, "refused", "denied", reason=refused.why)
        await send({"type": "http.response.start", "status": status, "headers": [*AS_JSON, *extra]})
        await send({"type": "http.response.body", "body": msgspec.json.encode(told, enc_hook=str)})

    def _admitted(self, scope: Scope, headers: Headers) -> str:
        """Who it is. Raises ``Refused``."""
        if scope[PEER] is not None:
            return f"uid:{scope[UID]}"
        if self._token is not None and self._token.fits(headers.get(b"authorization", "")):
            return "token"
        known = guest(self._desk.logins, scope, headers) if scope["method"] == "GET" else None
        if known is None:
            raise Refused(401, "show the token of admin.tokenFile", [(b"www-authenticate", b"Bearer")])
        return f"page:{known.name}"

    async def _answer(self, scope: Scope, who: str, receive: Receive) -> Mapping[str, Any]:
        path = scope["raw_path"].decode("latin-1")
        if self._found is None:  # with all that is behind it, which nobody needs who never asks
            routes = await asyncio.to_thread(importlib.import_module, "vmcp.admin.routes")
            self._found = routes.found
        ways, name = self._found(path)
        if not ways:
            raise Refused(404, "there is nothing here")
        way = next((each for each in ways if each.method == scope["method"]), None)
        if way is None:
            allow = ", ".join(each.method for each in ways).encode()
            raise Refused(405, "not with this method", [(b"allow", allow)])
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        now = asyncio.get_running_loop().time()
        asked = Asked(unquote(name), query, await _body(way, receive), now, who)
        try:
            made = way.answer(self._desk, asked)
            told = await made if inspect.isawaitable(made) else made
        except Wrong as wrong:
            raise Refused(400, str(wrong)) from None
        if told is None:
            raise Refused(404, "there is nothing of this name")
        return told


def _at_home(scope: Scope, headers: Headers) -> None:
    """Whether it is we who are meant, and no page of another origin that asks. Raises ``Refused``."""
    peer: bool | None = scope[PEER]
    if peer is False:
        raise Refused(403, "only the user who runs vmcp, and root, may use this socket")
    host = headers.get(b"host", "")
    if peer is None and not is_loopback(host_name(host) or ""):
        raise Refused(421, "this Host is not served here")
    if b"origin" in headers and (peer is True or origin(headers[b"origin"]) != f"http://{host.lower()}"):
        raise Refused(403, "no page of another origin may ask here")


def _is_page(path: bytes) -> bool:
    return path == PAGES.encode() or path.startswith(PAGES.encode() + b"/")


def guest(logins: Logins | None, scope: Scope, headers: Headers) -> Guest | None:
    """Whose cookie it is. Cookies know no ports, so a page of a neighbour on this machine could send ours: it may not."""
    if logins is None or headers.get(b"sec-fetch-site", "none") not in ("same-origin", "none"):
        return None
    return logins.guest(cookie_of(scope["server"][1], headers.get(b"cookie", "")))


async def _body(way: Way, receive: Receive) -> Mapping[str, Any]:
    """The JSON object that was sent, empty when there is none. Raises ``Refused``."""
    if way.method == "GET":
        return {}
    text = await body(receive)
    try:
        given = msgspec.json.decode(text) if text else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise Refused(400, "the body must be a JSON object")
    return given


async def body(receive: Receive) -> bytes:
    """What was sent. Raises ``Refused``."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await _text(receive)
    except TimeoutError:
        raise Refused(408, "the body did not come") from None


async def _text(receive: Receive) -> bytes:
    text, more = b"", True
    while more:
        message = await receive()
        text += message.get("body", b"")
        more = message.get("more_body", False)
        if len(text) > MOST:
            raise Refused(413, f"a body has at most {MOST} bytes", [*CLOSE])
    return text
