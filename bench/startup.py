"""How the forms of vmcp begin: the tree, one file, a folder, a zip file: ``python bench/startup.py [--rounds N]``.

The rule: whoever is compared is measured in turn, so that a slow moment of the machine is everybody's; the best of all rounds
counts. What is there is measured: ``python3 build.py binary --onedir`` and ``zipapp`` make the others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from deploy.binary import timing  # noqa: E402 - as a script, this is not started from there

OUT = ROOT / "dist"
FORMS: Mapping[str, Sequence[str | Path]] = {
    "source": (sys.executable, "-m", "vmcp"),
    "file": (OUT / "vmcp",),
    "folder": (OUT / "vmcp-onedir" / "vmcp",),
    "zip": (sys.executable, OUT / "vmcp.pyz"),
}


@dataclass(frozen=True, slots=True)
class Begun:
    """The best of a few rounds, in seconds; size and memory in bytes."""

    size: int
    version: float
    cold: float
    serves: float
    memory: int
    processes: int


def there() -> dict[str, Sequence[str | Path]]:
    """The forms that are built."""
    return {
        name: words
        for name, words in FORMS.items()
        if all(Path(word).exists() for word in words if isinstance(word, Path))
    }


def size(name: str) -> int:
    """Of everything that is shipped of it."""
    place = {"source": ROOT / "vmcp", "file": OUT / "vmcp", "folder": OUT / "vmcp-onedir", "zip": OUT / "vmcp.pyz"}[
        name
    ]
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(
        each.stat().st_size for each in files if each.is_file() and not each.is_symlink() and each.suffix != ".pyc"
    )


def forgotten(path: Path) -> None:
    """Nothing of it is in the memory of the system any more, as after a boot."""
    for each in path.rglob("*") if path.is_dir() else [path]:
        if each.is_file():
            with each.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(rounds: int) -> dict[str, Begun]:
    """All forms that are there, in turn."""
    found: dict[str, list[Begun]] = {name: [] for name in there()}
    for _ in range(rounds):
        for name, words in there().items():
            for word in words:
                forgotten(Path(word).parent if name == "folder" else Path(word))
            cold = timing.version(words, 1)
            begun = timing.livez(words, 1)
            found[name].append(
                Begun(size(name), timing.version(words, 2), cold, begun.seconds, begun.memory, begun.processes)
            )
    return {name: best(each) for name, each in found.items()}


def best(rounds: Sequence[Begun]) -> Begun:
    """The smallest of each number."""
    return Begun(
        rounds[0].size,
        min(each.version for each in rounds),
        min(each.cold for each in rounds),
        min(each.serves for each in rounds),
        min(each.memory for each in rounds),
        rounds[0].processes,
    )


def shown(found: Mapping[str, Begun]) -> str:
    """As a table for people."""
    lines = [
        "| form | size | `vmcp version` | with a cold cache | until `/livez` | memory | processes |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, each in found.items():
        times = " | ".join(f"{1000 * seconds:.0f} ms" for seconds in (each.version, each.cold, each.serves))
        lines.append(f"| {name} | {each.size / 1e6:.1f} MB | {times} | {each.memory / 1e6:.0f} MB | {each.processes} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    missing = FORMS.keys() - there().keys()
    if missing:
        print(f"startup.py: not built, not measured: {', '.join(sorted(missing))}", file=sys.stderr)
    found = measured(chosen.rounds)
    print(shown(found))
    if chosen.json:
        chosen.json.write_text(json.dumps({name: asdict(each) for name, each in found.items()}), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
