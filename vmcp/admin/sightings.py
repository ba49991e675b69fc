"""What this process has seen of the definitions of tools: which were changed at their backend since it began, and when.

The rule: it looks and decides nothing; the lock file does that. Of a definition its digests are kept, of so many and no more.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vmcp.config.lock import Pin
from vmcp.routing.catalog import Catalog
from vmcp.routing.lock import KINDS, pin
from vmcp.server.runtime import Runtime

EACH: Final = 2.0
"""Seconds between two looks."""
MOST: Final = 20_000
"""Definitions that are known, of all backends."""
Thing = tuple[str, str, str]
"""The backend, the kind, and the name that the backend itself gives."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What happened to a definition, and when (UNIX time). ``fields``: what of it is another."""

    at: float
    change: str
    fields: tuple[str, ...] = ()


class Sightings:
    """Mutable: whoever runs it is its one owner."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._digests: dict[str, str] = {}
        self._known: dict[Thing, Pin] = {}
        self._changed: dict[Thing, Sighting] = {}

    def changed(self, thing: Thing) -> Mapping[str, Any] | None:
        """When and how it changed last; None where it did not."""
        found = self._changed.get(thing)
        return None if found is None else {"at": found.at, "change": found.change, "fields": list(found.fields)}

    async def run(self, house: Runtime) -> None:
        """Look again and again, until cancelled."""
        table = None
        while True:
            if house.table is not table:
                table = house.table
                for name, held in list(house.current.held.items()):
                    if held.catalog is not None and self.fresh(name, held.catalog):
                        pins = await asyncio.to_thread(pinned, held.catalog)
                        self.look(held.catalog, pins)
            await asyncio.sleep(EACH)

    def fresh(self, name: str, catalog: Catalog) -> bool:
        """Whether a catalog is another than the one that was looked at last."""
        return self._digests.get(name) != catalog.digest

    def look(self, catalog: Catalog, pins: Mapping[Thing, Pin]) -> None:
        """Compare what a backend offers with what it offered before."""
        first = catalog.backend not in self._digests
        self._digests[catalog.backend] = catalog.digest
        now = self._now()
        for thing, found in pins.items():
            was = self._known.get(thing)
            if was is None and len(self._known) >= MOST:
                continue
            self._known[thing] = found
            if was is None and not first:
                self._changed[thing] = Sighting(now, "added")
            elif was is not None and was.digest != found.digest:
                keys = sorted({*was.fields, *found.fields})
                fields = tuple(key for key in keys if was.fields.get(key) != found.fields.get(key))
                self._changed[thing] = Sighting(now, "changed", fields)


def pinned(catalog: Catalog) -> dict[Thing, Pin]:
    """Everything that a catalog has, but for resources, which are data."""
    return {(catalog.backend, kind.value, each.name): pin(each.raw) for kind in KINDS for each in catalog.entries[kind]}
