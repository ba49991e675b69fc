"""HTTP requests of vmcp's own (discovery, key sets, token endpoints), one at a time and by the book of ``guard``.

The rule: the address that was checked is the one that is connected to; no redirect, no proxy of the environment, no cookie, no
compression, no body beyond its limit. A request runs in a task of its own with its own deadline: who asked for it may go away
without breaking it off in the middle of a handshake. Errors name the reason, never the URL's query or a header.
"""

import asyncio
import functools
import importlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vmcp.egress import guard, trust
from vmcp.egress.guard import Blocked, Target
from vmcp.errors import VmcpError
from vmcp.tasks import Nest

__all__ = ["Blocked", "Fetched", "Fetcher", "Unfetched"]

for _chatty in ("httpx", "httpcore"):  # at INFO and DEBUG they write whole URLs and headers
    logging.getLogger(_chatty).setLevel(logging.WARNING)

BYTES: Final = 1 << 20
SECONDS: Final = 10.0
AT_ONCE: Final = 256
"""Requests in flight; one more is refused."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Unfetched(VmcpError):
    """No answer came, and why."""


class Unreached(Unfetched):
    """There was no connection to this address; another one may do."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, whatever its status. Names of ``headers`` are lowercase."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Job:
    """One request: what ``wire`` needs to know of it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    allow_private: bool
    max_bytes: int
    seconds: float


class Fetcher:
    """Asks, and reads whole answers. Mutable: it owns the tasks; ``close`` ends them.

    ``ca_bundle`` is a file of roots beside the system's.
    """

    def __init__(self, *, ca_bundle: str | None = None, resolve: Resolve | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._resolve = resolve or _resolve
        self._nest = Nest("egress")
        self._running = 0
        self._closed = False

    async def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        allow_private: bool = False,
        max_bytes: int = BYTES,
        seconds: float = SECONDS,
    ) -> Fetched:
        """GET. ``allow_private``: the URL stands in the config. Raises ``Blocked`` and ``Unfetched``."""
        return await self._run(Job("GET", url, headers or {}, b"", allow_private, max_bytes, seconds))

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        allow_private: bool = False,
        max_bytes: int = BYTES,
        seconds: float = SECONDS,
    ) -> Fetched:
        """POST; the same otherwise."""
        return await self._run(Job("POST", url, headers or {}, body, allow_private, max_bytes, seconds))

    async def close(self) -> None:
        """Break off what still runs; nothing is asked any more."""
        self._closed = True
        await self._nest.close()

    async def _run(self, job: Job) -> Fetched:
        if self._closed:
            raise Unfetched("vmcp is stopping")
        if self._running >= AT_ONCE:
            raise Unfetched("too many requests are in flight")
        answer: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._running += 1
        task = self._nest.start(self._work(job, answer), "fetch")
        task.add_done_callback(functools.partial(self._ended, answer))
        return await asyncio.shield(answer)

    def _ended(self, answer: asyncio.Future[Fetched], task: asyncio.Task[None]) -> None:
        self._running -= 1
        if not answer.done():
            answer.set_exception(Unfetched("it was broken off"))

    async def _work(self, job: Job, answer: asyncio.Future[Fetched]) -> None:
        try:
            async with asyncio.timeout(job.seconds):
                fetched = await self._fetch(job)
        except TimeoutError:
            answer.set_exception(Unfetched(f"no answer within {job.seconds:g} s"))
        except VmcpError as error:
            answer.set_exception(error)
        else:
            answer.set_result(fetched)

    async def _fetch(self, job: Job) -> Fetched:
        target = guard.target(job.url, allow_private=job.allow_private)
        addresses = guard.checked(await self._addresses(target), allow_private=job.allow_private)
        context = _context(self._ca_bundle) if target.scheme == "https" else None
        wire = await asyncio.to_thread(importlib.import_module, "vmcp.egress.wire")
        for last, address in enumerate(addresses, 1 - len(addresses)):
            try:
                fetched: Fetched = await wire.ask(job, target, address, context)
            except Unreached:
                if not last:
                    raise
            else:
                return fetched
        raise AssertionError("checked() gives at least one address")

    async def _addresses(self, target: Target) -> Sequence[str]:
        if guard.literal(target.host) is not None:
            return [target.host]
        try:
            return await self._resolve(target.host, target.port)
        except (OSError, UnicodeError):
            raise Unfetched("its host name cannot be resolved") from None


async def _resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(ipaddress.ip_address(str(address[0]).partition("%")[0])) for *_, address in found]


@functools.lru_cache(16)
def _context(ca_bundle: str | None) -> ssl.SSLContext:
    """One for the whole process: making one reads all the system's roots."""
    context = trust.context()
    if ca_bundle is not None:
        try:
            context.load_verify_locations(cafile=ca_bundle)
        except OSError:
            raise Unfetched("its CA bundle cannot be read") from None
    return context


def _seen(answer: asyncio.Future[Fetched]) -> None:
    """Whoever asked may have gone: then nobody wants to know that it failed."""
    if not answer.cancelled():
        answer.exception()
