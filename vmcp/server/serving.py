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
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any

import uvicorn

from vmcp.config.model import Config, ServerSpec
from vmcp.server import levels, memory
from vmcp.server.acceptor import Acceptor
from vmcp.server.app import METRICS, PROBES
from vmcp.server.herald import Herald
from vmcp.server.listener import listener
from vmcp.server.reloading import Reloads, Source, Unread
from vmcp.server.runtime import Runtime
from vmcp.tasks import Nest

__all__ = ["PortTaken", "Source", "Unread", "bind", "serve", "url"]

log = logging.getLogger("vmcp.server")

BACKLOG = 4096
_DATED = 1.0
"""Seconds for which a ``Date`` header is right."""
LOUDNESS = {signal.SIGUSR1: levels.louder, signal.SIGUSR2: levels.quieter}
"""Signals that change how much is logged."""


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

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ends = asyncio.Event()

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
        protocol = functools.partial(made, config=self.config, server_state=self.server_state, app_state={})
        self._nest = Nest("listener")
        self._acceptor = Acceptor(sockets[0], made.vigil, protocol, self._nest)
        self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
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
    herald: Herald | None = None,
) -> None:
    """Serve ``config`` on a bound socket until a signal ends it.

    SIGHUP has ``source`` read anew, and with ``watch`` so does a change of its files. ``beside`` needs a ``source``. ``herald``
    tells systemd.
    """
    async with Runtime(config) as runtime, Nest("reload") as nest:
        server = _Server(_settings(config, runtime))
        loop = asyncio.get_running_loop()

        def stop() -> None:
            server.stop()
            runtime.drain()
            if herald is not None:
                herald.stopping(runtime.config.server.limits.shutdown_grace)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        for number, change in LOUDNESS.items():
            loop.add_signal_handler(number, change)
        reloads = Reloads(runtime, source, nest) if source is not None else None
        if reloads is not None:
            _reloading(reloads, nest, watch=watch)
            reloads.herald = herald
        if herald is not None:
            nest.start(herald.run(runtime), "herald")
        _calm_collector()
        log.info("listening", extra={"url": url(listening), "faces": sorted(runtime.table.faces)})
        try:
            async with contextlib.AsyncExitStack() as stack:
                if beside is not None and reloads is not None:
                    await stack.enter_async_context(beside(runtime, reloads, url(listening)))
                await server.serve(sockets=[listening])
        finally:
            log.info("stopping")
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *LOUDNESS):
                loop.remove_signal_handler(number)
    log.info("stopped")


def _reloading(reloads: Reloads, nest: Nest, *, watch: bool) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloads.wanted, "signal")
    if watch:
        nest.start(reloads.watch(), "watch")


def _calm_collector() -> None:
    """What is alive now lives as long as we do, and a request leaves no cycles: let the collector look rarely (−10 % CPU)."""
    gc.collect()
    gc.freeze()
    memory.give_back()  # what reading the configuration took
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
