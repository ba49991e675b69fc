"""What the schema knows and this release cannot do yet.

The rule: a key that would have no effect is refused, never ignored. Building a feature removes its line here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vmcp import __version__
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem


@dataclass(frozen=True, slots=True)
class Unbuilt:
    """A place (``*`` is any key or element), the feature that it belongs to, and values that need no feature."""

    place: str
    feature: str
    harmless: tuple[object, ...] = ()


_BACKENDS = ("groups.*.backends.*.", "backends.*.")
STRATEGIES = ("outgoingAuth.default.", "outgoingAuth.backends.*.", *(f"{b}auth." for b in _BACKENDS))
"""Where strategies stand."""
_SHARED_REDIS = "shared state in Redis"

TABLE: tuple[Unbuilt, ...] = (
    Unbuilt("outgoingAuth.source", "discovery of strategies in Kubernetes", ("inline",)),
    Unbuilt("aggregation.tools.*.toolConfigRef", "references to Kubernetes objects"),
    Unbuilt("compositeTools", "composite tools", ([],)),
    Unbuilt("compositeToolRefs", "references to Kubernetes objects", ([],)),
    Unbuilt("operational.failureHandling.statusReportingInterval", "reports to Kubernetes", ("30s",)),
    Unbuilt("operational.listChanged.enabled", "silence about changed lists", (True,)),
    Unbuilt("operational.listChanged.disabledWorkloads", "silence about changed lists", ([],)),
    Unbuilt("telemetry.prometheusPort", "metrics on a port of their own"),
    Unbuilt("telemetry.useLegacyAttributes", "the old names of attributes", (False,)),
    Unbuilt("optimizer", "search over tools"),
    Unbuilt("codeMode", "code mode"),
    Unbuilt("sessionStorage.provider", _SHARED_REDIS, ("memory",)),
    *(Unbuilt(f"sessionStorage.{key}", _SHARED_REDIS) for key in ("address", "db", "keyPrefix", "password")),
    Unbuilt("passthroughHeaders", "headers passed through to backends", ([],)),
    Unbuilt("personas.*.discovery", "search over tools", ("full",)),
    Unbuilt("tools", "custom tools", ({},)),
    Unbuilt("prompts", "custom prompts", ({},)),
    Unbuilt("resources", "custom resources", ({},)),
    Unbuilt("vars", "variables", ({},)),
    Unbuilt("server.paths.mcp", "other paths", ("/mcp",)),
    Unbuilt("server.tls", "TLS of the listener"),
    Unbuilt("state.store", _SHARED_REDIS, ("memory",)),
    Unbuilt("state.redis", _SHARED_REDIS),
)


def unbuilt(document: Document) -> tuple[Problem, ...]:
    """A problem for each feature that is asked for and not there; once for each map that asks."""
    found: dict[tuple[str, Path], Problem] = {}
    for entry in TABLE:
        for path, value in places(document.data, tuple(entry.place.split("."))):
            if not _harmless(value, entry.harmless) and path not in document.broken:
                found.setdefault((entry.feature, path[:-1]), _problem(document, entry, path, value))
    return tuple(found.values())


def places(value: Any, steps: tuple[str, ...], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place of the data that a pattern fits, with its value."""
    if not steps:
        yield path, value
        return
    step, rest = steps[0], steps[1:]
    if step != "*":
        if isinstance(value, dict) and step in value:
            yield from places(value[step], rest, (*path, step))
        return
    for key, member in _members(value):
        yield from places(member, rest, (*path, key))


def _members(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)


def _harmless(value: object, harmless: tuple[object, ...]) -> bool:
    if isinstance(value, Mapping) and value.get("enabled") is False:
        return True
    return any(type(value) is type(each) and value == each for each in harmless)


def _problem(document: Document, entry: Unbuilt, path: Path, value: object) -> Problem:
    scalar = isinstance(value, str) and bool(entry.harmless)
    what = f"{document.show(path, value)} is " if scalar else ""
    message = f"{what}not built yet in vmcp {__version__}; this release cannot honour it"
    instead = f"use {' or '.join(str(each) for each in entry.harmless)}, or " if scalar else ""
    hint = f"{instead}remove it: {entry.feature} will come with a later release"
    return document.problem(Rule.NOT_BUILT, path, message, hint, key=not scalar)
