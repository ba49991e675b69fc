"""The listener's life: bind, serve, drain, stop; signals are ours and not uvicorn's.

The rule: when ``serve`` returns nothing is left, neither a socket nor a child. SIGTERM and SIGINT end it in order, a second
one at once; SIGHUP ends nothing, and SIGUSR1 and SIGUSR2 make the log say more and less.
"""

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import socket
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any

import uvicorn

from vmcp.config.model import Config, ServerSpec
from vmcp.server import levels, memory
from vmcp.server.acceptor import Acceptor
from vmcp.server.app import METRICS, PROBES
from vmcp.server.elsewhere import answering
from vmcp.server.handover import Relay, mated
from vmcp.server.herald import Herald
from vmcp.server.listener import listener
from vmcp.server.orders import Acts, Orders, Signals
from vmcp.server.post import Post
from vmcp.server.reloading import Reloads, Source, Unread
from vmcp.server.runtime import Runtime
from vmcp.server.tether import Tether
from vmcp.state.crew import Crew
from vmcp.tasks import Nest

__all__ = ["PortTaken", "Source", "Unread", "bind", "serve", "url"]

log = logging.getLogger("vmcp.server")

BACKLOG = 4096
_LOOK = 0.05
"""Seconds between two looks whether a worker may begin."""
_DATED = 1.0
"""Seconds for which a ``Date`` header is right."""


class PortTaken(Exception):
    """The address cannot be bound; the text says why and what to do. ``code`` is the exit code that fits."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def bind(spec: ServerSpec) -> socket.socket:
    """Open the listening socket. Raises ``PortTaken``."""
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((spec.host, spec.port))
    except OSError as error:
        listening.close()
        raise _explained(spec, error) from None
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def _explained(spec: ServerSpec, error: OSError) -> PortTaken:
    where = f"{spec.host}:{spec.port}"
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"port {spec.port} is taken on {spec.host}; stop who has it, or use --port 0 for a free one", 69
        )
    if error.errno == errno.EACCES:
        return PortTaken(f"no permission to listen on {where}; ports below 1024 need a privilege, use --port", 77)
    return PortTaken(f"cannot listen on {where}: {error.strerror}; check server.host", 69)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling, which takes no new connections while descriptors are short."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._ends = asyncio.Event()
        self._runtime = runtime
        self._relay = runtime.relay

    def stop(self) -> None:
        """End in order; told once more, at once."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._ends.set()

    async def main_loop(self) -> None:
        """See uvicorn, which looks ten times a second whether to end; this is told, and wakes for the ``Date`` header only."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DATED):
                    await self._ends.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup([])
        assert sockets is not None
        made: Any = self.config.http_protocol_class
        if self._relay is not None:
            made = mated(made, self._relay)
        protocol = functools.partial(made, config=self.config, server_state=self.server_state, app_state={})
        self._nest = Nest("listener")
        self._acceptor = Acceptor(sockets[0], made.vigil, protocol, self._nest, relay=self._relay)
        if self._relay is None:
            self._acceptor.start()
        else:
            self._nest.start(self._join(self._relay), "join")

    async def _join(self, relay: Relay) -> None:
        """Begin beside other workers: as long as they serve, no client need wait for the backends of this one."""
        settled, now = self._runtime.settled, asyncio.get_running_loop().time
        until = now() + self._runtime.config.start_deadline
        while relay.accompanied and not settled.is_set() and now() < until:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await settled.wait()
        if not self.should_exit:
            relay.start(self._acceptor, self.server_state.connections)
            self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        if self._relay is not None:
            self._relay.stop()
        self._acceptor.stop()
        await self._acceptor.settle()
        await self._nest.close()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


Beside = Callable[[Runtime, Reloads, str], AbstractAsyncContextManager[None]]
"""What runs beside the listener as long as it does; it is told where that is."""


async def serve(
    config: Config,
    listening: socket.socket,
    source: Source | None = None,
    *,
    watch: bool = True,
    beside: Beside | None = None,
    herald: Herald | Tether | None = None,
    crew: Crew | None = None,
) -> None:
    """Serve ``config`` on a bound socket until a signal ends it.

    SIGHUP has ``source`` read anew, and with ``watch`` so does a change of its files. ``beside`` needs a ``source``. ``herald``
    tells systemd; one of a ``crew`` has a tether in its place, and is told by it and not by signals.
    """
    async with Runtime(config, crew=crew) as runtime, Nest("reload") as nest, _posted(runtime):
        server = _Server(_settings(config, runtime), runtime)

        def stop() -> None:
            server.stop()
            runtime.drain()
            if herald is not None:
                herald.stopping(runtime.config.server.limits.shutdown_grace)

        reloads = Reloads(runtime, source, nest) if source is not None else None
        orders: Orders = herald if isinstance(herald, Tether) else Signals()
        orders.obey(Acts(stop, levels.louder, levels.quieter, reloads.wanted if reloads is not None else None))
        if reloads is not None:
            _reloading(reloads, herald, nest, watch=watch and (crew is None or crew.index == 0))
        if herald is not None:
            nest.start(herald.run(runtime), "herald")
        _calm_collector()
        log.info("listening", extra={"url": url(listening), "faces": sorted(runtime.table.faces)})
        try:
            async with contextlib.AsyncExitStack() as stack:
                if beside is not None and reloads is not None:
                    await stack.enter_async_context(beside(runtime, reloads, url(listening)))
                if isinstance(herald, Tether):
                    herald.listening()
                await server.serve(sockets=[listening])
        finally:
            log.info("stopping")
            orders.release()
    log.info("stopped")


@contextlib.asynccontextmanager
async def _posted(runtime: Runtime) -> AsyncIterator[None]:
    """One of a crew takes what the others send, once there is somebody for all of it."""
    if runtime.crew is None or runtime.relay is None or runtime.mates is None:
        yield
        return
    post = runtime.relay.post = Post(runtime.crew)
    try:
        async with Nest("mates") as nest:
            runtime.mates.start(post, nest)
            answering(runtime.mates, runtime)
            yield
    finally:
        post.stop()


def _reloading(reloads: Reloads, herald: Herald | Tether | None, nest: Nest, *, watch: bool) -> None:
    reloads.herald = herald
    if isinstance(herald, Tether):
        reloads.changed = herald.wish
    if watch:
        nest.start(reloads.watch(), "watch")


def _calm_collector() -> None:
    """What is alive now lives as long as we do, and a request leaves no cycles: let the collector look rarely (−10 % CPU)."""
    gc.collect()
    gc.freeze()
    memory.give_back()  # what reading the configuration took
    memory.keep_some()
    gc.set_threshold(20_000, 20, 50)


def url(listening: socket.socket) -> str:
    """Where it listens, as the beginning of a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _settings(config: Config, runtime: Runtime) -> uvicorn.Config:
    limits = config.server.limits
    return uvicorn.Config(
        runtime.app,
        http=listener(limits, runtime.app, runtime.load, config.server.trusted_proxies, PROBES | {METRICS}),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(limits.keep_alive),
        timeout_graceful_shutdown=int(limits.shutdown_grace),
        backlog=BACKLOG,
    )
