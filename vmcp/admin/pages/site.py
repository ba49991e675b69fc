"""The web pages as an application: who sees them, how a request becomes a page, and what stands around it.

The rule: nobody sees a page without a cookie that a one-time link gave; the token of the port is for programs and opens none.
What acts is a form with the guest's own token in it, and only where the configuration allows it.
"""

import asyncio
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from vmcp import __version__
from vmcp.admin.desk import Asked, Desk, Wrong
from vmcp.admin.door import Headers, body, guest
from vmcp.admin.logins import COOKIE_LASTS, Guest, Logins, cookie_name, cookie_of
from vmcp.admin.pages import drawing
from vmcp.admin.pages.page import LOGOUT, Context, Page, See
from vmcp.admin.pages.table import PAGES, SECTIONS, found
from vmcp.server.asgi import Header, Receive, Refused, Scope, Send

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ALWAYS: Final[tuple[Header, ...]] = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    # with no-referrer a browser says "Origin: null" with every form, and then nobody could tell ours from others
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
NOT_KEPT: Final = (b"cache-control", b"no-store")
KEPT: Final = (b"cache-control", b"private, max-age=31536000, immutable")
HOW_IN: Final = "These pages are opened by a link that works once. Run: vmcp ui"


@dataclass(frozen=True, slots=True)
class Sheet:
    """An answer."""

    status: int
    headers: list[Header]
    body: bytes = b""


class Site:
    """The pages of one desk."""

    def __init__(self, desk: Desk) -> None:
        assert desk.logins is not None
        self._desk = desk
        self._logins: Logins = desk.logins
        self._templates = drawing.environment()

    async def __call__(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """See ``door.Pages``."""
        try:
            sheet = await self._answer(scope, headers, receive)
        except Refused as refused:
            if refused.status in (401, 403) and (
                scope["method"] == "POST" or scope["query_string"].startswith(b"code=")
            ):
                self._desk.acts.recorded("nobody", "refused", "denied", reason=refused.why)
            sheet = await self._refusal(refused)
        await send({"type": "http.response.start", "status": sheet.status, "headers": [*ALWAYS, *sheet.headers]})
        await send({"type": "http.response.body", "body": sheet.body})

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive) -> Sheet:
        path = scope["raw_path"].decode("latin-1").removeprefix(drawing.HOME)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if path == drawing.HOME.rstrip("/"):
            return _elsewhere(drawing.HOME)
        if path.startswith("assets/"):
            return _asset(path, scope["method"])
        port = scope["server"][1]
        if path == "" and "code" in query and scope["method"] == "GET":
            return self._login(query["code"], port)
        known = guest(self._logins, scope, headers)
        if known is None:
            raise Refused(401, HOW_IN)
        pages, name = found(path)
        page = next((each for each in pages if each.method == scope["method"]), None)
        if page is None:
            raise _no_page(pages)
        self._allow(page)
        form = await _form(receive, known) if page.method == "POST" else {}
        asked = Asked(unquote(name), query, form, asyncio.get_running_loop().time(), f"page:{known.name}")
        if page.path == LOGOUT:
            self._logins.end(cookie_of(port, headers.get(b"cookie", "")))
            return await self._plainly(200, "Logged out", HOW_IN, _cookie(port, "", 0.0))
        return await self._page(page, asked, known, path, headers)

    def _login(self, code: str, port: int) -> Sheet:
        cookie = self._logins.redeemed(code)
        if cookie is None:
            raise Refused(403, f"This link was used already, or it is older than a minute. {HOW_IN}")
        return _elsewhere(drawing.HOME, _cookie(port, cookie, COOKIE_LASTS))

    def _allow(self, page: Page) -> None:
        """Raises ``Refused``."""
        if not self._may().get(page.who, False):
            raise Refused(403, f"This is switched off. It is there with admin.ui.{page.who}: true")

    def _may(self) -> dict[str, bool]:
        ui = self._desk.may
        return {"read": True, "tryIt": ui.try_it, "operate": ui.operate}

    async def _page(self, page: Page, asked: Asked, known: Guest, path: str, headers: Headers) -> Sheet:
        try:
            made = page.facts(self._desk, asked)
            facts = await made if inspect.isawaitable(made) else made
        except Wrong as wrong:
            raise Refused(400, str(wrong)) from None
        if facts is None:
            raise Refused(404, "There is nothing of this name, or not any more.")
        if isinstance(facts, See):
            known.notice = facts.notice
            return _elsewhere(drawing.HOME + facts.path)
        notice = known.told() if headers.get(b"sec-fetch-dest") != "empty" else ""  # a refresh shows it to nobody
        around = self._around(page, path) | {"csrf": known.csrf, "notice": notice, "query": asked.query}
        text = await asyncio.to_thread(self._drawn, page.template, around | dict(facts))
        tag = f'"{drawing.digest(text)}"'
        if tag == headers.get(b"if-none-match"):
            return Sheet(304, [NOT_KEPT, (b"etag", tag.encode())])
        return _html(200, text, (b"etag", tag.encode()))

    def _around(self, page: Page, path: str) -> dict[str, Any]:
        """What the frame wants to know."""
        may = self._may()
        return {
            "page": page,
            "path": path,
            "sections": [(name, [each for each in pages if each.label and may[each.who]]) for name, pages in SECTIONS],
            "known": {each.path.split("/")[0] for each in PAGES if each.method == "GET" and may[each.who]},
            "may": may,
            "server": self._desk.house.config.name,
            "version": __version__,
        }

    def _drawn(self, template: str, context: Context) -> bytes:
        return self._templates.get_template(template).render(context).encode()

    async def _refusal(self, refused: Refused) -> Sheet:
        phrase = "Not logged in" if refused.status == HTTPStatus.UNAUTHORIZED else HTTPStatus(refused.status).phrase
        return await self._plainly(refused.status, phrase, refused.why, *refused.headers)

    async def _plainly(self, status: int, phrase: str, why: str, *more: Header) -> Sheet:
        """A page of one sentence, for anybody."""
        words = {"why": why, "phrase": phrase, "status": status}
        return _html(status, await asyncio.to_thread(self._drawn, "refused.html", words), *more)


def _cookie(port: int, value: str, seconds: float) -> Header:
    life = f"Path=/; Max-Age={seconds:.0f}; HttpOnly; SameSite=Strict"
    return b"set-cookie", f"{cookie_name(port)}={value}; {life}".encode()


def _no_page(pages: list[Page]) -> Refused:
    if not pages:
        return Refused(404, "There is no such page.")
    return Refused(405, "Not with this method.", [(b"allow", ", ".join(each.method for each in pages).encode())])


def _html(status: int, text: bytes, *more: Header) -> Sheet:
    return Sheet(status, [NOT_KEPT, (b"content-type", b"text/html; charset=utf-8"), *more], text)


def _elsewhere(where: str, *more: Header) -> Sheet:
    return Sheet(303, [NOT_KEPT, (b"location", where.encode()), *more])


def _asset(path: str, method: str) -> Sheet:
    """Anybody may have them: they say nothing."""
    name = path.rpartition("/")[2]
    content = drawing.assets().get(name)
    if content is None or method != "GET" or drawing.asset(name) != drawing.HOME + path:
        raise Refused(404, "There is no such page.")
    kind = drawing.TYPES[name.rpartition(".")[2]]
    return Sheet(200, [KEPT, (b"content-type", f"{kind}; charset=utf-8".encode())], content)


async def _form(receive: Receive, known: Guest) -> Mapping[str, Any]:
    """The fields that were sent, with the token of this guest. Raises ``Refused``."""
    fields: dict[str, Any] = {}
    for key, value in parse_qsl((await body(receive)).decode("utf-8", "replace"), keep_blank_values=True):
        if key.endswith("[]"):
            fields.setdefault(key, []).append(value)
        else:
            fields[key] = value
    if not known.shows(str(fields.pop("csrf", ""))):
        raise Refused(403, "This form is not of this session. Go back, load the page anew, and try again.")
    return fields
