"""Personas: named views of what there is, and who gets them.

The rule: a persona only takes away; it gives nobody what he could not have without it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vmcp.config import overrides
from vmcp.config.overrides import Override
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Persona:
    """``groups`` empty: all of them. ``include`` None: every name. ``claims``: each must have one of these values; empty:
    nobody gets it by his claims. ``overrides`` are by the names of tools as everybody else sees them."""

    name: str
    description: str = ""
    groups: tuple[str, ...] = ()
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    claims: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    overrides: Mapping[str, Override] = field(default_factory=lambda: MappingProxyType({}))


def from_data(data: Data) -> Mapping[str, Persona]:
    """``personas`` as values, in the order of the file."""
    return MappingProxyType({name: _persona(name, each) for name, each in data.items()})


def _persona(name: str, data: Data) -> Persona:
    claims = data.get("match", {}).get("claims", {})
    return Persona(
        name=name,
        description=data.get("description", ""),
        groups=tuple(data.get("groups", ())),
        include=tuple(data["include"]) if "include" in data else None,
        exclude=tuple(data.get("exclude", ())),
        claims=MappingProxyType({key: _values(value) for key, value in claims.items()}),
        overrides=overrides.from_data(data.get("overrides", {})),
    )


def _values(value: Any) -> frozenset[str]:
    return frozenset([value] if isinstance(value, str) else value)


def checks(document: Document, groups: Mapping[str, Path] | None) -> Iterator[Problem]:
    """What is wrong with ``personas``; ``groups`` None: their names are not all known."""
    for name, persona in document.data.get("personas", {}).items():
        at: Path = ("personas", name)
        if groups is not None:
            yield from _groups(document, (*at, "groups"), persona.get("groups", ()), groups)
        yield from overrides.checks(document, (*at, "overrides"), persona.get("overrides", {}))
        if "match" in persona:
            yield from _match(document, (*at, "match"), persona["match"])


def _groups(document: Document, path: Path, said: Any, groups: Mapping[str, Path]) -> Iterator[Problem]:
    for number, name in enumerate(said):
        if name is not None and name not in groups:
            at: Path = (*path, number)
            what = f"{document.show(at, name)} is no group of this file"
            yield document.problem(Rule.UNKNOWN_REFERENCE, at, what, "write the name of a group")


def _match(document: Document, path: Path, match: Any) -> Iterator[Problem]:
    if document.damaged(path):
        return
    claims = match.get("claims", {})
    if not claims:
        hint = "add claims: {<claim>: <value>}, or remove match"
        yield document.problem(Rule.MISSING_KEY, path, "matches nobody: it has no claims", hint, key=True)
    for name, values in claims.items():
        if values == []:
            what = "matches nobody: it has no values"
            yield document.problem(Rule.BAD_VALUE, (*path, "claims", name), what, "add the values that match", key=True)
    if document.data.get("incomingAuth", {}).get("type", "anonymous") == "anonymous" and claims:
        what = "nobody has claims, for incomingAuth is anonymous"
        hint = "choose an incomingAuth that tells users apart; without claims this persona is chosen by nobody"
        yield document.problem(Rule.CONTRADICTION, path, what, hint, key=True, severity="warning")
