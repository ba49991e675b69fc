"""A child process that speaks MCP on its standard streams: newline-delimited JSON-RPC (basic/transports, "stdio"), or
messages behind a ``Content-Length`` head from a child that writes such, which is then answered alike.

The rule: one owner opens and closes a child; the child is alone in its process group, gets only the environment that the config
lists, never a shell, and its stderr is always drained. Nothing of it is left when ``close`` returns.
"""

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from vmcp.errors import Code, Overdue, Unavailable, WireError
from vmcp.protocol import jsonrpc, scrub
from vmcp.protocol.lines import Cutter, behind_head
from vmcp.upstream.inbox import Inbox, printable
from vmcp.upstream.wire import Headers

log = logging.getLogger("vmcp.upstream.stdio")

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "TERM")
"""What a child gets of our environment; all else must be declared under ``env``."""

MAX_LINE = 16 << 20
WRITE_HIGH = 1 << 20
STDERR_LINES = 20
CLOSE_WAIT, TERM_WAIT = 2.0, 3.0
LINGER = 0.25
"""Seconds that what a child wrote last may arrive after its exit, and its exit after the end of its stdout."""


def environment(declared: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: the allow-list of ours, and what the config declares."""
    return {key: inherited[key] for key in INHERITED if key in inherited} | dict(declared)


class StdioWire(Inbox, asyncio.SubprocessProtocol):
    """One child process. Make it with ``spawn``."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.on_exit: asyncio.Event = asyncio.Event()
        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._cutter = Cutter(MAX_LINE)
        self._complaints = Cutter(MAX_LINE, detects=False)
        self._ending: asyncio.TimerHandle | None = None

    # --- what asyncio tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the streams (uvloop's transports have the interface, not the base classes)."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        self._stdin.set_write_buffer_limits(high=WRITE_HIGH)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        """Cut what arrived into messages, or into lines of its stderr."""
        assert isinstance(data, bytes)
        if fd != 1:
            self._hear_complaints(data)
            return
        try:
            for text in self._cutter.feed(data):
                self._take(text)
        except WireError as broken:
            self._cutter.clear()
            log.error(
                "what it wrote is no message, the process is ended", extra={"backend": self.name, "why": str(broken)}
            )
            self._signal(signal.SIGKILL)

    def _hear_complaints(self, data: bytes) -> None:
        try:
            for line in self._complaints.feed(data):
                self._complain(line)
        except WireError:
            self._complaints.clear()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The child closed a stream; its last line needs no end. Without its stdout nothing can come any more."""
        if fd == 1:
            self._take(self._cutter.rest())
            self._end_soon()
        elif fd == 2:
            self._complain(self._complaints.rest())

    def process_exited(self) -> None:
        """The child is gone, but what it wrote last may still be in the pipes."""
        self.on_exit.set()
        self._end_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The child is gone and so are its streams."""
        self._end()

    def _end_soon(self) -> None:
        if self._ending is None and not self._ended:
            self._ending = asyncio.get_running_loop().call_later(LINGER, self._end)

    def _end(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        super()._end()

    def _complain(self, line: bytes) -> None:
        text = printable(line)
        if text:
            self.stderr.append(text)
            log.debug("stderr", extra={"backend": self.name, "line": text})

    # --- what a link asks

    async def tell(self, body: bytes, headers: Headers) -> None:
        """See ``Wire``. A child that reads nothing for ten seconds is ended."""
        if self._stdin is None or self._stdin.is_closing() or self.on_exit.is_set() or self._ended:
            raise self._gone_error()
        try:
            await self._until_writable("stdin write stall")
        except Overdue:
            self._signal(signal.SIGKILL)
            raise
        self._stdin.write(behind_head(body) if self._cutter.framed else jsonrpc.one_line(body) + b"\n")

    def obituary(self) -> str:
        """Why the child is not there, with the last thing it said on stderr."""
        code = self._transport.get_returncode() if self._transport is not None else None
        said = f': "{scrub.text(self.stderr[-1])}"' if self.stderr else ""  # clients read it; the log has it as it was
        if code is None:
            return f"the process closed its output{said}"
        return f"the process {_ending(code)}{said}"

    async def close(self) -> None:
        """Close stdin, wait; terminate the group, wait; kill the group."""
        if self._transport is None:
            return
        if self._stdin is not None:
            self._stdin.close()
        if not await self._gone(CLOSE_WAIT):
            self._signal(signal.SIGTERM)
            await self._gone(TERM_WAIT)
        self._signal(signal.SIGKILL)
        await self._gone(TERM_WAIT)
        self._transport.close()
        self._end()

    async def _gone(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.on_exit.wait()
        except TimeoutError:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        """To the whole group: what the child started goes with it."""
        if self._transport is None:
            return
        try:
            os.killpg(self._transport.get_pid(), number)
        except (ProcessLookupError, PermissionError):
            return


async def spawn(name: str, command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> StdioWire:
    """Start ``command`` (argv, never a shell). Raises ``Unavailable`` saying what to do when it cannot be started."""
    if _impossible(command, env, cwd):
        raise Unavailable(name, "its command or env has a NUL, or '=' in a name", Code.CONFIGURATION_ERROR)
    wire = StdioWire(name)
    try:
        await _start(wire, command, env, cwd)
    except FileNotFoundError:
        raise Unavailable(name, _not_found(command[0], cwd), Code.CONNECTION_FAILED) from None
    except (PermissionError, NotADirectoryError, OSError) as refused:
        raise Unavailable(name, f"cannot start '{command[0]}': {refused.strerror}", Code.CONNECTION_FAILED) from None
    return wire


async def _start(wire: StdioWire, command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> None:
    """Start the child; who is cancelled meanwhile waits until it can be ended (uvloop would leave it behind)."""
    loop = asyncio.get_running_loop()
    starting = loop.create_task(
        loop.subprocess_exec(lambda: wire, *command, env=dict(env), cwd=cwd, start_new_session=True)
    )
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        if starting.exception() is None:
            await wire.close()
        raise


def _impossible(command: Sequence[str], env: Mapping[str, str], cwd: str | None) -> bool:
    """What no process can be given. asyncio raises ``ValueError``, uvloop starts it with something else."""
    texts = (*command, *env, *env.values(), cwd or "")
    return any("\0" in text for text in texts) or any("=" in key or not key for key in env)


def _not_found(program: str, cwd: str | None) -> str:
    if cwd is not None and not Path(cwd).is_dir():
        return f"its working directory '{cwd}' does not exist"
    hint = {"npx": "install Node.js", "uvx": "install uv", "docker": "install Docker"}.get(program, "install it")
    return f"'{program}' was not found on the PATH of this service; {hint}, or give its full path"


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
