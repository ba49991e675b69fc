"""The nursery: a small process beside vmcp, in which the child processes of the stdio transport are started and kept.

vmcp hands it a control socket and the three streams of a child; it forks a nurse, and the nurse forks the child. So what has to
happen between fork and exec happens in a process of one thread, and whatever a child leaves behind is its nurse's to reap.

The rule: the standard library alone, and nothing of vmcp. A nurse tells what becomes of its child, and ends it and all that
descends from it as soon as vmcp's end of the control socket is closed, whether vmcp closed it or was killed. Then it ends too.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

FLAG: Final = "--nursery"
"""How a frozen vmcp, which has no interpreter beside it, is told to be a nursery."""
KILL: Final = b"K"
"""On the control socket: kill the group of the child at once. The end of what comes there: stop it in order."""
HEAD: Final = struct.Struct("!I")
"""Before the order on the control socket: its length."""
LIMITS: Final = {"memory": resource.RLIMIT_DATA, "files": resource.RLIMIT_NOFILE, "processes": resource.RLIMIT_NPROC}
SWEEP: Final = 2.0
"""Seconds to kill what a child left behind; who is not gone by then hangs in the kernel."""
_DEAF: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_USUAL: Final = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
_NAME, _SUBREAPER, _NO_NEW_PRIVILEGES, _PARENT_DEATH = 15, 36, 38, 1
_PRCTL: Final = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

Order = Mapping[str, Any]
"""What to start: ``argv env cwd limits new_privileges`` (cwd may be null), and ``patience``, the two waits of a stop."""


def main() -> None:
    """Be a nursery; standard input is the socket to vmcp."""
    with contextlib.suppress(PermissionError):
        os.setsid()  # a Ctrl-C at vmcp's terminal is vmcp's affair
    for number in _DEAF:
        signal.signal(number, signal.SIG_IGN)
    os.closerange(3, 1 << 20)
    _call_me("vmcp-nursery")
    _adopt()
    gc.freeze()
    with socket.socket(fileno=0) as door:
        _Nursery(door).run()


class _Nursery:
    """Forks a nurse for whoever comes through the door. Mutable."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._nurses: set[int] = set()

    def run(self) -> None:
        """Until vmcp is gone; the nurses see that for themselves."""
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        while True:
            sent, descriptors, _, _ = socket.recv_fds(self._door, 1, 4)
            if not sent:
                return
            if len(descriptors) == 4:
                self._fork(descriptors)
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork(self, descriptors: Sequence[int]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # until it is known who is a nurse
        with contextlib.suppress(OSError):  # there are too many processes; vmcp sees its socket closed
            pid = os.fork()
            if not pid:
                self._door.detach()
                _nurse(descriptors)
            self._nurses.add(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def _reap(self) -> None:
        """Bury the dead. Whoever is here and is no nurse has lost his: it was killed, and its child with it."""
        for pid, _ in _dead():
            self._nurses.discard(pid)
        for pid in _offspring():
            if pid not in self._nurses:
                _kill(pid)


def _nurse(descriptors: Sequence[int]) -> NoReturn:
    """Be a nurse, to the end."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        for descriptor in (0, 2):  # the door, and vmcp's stderr, which nobody shall hold open when vmcp is gone
            os.dup2(1, descriptor)
        _call_me("vmcp-nurse")
        _adopt()
        with socket.socket(fileno=descriptors[0]) as control, contextlib.suppress(OSError):
            Nurse(control, _order(control)).run(descriptors[1:])
    finally:
        os._exit(0)


class Nurse:
    """Starts one child, and keeps it. Mutable. ``code`` is its exit status once it is gone, negative for a signal."""

    def __init__(self, control: socket.socket, order: Order) -> None:
        self._control = control
        self._order = order
        self._pid = 0
        self._left = False
        self.code: int | None = None
        self._awake, wake = os.pipe()
        os.set_blocking(self._awake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self, streams: Sequence[int]) -> None:
        """From its start until nothing of it is left."""
        told = self._start(streams)
        for stream in streams:
            os.close(stream)
        self._tell(told)
        if "pid" in told:
            self._until(lambda: self._left, None)
            self._stop(*self._order["patience"])

    def _start(self, streams: Sequence[int]) -> Mapping[str, Any]:
        """``{pid}``, or ``{errno, of}`` when it could not be started."""
        reader, writer = os.pipe()  # both close on exec, which is how its success is told
        try:
            self._pid = os.fork()
        except OSError as refused:
            return {"errno": refused.errno, "of": "nursery"}
        if not self._pid:
            _become(self._order, streams, writer)
        os.close(writer)
        told = os.read(reader, 256)
        os.close(reader)
        if not told:
            return {"pid": self._pid}
        os.waitpid(self._pid, 0)
        found: Mapping[str, Any] = json.loads(told)
        return found

    def _stop(self, closing: float, terminating: float) -> None:
        """Its input is closed already. Wait; terminate its group, wait; kill what there is, in the group or out of it."""
        self._until(self._is_gone, closing)
        if not self._is_gone():
            self._signal(signal.SIGTERM)
            self._until(self._is_gone, terminating)
        if not self._is_gone():
            self._signal(signal.SIGKILL)  # all of them at once, so that none has time to start another one
        end = time.monotonic() + SWEEP
        while not self._reap() and time.monotonic() < end:
            for pid in _offspring():
                _kill(pid)
            self._wait(0.01)

    def _is_gone(self) -> bool:
        return self.code is not None

    def _until(self, holds: Callable[[], bool], seconds: float | None) -> None:
        end = None if seconds is None else time.monotonic() + seconds
        self._reap()
        while not holds() and (end is None or time.monotonic() < end):
            self._wait(None if end is None else max(0.0, end - time.monotonic()))
            self._reap()

    def _wait(self, seconds: float | None) -> None:
        """Until somebody died, or vmcp said something."""
        control = self._control.fileno()
        ready, _, _ = select.select([self._awake] if self._left else [self._awake, control], (), (), seconds)
        if self._awake in ready:
            os.read(self._awake, 4096)
        if control in ready:
            self._hear()

    def _hear(self) -> None:
        try:
            said = self._control.recv(64)
        except ConnectionError:
            said = b""
        self._left = not said
        if said and not self._is_gone():
            self._signal(signal.SIGKILL)

    def _reap(self) -> bool:
        """Bury the dead, and tell when it was the child; True when nobody is left."""
        for pid, status in _dead():
            if pid == self._pid:
                self.code = os.waitstatus_to_exitcode(status)
                self._tell({"exit": self.code})
        return not _has_children()

    def _signal(self, number: signal.Signals) -> None:
        """To the group of the child, which is not buried yet, so that its number is nobody else's."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    def _tell(self, told: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # vmcp may be gone
            self._control.sendall(json.dumps(told).encode() + b"\n")


def _become(order: Order, streams: Sequence[int], failure: int) -> NoReturn:
    """Be the child: a session of its own, the limits, the streams, the directory; then the program."""
    nurse, stage = os.getppid(), "limits"
    try:
        os.setsid()
        _die_with(nurse)
        _limit(order["limits"])
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        os.umask(0o077)
        stage = "cwd"
        if order["cwd"] is not None:
            os.chdir(order["cwd"])
        stage = "program"
        if not order["new_privileges"] and _PRCTL is not None:
            _PRCTL(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        for number in _USUAL:
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606 - on purpose without a shell
    except (OSError, ValueError) as refused:
        os.write(failure, json.dumps({"errno": getattr(refused, "errno", None) or 22, "of": stage}).encode())
    finally:
        os._exit(127)


def _die_with(nurse: int) -> None:
    """Have the kernel kill the child if its nurse is killed, which may have happened just now."""
    if _PRCTL is not None:
        _PRCTL(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != nurse:
        os._exit(127)


def _limit(limits: Mapping[str, int | None]) -> None:
    """Set what is limited; never above what vmcp has itself. A crash leaves no image of the memory on the disk."""
    given = [(LIMITS[name], most) for name, most in limits.items() if most is not None]
    for kind, most in [(resource.RLIMIT_CORE, 0), *given]:
        _, ours = resource.getrlimit(kind)
        hard = most if ours == resource.RLIM_INFINITY else min(most, ours)
        resource.setrlimit(kind, (hard, hard))


def _order(control: socket.socket) -> Order:
    (length,) = HEAD.unpack(_exactly(control, HEAD.size))
    order: Order = json.loads(_exactly(control, length))
    return order


def _exactly(control: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        piece = control.recv(count - len(found))
        if not piece:
            raise ConnectionError("vmcp is gone")
        found += piece
    return bytes(found)


def _dead() -> Iterator[tuple[int, int]]:
    """Every child that has ended, buried, with its status."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _offspring() -> list[int]:
    """The children of this process, adopted ones among them."""
    me = str(os.getpid()).encode()
    return [int(place.name) for place in Path("/proc").glob("[0-9]*") if _parent(place) == me]


def _parent(place: Path) -> bytes:
    try:
        return (place / "stat").read_bytes().rpartition(b")")[2].split()[1]
    except (OSError, IndexError):
        return b""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _adopt() -> None:
    """What descends from this process and loses its parent becomes its child."""
    if _PRCTL is not None:
        _PRCTL(_SUBREAPER, 1, 0, 0, 0)


def _call_me(name: str) -> None:
    if _PRCTL is not None:
        _PRCTL(_NAME, name.encode(), 0, 0, 0)


if __name__ == "__main__":
    main()
