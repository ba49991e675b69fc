"""The pages on which a user lets vmcp act for him at a backend: where he starts, where he comes back to, and who vmcp is there.

The rule: nothing happens on the first look at a page, for others look at links too; what begins in one browser ends in that one;
and nobody else's page can show ours in a frame. No page tells more than whose login it is and how it went.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qs

from vmcp.call import Identity
from vmcp.config.markup import escaped
from vmcp.config.oauth import CALLBACK
from vmcp.errors import VmcpError
from vmcp.protocol import jsonrpc
from vmcp.server.asgi import AS_JSON, IDENTITY, WHY, Header, Receive, Refused, Scope, Send
from vmcp.server.handover import Relay
from vmcp.upstream.credentials.consent import START, Consent
from vmcp.upstream.credentials.desk import VALID, Invitation, digest
from vmcp.upstream.credentials.registration import DOCUMENT, document

log = logging.getLogger("vmcp.server")

LONGEST: Final = 16 << 10
"""Bytes of a query or a form."""
READING: Final = 10.0
"""Seconds for a form to arrive."""
_PAGE: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # without any, the browser would not say either that a form is our own
    (b"cross-origin-opener-policy", b"same-origin"),
)
_HTML: Final = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{title}</title>"
    "<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem}}"
    "button{{font:inherit;padding:.5rem 1.2rem}}</style><h1>{title}</h1>{body}</html>"
)
_GONE: Final = "This link is not valid (any more). Go back to your client and try again; it will give you a new one."
_ELSEWHERE: Final = (
    "This login did not begin in this browser, has ended already, or took too long. Start again from your client."
)
_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_NAMES: Final = ("name", "preferred_username", "email")


class LogsIn(Protocol):
    """What is asked of a backend."""

    @property
    def consent(self) -> Consent | None:
        """Its logins, if it has any."""


class _Found(NamedTuple):
    consent: Consent
    invitation: Invitation


class Connect:
    """Serves the pages for those of ``backends`` that have logins."""

    def __init__(self, backends: Iterable[LogsIn], relay: Relay | None = None) -> None:
        self._consents = tuple(each.consent for each in backends if each.consent is not None)
        self._relay = relay
        if relay is not None:
            for consent in self._consents:
                consent.desk.mark = relay.mark
        self._paths = {START.encode(): self._start, CALLBACK.encode(): self._back, DOCUMENT.encode(): self._client}

    def serves(self, raw_path: bytes) -> bool:
        """Whether there is a page at this path."""
        return raw_path in self._paths and bool(self._consents)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises ``Refused``."""
        allowed = ("GET", "HEAD", "POST") if scope["raw_path"] == START.encode() else ("GET", "HEAD")
        if scope["method"] not in allowed:
            raise Refused(405, "this page is not for that", [(b"allow", ", ".join(allowed).encode())])
        await self._paths[scope["raw_path"]](scope, receive, send)

    # --- the way there

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await self._leave(scope, receive, send)
            return
        id_ = _fields(scope["query_string"]).get("invitation", "")
        if self._relay is not None and await self._relay.passes(scope, b"", id_):
            return
        found = self._invited(id_)
        if found is None:
            await _page(send, 404, "No such link", _said(_GONE))
            return
        browser = _kept(scope["headers"], found.consent) or secrets.token_urlsafe(32)
        await _page(
            send, 200, f"Connect to {found.consent.name}", _question(found, browser), [_cookie(found.consent, browser)]
        )

    async def _leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The button was pressed: in this very browser, on our own page."""
        body = await _body(receive)
        form = _fields(body)
        if self._relay is not None and await self._relay.passes(scope, body, form.get("invitation")):
            return
        found = self._invited(form.get("invitation", ""))
        if found is None:
            await _page(send, 404, "No such link", _said(_GONE))
            return
        browser = _kept(scope["headers"], found.consent)
        shown = form.get("proof", "").encode()
        if not browser or not secrets.compare_digest(shown, _proof(browser, found.invitation).encode()):
            await _page(send, 403, "Not here", _said(_ELSEWHERE))
            return
        try:
            url = await found.consent.depart(found.invitation, browser)
        except VmcpError as error:
            await _failed(scope, send, found, error)
            return
        headers = [(b"location", url.encode("ascii", "strict")), *_PAGE]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    # --- the way back

    async def _back(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _fields(scope["query_string"])
        state = answer.get("state", "")
        if self._relay is not None and await self._relay.passes(scope, b"", state):
            return
        consent = next((each for each in self._consents if each.desk.awaits(state)), None)
        if scope["method"] == "HEAD" or consent is None:
            await _page(send, 403, "Not here", _said(_ELSEWHERE))
            return
        journey = consent.desk.back(state, _kept(scope["headers"], consent))
        if journey is None:
            await _page(send, 403, "Not here", _said(_ELSEWHERE))
            return
        try:
            await consent.arrive(journey, answer)
        except VmcpError as error:
            await _failed(scope, send, _Found(consent, journey.invitation), error)
            return
        scope[IDENTITY] = journey.invitation.who
        told = f"{_who(journey.invitation.who)} is connected to {consent.name}. Close this page and go back to your client."
        await _page(send, 200, "Connected", _said(told))

    async def _client(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The client-id metadata document, which is the same for all backends."""
        body = jsonrpc.encode(document(self._consents[0].auth))
        await send({"type": "http.response.start", "status": 200, "headers": list(AS_JSON)})
        await send({"type": "http.response.body", "body": body})

    def _invited(self, id_: str) -> _Found | None:
        for consent in self._consents:
            invitation = consent.desk.invited(id_)
            if invitation is not None:
                return _Found(consent, invitation)
        return None


def _question(found: _Found, browser: str) -> str:
    """What one agrees to. A link that somebody else sent gives him away here."""
    who, name = escaped(_who(found.invitation.who)), escaped(found.consent.name)
    more = " ".join(found.invitation.scopes)
    scopes = f"<p>It asks for more than before: {escaped(more)}</p>" if more else ""
    return (
        f"<p>vmcp will act at <b>{name}</b> for <b>{who}</b>, with the account that you log in with on the next page.</p>{scopes}"
        f"<p>If you are not {who}, or did not ask for this, close this page: somebody else would act with your account.</p>"
        f"<form method=post action='start'><input type=hidden name=invitation value='{found.invitation.id}'>"
        f"<input type=hidden name=proof value='{_proof(browser, found.invitation)}'>"
        f"<button>I am {who}: go on</button></form>"
    )


def _who(who: Identity) -> str:
    """A caller in words: what his claims call him beside the name that is surely his."""
    called = next((who.claims[key] for key in _NAMES if isinstance(who.claims.get(key), str)), None)
    return f"{called[:80]} ({who.subject[:80]})" if called and called != who.subject else who.subject[:160]


def _proof(browser: str, invitation: Invitation) -> str:
    """What our page knows of the browser that it was shown in, and of the link."""
    return digest(f"{browser} {invitation.id}").hex()


# --- the browser


def _name(consent: Consent) -> str:
    """``__Host-`` makes sure that no other host has set it; without TLS there is no such thing."""
    return "__Host-vmcp-login" if consent.auth.base.startswith("https:") else "vmcp-login"


def _cookie(consent: Consent, value: str) -> Header:
    secure = "; Secure" if consent.auth.base.startswith("https:") else ""
    age = int(VALID) * 2
    # Lax: it has to come along when the authorization server sends the browser back.
    return b"set-cookie", f"{_name(consent)}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}".encode()


def _kept(headers: Iterable[Header], consent: Consent) -> str:
    """What this browser was given; empty when it has nothing, or several. Cookies of other programs may look like anything."""
    given = b";".join(value for name, value in headers if name == b"cookie").decode("latin-1").split(";")
    pairs = [each.strip().partition("=") for each in given]
    values = {value for name, _, value in pairs if name == _name(consent) and _VALUE.fullmatch(value)}
    return values.pop() if len(values) == 1 else ""


def _fields(text: bytes) -> Mapping[str, str]:
    """The fields of a query or a form; none when one stands there twice, or there is too much of it."""
    if len(text) > LONGEST:
        return {}
    try:
        fields = parse_qs(text.decode("ascii"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()} if all(len(v) == 1 for v in fields.values()) else {}


async def _body(receive: Receive) -> bytes:
    """A small form. Raises ``Refused``."""
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(READING):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the form did not arrive")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > LONGEST:
                    raise Refused(413, "the form is too large")
    except TimeoutError:
        raise Refused(408, "the form did not arrive in time") from None
    return bytes(body)


# --- what is shown


def _said(text: str) -> str:
    return f"<p>{escaped(text)}</p>"


async def _failed(scope: Scope, send: Send, found: _Found, error: VmcpError) -> None:
    log.warning("login failed", extra={"backend": found.consent.name, "why": str(error)})
    scope[IDENTITY], scope[WHY] = found.invitation.who, str(error)
    await _page(send, 502, "That did not work", _said(f"{error}. Go back to your client and try again."))


async def _page(send: Send, status: int, title: str, body: str, extra: Iterable[Header] = ()) -> None:
    text = _HTML.format(title=escaped(title), body=body).encode()
    await send({"type": "http.response.start", "status": status, "headers": [*_PAGE, *extra]})
    await send({"type": "http.response.body", "body": text})
