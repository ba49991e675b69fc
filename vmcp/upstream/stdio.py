"""A child process that speaks MCP on its standard streams: newline-delimited JSON-RPC (basic/transports, "stdio").

The rule: one owner opens and closes a child; the child is alone in its process group, gets only the environment that the config
lists, never a shell, and its stderr is always drained. Nothing of it is left when ``close`` returns.
"""

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec
from msgspec import Raw

from vmcp.errors import Code, Overdue, Unavailable, WireError
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import Message
from vmcp.upstream.wire import Answer, Headers, OnMessage, OnStray, Outgoing

log = logging.getLogger("vmcp.upstream.stdio")

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "TERM")
"""What a child gets of our environment; all else must be declared under ``env``."""

MAX_LINE = 16 << 20
MAX_GARBAGE = 100
WRITE_HIGH = 1 << 20
WRITE_STALL = 10.0
QUEUE = 1024
STDERR_LINES = 20
CLOSE_WAIT, TERM_WAIT = 2.0, 3.0
LINGER = 0.25
"""Seconds that what a child wrote last may arrive after its exit, and its exit after the end of its stdout."""


def environment(declared: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: the allow-list of ours, and what the config declares."""
    return {key: inherited[key] for key in INHERITED if key in inherited} | dict(declared)


class StdioWire(asyncio.SubprocessProtocol):
    """One child process. Make it with ``spawn``."""

    closing_cancels = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.on_stray: OnStray | None = None
        self.on_gone: Callable[[], None] | None = None
        self.on_exit: asyncio.Event = asyncio.Event()
        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._pending: dict[int, asyncio.Queue[Message]] = {}
        self._lines = {1: bytearray(), 2: bytearray()}
        self._garbage = 0
        self._ended = False
        self._ending: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # --- what asyncio tells us

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the streams (uvloop's transports have the interface, not the base classes)."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        self._stdin.set_write_buffer_limits(high=WRITE_HIGH)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        """Cut what arrived into lines."""
        assert isinstance(data, bytes)
        buffer = self._lines[fd]
        take = self._take if fd == 1 else self._complain
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = bytes(buffer) + data[start:end] if buffer else data[start:end]
            buffer.clear()
            start = end + 1
            take(line)
        buffer += data[start:]
        if len(buffer) > MAX_LINE:
            buffer.clear()
            if fd == 1:
                log.error("a line is too long, the process is ended", extra={"backend": self.name, "limit": MAX_LINE})
                self._signal(signal.SIGKILL)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The child closed a stream; its last line needs no end. Without its stdout nothing can come any more."""
        if fd in self._lines:
            rest = bytes(self._lines[fd])
            self._lines[fd].clear()
            (self._take if fd == 1 else self._complain)(rest)
        if fd == 1:
            self._end_soon()

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
        if not self._ended:
            self._ended = True
            self._fail_all()
            if self.on_gone is not None:
                self.on_gone()

    def pause_writing(self) -> None:
        """The child does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The child reads again."""
        self._writable.set()

    # --- lines

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            message = jsonrpc.read(line)
        except WireError:
            self._count_garbage(line)
            return
        if message.method:
            self._incoming(message)
        else:
            queue = self._pending.get(_number(message.id))
            if queue is not None:
                _put(queue, message, must=True)

    def _count_garbage(self, line: bytes) -> None:
        self._garbage += 1
        if self._garbage <= MAX_GARBAGE:
            log.warning("stdout line is no JSON-RPC", extra={"backend": self.name, "line": _printable(line)})

    def _incoming(self, message: Message) -> None:
        queue = self._owner(message)
        if queue is not None:
            _put(queue, message, must=False)
        elif self.on_stray is not None:
            self.on_stray(message)

    def _owner(self, message: Message) -> asyncio.Queue[Message] | None:
        """Whose it is: progress names its request; a log line is a request's only when no other is in flight."""
        if message.method == "notifications/progress":
            return self._pending.get(_number(_token(message)))
        if message.method == "notifications/message" and len(self._pending) == 1:
            return next(iter(self._pending.values()))
        return None

    def _complain(self, line: bytes) -> None:
        text = _printable(line)
        if text:
            self.stderr.append(text)
            log.debug("stderr", extra={"backend": self.name, "line": text})

    def _fail_all(self) -> None:
        for queue in self._pending.values():
            _put(queue, Message(jsonrpc="closed"), must=True)

    # --- what a link asks

    async def exchange(self, request: Outgoing, on_message: OnMessage | None, deadline: float) -> Answer:
        """See ``Wire``; headers have no place here, and what a dead child was asked is not asked again."""
        queue: asyncio.Queue[Message] = asyncio.Queue(QUEUE)
        self._pending[request.id] = queue
        try:
            return await self._converse(request.body, queue, on_message, deadline)
        finally:
            del self._pending[request.id]

    async def _converse(
        self, body: bytes, queue: asyncio.Queue[Message], on_message: OnMessage | None, deadline: float
    ) -> Answer:
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline):
                await self.tell(body, ())
                while (message := await queue.get()).method:
                    if on_message is not None:
                        await on_message(message)
        except TimeoutError:
            raise Overdue(self.name, "timeouts.total", round(deadline - began, 3)) from None
        if message.jsonrpc == "closed":
            raise Unavailable(self.name, self.obituary(), Code.TRANSPORT_CLOSED)
        return Answer(message)

    async def tell(self, body: bytes, headers: Headers) -> None:
        """See ``Wire``. A child that reads nothing for ten seconds is ended."""
        if self._stdin is None or self._stdin.is_closing() or self.on_exit.is_set() or self._ended:
            raise Unavailable(self.name, self.obituary(), Code.TRANSPORT_CLOSED)
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(WRITE_STALL):
                    await self._writable.wait()
            except TimeoutError:
                self._signal(signal.SIGKILL)
                raise Overdue(self.name, "stdin write stall", WRITE_STALL) from None
        self._stdin.write(body + b"\n")

    def obituary(self) -> str:
        """Why the child is not there, with the last thing it said on stderr."""
        code = self._transport.get_returncode() if self._transport is not None else None
        said = f': "{self.stderr[-1]}"' if self.stderr else ""
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


def _put(queue: asyncio.Queue[Message], message: Message, *, must: bool) -> None:
    """Queue a message; when full, an old notification makes room for a reply, and a new notification is dropped."""
    if queue.full():
        if not must:
            return
        queue.get_nowait()
    queue.put_nowait(message)


def _token(message: Message) -> Raw:
    try:
        return jsonrpc.members(message.params).get("progressToken", jsonrpc.NONE)
    except msgspec.MsgspecError:
        return jsonrpc.NONE


def _number(raw: Raw) -> int:
    try:
        return int(bytes(raw))
    except ValueError:
        return -1


def _printable(line: bytes) -> str:
    text = line.decode("utf-8", "replace").rstrip()
    return "".join(c if c.isprintable() else " " for c in text[:2048])
