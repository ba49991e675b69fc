"""What is done before anything else: where vmcp is one file with its own Python in it, and where it is the first process.

A frozen vmcp in one file is two processes: an outer one, which unpacks it into a temporary folder and which everybody knows, and
the inner one, which is vmcp (of several workers the one that keeps them: these are below it). What was set for the inner
one's loader is no business of the processes that it starts.

The rule: the standard library alone, little of it, and nothing of vmcp: every command begins here.
"""

import importlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

if sys.platform != "win32":
    import fcntl

LOADER: Final[dict[str, str]] = {}
"""What a frozen vmcp has to give the interpreter of its nursery, taken out of the environment for everybody else."""
MARK: Final = "vmcp/_build.json"
"""In each folder that a frozen vmcp was unpacked to."""
LEFT: Final = 600.0
"""Seconds after which such a folder is nobody's who is still unpacking it."""
_LIBRARIES: Final = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_PARENT_DEATH: Final = 1
_OUR_OWN: Final = ("SIGILL", "SIGFPE", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGTRAP", "SIGKILL", "SIGSTOP")
"""Signals that are not handed on: they mean who gets them, or cannot be had."""
_BY_KERNEL: Final = 0x80
_words: Final[list[str]] = ["-m", "vmcp"]


def ourselves() -> list[str]:
    """The words that start this very vmcp again."""
    return [sys.executable, *(() if getattr(sys, "frozen", False) else _words)]


def from_archive(path: str) -> None:
    """It was started from a zip file, which is there for others to start as well."""
    _words[:] = [path]


def begin() -> None:
    """Get this process into order. Returns in the one that is to be vmcp."""
    if os.getpid() == 1:
        be_first()
    if getattr(sys, "frozen", False):
        _frozen(Path(getattr(sys, "_MEIPASS", "")))


def _frozen(folder: Path) -> None:
    LOADER.update({name: value for name, value in os.environ.items() if name in _LIBRARIES or name.startswith("_PYI_")})
    for name in LOADER:
        del os.environ[name]
    for name in _LIBRARIES:
        original = os.environ.pop(f"{name}_ORIG", None)
        if original is not None:
            os.environ[name] = original
    _read_what_runs()
    if folder.parent != Path(sys.executable).parent:
        _inner(folder)


def _read_what_runs() -> None:
    """Import what is not loaded yet from the file that runs, though another one may have been put in its place meanwhile."""
    archive: Any = getattr(sys.modules.get("pyimod02_importers"), "pyz_archive", None)
    runs = Path("/proc/self/exe")
    with suppress(OSError):
        if archive is not None and runs.samefile(archive._filename):
            archive._filename = str(runs)


def _inner(folder: Path) -> None:
    """Be the inner process: end with the outer one, and be reached by signals through it alone."""
    verb = sys.argv[1:2]
    _die_with_parent()
    if verb == ["serve"] or (verb == ["stdio"] and not os.isatty(0)):  # others read the terminal, or start who does
        with suppress(OSError):  # else a Ctrl-C would come twice, from the terminal and from the outer process
            os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    hold(folder)
    if verb == ["serve"]:
        sweep(folder.parent)


def _die_with_parent() -> None:
    """Have the kernel kill this process if the outer one is killed, which may have happened just now."""
    if sys.platform == "linux":
        importlib.import_module("ctypes").CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
        with suppress(OSError):
            if Path(f"/proc/{os.getppid()}/exe").readlink() != Path("/proc/self/exe").readlink():
                os._exit(128 + signal.SIGKILL)


def hold(folder: Path) -> None:
    """Lock the folder for as long as this process lives: cleaners of temporary files pass over what is locked."""
    with suppress(OSError):
        fcntl.flock(os.open(folder, os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_SH | fcntl.LOCK_NB)


def sweep(place: Path) -> None:
    """Remove what killed processes of ours have left there."""
    with suppress(OSError):
        for folder in place.glob("_MEI*"):
            if _is_left(folder):
                _remove(folder)


def _is_left(folder: Path) -> bool:
    """Whether vmcp was unpacked there by this user, some time ago, and no process holds it."""
    found = folder.lstat()
    if found.st_uid != os.geteuid() or time.time() - found.st_mtime < LEFT or not (folder / MARK).exists():
        return False
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(opened)
    return True


def _remove(folder: Path) -> None:
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            _remove(each)
        else:
            each.unlink()
    folder.rmdir()


def be_first() -> None:
    """Split off a process that becomes vmcp; this one does what is expected of the first: bury, and hand signals on."""
    handled = signal.valid_signals() - {signal.Signals[name] for name in _OUR_OWN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    _watch_over(child, handled)


def _watch_over(child: int, handled: set[signal.Signals]) -> NoReturn:
    while True:
        came = signal.sigwaitinfo(handled)
        if came.si_signo != signal.SIGCHLD:
            if came.si_code != _BY_KERNEL:  # what a terminal sends, the child gets too
                os.kill(child, came.si_signo)
            continue
        for pid, status in _dead():
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


def _dead() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status
