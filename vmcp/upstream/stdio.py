"""A child process that speaks MCP on its standard streams: newline-delimited JSON-RPC (basic/transports, "stdio"), or
messages behind a ``Content-Length`` head from a child that writes such, which is then answered alike.

The rule: one owner opens and closes a child; the child is alone in its session, gets only the environment that the config
lists, never a shell, and its stderr is always drained. Nothing of it is left when ``close`` returns.
"""

import asyncio
import errno
import logging
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vmcp.config.model import Limits
from vmcp.config.processes import ProcessSpec
from vmcp.errors import Code, Overdue, Unavailable, WireError
from vmcp.nursery import SWEEP
from vmcp.protocol import jsonrpc, scrub
from vmcp.protocol.lines import Cutter, behind_head
from vmcp.upstream.child import Child, Refused
from vmcp.upstream.complaints import Complaints, Pace
from vmcp.upstream.inbox import Inbox, printable
from vmcp.upstream.places import Place, places
from vmcp.upstream.room import LARGE, STEP, Room, room
from vmcp.upstream.wire import Headers

log = logging.getLogger("vmcp.upstream.stdio")

INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "TERM")
"""What a child gets of our environment; all else must be declared under ``env``."""

MAX_LINE = 16 << 20
STDERR_LINES, SHOWN = 20, 5
NOISE, NOISY = 100, 60.0
"""After so many lines in a row that are no message a child counts as not well, for so many seconds."""
CLOSE_WAIT, TERM_WAIT = 2.0, 3.0
"""Seconds for a child to end when its input is closed, and again when it is told to terminate; then it is killed."""
LINGER = 0.15
"""Seconds that what a child wrote last may arrive after its exit, and its exit after the end of its stdout."""
_PLAIN: Final = Limits()
HUSHED: Final = 8
"""Characters of a declared value from which on it may be a secret, unless it is a path."""


def environment(declared: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: the allow-list of ours, and what the config declares."""
    return {key: inherited[key] for key in INHERITED if key in inherited} | dict(declared)


@dataclass(frozen=True, slots=True)
class Program:
    """What to start. ``command`` is an argv, never a shell's; ``env`` is all that it gets."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    spec: ProcessSpec = field(default_factory=ProcessSpec)

    def order(self) -> Mapping[str, Any]:
        """The same for a nurse (see ``vmcp.nursery``)."""
        spec = self.spec
        return {
            "argv": list(self.command),
            "env": dict(self.env),
            "cwd": self.cwd,
            "limits": {"memory": spec.memory, "files": spec.files, "processes": spec.processes},
            "new_privileges": spec.new_privileges,
            "patience": [CLOSE_WAIT, TERM_WAIT],
        }


class StdioWire(Inbox):
    """One child process. Make it with ``spawn``."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._loop = asyncio.get_running_loop()
        self._child: Child | None = None
        self._cutter = Cutter(MAX_LINE)
        self._complaints = Complaints(name, self._loop.time)
        self._pace = Pace(self._loop.time)
        self._noise = 0
        self._noisy_until = 0.0
        self._place: Place | None = None
        self._silent = True
        self._closing = False
        self._ending: asyncio.TimerHandle | None = None
        self._room: Room | None = None
        self._granted = 0

    async def start(self, program: Program, place: Place) -> None:
        """Start the child in its place, which is given back when nothing of it is left. Raises ``Refused``."""
        child = Child(self)
        self._complaints.hide(_secrets(program.env))
        try:
            await child.start(program.order())
            self._child, self._place = child, place
        finally:
            if self._child is None:
                place.leave()

    def give(self, whose: str, limits: Limits) -> None:
        """A child that nobody has spoken with becomes one of ``whose``. Raises ``Unavailable`` when he has as many as he may."""
        if self._place is not None:
            self._place.give(self.name, whose, limits)

    # --- what the child tells us

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Cut what arrived into messages; what is on its stderr is kept for those who ask."""
        if fd != 1:
            self._complaints.feed(data)
            return
        if self._silent:
            self._speaks()
        try:
            for text in self._cutter.feed(data):
                self._take(text)
            if self._room is not None or self._cutter.pending > LARGE:
                self._ask_for_room(self._cutter.pending)
        except WireError as broken:
            self._cutter.clear()
            log.error(
                "what it wrote is no message, the process is ended", extra={"backend": self.name, "why": str(broken)}
            )
            self._kill()

    def _ask_for_room(self, pending: int) -> None:
        """A large message is read on when there is room for it; all that the child says has to wait behind it."""
        if pending <= LARGE:
            self._leave_room()
        elif pending > self._granted:
            self._room = self._room or room()
            self._granted = pending + STEP
            if not self._room.ask(self, self._granted, self._read_on) and self._child is not None:
                self._child.pause(1)

    def _read_on(self) -> None:
        if self._child is not None:
            self._child.resume(1)

    def _leave_room(self) -> None:
        if self._room is not None:
            self._loop.call_soon(self._room.leave, self)  # when the message has been passed on
            self._room, self._granted = None, 0

    def pipe_connection_lost(self, fd: int) -> None:
        """The child closed a stream; its last line needs no end. Without its stdout nothing can come any more."""
        if fd == 1:
            self._take(self._cutter.rest())
        if fd == 1 or self.exited:
            self._end_soon()

    def process_exited(self) -> None:
        """The child is gone, but what it wrote last may still be in the pipes."""
        self._speaks()
        self._end_soon()

    def _speaks(self) -> None:
        """It said something, or never will: the next child may start."""
        self._silent = False
        if self._place is not None:
            self._place.started()

    @property
    def exited(self) -> bool:
        """Whether the process is gone."""
        return self._child is not None and self._child.returncode is not None

    def _end_soon(self) -> None:
        if self._child is not None and self._child.mute and self.exited:
            self._end()
        elif self._ending is None and not self._ended:
            self._ending = self._loop.call_later(LINGER, self._end)

    def _end(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._leave_room()
        if not (self._ended or self._closing):
            log.info("process ended", extra={"backend": self.name, "why": self.obituary(), **self.facts()})
        super()._end()

    def _take(self, text: bytes) -> None:
        before = self._garbage
        super()._take(text)
        if self._noise and self._garbage == before and text.strip():
            self._noise = 0

    def _count_garbage(self, text: bytes) -> None:
        self._garbage += 1
        self._noise += 1
        if self._noise > NOISE:
            self._noisy_until = self._loop.time() + NOISY
        room, skipped = self._pace.room()
        if skipped:
            log.warning("lines that are no JSON-RPC left out", extra={"backend": self.name, "lines": skipped})
        self._pace.took(min(room, 1), 1 - min(room, 1))
        if room:
            log.warning("message is no JSON-RPC", extra={"backend": self.name, "text": printable(text)})

    # --- what a link asks

    async def tell(self, body: bytes, headers: Headers) -> None:
        """See ``Wire``. A child that reads nothing for ten seconds is ended."""
        if self._child is None or self._child.deaf or self._ended:
            raise self._gone_error()
        try:
            await self._until_writable("stdin write stall")
        except Overdue:
            self._kill()
            raise
        if self._child.deaf:
            raise self._gone_error()
        self._child.write(behind_head(body) if self._cutter.framed else jsonrpc.one_line(body) + b"\n")

    @property
    def stderr(self) -> Sequence[str]:
        """The last lines that the child wrote there, as it wrote them."""
        return self._complaints.tail(STDERR_LINES)

    @property
    def wrong(self) -> str:
        """Why the child is not well though it runs; empty when it is."""
        if self._loop.time() >= self._noisy_until:
            return ""
        return f"it wrote more than {NOISE} lines in a row that are no JSON-RPC"

    def facts(self, lines: int = SHOWN) -> Mapping[str, object]:
        """What is known of the process beside its health: lines that were no messages, and the last that it complained of."""
        said = [scrub.text(line) for line in self._complaints.tail(lines)]
        return {"garbage": self._garbage, "stderr": said}

    @property
    def pid(self) -> int | None:
        """Of the process; None when it does not run."""
        return self._child.pid if self._child is not None and self._child.returncode is None else None

    def obituary(self) -> str:
        """Why the child is not there, with the last thing it said on stderr."""
        code = self._child.returncode if self._child is not None else None
        last = self._complaints.tail(1)
        said = f': "{scrub.text(last[0])}"' if last else ""  # clients read it; the log has it as it was
        if code is None:
            return f"the process closed its output{said}"
        return f"the process {_ending(code)}{said}"

    async def close(self) -> None:
        """Close its stdin and wait; its nurse terminates it, and kills what then is left of it."""
        if self._child is None:
            return
        self._closing = True
        self._child.leave()
        if not await self._child.gone(CLOSE_WAIT + TERM_WAIT + SWEEP + 1.0):
            log.error("a child process cannot be ended", extra={"backend": self.name, "pid": self._child.pid})
        self._child.drop()
        self._end()
        if self._place is not None:
            self._place.leave()

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()


def _secrets(env: Mapping[str, str]) -> list[str]:
    """Values of an environment that a child had better not tell; what is everybody's is none of them."""
    declared = [value for key, value in env.items() if key not in INHERITED]
    return [value for value in declared if len(value) >= HUSHED and not value.startswith(("/", "."))]


async def spawn(name: str, program: Program, limits: Limits = _PLAIN, whose: str = "") -> StdioWire:
    """Start ``program`` for ``whose`` (empty: for everybody). Raises ``Unavailable``."""
    if _impossible(program):
        raise Unavailable(name, "its command or env has a NUL, or '=' in a name", Code.CONFIGURATION_ERROR)
    wire = StdioWire(name)
    place = await places().take(name, whose, limits)
    try:
        await wire.start(program, place)
    except Refused as refused:
        raise Unavailable(name, _why(refused, program), Code.CONNECTION_FAILED) from None
    return wire


def _impossible(program: Program) -> bool:
    """Whether it has what no process can be given."""
    env = program.env
    texts = (*program.command, *env, *env.values(), program.cwd or "")
    return any("\0" in text for text in texts) or any("=" in key or not key for key in env)


def _why(refused: Refused, asked: Program) -> str:
    """Why a program could not be started, and what to do."""
    program, cwd = asked.command[0], asked.cwd
    if refused.stage == "cwd":
        if refused.errno == errno.ENOENT:
            return f"its working directory '{cwd}' does not exist"
        return f"its working directory '{cwd}' cannot be entered: {refused.strerror}"
    if refused.stage == "program" and refused.errno == errno.ENOENT:
        hint = {"npx": "install Node.js", "uvx": "install uv", "docker": "install Docker"}.get(program, "install it")
        return f"'{program}' was not found on the PATH of this service; {hint}, or give its full path"
    return f"cannot start '{program}': {refused.strerror}"


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
