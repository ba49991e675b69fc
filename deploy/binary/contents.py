"""What goes into every artefact: the packages, what is written into it about itself, and the licences.

The rule: what is inside follows from the lock and the tree alone, so that two builds of one commit are the same bytes. A package
that nobody asked for, a library of unknown licence, or a version that is known to be bad stops the build.
"""

from __future__ import annotations

import functools
import json
import os
import pyexpat
import shutil
import sqlite3
import ssl
import subprocess
import sys
import time
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from vmcp import __version__, about

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "dist"
WORK = ROOT / "build" / "vmcp"
LEFT_OUT = frozenset({"ecdsa", "rsa", "pyasn1", "six", "pygments", "markdown-it-py", "mdurl", "pycparser"})
"""Needed by nothing that vmcp calls: python-jose works with cryptography, rich draws tables, cffi is compiled."""
EARLIEST = 315532800
"""1980: before that a zip file knows no time."""


@dataclass(frozen=True, slots=True)
class Library:
    """A library that is not Python's and comes with it: how its file begins, its licence, and how to ask for its version."""

    name: str
    begins: tuple[str, ...]
    licence: str
    version: Callable[[], str] = lambda: ""


LIBRARIES: Sequence[Library] = (
    Library("python", ("libpython",), "PSF-2.0", lambda: sys.version.split()[0]),
    Library("openssl", ("libssl.", "libcrypto."), "Apache-2.0", lambda: ssl.OPENSSL_VERSION.split()[1]),
    Library("sqlite", ("libsqlite3.",), "blessing", lambda: sqlite3.sqlite_version),
    Library("zlib", ("libz.",), "Zlib", lambda: zlib.ZLIB_RUNTIME_VERSION),
    Library("expat", ("libexpat.",), "MIT", lambda: pyexpat.EXPAT_VERSION.removeprefix("expat_")),
    Library("libffi", ("libffi.",), "MIT"),
    Library("bzip2", ("libbz2.",), "bzip2-1.0.6"),
    Library("xz", ("liblzma.",), "0BSD"),
    Library("libuuid", ("libuuid.",), "BSD-3-Clause"),
    Library("libgcc", ("libgcc_s.",), "GPL-3.0-or-later WITH GCC-exception-3.1"),
)
LOADER = about.Facts(
    name="pyinstaller-bootloader",
    licence="GPL-2.0-or-later WITH Bootloader-exception",
    texts={
        "NOTICE": "The part of PyInstaller that starts the program; its exception allows any licence for what it starts."
    },
)


def library(file: str) -> Library:
    """Which one a file is. Raises ``SystemExit`` if that is not known, for then its licence is not either."""
    for each in LIBRARIES:
        if file.startswith(each.begins):
            return each
    raise SystemExit(
        f"build.py: {file} would be bundled, and nobody has said under which licence: deploy/binary/contents.py"
    )


def from_outside() -> Iterator[tuple[str, Path]]:
    """The files that the package holds though they lie elsewhere in the tree, by their names inside; as the wheel has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    placed: Mapping[str, str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for folder, inside in placed.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file():
                yield f"{inside}/{path.relative_to(ROOT / folder)}", path


def packages() -> list[metadata.Distribution]:
    """All that vmcp needs and an artefact holds. Raises ``SystemExit`` where it is not installed, or known to be bad."""
    found = [
        each for each in about.closure("vmcp") if about.canonical(each.metadata["Name"]) not in LEFT_OUT | {"vmcp"}
    ]
    if not found:
        raise SystemExit("build.py: vmcp is not installed here; run it through build.py")
    return found


def owner(name: str) -> str | None:
    """The package that a module is of; None for the standard library, for vmcp, and for what is no module."""
    return _owners().get(name)


@functools.cache
def _owners() -> Mapping[str, str]:
    found = {}
    for dist in metadata.distributions():
        for file in dist.files or ():
            if file.suffix in (".py", ".so"):
                found[module(str(file))] = about.canonical(dist.metadata["Name"])
    return {name: dist for name, dist in found.items() if dist != "vmcp"}


def module(file: str) -> str:
    """The module of a file in a package: ``a/b.cpython-311.so`` is ``a.b``."""
    folder, _, name = file.rpartition("/")
    steps = [*folder.split("/"), name.partition(".")[0]] if folder else [name.partition(".")[0]]
    return ".".join(steps).removesuffix(".__init__")


def epoch() -> int:
    """The time that everything in an artefact bears: of the commit, or as ``SOURCE_DATE_EPOCH`` says."""
    said = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or EARLIEST
    return max(EARLIEST, int(said))


def commit() -> str | None:
    """The commit, with a plus where the tree is not quite that."""
    found = os.environ.get("VMCP_COMMIT") or _git("rev-parse", "HEAD")
    if not found:
        return None
    changed = not os.environ.get("VMCP_COMMIT") and _git(
        "status", "--porcelain", "--", "vmcp", "schemas", "requirements"
    )
    return f"{found}{'+' if changed else ''}"


def _git(*words: str) -> str:
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def written(form: str, found: Sequence[metadata.Distribution], **more: Any) -> dict[str, bytes]:
    """The files about itself that an artefact holds, by name."""
    facts = {
        "version": __version__,
        "commit": commit(),
        "built": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch())),
        "form": form,
        "dependencies": [about.dependency(each) for each in found],
        **more,
    }
    return {
        about.BUILD: as_json(facts),
        about.LICENCES: as_json({"packages": licences(found, more.get("libraries", ()))}),
    }


def licences(found: Sequence[metadata.Distribution], libraries: Sequence[Mapping[str, str]]) -> list[about.Facts]:
    """Of packages and of libraries, with the text of Python's."""
    told = [about.licence(each) for each in found]
    for each in libraries:
        texts = {"LICENSE.txt": _of_python()} if each["name"] == "python" else {}
        told.append({**each, "texts": texts})
    if libraries:
        told.append({"version": metadata.version("pyinstaller"), **LOADER})
    return sorted(told, key=lambda each: str(each["name"]))


def _of_python() -> str:
    for place in (Path(os.__file__).parent / "LICENSE.txt", Path("/usr/share/doc/python3/copyright")):
        if place.is_file():
            return place.read_text("utf-8")
    return "Python Software Foundation License Version 2; https://docs.python.org/3/license.html\n"


def as_json(value: Any) -> bytes:
    """The same bytes for the same value."""
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"
