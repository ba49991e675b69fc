"""What results are kept, for how long, and where.

The rule: nothing is kept unless the file says so; a tool is kept only if its backend says that it reads, or the file names it in
full.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from vmcp.config.globs import Globs, globs
from vmcp.config.quantities import seconds, size
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

Data = Mapping[str, Any]

METHODS: Final = ("resources/read", "prompts/get", "completion/complete")
"""What a time can be set for by method; tools have times of their own, and lists are always at hand."""


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A directory for what is large or kept long."""

    path: str
    max_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """``methods`` in seconds; ``tools`` with whether the pattern is a plain name. ``public`` are the backends that may say that
    a result is for everybody."""

    max_entries: int = 1000
    max_bytes: int = 100 << 20
    disk: DiskSpec | None = None
    methods: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    tools: tuple[tuple[Globs, bool, float], ...] = ()
    public: frozenset[str] = frozenset()


def from_data(data: Data | None, resolve: Callable[[str], str]) -> CacheSpec | None:
    """``cache`` of a checked document; None when nothing is kept. ``resolve`` makes the path of the directory absolute."""
    if data is None or not data.get("enabled", False):
        return None
    memory, given = data.get("memory", {}), {}
    if "maxEntries" in memory:
        given["max_entries"] = memory["maxEntries"]
    if "maxBytes" in memory:
        given["max_bytes"] = size(memory["maxBytes"])
    return CacheSpec(
        disk=_disk(data["disk"], resolve) if "disk" in data else None,
        methods=MappingProxyType({method: seconds(ttl) for method, ttl in data.get("ttl", {}).items()}),
        tools=tuple(
            (globs([name]), not set(name) & set("*?"), seconds(ttl)) for name, ttl in data.get("tools", {}).items()
        ),
        public=frozenset(data.get("trustPublic", ())),
        **given,
    )


def _disk(data: Data, resolve: Callable[[str], str]) -> DiskSpec:
    most = {"max_bytes": size(data["maxBytes"])} if "maxBytes" in data else {}
    return DiskSpec(resolve(data["path"]), **most)


def checks(document: Document, backends: Mapping[str, Path] | None) -> Iterator[Problem]:
    """What is wrong with ``cache``; ``backends`` None: their names are not all known."""
    section = document.data.get("cache")
    if not isinstance(section, Mapping):
        return
    yield from _unknown(document, section.get("trustPublic") or (), backends)
    if "enabled" not in section and not document.damaged(("cache",)):
        what, hint = "nothing is kept: it is not enabled", "add enabled: true, or remove it"
        yield document.problem(Rule.MISSING_KEY, ("cache",), what, hint, key=True)


def _unknown(document: Document, names: Sequence[Any], backends: Mapping[str, Path] | None) -> Iterator[Problem]:
    for number, name in enumerate(names if backends is not None else ()):
        at: Path = ("cache", "trustPublic", number)
        if name is not None and name not in (backends or {}):
            what = f"{document.show(at, name)} is no backend of this file"
            yield document.problem(Rule.UNKNOWN_REFERENCE, at, what, "write the name of a backend")
