"""Where the admin sockets of this user are, for who makes them and who looks for them.

The rule: the folder is this user's alone, or nothing is put there. It imports next to nothing, as every command looks here.
"""

import os
import re
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from vmcp.errors import CannotStart

SUFFIX: Final = ".sock"
LONGEST: Final = 103
"""Bytes of a socket's path that every system takes."""
_ODD = re.compile(r"[^A-Za-z0-9._-]")


class Unsafe(CannotStart):
    """A place that others could reach into, or that cannot be used; the text says why."""


def folders(environ: Mapping[str, str], uid: int) -> tuple[Path, ...]:
    """Where sockets may be, the usual place first; only in ``VMCP_RUN_DIR``, if that is set."""
    chosen = environ.get("VMCP_RUN_DIR", "")
    if chosen.startswith("/"):
        return (Path(chosen),)
    run = environ.get("XDG_RUNTIME_DIR", "")
    own = Path(f"/tmp/vmcp-{uid}")  # noqa: S108 - only used when it is ours alone
    return (Path(run) / "vmcp", own) if run.startswith("/") else (own,)


def prepared(environ: Mapping[str, str], uid: int) -> Path:
    """The first of those folders that can be used, made if it is not there. Raises ``Unsafe``."""
    wrong = Unsafe("there is no place for a socket")
    for folder in folders(environ, uid):
        try:
            private(folder, uid)
        except Unsafe as unsafe:
            wrong = unsafe
        else:
            return folder
    raise wrong


def private(folder: Path, uid: int) -> None:
    """See to it that ``folder`` is there, and ours alone. Raises ``Unsafe``."""
    try:
        folder.mkdir(0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise Unsafe(f"{folder} cannot be used: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) & 0o077:
        raise Unsafe(f"{folder} is not a folder of this user alone; remove it, or set admin.socket")


def file(folder: Path, name: str, suffix: str = SUFFIX) -> Path:
    """The path for a server's name."""
    plain = _ODD.sub("_", name).lstrip(".") or "_"
    path = folder / f"{plain}{suffix}"
    if plain != name or len(os.fsencode(path)) > LONGEST:
        digest = sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        room = LONGEST - len(os.fsencode(folder / f"-{digest}{suffix}"))
        path = folder / f"{plain[: max(0, room)]}-{digest}{suffix}"
    return path
