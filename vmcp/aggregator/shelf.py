"""Where results lie that may be given again: in memory, on disk, and those that are only on their way.

The rule: what has changed is forgotten wherever it is, on its way too; a disk that is slow or broken costs hits and nothing else.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Raw

from vmcp.config.globs import globs
from vmcp.state.cache import Kept, Memory
from vmcp.tasks import Nest
from vmcp.upstream.ask import params_of
from vmcp.upstream.keeper import UPDATED

if TYPE_CHECKING:
    from vmcp.state.disk import Disk

LARGE: Final = 10 << 10
LONG: Final = 600.0
"""Bytes and seconds from which a result lies on disk too."""
LARGEST: Final = 1 << 20
"""Bytes of a result that is kept in memory."""
PATIENCE: Final = 1.0
"""Seconds for the disk to answer."""


class Flight:
    """A question that is on its way. ``spoilt``: what it asks about changed meanwhile, so its answer is not kept."""

    __slots__ = ("backend", "landed", "name", "spoilt")

    def __init__(self, backend: str, name: str) -> None:
        self.backend = backend
        self.name = name
        self.spoilt = False
        self.landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Shelf:
    """Where results lie: in memory, and on disk where there is one. It outlives configurations."""

    def __init__(self, memory: Memory, disk: "Disk | None", nest: Nest, now: Callable[[], float]) -> None:
        self.memory = memory
        self.now = now
        self._disk = disk
        self._nest = nest
        self.flights: dict[bytes, Flight] = {}

    async def get(self, key: bytes) -> Kept | None:
        """What is kept under ``key``; what only the disk had is in memory again afterwards."""
        kept = self.memory.get(key)
        if kept is None and self._disk is not None and self._disk.holds(key):
            try:
                async with asyncio.timeout(PATIENCE):
                    kept = await asyncio.to_thread(self._disk.get, key)
            except TimeoutError:
                kept = None
            if kept is not None and len(kept.body) <= LARGEST:
                self.memory.put(key, kept)
        counts = self.memory.counts
        counts.hits, counts.misses = counts.hits + (kept is not None), counts.misses + (kept is None)
        return kept

    def put(self, key: bytes, kept: Kept) -> None:
        """Keep a result."""
        if len(kept.body) <= LARGEST:
            self.memory.put(key, kept)
        if self._disk is not None and (len(kept.body) > LARGE or kept.expires - kept.born > LONG):
            self._nest.start(asyncio.to_thread(self._disk.put, key, kept), "cache")

    def changed(self, backend: str) -> None:
        """What a backend offers has changed, or the backend itself."""
        self.memory.forget_backend(backend)
        self._spoil(lambda each, _: each == backend)
        self._off_disk(lambda each, _: each == backend)

    def heard(self, backend: str, method: str, params: Raw) -> None:
        """A backend said something; perhaps that a resource has changed."""
        told = params_of(params) if method == UPDATED else None
        if told is not None and "uri" in told:
            with contextlib.suppress(msgspec.MsgspecError):
                self.updated(backend, msgspec.json.decode(told["uri"], type=str))

    def updated(self, backend: str, uri: str) -> None:
        """A resource has changed; what is kept may be a part of it, or have it as a part."""

        def concerns(owner: str, name: str) -> bool:
            return owner == backend and (name == uri or uri.startswith(f"{name.rstrip('/')}/"))

        self.memory.forget(lambda kept: concerns(kept.backend, kept.name))
        self._spoil(concerns)
        self._off_disk(concerns)

    async def clear(self, backends: frozenset[str], pattern: str) -> int:
        """Forget what ``pattern`` (a glob of ``<backend>/<name or URI>``) fits; how much that was."""
        wanted = globs([pattern])

        def concerns(backend: str, name: str) -> bool:
            return backend in backends and wanted.match(f"{backend}/{name}")

        self._spoil(concerns)
        found = self.memory.forget(lambda kept: concerns(kept.backend, kept.name))
        on_disk = await asyncio.to_thread(self._disk.forget, concerns) if self._disk is not None else 0
        return max(found, on_disk)

    def numbers(self) -> Mapping[str, Any]:
        """By the names of ``vmcp/metrics``."""
        counts, disk = self.memory.counts, self._disk
        told = {
            "vmcp_requests_cached_total": counts.hits,
            "vmcp_cache_size": len(self.memory),
            "vmcp_cache_bytes": self.memory.size,
            "vmcp_cache_hit_rate": round(counts.rate, 4),
            "vmcp_cache_evicted_total": counts.evicted,
        }
        on_disk = {} if disk is None else {"vmcp_cache_disk_size": len(disk), "vmcp_cache_disk_bytes": disk.size}
        return {**told, **on_disk}

    def close(self) -> None:
        """Give the disk back."""
        if self._disk is not None:
            self._disk.close()

    def _spoil(self, concerns: Callable[[str, str], bool]) -> None:
        for flight in self.flights.values():
            if concerns(flight.backend, flight.name):
                flight.spoilt = True

    def _off_disk(self, concerns: Callable[[str, str], bool]) -> None:
        if self._disk is not None:
            self._nest.start(self._forgotten(self._disk, concerns), "cache")

    async def _forgotten(self, disk: "Disk", concerns: Callable[[str, str], bool]) -> None:
        await asyncio.to_thread(disk.forget, concerns)
