"""Both forms of naming backends, as one: groups with maps of backends, and ToolHive's list.

The rule: the list means an implicit group, named by ``groupRef`` or ``default``; nothing else differs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vmcp.config.tree import Path

DEFAULT_GROUP = "default"


@dataclass(frozen=True, slots=True)
class Entry:
    """One backend as the file gives it: its place, its name and group, its settings."""

    path: Path
    name: str
    group: str
    settings: Mapping[str, Any]


def implicit_group(data: Mapping[str, Any]) -> str:
    """The name of the group that the list form makes."""
    return str(data.get("groupRef", DEFAULT_GROUP))


def group_names(data: Mapping[str, Any]) -> dict[str, Path]:
    """Every group and where it is declared."""
    names: dict[str, Path] = {name: ("groups", name) for name in data.get("groups", {})}
    if "backends" in data:
        names.setdefault(implicit_group(data), ("backends",))
    return names


def entries(data: Mapping[str, Any]) -> Iterator[Entry]:
    """Every backend that has a name, enabled or not, in the order of the file: groups, then the list."""
    for group, body in data.get("groups", {}).items():
        for name, settings in (body or {}).get("backends", {}).items():
            if settings is not None:
                yield Entry(("groups", group, "backends", name), name, group, settings)
    for number, settings in enumerate(data.get("backends", ())):
        if settings is not None and "name" in settings:
            yield Entry(("backends", number), settings["name"], implicit_group(data), settings)


def ca_bundle(settings: Mapping[str, Any]) -> tuple[Path, str] | None:
    """Where the certificate authorities are given, in either form, and the path of the file."""
    own = settings.get("tls", {}).get("caBundlePath")
    if own is not None:
        return ("tls", "caBundlePath"), own
    theirs = settings.get("caBundlePath")
    return (("caBundlePath",), theirs) if theirs is not None else None
