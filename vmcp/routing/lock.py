"""What a backend offers against what was approved of it: pins, drifts, and what a policy makes of them.

The rule: what is kept out keeps its name, so nobody else's tool takes a place that policies and people know; and nothing but the
file approves anything, a definition that it does not know no more than one that it knows otherwise.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from vmcp.config.lock import LockSpec, Pin, Pinned, Pins
from vmcp.routing import canonical
from vmcp.routing.catalog import Catalog, Kind

KINDS: Final = (Kind.TOOL, Kind.PROMPT, Kind.TEMPLATE)
INSTRUCTIONS: Final = "instructions"
WORDS: Final = {"tools": "tool", "prompts": "prompt", "resourceTemplates": "resource template"}
_NOTHING = Pinned()
_SHORT = 16
_SHOWN = 19
"""Characters of a digest that people are shown: twelve digits tell it apart."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Something that is not as it was approved. ``kind`` is that of a list, or ``instructions``; ``name`` the original one.

    ``pinned`` None: it was never approved; ``now`` None: it is not offered any more. ``fields``: what of it has changed.
    """

    backend: str
    kind: str
    name: str
    pinned: str | None
    now: str | None
    fields: tuple[str, ...] = ()

    @property
    def change(self) -> str:
        """One word for it."""
        return "added" if self.pinned is None else "removed" if self.now is None else "changed"

    @property
    def why(self) -> str:
        """What is the matter, with both digests."""
        if self.pinned is None:
            return f"it is not in the lock file (now {short(self.now)})"
        what = ", ".join(self.fields) or "its definition"
        return f"{what} changed since it was locked (was {short(self.pinned)}, now {short(self.now)})"


def short(digest: str | None) -> str:
    """So much of a digest as people need."""
    return "" if digest is None else digest[:_SHOWN]


def pin(text: bytes) -> Pin:
    """A definition as it stands."""
    parts = canonical.members(text)
    if not parts:
        return Pin(canonical.digest(text))
    shorts = {name: canonical.hashed([part]).removeprefix(canonical.PREFIX)[:_SHORT] for name, part in parts.items()}
    return Pin(canonical.joined(parts), shorts)


def pinned(catalog: Catalog) -> Pinned:
    """All that ``catalog`` has, as it stands."""
    tools, prompts, templates = ({entry.name: pin(entry.raw) for entry in catalog.entries[kind]} for kind in KINDS)
    return Pinned(_instructions(catalog), tools, prompts, templates)


def _instructions(catalog: Catalog) -> str | None:
    said = catalog.instructions.strip()
    return canonical.hashed([json.dumps(said)]) if said else None


def _of(held: Pinned, kind: Kind) -> Mapping[str, Pin]:
    if kind is Kind.TOOL:
        return held.tools
    return held.prompts if kind is Kind.PROMPT else held.resource_templates


def drifts(pins: Pins, catalog: Catalog) -> Iterator[Drift]:
    """What of ``catalog`` is new or not as it was approved."""
    name, approved = catalog.backend, pins.backends.get(catalog.backend, _NOTHING)
    said = _instructions(catalog)
    if said is not None and said != approved.instructions:
        yield Drift(name, INSTRUCTIONS, "", approved.instructions, said)
    for kind in KINDS:
        known = _of(approved, kind)
        for entry in catalog.entries[kind]:
            was, now = known.get(entry.name), canonical.digest(entry.raw)
            if was is None or was.digest != now:
                yield _drift(name, kind, entry.name, was, entry.raw)


def _drift(backend: str, kind: Kind, name: str, was: Pin | None, text: bytes) -> Drift:
    now = pin(text)
    if was is None:
        return Drift(backend, kind.value, name, None, now.digest)
    keys = sorted({*was.fields, *now.fields})
    changed = tuple(key for key in keys if was.fields.get(key) != now.fields.get(key))
    return Drift(backend, kind.value, name, was.digest, now.digest, changed)


def gone(pins: Pins, catalogs: Mapping[str, Catalog], backends: Iterable[str]) -> Iterator[Drift]:
    """What was approved and is not offered any more, by backends that are no more (not in ``backends``) or have answered."""
    present = set(backends)
    for name, approved in pins.backends.items():
        catalog = catalogs.get(name)
        if catalog is None and name in present:
            continue
        if approved.instructions is not None and (catalog is None or _instructions(catalog) is None):
            yield Drift(name, INSTRUCTIONS, "", approved.instructions, None)
        for kind in KINDS:
            offered = {entry.name for entry in catalog.entries[kind]} if catalog is not None else set()
            for each, was in _of(approved, kind).items():
                if each not in offered:
                    yield Drift(name, kind.value, each, was.digest, None)


Barred = Mapping[tuple[Kind, str, str], str]
"""Why something is kept out, by kind, backend and original name."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy makes of drifts.

    ``blocked`` are the backends of which everything is kept out, ``silenced`` those whose instructions are.
    """

    drifts: tuple[Drift, ...] = ()
    barred: Barred = field(default_factory=lambda: MappingProxyType({}))
    blocked: frozenset[str] = frozenset()
    silenced: frozenset[str] = frozenset()


CLEAR: Final = Verdict()


def verdict(lock: LockSpec, catalogs: Iterable[Catalog]) -> Verdict:
    """What ``lock`` lets pass of ``catalogs``."""
    if lock.policy == "off":
        return CLEAR
    present = tuple(catalogs)
    found = {catalog.backend: tuple(drifts(lock.pins, catalog)) for catalog in present}
    told = tuple(drift for each in found.values() for drift in each)
    if lock.policy == "warn" or not told:
        return Verdict(told)
    barred = {(Kind(d.kind), d.backend, d.name): d.why for d in told if d.kind != INSTRUCTIONS}
    silenced = {d.backend for d in told if d.kind == INSTRUCTIONS}
    blocked = frozenset(name for name, each in found.items() if each) if lock.policy == "block" else frozenset()
    for catalog in present:
        if catalog.backend in blocked:
            why = f"its backend is kept out: {_many(len(found[catalog.backend]))} not as locked"
            everything = {(kind, catalog.backend, entry.name): why for kind in Kind for entry in catalog.entries[kind]}
            barred = {**everything, **barred}
    return Verdict(told, MappingProxyType(barred), blocked, blocked | silenced)


def _many(count: int) -> str:
    return f"{count} definition{' is' if count == 1 else 's are'}"


def approved(pins: Pins, catalogs: Mapping[str, Catalog], found: Iterable[Drift]) -> dict[str, Pinned]:
    """What a lock file holds once the drifts of ``found`` are approved; the rest stays as it is."""
    made: dict[str, dict[str, Any]] = {
        name: {
            INSTRUCTIONS: held.instructions,
            **{kind.value: dict(_of(held, kind)) for kind in KINDS},
        }
        for name, held in pins.backends.items()
    }
    current: dict[str, Pinned] = {}
    for drift in found:
        entry = made.setdefault(drift.backend, {INSTRUCTIONS: None, **{kind.value: {} for kind in KINDS}})
        if drift.kind == INSTRUCTIONS:
            entry[INSTRUCTIONS] = drift.now
        elif drift.now is None:
            entry[drift.kind].pop(drift.name)
        else:
            now = current.setdefault(drift.backend, pinned(catalogs[drift.backend]))
            entry[drift.kind][drift.name] = _of(now, Kind(drift.kind))[drift.name]
    return {name: kept for name, each in made.items() if (kept := _pinned(each)) != _NOTHING}


def _pinned(each: Mapping[str, Any]) -> Pinned:
    return Pinned(each[INSTRUCTIONS], *(each[kind.value] for kind in KINDS))
