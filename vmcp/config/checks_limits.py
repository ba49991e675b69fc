"""What a schema cannot say about rate limits and concurrency.

The rule: a limit that could never apply is told.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

Data = Mapping[str, Any]


def rate_problems(document: Document, backends: Mapping[str, Path] | None) -> Iterator[Problem]:
    """What is wrong with ``rateLimiting``; ``backends`` None: their names are not all known."""
    section = document.data.get("rateLimiting", {})
    if "rateLimiting" in document.data and not section and not document.damaged(("rateLimiting",)):
        what = "nothing is limited: there is neither shared, nor perUser, nor tools, nor backends"
        yield document.problem(Rule.MISSING_KEY, ("rateLimiting",), what, "add a limit, or remove it", key=True)
    yield from _alone(document, section)
    for kind in ("tools", "backends"):
        yield from _entries(document, kind, section.get(kind, ()))
    for number, each in enumerate(section.get("backends", ()) if backends is not None else ()):
        name = (each or {}).get("name")
        if name is not None and name not in (backends or {}):
            at: Path = ("rateLimiting", "backends", number, "name")
            what = f"{document.show(at, name)} is no backend of this file"
            yield document.problem(Rule.UNKNOWN_REFERENCE, at, what, "write the name of a backend")


def _entries(document: Document, kind: str, entries: Any) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, each in enumerate(entries):
        at: Path = ("rateLimiting", kind, number)
        name = (each or {}).get("name")
        if name in seen:
            what = f"there is already an entry for {document.show((*at, 'name'), name)}"
            yield document.problem(Rule.DUPLICATE_NAME, (*at, "name"), what, "put both in one entry")
        elif name is not None:
            seen.add(name)
        if each is not None and not document.damaged(at) and not {"shared", "perUser"} & each.keys():
            yield document.problem(Rule.MISSING_KEY, at, "limits nothing", "add shared or perUser")


def _alone(document: Document, section: Data) -> Iterator[Problem]:
    """Where everybody is the same user, what is for each of them is for all together."""
    if document.data.get("incomingAuth", {}).get("type", "anonymous") != "anonymous":
        return
    places: list[tuple[Path, Any]] = [(("rateLimiting",), section)]
    for kind in ("tools", "backends"):
        places += [(("rateLimiting", kind, number), each or {}) for number, each in enumerate(section.get(kind, ()))]
    for path, each in places:
        if "perUser" in each:
            what = "all clients are one user, for incomingAuth is anonymous"
            hint = "use shared, or choose an incomingAuth that tells users apart"
            yield document.problem(Rule.CONTRADICTION, (*path, "perUser"), what, hint, key=True, severity="warning")
