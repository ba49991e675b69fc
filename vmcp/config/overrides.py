"""What is changed on a tool, a prompt or a resource: how it is called and described, and what its arguments are.

The rule: an override says how something is shown; which thing it is, and who may use it, is decided by its own name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec

from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path, printable
from vmcp.errors import Problem

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ArgumentOverride:
    """How one argument of a tool is shown and filled. ``default`` and ``fixed`` are JSON texts; None means not set."""

    name: str | None = None
    description: str | None = None
    default: bytes | None = None
    fixed: bytes | None = None
    hide: bool = False


@dataclass(frozen=True, slots=True)
class Override:
    """What is changed on one tool, prompt, resource or template, by its original name or URI."""

    name: str | None = None
    title: str | None = None
    description: str | None = None
    annotations: Mapping[str, bool | str] | None = None
    arguments: Mapping[str, ArgumentOverride] = field(default_factory=lambda: MappingProxyType({}))


def from_data(data: Data) -> Mapping[str, Override]:
    """A map of overrides."""
    return MappingProxyType({name: _override(each) for name, each in data.items()})


def _override(data: Data) -> Override:
    annotations = data.get("annotations")
    return Override(
        name=data.get("name"),
        title=data.get("title"),
        description=data.get("description"),
        annotations=MappingProxyType(dict(annotations)) if annotations is not None else None,
        arguments=MappingProxyType({name: _argument(each) for name, each in data.get("arguments", {}).items()}),
    )


def _argument(data: Data) -> ArgumentOverride:
    def json(key: str) -> bytes | None:
        return msgspec.json.encode(data[key]) if key in data else None

    return ArgumentOverride(
        name=data.get("name"),
        description=data.get("description"),
        default=json("default"),
        fixed=json("fixed"),
        hide=data.get("hide", False),
    )


def checks(document: Document, path: Path, members: Data) -> Iterator[Problem]:
    """Two members that get one name: overrides of one backend or persona, or arguments of one tool."""
    owners: dict[str, str] = {}
    for original, settings in members.items():
        new = settings.get("name") if isinstance(settings, dict) else None
        if new is None:
            continue
        other = owners.setdefault(new, original)
        if other != original:
            at: Path = (*path, original, "name")
            what = f"{document.show(at, new)} is already the name of '{printable(other)}'"
            yield document.problem(Rule.DUPLICATE_NAME, at, what, "choose another name")
    for original, settings in members.items():
        arguments = settings.get("arguments", {}) if isinstance(settings, dict) else {}
        yield from _arguments(document, (*path, original, "arguments"), arguments)


def _arguments(document: Document, path: Path, arguments: Data) -> Iterator[Problem]:
    for name, settings in arguments.items():
        if isinstance(settings, dict) and "default" in settings and "fixed" in settings:
            what = "an argument has a default or is fixed, not both"
            yield document.problem(Rule.CONTRADICTION, (*path, name, "default"), what, "remove one of them", key=True)
    if arguments:
        yield from checks(document, path, arguments)
