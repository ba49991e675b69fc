"""``python3 build.py binary``, ``zipapp`` and ``wheel``: make it, look at it, say what it is.

The rule: it is put into ``dist/`` when it is whole; of each, size, digest and start-up time are said; ``SHA256SUMS`` lists them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from deploy.binary import archive, bill, contents, frozen, known_bad, manual, stamp, timing, wheel
from vmcp import about

Arguments = Sequence[str]
UNTIMED = "--untimed"
SUMS = contents.OUT / "SHA256SUMS"


def binary(arguments: Arguments) -> None:
    """One executable; with ``--onedir`` the folder for containers too; ``--glibc 2.28`` refuses what needs a newer one."""
    most = _option(arguments, "--glibc")
    file, folder = frozen.make()
    floor = json.loads(frozen.FOUND.read_text("utf-8"))["glibc"]
    if most and known_bad.order(floor) > known_bad.order(most):
        raise SystemExit(f"build.py: it needs glibc {floor}, and {most} is the most it may; build it with an older one")
    for each in (file, folder / "vmcp"):
        _whole(each)
    made = [_placed(file, contents.OUT / "vmcp")]
    if "--onedir" in arguments:
        made.append(_placed(folder, contents.OUT / "vmcp-onedir") / "vmcp")
    bill.make(made[0], frozen.FOUND, contents.OUT / "vmcp.cdx.json")
    manual.make(made[0], contents.OUT)
    for each in made:
        _said(each, _timed(arguments, each))
    print(f"runs on Linux with glibc {floor} or newer; bill of materials: dist/vmcp.cdx.json")


def _whole(program: Path) -> None:
    done = subprocess.run([program, "selfcheck"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"build.py: {program} is not whole\n{done.stdout}{done.stderr}")


def zipapp(arguments: Arguments) -> None:
    """One file for a Python that is there: ``dist/vmcp.pyz``."""
    beside = contents.WORK / "vmcp.pyz"
    archive.make(beside)
    made = _placed(beside, contents.OUT / "vmcp.pyz")
    _said(made, _timed(arguments, sys.executable, made))


def wheels(_: Arguments) -> None:
    """The wheel and the source distribution."""
    for made in wheel.make(contents.OUT):
        _said(made, [])


def again(arguments: Arguments) -> None:
    """Build everything twice, and say whether it is the same."""
    digests = []
    for _ in range(2):
        binary(arguments)
        zipapp(arguments)
        wheels(arguments)
        digests.append(SUMS.read_text("utf-8"))
    print(digests[1], end="")
    if digests[0] != digests[1]:
        raise SystemExit("build.py: the second build is not the first one:\n" + digests[0])
    print("two builds, the same bytes")


def needed(_: Arguments) -> None:
    """What tests run: made anew when it is not of these sources."""
    if stamp.fresh():
        return
    print("build.py: making what is shipped, to be tested", file=sys.stderr)
    binary(["--onedir", UNTIMED])
    zipapp([UNTIMED])
    wheels([])
    stamp.write()


COMMANDS: dict[str, Callable[[Arguments], None]] = {
    "binary": binary,
    "zipapp": zipapp,
    "wheel": wheels,
    "twice": again,
    "needed": needed,
}


def _option(arguments: Arguments, name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments[:-1] else None


def _timed(arguments: Arguments, *words: str | Path) -> Sequence[str | Path]:
    """The words to start it with, if somebody wants to know how long that takes."""
    return () if UNTIMED in arguments else words


def _placed(made: Path, target: Path) -> Path:
    """Put it there, in place of what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    return Path(shutil.move(made, target))


def _said(path: Path, words: Sequence[str | Path]) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = sum(each.stat().st_size for each in _parts(path))
    print(f"{path.relative_to(contents.ROOT)}  {size / 1e6:.1f} MB  sha256 {digest}")
    if words:
        begun = timing.livez(words)
        print(f"  vmcp version in {timing.version(words) * 1000:.0f} ms, serves after {begun.seconds * 1000:.0f} ms")
    sums = dict(line.split("  ")[::-1] for line in SUMS.read_text("utf-8").splitlines()) if SUMS.exists() else {}
    sums[str(path.relative_to(contents.OUT))] = digest
    kept = {name: each for name, each in sums.items() if (contents.OUT / name).exists()}
    SUMS.write_text("".join(f"{kept[name]}  {name}\n" for name in sorted(kept)), "utf-8")


def _parts(path: Path) -> list[Path]:
    internal = path.parent / "_internal"
    return [path, *(each for each in internal.rglob("*") if each.is_file() and not each.is_symlink())]


def main() -> None:
    """Run the command of the first argument, if nothing known to be bad would be in what it makes."""
    versions = {about.canonical(each.metadata["Name"]): each.version for each in metadata.distributions()}
    found = list(known_bad.bad(versions))
    if found:
        raise SystemExit("build.py: " + "; ".join(found))
    COMMANDS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    main()
