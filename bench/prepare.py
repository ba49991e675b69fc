"""What has to be there before a run: programs, the two C binaries, FastMCP's own virtual environment.

The one rule: nothing is installed on the machine; what is missing is named together with the command that brings it.
"""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from subjects import BENCH, BENCH_PYTHON, find_program

PACKAGES = {"gcc": "gcc libc6-dev", "taskset": "util-linux", "nginx": "nginx-light"}
LOCK = BENCH / "requirements.lock"


def missing(subjects: Sequence[str]) -> str | None:
    """The command that installs what these subjects need and the machine has not, or None."""
    needed = ["gcc", "taskset"] + ["nginx"] * ("nginx" in subjects)
    lacking = [PACKAGES[program] for program in needed if not find_program(program)]
    return f"apt-get install -y {' '.join(lacking)}" if lacking else None


def compile_programs(folder: Path) -> None:
    """Builds backend and generator into the folder."""
    for name in ("backend", "load"):
        subprocess.run(["gcc", "-O2", "-o", str(folder / name), str(BENCH / f"{name}.c")], check=True)


def fastmcp_environment() -> None:
    """Makes `.venv-bench` from the lock, anew when the lock has changed."""
    home = BENCH_PYTHON.parent.parent
    stamp, digest = home / "lock.sha256", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    sys.stderr.write("Making .venv-bench for FastMCP (once) ...\n")
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    install = [str(BENCH_PYTHON), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(LOCK)]
    subprocess.run(install, check=True)
    stamp.write_text(digest)
