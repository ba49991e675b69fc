"""What has to be there before a run: programs, the two C binaries, FastMCP's own virtual environment.

The one rule: nothing is installed on the machine; what is missing is named together with the command that brings it.
"""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from subjects import BENCH, BENCH_PYTHON, find_program

PACKAGES = {"gcc": "gcc libc6-dev", "taskset": "util-linux", "nginx": "nginx-light", "node": "nodejs", "npm": "npm"}
OF_NODE = ("mcp-hub", "mcp-proxy-npm", "supergateway")
LOCK = BENCH / "requirements.lock"


def missing(subjects: Sequence[str]) -> str | None:
    """The command that installs what these subjects need and the machine has not, or None."""
    needed = ["gcc", "taskset"] + ["nginx"] * ("nginx" in subjects)
    needed += ["node", "npm"] if any(name in OF_NODE for name in subjects) else []
    lacking = [PACKAGES[program] for program in needed if not find_program(program)]
    return f"apt-get install -y {' '.join(lacking)}" if lacking else None


def compile_programs(folder: Path) -> None:
    """Builds backend and generator into the folder."""
    for name in ("backend", "load"):
        subprocess.run(["gcc", "-O2", "-o", str(folder / name), str(BENCH / f"{name}.c")], check=True)


def fastmcp_environment() -> None:
    """Makes `.venv-bench`."""
    environment(BENCH_PYTHON.parent.parent, LOCK)


def environment(home: Path, lock: Path) -> None:
    """Makes a virtual environment from its lock, anew when the lock has changed."""
    stamp, digest = home / "lock.sha256", hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    sys.stderr.write(f"Making {home.name} (once) ...\n")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    sync = ["--quiet", "--python", str(home / "bin" / "python"), "--require-hashes", str(lock)]
    subprocess.run([sys.executable, "-m", "uv", "pip", "sync", *sync], check=True)
    stamp.write_text(digest)


def node_packages(folder: Path) -> None:
    """Installs what the folder's package-lock.json names, and runs no package's own script."""
    stamp, digest = folder / "node_modules" / "lock.sha256", hashlib.sha256((folder / "package-lock.json").read_bytes())
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    sys.stderr.write("Installing the Node peers (once) ...\n")
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(npm, cwd=folder, check=True)
    stamp.write_text(digest.hexdigest())
