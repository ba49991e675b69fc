"""Every route of the admin listener, and what answers there.

The rule: this table is all there is; whoever is let in may use all of it, and nobody else any of it. What changes something is
POST or DELETE, and no route makes a backend or tests a connection.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vmcp.admin.acts import Acts, Data
from vmcp.admin.tail import Tail
from vmcp.admin.views import Views
from vmcp.routing.catalog import Kind

BEFORE: Final = "/admin/v1/"
LINES: Final = 200
WHO: Final = "socket: same user or root; port: token"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the name in its path, its query, and its body."""

    name: str
    query: Mapping[str, str]
    body: Mapping[str, Any]
    now: float


class Wrong(Exception):
    """A request that cannot be answered as it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Who answers."""

    views: Views
    acts: Acts
    tail: Tail


Answer = Callable[[Desk, Asked], Data | Awaitable[Data | None] | None]
"""What is said; None where there is nothing of this name."""


@dataclass(frozen=True, slots=True)
class Way:
    """A method and a path below ``BEFORE``, in which ``*`` stands for a name."""

    method: str
    path: str
    answer: Answer


def _listed(kind: Kind) -> Answer:
    return lambda desk, asked: desk.views.listing(kind, asked.query.get("path"), asked.query.get("name"))


def _text(asked: Asked, key: str, default: str | None = None) -> str:
    found = asked.body.get(key, default)
    if not isinstance(found, str):
        raise Wrong(f"the body must be a JSON object with a string '{key}'")
    return found


def _lines(desk: Desk, asked: Asked) -> Data:
    lines, since = _number(asked, "lines", LINES), _number(asked, "since", 0)
    return {"lines": desk.tail.last(lines, since), "last": desk.tail.count}


def _number(asked: Asked, key: str, default: int) -> int:
    found = asked.query.get(key, str(default))
    if not (found.isascii() and found.isdecimal() and len(found) < 10):
        raise Wrong(f"'{key}' must be a number")
    return int(found)


def _level(desk: Desk, asked: Asked) -> Data:
    found = desk.acts.level(_text(asked, "level"))
    if found is None:
        raise Wrong("'level' must be debug, info, warning or error")
    return found


WAYS: Final[tuple[Way, ...]] = (
    Way("GET", "status", lambda desk, _: desk.views.status()),
    Way("GET", "backends", lambda desk, _: desk.views.backends()),
    Way("GET", "backends/*", lambda desk, asked: desk.views.backend(asked.name)),
    *(Way("GET", str(kind), _listed(kind)) for kind in Kind),
    Way("GET", "sessions", lambda desk, asked: desk.views.sessions(asked.now)),
    Way("GET", "config", lambda desk, _: desk.acts.config()),
    Way("GET", "metrics", lambda desk, _: desk.views.metrics()),
    Way("GET", "log", _lines),
    Way("POST", "reload", lambda desk, _: desk.acts.reload()),
    Way("POST", "drain", lambda desk, _: desk.acts.drain()),
    Way("POST", "backends/*/reset", lambda desk, asked: desk.acts.reset(asked.name)),
    Way("POST", "cache/clear", lambda desk, asked: desk.acts.clear(_text(asked, "pattern", "*"))),
    Way("POST", "log/level", _level),
    Way("DELETE", "sessions/*", lambda desk, asked: desk.acts.end(asked.name)),
)


def found(path: str) -> tuple[list[Way], str]:
    """The ways at a path, one for each method, and the name in it."""
    steps = path.removeprefix(BEFORE).split("/")
    for way in WAYS if path.startswith(BEFORE) else ():
        name = _fits(way.path.split("/"), steps)
        if name is not None:
            return [each for each in WAYS if each.path == way.path], name
    return [], ""


def _fits(pattern: list[str], steps: list[str]) -> str | None:
    if len(pattern) != len(steps) or not all(each in ("*", step) for each, step in zip(pattern, steps, strict=True)):
        return None
    return "".join(step for each, step in zip(pattern, steps, strict=True) if each == "*")
