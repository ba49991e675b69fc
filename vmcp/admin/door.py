"""The door of the admin listener: who is there, and what he asks for, as an ASGI application.

The rule: who it is comes first, and then what he wants; nobody who was not let in learns what there is. No page of another origin
may ask, whatever it shows.
"""

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import msgspec

from vmcp.admin.routes import Asked, Desk, Way, Wrong, found
from vmcp.admin.token import Token
from vmcp.server.asgi import AS_JSON, CLOSE, Header, Receive, Refused, Scope, Send
from vmcp.server.guard import host_name, is_loopback, origin

PEER: Final = "vmcp.peer"
"""Key of the scope: whether who is at the other end of a UNIX socket may come in; None when it is none."""
MOST: Final = 64 << 10
"""Bytes of a body."""
_PATIENCE: Final = 10.0
"""Seconds for it."""


class Door:
    """Answers those who may ask. ``token`` is for those who come over a port; None: nobody does."""

    def __init__(self, desk: Desk, token: Token | None) -> None:
        self._desk = desk
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] != "http":
            return
        status, extra = 200, list[Header]()
        try:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            self._admit(scope, headers)
            told = await self._answer(scope, receive)
        except Refused as refused:
            status, extra, told = refused.status, refused.headers, {"error": refused.why}
        await send({"type": "http.response.start", "status": status, "headers": [*AS_JSON, *extra]})
        await send({"type": "http.response.body", "body": msgspec.json.encode(told, enc_hook=str)})

    def _admit(self, scope: Scope, headers: Mapping[bytes, str]) -> None:
        """Raises ``Refused``."""
        peer: bool | None = scope[PEER]
        if peer is False:
            raise Refused(403, "only the user who runs vmcp, and root, may use this socket")
        host = headers.get(b"host", "")
        if peer is None and not is_loopback(host_name(host) or ""):
            raise Refused(421, "this Host is not served here")
        if b"origin" in headers and (peer is True or origin(headers[b"origin"]) != f"http://{host.lower()}"):
            raise Refused(403, "no page of another origin may ask here")
        if peer is None and (self._token is None or not self._token.fits(headers.get(b"authorization", ""))):
            raise Refused(401, "show the token of admin.tokenFile", [(b"www-authenticate", b"Bearer")])

    async def _answer(self, scope: Scope, receive: Receive) -> Mapping[str, Any]:
        path = scope["raw_path"].decode("latin-1")
        ways, name = found(path)
        if not ways:
            raise Refused(404, "there is nothing here")
        way = next((each for each in ways if each.method == scope["method"]), None)
        if way is None:
            allow = ", ".join(each.method for each in ways).encode()
            raise Refused(405, "not with this method", [(b"allow", allow)])
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        now = asyncio.get_running_loop().time()
        asked = Asked(unquote(name), query, await _body(way, receive), now)
        try:
            made = way.answer(self._desk, asked)
            told = await made if inspect.isawaitable(made) else made
        except Wrong as wrong:
            raise Refused(400, str(wrong)) from None
        if told is None:
            raise Refused(404, "there is nothing of this name")
        return told


async def _body(way: Way, receive: Receive) -> Mapping[str, Any]:
    """The JSON object that was sent, empty when there is none. Raises ``Refused``."""
    if way.method == "GET":
        return {}
    try:
        async with asyncio.timeout(_PATIENCE):
            text = await _text(receive)
        given = msgspec.json.decode(text) if text else {}
    except TimeoutError:
        raise Refused(408, "the body did not come") from None
    except (msgspec.MsgspecError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise Refused(400, "the body must be a JSON object")
    return given


async def _text(receive: Receive) -> bytes:
    text, more = b"", True
    while more:
        message = await receive()
        text += message.get("body", b"")
        more = message.get("more_body", False)
        if len(text) > MOST:
            raise Refused(413, f"a body has at most {MOST} bytes", [*CLOSE])
    return text
