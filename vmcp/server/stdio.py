"""Serving a configuration to one client over stdin and stdout, for clients that can only start a process.

The rule: the end of stdin is the end of everything; what is in flight then may still be answered for a moment, and when
``serve`` returns no child is left.
"""

import logging
from dataclasses import replace
from math import inf

from vmcp.call import Origin
from vmcp.config.model import Config
from vmcp.errors import McpError
from vmcp.server.duplex import Duplex
from vmcp.server.gate import system_user
from vmcp.server.pipes import Pipes, pipes, stopped_by_signals
from vmcp.server.runtime import Runtime

log = logging.getLogger("vmcp.server")

GRACE = 5.0
"""Seconds that requests have to be answered after the end of stdin: somebody may have piped a file in."""
HURRY = 1.0
"""The same after a signal."""


async def serve(config: Config, path: str, reading: int, writing: int) -> None:
    """Serve the face at ``path`` over two descriptors until the first one ends, or a signal comes."""
    config = _alone(config)
    async with pipes(reading, writing, config.server.limits.body_bytes) as stream:
        ending = _Ending(stream)
        with stopped_by_signals(ending.hurry):
            async with Runtime(config) as runtime, runtime.opens(path, stream.write) as line:
                line.origin = Origin("stdio")
                line.identity = system_user()
                line.hang_up = stream.stop
                # A client says 'initialize' at once and never again: what is offered must be known by then.
                await runtime.settled.wait()
                await talk(stream, line)
                runtime.drain()
                await line.settle(ending.patience)
    log.info("stopped")


class _Ending:
    def __init__(self, stream: Pipes) -> None:
        self._stream = stream
        self.patience = GRACE

    def hurry(self) -> None:
        self.patience = HURRY
        self._stream.stop()


async def talk(stream: Pipes, line: Duplex) -> None:
    """Hand over what comes, until nothing more does."""
    while (text := await stream.read()) is not None:
        if isinstance(text, McpError):
            await line.refuse(text)
        else:
            await line.take(text)


def _alone(config: Config) -> Config:
    """There is one client, whose session lives as long as we do."""
    limits = replace(config.server.limits, session_idle=inf, session_max=inf)
    return replace(config, server=replace(config.server, limits=limits))
