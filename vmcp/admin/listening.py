"""The admin listener's life: its socket, its port, and their end.

The rule: it has connections of its own and room of its own, so that it answers while the listener for clients is overwhelmed; and
what it made is gone when it ends. Where no place was asked for, a place that cannot be had is no reason not to serve.
"""

import asyncio
import errno
import fcntl
import importlib
import logging
import os
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from vmcp.admin import peer, place
from vmcp.admin import token as tokens
from vmcp.admin.acts import Acts
from vmcp.admin.desk import Desk
from vmcp.admin.disk import Disk
from vmcp.admin.door import MOST, PEER, UID, Door, Pages
from vmcp.admin.logins import Logins
from vmcp.admin.place import Unsafe
from vmcp.admin.sightings import Sightings
from vmcp.admin.tail import Tail
from vmcp.admin.views import Views
from vmcp.config.administration import AdminSpec
from vmcp.config.model import Limits
from vmcp.server.counting import counted
from vmcp.server.listener import Listener, listener
from vmcp.server.load import Load
from vmcp.server.reloading import Reloads
from vmcp.server.runtime import Runtime
from vmcp.tasks import Nest

log = logging.getLogger("vmcp.admin")

LIMITS: Final = Limits(body_bytes=MOST, connections=64, requests=64, keep_alive=30.0)
PATIENCE: Final = 1.0
"""Seconds for the last answers."""
TRIES: Final = 50
EACH: Final = 0.02
"""How often a folder is tried that another process holds, and seconds between."""
Allowed = Callable[[int | None], bool]


class _Untroubled(Load):
    """Nobody is turned away here for what others do."""

    def turn(self, elapsed: float, lag: float, used: int, begun: int) -> bool:
        return False


class Admin:
    """Opens the admin listener of a house; see ``serving.Beside``."""

    def __init__(self, spec: AdminSpec, tail: Tail, allowed: Allowed = peer.allowed) -> None:
        self._spec = spec
        self._tail = tail
        self._allowed = allowed

    @asynccontextmanager
    async def __call__(self, house: Runtime, reloads: Reloads, url: str) -> AsyncIterator[None]:
        """While the block runs, it is there. Raises ``Unsafe``.

        Of several workers the first has it, and the others are asked by it.
        """
        async with AsyncExitStack() as stack:
            if house.mates is not None and house.mates.crew.index > 0:
                await self._answering(house, reloads, url, stack)
                yield
                return
            sockets, token, where = self._opened(house.config.name, stack)
            spec = self._spec.ui
            logins = Logins(where["url"], time.monotonic) if spec.enabled else None
            usage = await stack.enter_async_context(counted(house))
            acts = Acts(house, reloads)
            seen = await _seen(house, acts, stack) if spec.enabled else None
            desk = Desk(Views(house, url), acts, self._tail, house, Disk(house, acts), logins, usage, seen, house.mates)
            app = Door(desk, token, await _pages(desk) if spec.enabled else None)
            for each in sockets:
                await stack.enter_async_context(_serving(app, each, self._allowed))
            if where:
                log.info("admin", extra={**where, **({"ui": True} if logins is not None else {})})
            yield

    async def _answering(self, house: Runtime, reloads: Reloads, url: str, stack: AsyncExitStack) -> None:
        """Answer the worker that has the listener. How is loaded only here: a process that serves alone has nobody to ask."""
        usage = await stack.enter_async_context(counted(house))
        acts = Acts(house, reloads)
        desk = Desk(Views(house, url), acts, self._tail, house, Disk(house, acts), usage=usage, mates=house.mates)
        (await asyncio.to_thread(importlib.import_module, "vmcp.admin.mates")).answering(desk)

    def _opened(
        self, name: str, stack: AsyncExitStack
    ) -> tuple[list[socket.socket], tokens.Token | None, dict[str, str]]:
        spec, uid = self._spec, os.geteuid()
        found: list[socket.socket] = []
        where: dict[str, str] = {}
        try:
            path = Path(spec.socket) if spec.socket is not None else place.file(place.prepared(os.environ, uid), name)
            found.append(stack.enter_context(at_path(path, instead=spec.socket is None)))
            where["socket"] = found[0].getsockname()
        except Unsafe as unsafe:
            if spec.socket is not None:
                raise
            log.warning("no admin socket", extra={"why": str(unsafe)})
        if spec.listen is None:
            return found, None, where
        file = Path(spec.token) if spec.token is not None else _beside(where.get("socket"))
        token = tokens.kept(file, uid)
        found.append(stack.enter_context(at_port(*spec.listen)))
        host, port = found[-1].getsockname()[:2]
        where |= {"url": f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", "token": str(file)}
        return found, token, where


async def _seen(house: Runtime, acts: Acts, stack: AsyncExitStack) -> Sightings:
    """What looks for changed definitions as long as ``stack`` lasts; and the files are read while they say what runs."""
    made = Sightings()
    nest = await stack.enter_async_context(Nest("admin"))
    nest.start(made.run(house), "sightings")
    nest.start(acts.acquaint(), "files")
    return made


async def _pages(desk: Desk) -> Pages:
    """Loaded only here: a template engine costs 70 ms."""
    site = await asyncio.to_thread(importlib.import_module, "vmcp.admin.pages.site")
    made: Pages = site.Site(desk)
    return made


def _beside(path: str | None) -> Path:
    if path is None:
        raise Unsafe("there is no place for the token of admin.listen; set admin.tokenFile")
    return Path(path).with_suffix(".token")


class Taken(Unsafe):
    """Somebody else has the place."""

    code = 69


@contextmanager
def at_path(path: Path, *, instead: bool) -> Iterator[socket.socket]:
    """A socket at ``path`` for this user alone; with ``instead`` beside it, if another process is there. Raises ``Unsafe``."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone(path.parent):
            if _alive(path):
                if not instead:
                    raise Taken(f"another process listens at admin.socket ({path})")
                path = path.with_suffix(f".{os.getpid()}{place.SUFFIX}")
            path.unlink(missing_ok=True)
            made.bind(str(path))
            path.chmod(0o600)
        made.listen(64)
        made.setblocking(False)
        mine = path.stat().st_ino
    except OSError as error:
        made.close()
        raise Unsafe(f"there can be no socket at {path}: {error.strerror or error}") from None
    except Unsafe:
        made.close()
        raise
    try:
        yield made
    finally:
        made.close()
        _remove(path, mine)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time, so that none takes away what another has just made."""
    held = os.open(folder, os.O_RDONLY)
    try:
        _lock(held, folder)
        yield
    finally:
        os.close(held)


def _lock(held: int, folder: Path) -> None:
    """Others may hold a folder that is not ours alone, and are not waited for long."""
    for _ in range(TRIES):
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(EACH)
        else:
            return
    raise Unsafe(f"another process holds {folder}")


def _alive(path: Path) -> bool:
    """Whether somebody listens there. Raises ``Unsafe`` for what is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Unsafe(f"{path} is no socket; remove it, or set admin.socket")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _remove(path: Path, mine: int) -> None:
    try:
        if path.stat().st_ino == mine:
            path.unlink()
    except OSError as error:
        log.debug("socket not removed", extra={"why": error.strerror})


@contextmanager
def at_port(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket of this machine alone. Raises ``Unsafe``."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
        except OSError as error:
            kind = Taken if error.errno == errno.EADDRINUSE else Unsafe
            raise kind(f"admin.listen cannot be had ({host}:{port}): {error.strerror}") from None
        made.listen(64)
        made.setblocking(False)
        yield made


@asynccontextmanager
async def _serving(app: Door, listening: socket.socket, allowed: Allowed) -> AsyncIterator[None]:
    settings = uvicorn.Config(
        app,
        http=_protocol(allowed),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    settings.load()
    state = ServerState()
    made: Any = settings.http_protocol_class
    loop = asyncio.get_running_loop()

    def protocol() -> asyncio.Protocol:
        found: asyncio.Protocol = made(config=settings, server_state=state, app_state={})
        return found

    unix = listening.family == socket.AF_UNIX
    server = await (loop.create_unix_server if unix else loop.create_server)(protocol, sock=listening)
    try:
        yield
    finally:
        server.close()
        await _ended(state)


async def _ended(state: ServerState) -> None:
    """Let the last answers out, and close what is open."""
    for connection in list(state.connections):
        connection.shutdown()
    tasks = [task for task in state.tasks if not task.done()]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in late:
            task.cancel()
    for connection in list(state.connections):
        transport: Any = connection.transport
        transport.abort()


def _protocol(allowed: Allowed) -> type[Listener]:
    """A connection here: it knows who is at its other end."""
    base = listener(LIMITS, None, _Untroubled(LIMITS, sys.maxsize))

    class Seen(base):  # type: ignore[valid-type, misc]  # a class that was made
        known: bool | None = False
        uid: int | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            connection = transport.get_extra_info("socket")
            unix = connection is not None and connection.family == socket.AF_UNIX
            self.uid = peer.uid_of(connection) if unix else None
            self.known = allowed(self.uid) if unix else None
            super().connection_made(transport)

        def _scope(self, version: str) -> Any:
            return {**super()._scope(version), PEER: self.known, UID: self.uid}

    return Seen
