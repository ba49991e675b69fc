"""The JSON routes for whoever works with what is served here: what there is, how to get at it, what could be added, a call.

The rule: each page of these has its twin here, and takes what it says from the same function.
"""

import sys
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.admin import offered, settings
from vmcp.admin.connecting import connections
from vmcp.admin.desk import Answer, Asked, Desk, Way, Wrong
from vmcp.admin.discovery import discovered
from vmcp.admin.trying import WAYS as KINDS
from vmcp.admin.trying import Tried, Wanted, tried
from vmcp.routing.catalog import Kind
from vmcp.server.asgi import Refused

Data = dict[str, Any]
AGENT: Final = "vmcp admin"
SWITCHED_OFF: Final = "calls are switched off here; they are there with admin.ui.tryIt: true"


def _listed(kind: Kind) -> Answer:
    return lambda desk, asked: offered.listing(desk, kind, asked)


def connect(desk: Desk, asked: Asked) -> Data | None:
    """What clients need to get to the endpoint of the query."""
    house = desk.house
    return connections(house.config, house.table.faces, desk.views.url, asked.query.get("path"), sys.platform)


def discovery(desk: Desk, asked: Asked) -> Data:
    """Servers that could be added, by the words of the query."""
    return discovered(desk.house.config, asked.query.get("q", ""))


async def call(desk: Desk, asked: Asked) -> Data:
    """One call, as a client of this machine makes it; ``authorization`` is the header that it shows."""
    if not desk.may.try_it:
        raise Refused(403, SWITCHED_OFF)
    body = asked.body
    wanted = Wanted(
        path=_word(body, "path"),
        kind=_kind(_word(body, "kind", Kind.TOOL.value)),
        name=_word(body, "name"),
        arguments=_object(body.get("arguments", {})),
        authorization=_word(body, "authorization", ""),
        agent=f"{AGENT} ({asked.who})",
    )
    done = await attempt(desk, wanted)
    message = Raw(done.tried.body) if _is_json(done.tried.body) and not done.tried.cut else None
    return {**done.facts, "message": message}


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call that was made. ``facts`` are about it: status, seconds, and where they went, as far as that is known."""

    tried: Tried
    facts: Data


async def attempt(desk: Desk, wanted: Wanted) -> Attempt:
    """Make a call. Raises ``Wrong`` where there is no such endpoint."""
    if wanted.path not in desk.house.table.faces:
        raise Wrong("'path' must be that of an endpoint")
    if not wanted.authorization.isprintable():
        raise Wrong("a header is one line, of characters that can be seen")
    recent = desk.house.recent
    last = max((each.number for each in recent.exchanges()), default=0)
    done = await tried(desk.house, wanted)
    # Of several that were like it one cannot say which it was.
    alike = [each for each in recent.exchanges(last) if (each.endpoint, each.target) == (wanted.path, wanted.name)]
    at = alike[0] if len(alike) == 1 else None
    seconds, more = round(done.seconds, 4), {}
    if at is not None:  # the backend's time is one of whole milliseconds, and no part is longer than the whole
        more = {"backend": at.backend, "backendSeconds": min(at.backend_ms / 1000, seconds), "traceId": at.trace_id}
    facts = {"status": done.status, "seconds": seconds, "cut": done.cut}
    return Attempt(done, {**facts, "backend": "", "backendSeconds": None, "traceId": "", **more})


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _kind(word: str) -> Kind:
    found = next((each for each in KINDS if each.value == word), None)
    if found is None:
        raise Wrong(f"'kind' must be one of {', '.join(KINDS)}")
    return found


def _word(body: Any, key: str, default: str | None = None) -> str:
    found = body.get(key, default)
    if not isinstance(found, str):
        raise Wrong(f"the body must be a JSON object with a string '{key}'")
    return found


def _object(found: Any) -> Raw:
    if not isinstance(found, dict):
        raise Wrong("'arguments' must be an object")
    return Raw(msgspec.json.encode(found))


WAYS: Final[tuple[Way, ...]] = (
    *(Way("GET", str(kind), _listed(kind)) for kind in Kind),
    Way("GET", "lock", lambda desk, _: offered.locked(desk)),
    Way("GET", "settings", settings.values),
    Way("GET", "difference", settings.difference),
    Way("GET", "reloads", lambda desk, _: desk.acts.history()),
    Way("GET", "connect", connect),
    Way("GET", "discovery", discovery),
    Way("POST", "call", call),
)
