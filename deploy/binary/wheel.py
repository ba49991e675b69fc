"""The wheel and the source distribution.

The rule: they are made of a copy of the tree in which the build is written down, with the time of the commit on every file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.binary import contents

TREE = contents.WORK.parent / "wheel"
TAKEN = ("vmcp", "schemas", "examples", "docs", "README.md", "CHANGELOG.md", "pyproject.toml")


def make(target: Path) -> list[Path]:
    """Write both into a folder; their paths."""
    shutil.rmtree(TREE, ignore_errors=True)
    tree, made = TREE / "tree", TREE / "made"
    tree.mkdir(parents=True)
    for name in TAKEN:
        source = contents.ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        elif source.exists():
            shutil.copy(source, tree / name)
    for name, content in contents.written("wheel", contents.packages()).items():
        (tree / "vmcp" / name).write_bytes(content)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(contents.epoch())}
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(made)]
    code = subprocess.run(command, cwd=tree, env=environment, check=False, stdout=subprocess.DEVNULL).returncode
    if code:
        raise SystemExit(f"build.py: hatchling ended with exit code {code}")
    target.mkdir(parents=True, exist_ok=True)
    for old in (*target.glob("vmcp-*.whl"), *target.glob("vmcp-*.tar.gz")):
        old.unlink()
    return [Path(shutil.copy(path, target)) for path in sorted(made.iterdir())]
