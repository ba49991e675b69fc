"""The frozen vmcp: what PyInstaller is told, and what its harvest is held against.

The rule: nothing comes along by accident. Every module belongs to vmcp, to a package that vmcp needs, or to Python; every library
has a known licence and looks for others beside itself alone; the oldest glibc that all of it runs on is written down.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from deploy.binary import contents, elf
from vmcp import about

STAGE = contents.WORK / "stage"
FOUND = contents.WORK / "contents.json"
"""What is inside, for the bill of materials."""
FORGET = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "licenses/*", "WHEEL", "top_level.txt")
"""Of the metadata of packages: what names the folder they were installed to, or is in ``_licences.json`` already."""
EXCLUDED = (
    *("ecdsa", "rsa", "pyasn1", "pygments", "markdown_it", "mdurl", "pycparser", "six"),
    *(
        "setuptools",
        "pkg_resources",
        "distutils",
        "pip",
        "wheel",
        "PyInstaller",
        "pytest",
        "_pytest",
        "mypy",
        "hypothesis",
    ),
    *(
        "tkinter",
        "_tkinter",
        "turtle",
        "idlelib",
        "lib2to3",
        "pydoc",
        "pydoc_data",
        "doctest",
        "pdb",
        "unittest",
        "test",
    ),
    *("readline", "curses", "_curses", "dbm", "_pydecimal", "xmlrpc", "ensurepip", "venv"),
)
"""``readline`` because of its licence, the others because nobody calls them."""
ELSEWHERE = ("libstdc++.so.6", "libz.so.1")
"""Libraries of the system that the file runs on: what starts it needs its zlib anyway; Debian's C++ needs a newer glibc than all
else, and protobuf does without."""
HIDDEN = ("cedarpy", "jose.backends.cryptography_backend", "uvloop", "uvicorn.protocols.http.httptools_impl", "sqlite3")
Entry = tuple[str, str, str]
"""As PyInstaller has them: the name inside, the file, the kind."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the spec file tells PyInstaller."""

    root: Path = contents.ROOT
    entry: Path = contents.ROOT / "vmcp" / "__main__.py"
    imports: Sequence[str] = field(default_factory=list)
    data: Sequence[tuple[str, str]] = field(default_factory=list)
    excluded: Sequence[str] = EXCLUDED


def plan() -> Plan:
    """Every module of vmcp, and every file beside its modules."""
    package = contents.ROOT / "vmcp"
    modules = [
        ".".join(("vmcp", *path.relative_to(package).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(package.rglob("*.py"))
    ]
    data = [(str(path), str(path.relative_to(contents.ROOT).parent)) for path in files(package)]
    data += [(str(path), str(Path(name).parent)) for name, path in contents.from_outside()]
    data += _entry_points()
    return Plan(imports=[*modules, *HIDDEN, *_exporters()], data=data)


def files(package: Path) -> Iterator[Path]:
    """What is no Python in a package."""
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts:
            yield path


def _exporters() -> list[str]:
    """What OpenTelemetry loads by name."""
    return [
        each.module
        for dist in contents.packages()
        if dist.metadata["Name"].startswith("opentelemetry")
        for each in dist.entry_points
    ]


def _entry_points() -> list[tuple[str, str]]:
    """The metadata in which OpenTelemetry looks for those names."""
    return [
        (str(dist.locate_file(file)), file.parts[0])
        for dist in contents.packages()
        if dist.metadata["Name"].startswith("opentelemetry")
        for file in dist.files or ()
        if file.name in ("entry_points.txt", "METADATA") and ".dist-info" in file.parts[0]
    ]


def looked_over(analysis: Any) -> tuple[list[Entry], list[Entry]]:
    """The libraries and the files that are packed, made ready. Raises ``SystemExit`` for what must not be in there."""
    STAGE.mkdir(parents=True, exist_ok=True)
    inside = _inside(analysis)
    libraries, binaries = [], []
    for name, source, kind in analysis.binaries:
        if Path(name).name in ELSEWHERE:
            continue
        if contents.owner(contents.module(name)) is None and kind == "BINARY":
            libraries.append((contents.library(Path(name).name), Path(source)))
        binaries.append((name, str(_cleaned(name, Path(source))), kind))
    floor = max(filter(None, (elf.glibc(Path(source)) for _, source, _ in binaries)), default=(0, 0))
    told = {
        "glibc": ".".join(map(str, floor)),
        "libraries": [
            {"name": each.name, "version": each.version(), "licence": each.licence} for each in _once(libraries)
        ],
    }
    _note(told, binaries, inside)
    data = [each for each in analysis.datas if not any(Path(each[0]).match(f"*.dist-info/{name}") for name in FORGET)]
    for name, text in contents.written("binary", inside, **told).items():
        (STAGE / name).write_bytes(text)
        data.append((f"vmcp/{name}", str(STAGE / name), "DATA"))
    return binaries, data


def _inside(analysis: Any) -> list[metadata.Distribution]:
    """The packages that modules were collected of."""
    wanted = {about.canonical(each.metadata["Name"]): each for each in contents.packages()}
    modules = [name for name, *_ in analysis.pure] + [contents.module(name) for name, *_ in analysis.binaries]
    collected = {owner for name in modules if (owner := contents.owner(name)) is not None}
    strange = sorted(collected - wanted.keys())
    if strange:
        raise SystemExit(
            f"build.py: {', '.join(strange)} would be bundled, which vmcp does not need; see EXCLUDED in {__file__}"
        )
    return [wanted[name] for name in sorted(collected)]


def _once(libraries: Sequence[tuple[contents.Library, Path]]) -> list[contents.Library]:
    return sorted({each.name: each for each, _ in libraries}.values(), key=lambda each: each.name)


def _cleaned(name: str, source: Path) -> Path:
    """A copy that looks for other libraries nowhere but beside itself, where there is something to clean."""
    content = source.read_bytes()
    if not elf.foreign_paths(content):
        return source
    copy = STAGE / "libraries" / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(elf.without_foreign_paths(content))
    shutil.copymode(source, copy)
    return copy


def cleaned(libraries: Sequence[Entry]) -> list[Entry]:
    """The same for what PyInstaller adds itself, to start with."""
    return [(name, str(_cleaned(name, Path(source))), kind) for name, source, kind in libraries]


def _note(told: Mapping[str, Any], binaries: Sequence[Entry], inside: Sequence[metadata.Distribution]) -> None:
    noted = {
        **told,
        "packages": [about.dependency(each) for each in inside],
        "files": [
            {
                "name": name,
                "sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest(),
                "of": contents.owner(contents.module(name)) or _of_library(name),
            }
            for name, source, _ in sorted(binaries)
        ],
    }
    FOUND.write_bytes(contents.as_json(noted))


def _of_library(name: str) -> str:
    return "python" if "lib-dynload" in name else contents.library(Path(name).name).name


def make() -> tuple[Path, Path]:
    """Build; the file, and the folder. Raises ``SystemExit``."""
    _can_freeze()
    shutil.rmtree(contents.WORK, ignore_errors=True)
    made = contents.WORK / "made"
    words = ("--noconfirm", "--log-level", "WARN", "--distpath", made, "--workpath", contents.WORK / "work")
    command = [sys.executable, "-m", "PyInstaller", *map(str, words), str(Path(__file__).with_name("vmcp.spec"))]
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "1",
        "PYTHONPATH": str(contents.ROOT),
        "SOURCE_DATE_EPOCH": str(contents.epoch()),
        "PYINSTALLER_CONFIG_DIR": str(contents.WORK / "cache"),
        "PYINSTALLER_ZLIB_COMPRESSION_LEVEL": "0",
    }
    code = subprocess.run(command, cwd=contents.ROOT, env=environment, check=False).returncode
    if code:
        raise SystemExit(f"build.py: PyInstaller ended with exit code {code}")
    (made / "folder" / "vmcp-folder").rename(made / "folder" / "vmcp")
    return made / "vmcp", made / "folder"


def _can_freeze() -> None:
    missing = [name for name in ("strip", "objdump", "ldd") if shutil.which(name) is None]
    if platform.system() == "Linux" and missing:
        raise SystemExit(f"build.py: to freeze needs {', '.join(missing)}; Debian, Ubuntu: apt-get install binutils")
    try:
        ctypes.CDLL(str(sysconfig.get_config_var("INSTSONAME")))
    except OSError:
        raise SystemExit(
            f"build.py: to freeze needs a Python with a shared library, {sys.executable} has none\n"
            "  Debian, Ubuntu: apt-get install libpython3-dev; pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared"
        ) from None
