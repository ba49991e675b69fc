"""``vmcp.pyz``: vmcp and all that it needs in one zip file, for a Python that is there already.

The rule: what is native in it was made for one version of Python on one kind of machine; others are told so in one line. The zip
holds the same bytes whenever and wherever it is made of the same packages.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from deploy.binary import contents
from vmcp import __version__

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
UNUSED = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_NEEDED = ("METADATA", "entry_points.txt")


def make(target: Path) -> None:
    """Write it."""
    inside = contents.packages()
    files = dict(sorted({**_of_packages(inside), **_of_vmcp(inside)}.items()))
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w") as made:
            _add(made, "__main__.py", _bootstrap(digest.hexdigest()[:20]))
            for name, content in files.items():
                _add(made, f"site/{name}", content)
    target.chmod(0o755)


def _add(made: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, time.gmtime(contents.epoch())[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    entry.create_system = 3
    made.writestr(entry, content, compresslevel=6)


def _bootstrap(digest: str) -> bytes:
    """What runs first, told what it is for."""
    text = BOOTSTRAP.read_text("utf-8")
    told = {
        '"DIGEST"': repr(digest),
        "(3, 0)": repr(sys.version_info[:2]),
        '"SYSTEM"': repr(f"{platform.system()}-{platform.machine()}"),
    }
    for place, value in told.items():
        if text.count(place) != 1:
            raise SystemExit(f"build.py: {place} is not in {BOOTSTRAP} once")
        text = text.replace(place, value)
    return text.encode()


def _of_packages(inside: list[metadata.Distribution]) -> Mapping[str, bytes]:
    return {
        str(file): Path(str(dist.locate_file(file))).read_bytes()
        for dist in inside
        for file in dist.files or ()
        if _wanted(file.parts, file.name, file.suffix)
    }


def _wanted(parts: tuple[str, ...], name: str, suffix: str) -> bool:
    if ".." in parts or suffix in (".pyc", ".pyi", ".pyx", ".pxd", ".c", ".h") or "__pycache__" in parts:
        return False
    return ".dist-info" not in parts[0] or name in _NEEDED


def _of_vmcp(inside: list[metadata.Distribution]) -> Mapping[str, bytes]:
    files = {str(path.relative_to(contents.ROOT)): path.read_bytes() for path in sources()}
    files |= {name: path.read_bytes() for name, path in contents.from_outside()}
    files |= {f"vmcp/{name}": content for name, content in contents.written("zipapp", inside).items()}
    metadata_of_vmcp = f"Metadata-Version: 2.1\nName: vmcp\nVersion: {__version__}\n"
    return {**files, f"vmcp-{__version__}.dist-info/METADATA": metadata_of_vmcp.encode()}


def sources() -> Iterator[Path]:
    """All files of the package."""
    for path in sorted((contents.ROOT / "vmcp").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield path
