"""What a schema cannot say about one backend: how it is reached, which of its settings take effect, its headers.

The rule: a setting that could have no effect for this kind of backend is refused, never ignored.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmcp.config import administration
from vmcp.config.model import Isolation, Transport
from vmcp.config.rules import Rule
from vmcp.config.toolhive import Entry
from vmcp.config.tree import Document, Path
from vmcp.config.urls import SOCKETS, WEB, is_loopback, scheme, split, url_wrong
from vmcp.errors import Problem
from vmcp.protocol.revisions import MODERN

# Hop-by-hop (RFC 9110, 7.6.1), framing, and what vmcp itself says on every request.
RESERVED_HEADERS = frozenset(
    [
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "content-type",
        "accept",
        "accept-encoding",
        "expect",
        "http2-settings",
        "last-event-id",
        "forwarded",
    ]
)
RESERVED_PREFIXES = ("mcp-", "x-forwarded-", "sec-websocket-")
_PLAIN = {"http": "https://", "ws": "wss://"}
_REMOTE_ONLY = ("headers", "tls", "pool", "caBundlePath")
_LOCAL_ONLY = ("env", "cwd", "limits", "idleStop", "warm")
_SECRET = re.compile(
    r"gh[pousr]_\w{16}|github_pat_\w{16}|glpat-[\w-]{16}|sk-[\w-]{16}|xox[abprs]-[\w-]{8}|AKIA[0-9A-Z]{12}|AIza[\w-]{20}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\."
)
_SECRET_NAMES = re.compile(r"(?i)^(authorization|cookie|.*(api[-_]?key|token|secret|password|passwd|private[-_]?key))$")


def checks(document: Document, entry: Entry) -> Iterator[Problem]:
    """Every problem of one backend."""
    yield from _named_twice(document, entry)
    yield from _reach(document, entry)
    yield from _url(document, entry)
    yield from _effect(document, entry)
    yield from _questions(document, entry)
    yield from _tls(document, entry)
    yield from _headers(document, entry)
    yield from _env(document, entry)
    for path, strategy in strategies(document.data, entry):
        yield from _strategy(document, entry, path, strategy)


def is_remote(settings: Mapping[str, Any]) -> bool:
    """Whether a backend is reached over the network."""
    return "command" not in settings and settings.get("transport") != "stdio"


def transport_of(settings: Mapping[str, Any]) -> Transport:
    """How a backend is reached: as the file says, else as its ``url`` or ``command`` suggests."""
    given: Transport | None = settings.get("transport")
    if given is not None:
        return given
    if not is_remote(settings):
        return "stdio"
    return "websocket" if scheme(url_of(settings)) in SOCKETS else "streamable-http"


def url_of(settings: Mapping[str, Any]) -> str:
    """Where a backend is: its ``url``, or that of its first replica; empty when it has none."""
    told = [each.get("url", "") for each in settings.get("endpoints", ()) if each is not None]
    return str(settings.get("url") or next(iter(told), ""))


def isolation_of(settings: Mapping[str, Any]) -> Isolation:
    """Who shares a session: everybody with a child process, the calls of one client session elsewhere."""
    given: Isolation | None = settings.get("isolation")
    return given or ("session" if is_remote(settings) else "shared")


def strategies(data: Mapping[str, Any], entry: Entry) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The strategies that name this very backend, the one that counts first."""
    own = entry.settings.get("auth")
    if own is not None:
        yield (*entry.path, "auth"), own
    named = data.get("outgoingAuth", {}).get("backends", {}).get(entry.name)
    if named is not None:
        yield ("outgoingAuth", "backends", entry.name), named


def _named_twice(document: Document, entry: Entry) -> Iterator[Problem]:
    if "name" in entry.settings and entry.path[0] == "groups":
        what = "may not stand here"
        hint = "a backend of a group is named by its key"
        yield document.problem(Rule.MISPLACED_KEY, (*entry.path, "name"), what, hint, key=True)


def _reach(document: Document, entry: Entry) -> Iterator[Problem]:
    settings, path = entry.settings, entry.path
    given = [key for key in ("url", "command", "endpoints") if key in settings]
    broken = any((*path, key) in document.broken for key in ("url", "command", "endpoints")) or path in document.partial
    if not given and not broken:
        hint = "add url: https://…/mcp, or command: [program, argument]"
        yield document.problem(Rule.MISSING_KEY, path, "missing key 'url' or 'command'", hint, key=True)
    for key in given[1:]:
        what = f"a backend has {given[0]} or {key}, not both"
        yield document.problem(Rule.CONTRADICTION, (*path, key), what, "remove one of them", key=True)
    transport = settings.get("transport")
    if len(given) == 1 and transport is not None and not _fits(settings, transport, given[0]):
        what = f"'{transport}' does not fit {'this url' if given[0] == 'url' != transport != 'stdio' else given[0]}"
        yield document.problem(Rule.CONTRADICTION, (*path, "transport"), what, "leave transport out: it is guessed")
    if transport == "sse" and settings.get("protocol") == MODERN:
        what = f"revision {MODERN} has no HTTP+SSE transport"
        yield document.problem(Rule.CONTRADICTION, (*path, "protocol"), what, "leave protocol out: it is negotiated")
    if settings.get("command", [None])[0] == "":
        yield document.problem(Rule.BAD_VALUE, (*path, "command", 0), "the program must not be empty")


def _fits(settings: Mapping[str, Any], transport: str, given: str) -> bool:
    """Whether a transport can be had at what is given. A url that is no such thing is told elsewhere."""
    if (transport == "stdio") != (given == "command"):
        return False
    known = scheme(url_of(settings)) if given != "command" else ""
    return known not in (*WEB, *SOCKETS) or (transport == "websocket") == (known in SOCKETS)


def _url(document: Document, entry: Entry) -> Iterator[Problem]:
    for path, url in addresses(entry):
        yield from _address(document, path, url)


def addresses(entry: Entry) -> Iterator[tuple[Path, str]]:
    """Every URL of a backend, with its place: its own, or those of its replicas."""
    if entry.settings.get("url") is not None:
        yield (*entry.path, "url"), entry.settings["url"]
    for number, each in enumerate(entry.settings.get("endpoints", ())):
        if each is not None and each.get("url") is not None:
            yield (*entry.path, "endpoints", number, "url"), each["url"]


def _address(document: Document, path: Path, url: str) -> Iterator[Problem]:
    parts = split(url)
    wrong = url_wrong(url, schemes=(*WEB, *SOCKETS))
    if wrong is not None:
        yield document.problem(Rule.BAD_URL, path, wrong, "write for example https://mcp.example.com/mcp")
    elif parts is not None and administration.is_here(document, parts):
        yield document.problem(Rule.BAD_URL, path, "is admin.listen, the port of vmcp itself", "take another one")
    elif parts is not None and scheme(url) in _PLAIN and not is_loopback(parts.hostname or ""):
        what, hint = "goes over the network without TLS", f"use {_PLAIN[scheme(url)]} where the server has it"
        yield document.problem(Rule.PLAIN_HTTP, path, what, hint, severity="warning")


def _effect(document: Document, entry: Entry) -> Iterator[Problem]:
    remote = is_remote(entry.settings)
    for key in _LOCAL_ONLY if remote else _REMOTE_ONLY:
        if key in entry.settings:
            kind = "a backend with a url" if remote else "a child process"
            what = f"has no effect for {kind}"
            yield document.problem(Rule.MISPLACED_KEY, (*entry.path, key), what, "remove it", key=True)
    if "pool" in entry.settings and remote and transport_of(entry.settings) == "websocket":
        what = "has no effect for a WebSocket: it is one connection"
        yield document.problem(Rule.MISPLACED_KEY, (*entry.path, "pool"), what, "remove it", key=True)


def _questions(document: Document, entry: Entry) -> Iterator[Problem]:
    """A session that all clients share cannot tell whom a question is for, unless the revision puts it into a result."""
    settings = entry.settings
    shared, protocol = isolation_of(settings) == "shared", settings.get("protocol", "auto")
    asked = [key for key, value in settings.get("allow", {}).items() if key != "logging" and _permits(value)]
    if not shared or protocol == MODERN:
        return
    sure = protocol != "auto"
    for key in asked:
        what = "cannot be honoured on a session that all clients share"
        what += "" if sure else f", unless the server speaks {MODERN}"
        at: Path = (*entry.path, "allow", key)
        hint = "add isolation: session"
        yield document.problem(Rule.CONTRADICTION, at, what, hint, key=True, severity="error" if sure else "warning")


def _permits(value: object) -> bool:
    return any(each is True for each in value.values()) if isinstance(value, dict) else value is True


def _tls(document: Document, entry: Entry) -> Iterator[Problem]:
    tls, path = entry.settings.get("tls", {}), entry.path
    for one, other in (("clientCertPath", "clientKeyPath"), ("clientKeyPath", "clientCertPath")):
        if one in tls and other not in tls and (*path, "tls", other) not in document.broken:
            what = f"needs {other} beside it"
            yield document.problem(Rule.MISSING_KEY, (*path, "tls", one), what, key=True)
    if "caBundlePath" in tls and "caBundlePath" in entry.settings:
        at: Path = (*path, "caBundlePath")
        yield document.problem(Rule.CONTRADICTION, at, "tls.caBundlePath is given too", "remove one of them", key=True)
    if scheme(url_of(entry.settings)) in _PLAIN and (tls or "caBundlePath" in entry.settings):
        at = (*path, "tls") if tls else (*path, "caBundlePath")
        what = "has no effect: the url has no TLS"
        instead = f"use {_PLAIN[scheme(url_of(entry.settings))]}"
        yield document.problem(Rule.MISPLACED_KEY, at, what, instead, key=True, severity="warning")


def header_wrong(name: str) -> str | None:
    """Why a header may not be configured; None when it may."""
    low = name.lower()
    if low in RESERVED_HEADERS or low.startswith(RESERVED_PREFIXES):
        return "is a header that vmcp sets itself, or never sends"
    return None


def _headers(document: Document, entry: Entry) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, value in entry.settings.get("headers", {}).items():
        path: Path = (*entry.path, "headers", name)
        wrong = header_wrong(name)
        if wrong is not None:
            yield document.problem(Rule.BAD_HEADER, path, wrong, "remove it", key=True)
        other = seen.setdefault(name.lower(), name)
        if other != name:
            what = "is the same header as another one"
            yield document.problem(Rule.BAD_HEADER, path, what, "header names ignore upper and lower case", key=True)
        yield from literal(document, path, name, value)


def _env(document: Document, entry: Entry) -> Iterator[Problem]:
    for name, value in entry.settings.get("env", {}).items():
        yield from literal(document, (*entry.path, "env", name), name, value)


def literal(document: Document, path: Path, name: str, value: object) -> Iterator[Problem]:
    """Warns of a secret that stands in the file itself."""
    if not isinstance(value, str) or not value or path in document.substituted:
        return
    if _SECRET_NAMES.match(name[:200]) or _SECRET.search(value[:4000]):
        hint = "write {env: NAME} or {file: PATH}, and change the secret if the file was shared"
        what = "a secret seems to stand in the file"
        yield document.problem(Rule.LITERAL_SECRET, path, what, hint, severity="warning")


def _strategy(document: Document, entry: Entry, path: Path, strategy: Mapping[str, Any]) -> Iterator[Problem]:
    if strategy.get("type") == "header_injection" and not is_remote(entry.settings):
        what = "a child process takes no headers"
        yield document.problem(Rule.MISPLACED_KEY, (*path, "type"), what, "give it the secret in env")
    name = strategy.get("headerInjection", {}).get("headerName")
    if name is not None and name.lower() in {each.lower() for each in entry.settings.get("headers", {})}:
        what = "is in headers of this backend too"
        yield document.problem(Rule.CONTRADICTION, (*path, "headerInjection", "headerName"), what, "keep one of them")


def injection(document: Document, path: Path, strategy: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with a ``header_injection`` of itself, wherever it stands."""
    block = strategy.get("headerInjection")
    if block is None:
        return
    at: Path = (*path, "headerInjection")
    if strategy.get("type", "header_injection") != "header_injection":
        what = f"has no effect with type '{strategy['type']}'"
        yield document.problem(Rule.MISPLACED_KEY, at, what, "write type: header_injection, or remove it", key=True)
    name = block.get("headerName")
    wrong = header_wrong(name) if name is not None else None
    if wrong is not None:
        yield document.problem(Rule.BAD_HEADER, (*at, "headerName"), wrong, "use another header")
    values = [key for key in ("headerValue", "headerValueEnv") if key in block]
    if not values and not any((*at, key) in document.broken for key in ("headerValue", "headerValueEnv")):
        what = "missing key 'headerValue' or 'headerValueEnv'"
        yield document.problem(Rule.MISSING_KEY, at, what, "add headerValueEnv: NAME", key=True)
    if len(values) == 2:
        what = "headerValue and headerValueEnv exclude each other"
        yield document.problem(Rule.CONTRADICTION, (*at, "headerValueEnv"), what, "remove one of them", key=True)
    if name is not None and "headerValue" in block:
        yield from literal(document, (*at, "headerValue"), name, block["headerValue"])
