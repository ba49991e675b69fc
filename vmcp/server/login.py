"""Logging in from a shell: the same way as through the pages, with a browser that comes back to this very machine.

The rule: what is stored is the login of the gateway, or of the user of the operating system who runs this, and of nobody else. A
browser on another machine cannot come back, so what stands in its address bar is taken instead.
"""

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from vmcp.config.markup import escaped
from vmcp.config.model import Config
from vmcp.config.oauth import CALLBACK
from vmcp.errors import VmcpError
from vmcp.state.vault import VaultError
from vmcp.upstream.credentials.consent import Consent
from vmcp.upstream.credentials.desk import VALID
from vmcp.upstream.credentials.logins import Login
from vmcp.upstream.credentials.source import consent_of

__all__ = ["Consent", "Login"]  # besides what is defined here

HOST: Final = "127.0.0.1"
LONGEST: Final = 16 << 10
READING: Final = 10.0
_ANSWER: Final = (
    "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {length}\r\nconnection: close\r\n"
    "cache-control: no-store\r\ncontent-security-policy: default-src 'none'; frame-ancestors 'none'\r\n\r\n"
)

Answers = Mapping[str, str]
Show = Callable[[str], None]
Paste = Callable[[], str]


class NoLogin(VmcpError):
    """It cannot be logged in there; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a backend: whose logins are kept, and that of who asks."""

    backend: str
    per_user: bool
    login: Login | None
    others: int


@contextlib.asynccontextmanager
async def at(config: Config, backend: str, environ: Mapping[str, str]) -> AsyncIterator[Consent]:
    """The logins of one backend of the config. Raises ``NoLogin``."""
    spec = next((each for each in config.backends if each.name == backend), None)
    if spec is None:
        raise NoLogin(f"there is no backend '{backend}' in this configuration")
    consent = consent_of(spec, environ)
    if consent is None:
        raise NoLogin(f"backend '{backend}' needs no login: its strategy is not oauth")
    try:
        if consent.auth.state.directory is None:
            raise NoLogin("a login would be forgotten at once; add state: {directory: …}")
        yield consent
    except VaultError as error:
        raise NoLogin(str(error)) from None
    finally:
        await consent.close()


async def login(consent: Consent, scopes: tuple[str, ...], show: Show, paste: Paste | None, port: int = 0) -> Login:
    """Log in: ``show`` gets the URL for the browser; ``paste``, if there is one, gives where that ended. Raises ``VmcpError``."""
    invitation = consent.desk.invite(consent.lister, scopes)
    browser = secrets.token_urlsafe(32)
    arrived: asyncio.Future[Answers] = asyncio.get_running_loop().create_future()
    server = await _listening(functools.partial(_visit, consent, arrived), port)
    async with server:
        redirect = f"http://{HOST}:{server.sockets[0].getsockname()[1]}{CALLBACK}"
        show(await consent.depart(invitation, browser, redirect))
        answers = await _waited(arrived) if paste is None else _fields(await asyncio.to_thread(paste))
    journey = consent.desk.back(answers.get("state", ""), browser)
    if journey is None:
        raise NoLogin("this is not the answer to this login; give the whole URL that the browser was sent to")
    await consent.arrive(journey, answers)
    kept = await consent.login_of(consent.lister)
    assert kept is not None
    return kept


async def status(consent: Consent) -> Standing:
    """How it stands. Raises ``VmcpError``."""
    mine = await consent.login_of(consent.lister)
    kept = await asyncio.to_thread(lambda: set(consent.principals()))
    return Standing(consent.name, consent.per_user, mine, len(kept - {consent.lister.principal}))


async def logout(consent: Consent) -> bool:
    """End the login of who asks; whether there was one. Raises ``VmcpError``."""
    return await consent.end(consent.lister)


# --- the browser that comes back


async def _waited(arrived: asyncio.Future[Answers]) -> Answers:
    try:
        async with asyncio.timeout(VALID):
            return await arrived
    except TimeoutError:
        raise NoLogin(f"nobody came back within {VALID / 60:g} minutes") from None


async def _listening(
    visit: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], port: int
) -> asyncio.Server:
    try:
        return await asyncio.start_server(visit, HOST, port, limit=LONGEST)
    except OSError:
        raise NoLogin(f"port {port} is taken; the browser could not come back there") from None


async def _visit(
    consent: Consent, arrived: asyncio.Future[Answers], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        async with asyncio.timeout(READING):
            head = await reader.readuntil(b"\r\n\r\n")
            answers = _answers(head)
            known = consent.desk.awaits(answers.get("state", ""))
            _say(writer, known=known)
            await writer.drain()
        if known and not arrived.done():
            arrived.set_result(answers)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass  # it was no browser
    finally:
        writer.close()


def _say(writer: asyncio.StreamWriter, *, known: bool) -> None:
    text = "Go back to the shell: it tells how the login went." if known else "There is nothing here."
    body = f"<!doctype html><title>vmcp</title><p>{escaped(text)}</p>".encode()
    head = _ANSWER.format(status="200 OK" if known else "404 Not Found", length=len(body))
    writer.write(head.encode() + body)


def _answers(head: bytes) -> Answers:
    """What the browser brought, if it came to the right place."""
    line = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(line) != 3 or line[0] != "GET":
        return {}
    return _fields(line[1]) if urlsplit(line[1]).path == CALLBACK else {}


def _fields(url: str) -> Answers:
    """The fields of a URL's query; none when one stands there twice."""
    try:
        fields = parse_qs(urlsplit(url.strip()).query, keep_blank_values=True, max_num_fields=32)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()} if all(len(v) == 1 for v in fields.values()) else {}
