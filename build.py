#!/usr/bin/env python3
"""Sets everything up and runs it: ``python3 build.py serve``, ``python3 build.py test``; ``help`` lists the rest.

One rule: the standard library only, so that a machine with nothing but Python 3.11 can start here. What it makes lies beside
this file and is git-ignored: ``.venv`` and ``.venv-mcp1`` (``requirements/*.lock``, with hashes), ``tests/real/node_modules``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
LOCKS = ROOT / "requirements"
QUICKSTART = "examples/quickstart.yaml"
PEERS = ROOT / "tests" / "real"
BIN = "Scripts" if os.name == "nt" else "bin"
STAMP = "vmcp-lock.txt"
OLDEST = (3, 11)
PURE = ("vmcp/protocol/*", "vmcp/config/*", "vmcp/routing/*", "vmcp/call.py", "vmcp/errors.py")
COMPILE = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "--quiet")


def run(*command: str | Path, cwd: Path = ROOT) -> int:
    """Run to the end; the exit code."""
    return subprocess.run([str(part) for part in command], cwd=cwd, check=False).returncode


def need(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run to the end, or stop here."""
    code = run(*command, cwd=cwd)
    if code:
        sys.exit(f"build.py: exit code {code} from: {' '.join(str(part) for part in command)}")


def say(text: str) -> None:
    """What is being done, on stderr: stdout belongs to the command."""
    print(f"build.py: {text}", file=sys.stderr, flush=True)


def can_make_environments() -> None:
    """Stop with what to do when this Python is too old or was taken apart by its packager."""
    if sys.version_info < OLDEST:
        sys.exit(f"build.py: needs Python 3.11 or newer, this is {sys.version.split()[0]} ({sys.executable})")
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"build.py: this Python comes without {' and '.join(missing)} ({sys.executable})\n"
            "  Debian, Ubuntu: apt-get install python3-venv\n"
            "  elsewhere: use a Python 3.11 or newer as its authors ship it"
        )


def digest(path: Path) -> str:
    """What a stamp says about a lock file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stamped(stamp: Path) -> list[str]:
    """The digests of the locks that are installed."""
    return stamp.read_text("utf-8").split() if stamp.is_file() else []


def environment(folder: str, *locks: str) -> Path:
    """The Python of an environment that holds one of these locks, made or brought up to date; the first if none is there."""
    home = ROOT / folder
    python, stamp = home / BIN / "python", home / STAMP
    if python.exists() and any(digest(LOCKS / lock) in stamped(stamp) for lock in locks):
        return python
    can_make_environments()
    if not python.exists():
        say(f"making {folder}")
        need(sys.executable, "-m", "venv", home)
    say(f"installing requirements/{locks[0]} into {folder}")
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    need(*pip, "--require-hashes", "-r", LOCKS / locks[0])
    if folder == ".venv":
        need(*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT)
    stamp.write_text(digest(LOCKS / locks[0]) + "\n", "utf-8")
    return python


def developer() -> Path:
    """The Python with everything in it."""
    return environment(".venv", "dev.lock")


def node_peers() -> None:
    """The npm packages of the real-peer tests, exactly as locked; no package's own script is run."""
    lock, stamp = PEERS / "package-lock.json", PEERS / "node_modules" / STAMP
    if digest(lock) in stamped(stamp):
        return
    npm = shutil.which("npm")
    if npm is None:
        sys.exit(
            "build.py: the real-peer tests need Node and npm, and npm is not on the PATH\n"
            "  Debian, Ubuntu: apt-get install nodejs npm\n"
            "  without them: python3 build.py test -m 'not real'"
        )
    say("installing tests/real/package-lock.json")
    need(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", cwd=PEERS)
    stamp.write_text(digest(lock) + "\n", "utf-8")


@contextlib.contextmanager
def units_server(python: Path) -> Iterator[None]:
    """The quickstart's HTTP backend beside vmcp, which itself starts only what speaks over stdio. Ctrl-C does not reach it."""
    if os.environ.get("UNITS_URL"):
        yield
        return
    child = subprocess.Popen([python, ROOT / "examples" / "servers" / "units.py"], cwd=ROOT, start_new_session=True)
    try:
        yield
    finally:
        child.terminate()
        child.wait()


def supervise(command: Sequence[str | Path]) -> int:
    """Run in the foreground; what ends us ends the child, and Ctrl-C reaches it by itself."""
    child = subprocess.Popen([str(part) for part in command], cwd=ROOT)
    for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
        signal.signal(getattr(signal, name), lambda *_: child.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return child.wait()


def serve(arguments: Sequence[str]) -> int:
    """serve [ARGS]      run vmcp; without ARGS on examples/quickstart.yaml, with its HTTP server beside it"""
    python = environment(".venv", "runtime.lock", "dev.lock")
    if arguments:
        return supervise([python, "-m", "vmcp", "serve", *arguments])
    with units_server(python):
        return supervise([python, "-m", "vmcp", "serve", "--config", QUICKSTART])


def checks(python: Path) -> list[str]:
    """What of format, lint and types does not hold."""
    stages = {
        "ruff format": ("ruff", "format", "--check", "--quiet", "."),
        "ruff": ("ruff", "check", "--quiet", "."),
        "mypy": ("mypy", "--no-error-summary"),
    }
    return [name for name, command in stages.items() if run(python, "-m", *command)]


def verdict(failed: Sequence[str]) -> int:
    """Name what failed, last of all, and the exit code."""
    if failed:
        say(f"FAILED: {', '.join(failed)}")
    return 1 if failed else 0


def check(arguments: Sequence[str]) -> int:
    """check             format, lint, types and the architecture test: seconds"""
    python = developer()
    failed = checks(python)
    architecture = run(python, "-m", "pytest", "-q", "--no-header", "tests/test_architecture.py", *arguments)
    return verdict([*failed, *(["architecture"] if architecture else [])])


def watched(*command: str | Path) -> tuple[int, str]:
    """Run to the end, its output shown as it comes; the exit code and the last line."""
    last = ""
    with subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            print(line, end="", flush=True)
            last = line.rstrip() or last
    return child.returncode, last


def covered(python: Path) -> bool:
    """Whether the pure parts are covered whole; silent when they are."""
    command = (python, "-m", "coverage", "report", "--include", ",".join(PURE), "--fail-under", "100")
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr)
    return done.returncode == 0


def test(arguments: Sequence[str]) -> int:
    """test [ARGS]       everything; with ARGS only pytest with them (test -m 'not real and not binary': without Node, quickly)"""
    python = developer()
    told = " ".join(arguments)
    if "not real" not in told:
        node_peers()
        environment(".venv-mcp1", "mcp1.lock")
    if not arguments:
        ship("needed")  # else the tests that run it make it
    if arguments:
        return run(python, "-m", "pytest", *arguments)
    failed = checks(python)
    spread = ("-n", "auto", "--dist", "worksteal")
    code, closing_line = watched(python, "-m", "pytest", *spread, "--cov", "--cov-report=term", "--cov-fail-under=90")
    if code:
        failed.append("pytest")
    if not covered(python):
        failed.append("coverage of the pure parts")
        print(closing_line, flush=True)
    return verdict(failed)


def ship(*words: str) -> int:
    """Have ``deploy/binary`` make something, or stop here."""
    need(developer(), "-m", "deploy.binary", *words)
    return 0


def binary(arguments: Sequence[str]) -> int:
    """binary [--onedir] dist/vmcp, one executable; and dist/vmcp-onedir/ for containers; --glibc V is the newest it may need"""
    return ship("binary", *arguments)


def zipapp(arguments: Sequence[str]) -> int:
    """zipapp            dist/vmcp.pyz, for a machine with a Python"""
    return ship("zipapp", *arguments)


def wheel(arguments: Sequence[str]) -> int:
    """wheel             dist/vmcp-*.whl, and the source distribution"""
    return ship("wheel", *arguments)


def twice(arguments: Sequence[str]) -> int:
    """twice             all of these two times, and whether they are the same bytes"""
    return ship("twice", *arguments)


def bench(arguments: Sequence[str]) -> int:
    """bench [--quick]   measure vmcp beside nginx and other gateways (installed now), 20 minutes; or a few of them, 3 minutes"""
    return run(developer(), ROOT / "bench" / "report.py", *arguments)


def lock(arguments: Sequence[str]) -> int:
    """lock [--upgrade]  write requirements/*.lock anew from pyproject.toml and requirements/*.in"""
    compiler: tuple[str | Path, ...] = (developer(), "-m", "uv", "pip", "compile", *COMPILE, *arguments)
    runtime = LOCKS / "runtime.lock"
    groups = ("--group", "build", "--group", "binary", "--group", "lint", "--group", "test")
    need(*compiler, "pyproject.toml", "--group", "build", "-o", runtime)
    need(*compiler, "pyproject.toml", *groups, "-c", runtime, "-o", LOCKS / "dev.lock")
    need(*compiler, LOCKS / "mcp1.in", "-o", LOCKS / "mcp1.lock")
    return 0


def show_help(_: Sequence[str]) -> int:
    """help              this text"""
    print("usage: python3 build.py COMMAND\n")
    for command in COMMANDS.values():
        print(f"  {command.__doc__}")
    return 0


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "serve": serve,
    "test": test,
    "check": check,
    "binary": binary,
    "zipapp": zipapp,
    "wheel": wheel,
    "twice": twice,
    "bench": bench,
    "lock": lock,
    "help": show_help,
}


def main(arguments: Sequence[str]) -> int:
    """Run the command of the first argument."""
    name = arguments[0] if arguments else "help"
    command = COMMANDS.get("help" if name in ("-h", "--help") else name)
    if command is None:
        print(f"build.py: no command {name!r}; there are: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return command(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
