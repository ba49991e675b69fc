"""Shared libraries as bytes: which glibc they need, and where they tell the loader to look.

The rule: nothing but the file is asked; no tool of this machine has to be there.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

MAGIC = b"\x7fELF\x02\x01"
"""ELF, 64 bits, little-endian: what is built here."""
_NEEDS = re.compile(rb"\0GLIBC_(\d+)\.(\d+)(?:\.\d+)?(?=\0)")
_DYNAMIC, _LOAD = 2, 1
_STRINGS, _RPATH, _RUNPATH = 5, 15, 29
Version = tuple[int, int]


def glibc(path: Path) -> Version | None:
    """The oldest glibc that has all the versioned names which the file needs."""
    content = path.read_bytes()
    if not content.startswith(MAGIC[:4]):
        return None
    found = {(int(major), int(minor)) for major, minor in _NEEDS.findall(content)}
    return max(found, default=None)


def without_foreign_paths(content: bytes) -> bytes:
    """The same library, which looks for others beside itself alone: a folder of this machine may be anybody's on another."""
    if not content.startswith(MAGIC):
        return content
    made = bytearray(content)
    for start in _search_paths(content):
        end = content.index(b"\0", start)
        kept = b":".join(part for part in content[start:end].split(b":") if part.startswith(b"$ORIGIN"))
        made[start:end] = kept.ljust(end - start, b"\0")
    return bytes(made)


def foreign_paths(content: bytes) -> list[str]:
    """What it would look through elsewhere."""
    found = []
    for start in _search_paths(content) if content.startswith(MAGIC) else ():
        said = content[start : content.index(b"\0", start)].decode()
        found += [part for part in said.split(":") if part and not part.startswith("$ORIGIN")]
    return found


def _search_paths(content: bytes) -> list[int]:
    """Where in the file RPATH and RUNPATH stand."""
    segments = _segments(content)
    entries = [
        struct.unpack_from("<QQ", content, at)
        for kind, offset, _, size in segments
        if kind == _DYNAMIC
        for at in range(offset, offset + size, 16)
    ]
    strings = next((value for tag, value in entries if tag == _STRINGS), None)
    if strings is None:
        return []
    base = _offset(segments, strings)
    return [base + value for tag, value in entries if tag in (_RPATH, _RUNPATH)]


def _segments(content: bytes) -> list[tuple[int, int, int, int]]:
    """Kind, offset, address, and size in the file of every segment."""
    (start,) = struct.unpack_from("<Q", content, 32)
    size, count = struct.unpack_from("<HH", content, 54)
    found = []
    for number in range(count):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", content, start + number * size)
        found.append((kind, offset, address, length))
    return found


def _offset(segments: list[tuple[int, int, int, int]], address: int) -> int:
    for kind, offset, start, length in segments:
        if kind == _LOAD and start <= address < start + length:
            return offset + address - start
    raise ValueError("an address outside of the file")
