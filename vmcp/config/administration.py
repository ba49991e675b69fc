"""Where a running vmcp is looked at and told what to do: a UNIX socket, and by choice a port of this machine.

The rule: what is said here is never served on the listener for clients, and a port is only ever one of this machine.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult

from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.config.urls import is_loopback
from vmcp.errors import Problem

_EXAMPLE = "write for example 127.0.0.1:4484"
_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with: a system connects to itself there


@dataclass(frozen=True, slots=True)
class Ui:
    """Web pages on the port. ``try_it`` lets them call tools; ``operate`` lets them reload, drain, reset, clear and end."""

    enabled: bool = False
    try_it: bool = False
    operate: bool = False


@dataclass(frozen=True, slots=True)
class AdminSpec:
    """``socket`` None is the usual place of this user's sockets. ``listen`` is host and port; ``token`` the file of its token."""

    socket: str | None = None
    listen: tuple[str, int] | None = None
    token: str | None = None
    ui: Ui = field(default_factory=Ui)


def from_data(data: Mapping[str, Any], resolve: Callable[[str, str], str]) -> AdminSpec:
    """The section as values; ``resolve`` makes the path of a key absolute."""
    listen = address(data["listen"]) if "listen" in data else None
    return AdminSpec(
        socket=resolve("socket", data["socket"]) if "socket" in data else None,
        listen=listen,
        token=resolve("tokenFile", data["tokenFile"]) if "tokenFile" in data else None,
        ui=_ui(data.get("ui", {})),
    )


def _ui(data: Mapping[str, Any]) -> Ui:
    return Ui(data.get("enabled", False), data.get("tryIt", False), data.get("operate", False))


def address(text: str) -> tuple[str, int] | None:
    """Host and port of ``host:port``; None when it is something else."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare) is not (bare != host) or not port.isascii() or not port.isdecimal():
        return None
    return (bare, int(port)) if len(port) <= 5 and int(port) < 1 << 16 else None


def is_here(document: Document, url: SplitResult) -> bool:
    """Whether a URL leads to the port itself: nobody may ask there through vmcp."""
    listen = document.data.get("admin", {}).get("listen")
    found = address(listen) if isinstance(listen, str) else None
    host, usual = (url.hostname or "").rstrip("."), 443 if url.scheme in ("https", "wss") else 80
    return found is not None and (url.port or usual) == found[1] and (is_loopback(host) or host in _ANYWHERE)


def checks(document: Document) -> Iterator[Problem]:
    """Every problem of the section that the schema does not see."""
    admin: Mapping[str, Any] = document.data.get("admin", {})
    at: Path = ("admin", "listen")
    listen = admin.get("listen")
    if listen is not None:
        found = address(listen)
        if found is None:
            yield document.problem(Rule.BAD_VALUE, at, "is no host and port", _EXAMPLE)
        elif not is_loopback(found[0]):
            yield document.problem(Rule.BAD_VALUE, at, "is not an address of this machine alone", _EXAMPLE)
    elif at not in document.broken:
        yield from _portless(document, admin)
    ui = admin.get("ui", {})
    for key in ("tryIt", "operate"):
        if isinstance(ui, dict) and ui.get(key) is True and ui.get("enabled") is not True:
            what = f"has no effect without admin.ui.enabled: {key} is about web pages"
            yield document.problem(Rule.MISPLACED_KEY, ("admin", "ui", key), what, "set enabled: true", key=True)


def _portless(document: Document, admin: Mapping[str, Any]) -> Iterator[Problem]:
    """What wants a port where there is none."""
    if "tokenFile" in admin:
        what = "has no effect without admin.listen: who comes over the socket needs no token"
        yield document.problem(Rule.MISPLACED_KEY, ("admin", "tokenFile"), what, "remove it, or add listen", key=True)
    ui = admin.get("ui", {})
    if isinstance(ui, dict) and ui.get("enabled") is True:
        what = "wants admin.listen: web pages are served on a port of this machine"
        yield document.problem(Rule.MISPLACED_KEY, ("admin", "ui", "enabled"), what, _EXAMPLE, key=True)
