"""What a zip file with vmcp in it does first: unpack itself once, and go on there, as libraries cannot be loaded from within.

The rule: the standard library alone, of any Python 3. What is unpacked is this user's alone, and complete or not there.
"""

import os
import platform
import sys
import zipfile

PYTHON = (3, 0)
MACHINE = "SYSTEM"
CONTENT = "DIGEST"
WRONG, NOWHERE = 69, 73


def suits() -> None:
    """Stop with what is needed, if it is not this."""
    here = "{}-{}".format(platform.system(), platform.machine())
    if sys.version_info[:2] != PYTHON or here != MACHINE or platform.python_implementation() != "CPython":
        needed = "CPython {}.{} on {}".format(PYTHON[0], PYTHON[1], MACHINE)
        have = "{} {} on {}".format(platform.python_implementation(), platform.python_version(), here)
        sys.stderr.write("vmcp: this file is for {}, this is {} ({})\n".format(needed, have, sys.executable))
        sys.exit(WRONG)


def places() -> "list[str]":
    """Where it may be unpacked to, the best first."""
    chosen = os.environ.get("VMCP_CACHE_DIR")
    if chosen:
        return [chosen]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    temporary = os.environ.get("TMPDIR") or "/tmp"
    return [os.path.join(cache, "vmcp"), os.path.join(temporary, "vmcp-cache-{}".format(os.getuid()))]


def unpacked(archive: str) -> str:
    """The folder with everything in it; made if it is not there."""
    wrong = []
    for place in places():
        folder = os.path.join(place, "pyz-" + CONTENT)
        try:
            os.makedirs(place, mode=0o700, exist_ok=True)
            found = os.lstat(place)
            if found.st_uid != os.getuid() or found.st_mode & 0o022:
                raise OSError(0, "others may write there")
            if not os.path.isdir(folder):
                unpack(archive, folder)
            return folder
        except OSError as error:
            wrong.append("{}: {}".format(place, error.strerror or error))
    sys.stderr.write("vmcp: there is no place to unpack to; set VMCP_CACHE_DIR\n  {}\n".format("\n  ".join(wrong)))
    sys.exit(NOWHERE)


def unpack(archive: str, folder: str) -> None:
    """Beside it first, then there at once; whoever else was faster has the same."""
    beside = "{}.{}".format(folder, os.getpid())
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(beside, [name for name in opened.namelist() if name.startswith("site/")])
    try:
        os.rename(beside, folder)
    except OSError:
        if not os.path.isdir(folder):
            raise


def main() -> None:
    """Unpack, and be vmcp."""
    suits()
    archive = os.path.abspath(sys.argv[0])
    site = os.path.join(unpacked(archive), "site")
    sys.path[0] = site
    from vmcp import outset

    outset.begin()
    outset.from_archive(archive)
    from vmcp.cli import main as vmcp

    vmcp()


if __name__ == "__main__":
    main()
