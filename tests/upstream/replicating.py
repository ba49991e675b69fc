"""Replicas for tests: processes that can be killed and started again where they were.

Rule: none of them is left when the block ends that started it.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path


class Process:
    """A replica with a process of its own."""

    def __init__(self, name: str, revision: str) -> None:
        self.name = name
        self.port = 0
        self._revision = revision
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def start(self) -> None:
        script = str(Path(__file__).with_name("replica_server.py"))
        words = ("-I", "-S", script, self.name, str(self.port), self._revision)
        self._process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout is not None
        async with asyncio.timeout(10):
            self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        await self._process.wait()


@contextlib.asynccontextmanager
async def started(names: str, revision: str) -> AsyncIterator[list[Process]]:
    """A replica for each letter of ``names``."""
    found = [Process(name, revision) for name in names]
    try:
        async with asyncio.TaskGroup() as group:
            for each in found:
                group.create_task(each.start())
        yield found
    finally:
        for each in found:
            await each.kill()
