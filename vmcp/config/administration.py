"""Where a running vmcp is looked at and told what to do: a UNIX socket, and by choice a port of this machine.

The rule: what is said here is never served on the listener for clients, and a port is only ever one of this machine.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.config.urls import is_loopback
from vmcp.errors import Problem

_EXAMPLE = "write for example 127.0.0.1:4484"


@dataclass(frozen=True, slots=True)
class AdminSpec:
    """``socket`` None is the usual place of this user's sockets. ``listen`` is host and port; ``token`` the file of its token."""

    socket: str | None = None
    listen: tuple[str, int] | None = None
    token: str | None = None


def from_data(data: Mapping[str, Any], resolve: Callable[[str, str], str]) -> AdminSpec:
    """The section as values; ``resolve`` makes the path of a key absolute."""
    listen = address(data["listen"]) if "listen" in data else None
    return AdminSpec(
        socket=resolve("socket", data["socket"]) if "socket" in data else None,
        listen=listen,
        token=resolve("tokenFile", data["tokenFile"]) if "tokenFile" in data else None,
    )


def address(text: str) -> tuple[str, int] | None:
    """Host and port of ``host:port``; None when it is something else."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare) is not (bare != host) or not port.isascii() or not port.isdecimal():
        return None
    return (bare, int(port)) if len(port) <= 5 and int(port) < 1 << 16 else None


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
    elif "tokenFile" in admin and at not in document.broken:
        what = "has no effect without admin.listen: who comes over the socket needs no token"
        yield document.problem(Rule.MISPLACED_KEY, ("admin", "tokenFile"), what, "remove it, or add listen", key=True)
