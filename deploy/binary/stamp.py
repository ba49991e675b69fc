"""Whether what lies in ``dist/`` was made of these sources.

The rule: a digest says it, and no time of a file.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from deploy.binary import contents

STAMP = contents.OUT / ".sources"
SOURCES = ("vmcp", "schemas", "docs/errors", "deploy/binary", "pyproject.toml", "requirements/dev.lock")
MADE = ("vmcp", "vmcp-onedir/vmcp", "vmcp.pyz", "vmcp.cdx.json")


def fresh() -> bool:
    """Whether all is there, and of these sources."""
    there = all((contents.OUT / name).exists() for name in MADE) and list(contents.OUT.glob("vmcp-*.whl"))
    return bool(there) and STAMP.exists() and STAMP.read_text("utf-8") == digest()


def write() -> None:
    """Remember of which sources it was made."""
    STAMP.write_text(digest(), "utf-8")


def digest() -> str:
    """Of all that goes into it."""
    found = hashlib.sha256(sys.version.encode())
    for name in SOURCES:
        place = contents.ROOT / name
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                found.update(f"{path.relative_to(contents.ROOT)}\0".encode() + _content(path))
    return found.hexdigest()


def _content(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
