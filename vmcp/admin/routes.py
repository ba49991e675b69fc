"""Every route of the admin listener, and what answers there.

The rule: this table is all there is; whoever is let in may use all of it, and nobody else any of it. What changes something is
POST or DELETE, and no route makes a backend or tests a connection.
"""

from typing import Final

from vmcp.admin import auditing, deeds, figures, mates, scene, workbench
from vmcp.admin.acts import Data
from vmcp.admin.desk import Asked, Desk, Way, Wrong
from vmcp.admin.logins import CODE_LASTS

BEFORE: Final = "/admin/v1/"
LINES: Final = 200
WHO: Final = "socket: same user or root; port: token"
READERS: Final = f"{WHO}, or the cookie of the web pages"
"""Of what is GET."""


def _text(asked: Asked, key: str, default: str | None = None) -> str:
    found = asked.body.get(key, default)
    if not isinstance(found, str):
        raise Wrong(f"the body must be a JSON object with a string '{key}'")
    return found


async def _clear(desk: Desk, asked: Asked) -> Data:
    if asked.body.keys() - {"pattern"}:
        raise Wrong("the body may have 'pattern' and nothing else")  # a misspelt one must not clear everything
    return await deeds.clear(desk, asked.who, _text(asked, "pattern", "*"))


async def _status(desk: Desk, asked: Asked) -> Data:
    told: Data = (await mates.together(desk, asked.now, "status"))["status"]
    return told


async def _backends(desk: Desk, asked: Asked) -> Data:
    told = await mates.together(desk, asked.now, "backends", "pace")
    return {"backends": scene.backends(told)}


async def _lines(desk: Desk, asked: Asked) -> Data:
    return await mates.lines(desk, _number(asked, "lines", LINES), _number(asked, "since", 0))


def _number(asked: Asked, key: str, default: int) -> int:
    found = asked.query.get(key, str(default))
    if not (found.isascii() and found.isdecimal() and len(found) < 10):
        raise Wrong(f"'{key}' must be a number")
    return int(found)


async def _level(desk: Desk, asked: Asked) -> Data:
    found = await deeds.level(desk, asked.who, _text(asked, "level"))
    if found is None:
        raise Wrong("'level' must be debug, info, warning or error")
    return found


def _login(desk: Desk, asked: Asked) -> Data:
    """A link for the web pages, which works once."""
    if desk.logins is None or asked.who.startswith("page:"):
        raise Wrong("there are no web pages; set admin.ui.enabled and admin.listen")
    desk.acts.recorded(asked.who, "login")
    return {"url": desk.logins.link(), "expiresInSeconds": int(CODE_LASTS)}


WAYS: Final[tuple[Way, ...]] = (
    Way("GET", "status", _status),
    Way("GET", "overview", scene.overview),
    Way("GET", "backends", _backends),
    Way("GET", "backends/*", scene.backend),
    Way("GET", "endpoints", scene.endpoints),
    *workbench.WAYS,
    Way("GET", "sessions", lambda desk, asked: mates.together(desk, asked.now, "sessions")),
    Way("GET", "config", lambda desk, _: desk.acts.config()),
    Way("GET", "metrics", lambda desk, asked: mates.together(desk, asked.now, "metrics")),
    Way("GET", "rates", figures.rates),
    Way("GET", "traffic", figures.traffic),
    Way("GET", "statistics", figures.statistics),
    Way("GET", "usage", figures.usage),
    Way("GET", "audit", auditing.audit),
    Way("GET", "log", _lines),
    Way("POST", "login", _login),
    Way("POST", "reload", lambda desk, asked: deeds.reload(desk, asked.who)),
    Way("POST", "drain", lambda desk, asked: deeds.drain(desk, asked.who)),
    Way("POST", "backends/*/reset", lambda desk, asked: deeds.reset(desk, asked.who, asked.name)),
    Way("POST", "cache/clear", _clear),
    Way("POST", "log/level", _level),
    Way("DELETE", "sessions/*", lambda desk, asked: deeds.end(desk, asked.who, asked.name)),
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
