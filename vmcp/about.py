"""What this vmcp is made of: its build, its Python, the packages in it and their licences.

The rule: what was written down when it was built counts (``_build.json``, ``_licences.json``); a checkout is asked itself.
"""

import functools
import importlib.resources
import json
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from vmcp import __version__
from vmcp.protocol.revisions import Revision

Facts = dict[str, Any]
BUILD: Final = "_build.json"
LICENCES: Final = "_licences.json"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_TEXTS = re.compile(r"(?i)^(?:licen[cs]e|copying|notice|authors)")
_TEXT_ALONE: Final = {"cedarpy": "Apache-2.0"}
"""Packages that tell their licence nowhere but in its text."""
_BY_CLASSIFIER: Final = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def facts() -> Facts:
    """For ``vmcp version --output json`` and the page: everything but the texts of licences."""
    known = build()
    return {
        "name": "vmcp",
        "version": __version__,
        "commit": known.get("commit"),
        "built": known.get("built"),
        "form": form(known),
        "glibc": known.get("glibc"),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "platform": f"{platform.system().lower()}-{platform.machine()}",
        "revisions": [*Revision],
        "dependencies": known.get("dependencies") or dependencies(),
    }


@functools.cache
def build() -> Facts:
    """What was written down at the build; nothing in a checkout."""
    return _resource(BUILD) or {}


def form(known: Facts) -> str:
    """As what it runs: ``source wheel zipapp``, or frozen: ``file`` or ``folder``."""
    if not getattr(sys, "frozen", False):
        return str(known.get("form", "source"))
    unpacked = Path(getattr(sys, "_MEIPASS", ""))
    return "folder" if unpacked.parent == Path(sys.executable).parent else "file"


def licences() -> list[Facts]:
    """Of every package in here: ``name version licence texts``, in the order of names."""
    written = _resource(LICENCES)
    found: list[Facts] = (
        written["packages"] if written else [licence(each) for each in closure("vmcp") if _named(each) != "vmcp"]
    )
    return found


def dependencies() -> list[Facts]:
    """The packages beside vmcp, as they are installed."""
    return [dependency(each) for each in closure("vmcp") if _named(each) != "vmcp"]


def dependency(dist: metadata.Distribution) -> Facts:
    """A package in a line: ``name version licence``."""
    return {"name": _named(dist), "version": dist.version, "licence": expression(dist.metadata)}


def closure(root: str) -> list[metadata.Distribution]:
    """``root`` and all that it needs of what is installed, in the order of names; nothing if it is not installed itself."""
    found: dict[str, metadata.Distribution] = {}
    wanted = [root]
    while wanted:
        name = canonical(wanted.pop())
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # for another system, or another Python
        wanted += _needed(found[name])
    return [found[name] for name in sorted(found)]


def _needed(dist: metadata.Distribution) -> Iterator[str]:
    for line in dist.requires or ():
        name = _NAME.match(line)
        if name is not None and "extra" not in line.partition(";")[2]:
            yield name[0]


def canonical(name: str) -> str:
    """A package's name as everybody writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _named(dist: metadata.Distribution) -> str:
    return canonical(dist.metadata["Name"])


def expression(told: Any) -> str:
    """The licence of a package in SPDX's words, as far as it tells."""
    said: str = told.get("License-Expression") or ""
    if said:
        return said
    for classifier in told.get_all("Classifier") or ():
        _, _, last = classifier.rpartition(" :: ")
        if classifier.startswith("License ::") and last in _BY_CLASSIFIER:
            return _BY_CLASSIFIER[last]
    lines = str(told.get("License") or "").splitlines()
    if lines == ["3-Clause BSD License"]:
        return "BSD-3-Clause"
    return lines[0] if len(lines) == 1 else _TEXT_ALONE.get(canonical(told["Name"]), "not stated")


def licence(dist: metadata.Distribution) -> Facts:
    """The same, with the texts that it is under."""
    texts = {
        file.name: Path(str(dist.locate_file(file))).read_text("utf-8")
        for file in dist.files or ()
        if _TEXTS.match(file.name) and ".dist-info" in str(file)
    }
    return {**dependency(dist), "texts": texts}


def _resource(name: str) -> Facts | None:
    place = importlib.resources.files("vmcp") / name
    found: Facts | None = json.loads(place.read_text("utf-8")) if place.is_file() else None
    return found
