"""The root file system of the image, without a container engine: as process 1, as nobody, with nothing to write to but /tmp.

Rule: it is made by the script that the Dockerfile runs, from the folder that is shipped, and started with the words of the image.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.deploy.manifests import DEPLOY, commands

pytestmark = pytest.mark.binary
PATIENCE = 20.0
CONFIG = (
    "name: box\ngroups: {g: {backends: {a: {url: http://127.0.0.1:1/mcp}}}}\nserver: {allowAnonymousNetwork: true}\n"
)
BOX = """
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
mount -o remount,ro,bind "$1"
root=$1 nobody=$2
shift 2
exec chroot $nobody "$root" /opt/vmcp/vmcp "$@"
"""
OWN = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
"""Mounts and processes of its own; without root a user of its own too, in which there is no other to change to."""
ROOT = os.geteuid() == 0
NOBODY = "--userspec=65532:65532" if ROOT else ""


@pytest.fixture(scope="module")
def root(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system, with a configuration. ``proc`` is what a container engine would put there."""
    if ROOT is False and subprocess.run(["unshare", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("this machine gives nobody but root a file system of his own")
    made = tmp_path_factory.mktemp("image") / "root"
    subprocess.run([DEPLOY / "docker" / "rootfs", shipped / "vmcp-onedir", made], check=True, timeout=60)
    (made / "etc" / "vmcp" / "vmcp.yaml").write_text(CONFIG)
    (made / "proc").mkdir()
    for folder in (made, *made.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    return made


def words(where: str) -> list[str]:
    return next(found for place, found in commands() if place == where)


class Box:
    """A vmcp in its box. ``text`` is what it has said."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: int) -> None:
        self.process, self.text, self._output = process, "", output

    def until(self, pattern: str) -> "re.Match[str]":
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.text)) is None:
            ready, _, _ = select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._output, 65536) if ready else b""
            assert piece, f"no {pattern!r} in:\n{self.text}"
            self.text += piece.decode()
        return found

    def first(self) -> int | None:
        """Process 1 of the box, by the number that it has outside."""
        below = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(below[0]) if below else None


@contextlib.contextmanager
def box(root: Path, *arguments: str) -> Iterator[Box]:
    reading, writing = os.pipe()
    own = OWN if ROOT else [*OWN, "--map-root-user"]
    command = [*own, "bash", "-c", BOX, "box", str(root), NOBODY, *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, env={"PATH": os.environ["PATH"]}
    )
    os.close(writing)
    made = Box(process, reading)
    try:
        yield made
    finally:
        first = made.first() if process.poll() is None else None
        if first is not None:
            os.kill(first, signal.SIGKILL)  # and with it all others of the box
        process.kill()
        process.wait()
        os.close(reading)


def test_the_image_is_the_loader_the_c_library_and_vmcp(root: Path) -> None:
    """What of this system is in it: few files, and none that the folder has already."""
    outside = [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(root / "opt")]
    inside = {path.name for path in (root / "opt").rglob("*.so*")}
    libraries = {path.name for path in outside if ".so" in path.name}
    assert not libraries & inside
    assert {"libc.so.6", "libm.so.6"} <= libraries
    assert len(libraries) < 14
    assert {path.name for path in outside} - libraries == {
        "ca-certificates.crt",
        "group",
        "nsswitch.conf",
        "passwd",
        "vmcp.yaml",
    }


def test_the_image_serves_is_healthy_and_ends_as_process_1_and_nobody(root: Path) -> None:
    with box(root, *words("Dockerfile"), "--port", "0") as running:
        port = int(running.until(r"http://0\.0\.0\.0:(\d+)")[1])
        running.until('"msg":"(not )?ready"')
        assert httpx.get(f"http://127.0.0.1:{port}/livez", timeout=10, trust_env=False).status_code == 200
        first = running.first()
        assert first is not None
        told = Path(f"/proc/{first}/status").read_text()
        assert re.search(r"NSpid:.*\t1$", told, re.MULTILINE)
        if ROOT:
            assert re.search(r"Uid:\t65532\t65532\t65532\t65532", told)
        inside = ["nsenter", "--target", str(first), "--mount", "--pid", *([] if ROOT else ["--user"])]
        chroot = ["chroot", *([NOBODY] if NOBODY else []), str(root)]
        check = [*inside, *chroot, "/opt/vmcp/vmcp", *words("Dockerfile HEALTHCHECK")]
        checked = subprocess.run(check, env={"PATH": os.environ["PATH"]}, timeout=30, check=False)
        assert checked.returncode == 0
        os.kill(first, signal.SIGTERM)
        running.until('"msg":"stopped"')
        assert running.process.wait(PATIENCE) == 0
