"""Where there is little: no place to write, no place to run from, nobody's user, the first process of a container.

Rule: real mounts and namespaces of the kernel. What cannot work says so in a line that names what to change.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.binary.conftest import FORMS, NOTES, Place, alive, below, made, until

pytestmark = [
    pytest.mark.binary,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="namespaces of Linux"),
]

ALONE = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")))
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - mounted over, where nobody else sees it
SEEN = "/mnt"
"""Where the program is to be found whatever is mounted over the rest."""
CONFIG = f"""\
name: confined
groups: {{g: {{backends: {{notes: {{command: [{sys.executable}, {NOTES}]}}}}}}}}
"""


def confined(place: Place, first: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run it where ``first`` was done before."""
    script = f'mount --bind "$0" {SEEN} && {first} && exec {SEEN}/vmcp "$@"'
    command = [*ALONE, "sh", "-ec", script, str(place.program.parent), *words]
    return subprocess.run(
        command, cwd="/", env=place.environment, capture_output=True, text=True, timeout=60, check=False
    )


def tmp(options: str) -> str:
    """Everything that counts as temporary is mounted with these."""
    return " && ".join(f"mount -t tmpfs -o {options} none {place}" for place in TEMPORARY)


@pytest.fixture
def file(tmp_path: Path) -> Place:
    """The one file, in a place that no mount of these tests hides."""
    return _visible(made(tmp_path, FORMS["file"]))


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    return _visible(made(tmp_path, FORMS["folder"]))


def _visible(place: Place) -> Place:
    place.more = {"TMPDIR": TEMPORARY[0]}
    return place


def test_the_folder_needs_no_place_to_write(folder: Place) -> None:
    everything = "mount -o remount,bind,ro / / && " + tmp("ro")
    assert confined(folder, everything, "version").stdout.startswith("vmcp ")
    told = confined(folder, everything, "selfcheck")
    assert "failed  temporary files" in told.stdout
    assert told.stdout.count("failed") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("ro", "Could not create temporary directory!"),
        ("noexec", "libpython"),
        ("size=10m", "No space left on device"),
    ],
)
def test_the_file_says_why_it_cannot_unpack(file: Place, options: str, words: str) -> None:
    ended = confined(file, tmp(options), "version")
    assert ended.returncode != 0
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_file_unpacks_where_it_is_told_to(file: Place) -> None:
    file.more = {"TMPDIR": "/run/elsewhere"}
    first = tmp("ro") + " && mount -t tmpfs none /run && mkdir /run/elsewhere"
    assert confined(file, first, "version").stdout.startswith("vmcp ")


@pytest.fixture
def anybody() -> Iterator[Path]:
    """A folder that others may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("form", FORMS)
def test_it_needs_no_account_and_no_home(form: str, anybody: Path) -> None:
    place = made(anybody, FORMS[form])
    (anybody / "tmpdir").chmod(0o1777)
    if form == "folder":
        shutil.copytree(place.program.parent, anybody / "program", symlinks=True)
    else:
        (anybody / "program").mkdir()
        shutil.copy2(place.program, anybody / "program")
    somebody = ["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups", "--no-new-privs"]
    environment = {"TMPDIR": str(anybody / "tmpdir"), "HOME": "/nonexistent"}
    command = [*somebody, anybody / "program" / "vmcp", "selfcheck"]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_as_the_first_process_it_ends_in_order_and_the_folder_buries_the_dead(place: Place) -> None:
    """What has lost its parent there is the first process's; the one of the file is none of ours and buries nobody."""
    words = ("serve", "--port", "0", "--log-format", "json", "-c", str(place.config(CONFIG)))
    command = [*ALONE, "--pid", "--fork", "--kill-child", "--mount-proc", str(place.program), *words]
    log = place.folder / "log"
    with log.open("wb") as stderr:
        outer = subprocess.Popen(command, env=place.environment, stderr=stderr, start_new_session=True)
    try:
        assert until(lambda: '"msg":"ready"' in log.read_text("utf-8")), log.read_text("utf-8")
        (first,) = [each for each in below(outer.pid) if _pid_inside(each) == 1]
        family = below(first)
        nurses = [each for each in family if _name(each) == "vmcp-nurse"]
        assert nurses
        for each in (*(each for each in family if _name(each) == "vmcp-nursery"), *nurses):
            os.kill(each, signal.SIGKILL)
        assert until(lambda: not any(map(alive, nurses)))
        if place.program == FORMS["folder"]:
            assert until(lambda: not any(map(_is_there, nurses))), "nobody buried them"
        os.kill(first, signal.SIGTERM)
        assert outer.wait(20) == 0
        assert not any(map(alive, family))
    finally:
        outer.kill()
        outer.wait()


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text("utf-8").strip()


def _pid_inside(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return 0


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
