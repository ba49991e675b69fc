"""The token for those who come over a port: a file that only this user can read.

The rule: whoever can read the file may do everything, so a file that others can read is refused and never mended.
"""

import hmac
import os
import secrets
import stat
from hashlib import sha256
from pathlib import Path
from typing import Final

from vmcp.admin.place import Unsafe

LEAST: Final = 32
_MOST: Final = 4096


class Token:
    """What has to be shown; only its digest is kept."""

    def __init__(self, text: str) -> None:
        self._digest = _digest(text)

    def fits(self, authorization: str) -> bool:
        """Whether an ``Authorization`` header shows it."""
        scheme, _, shown = authorization.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(_digest(shown.strip()), self._digest)


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()


def kept(path: Path, uid: int) -> Token:
    """The token of a file, which is made if it is not there. Raises ``Unsafe``."""
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return Token(_read(path, uid))
    except OSError as error:
        raise Unsafe(f"the token file {path} cannot be made: {error.strerror}") from None
    text = secrets.token_urlsafe(32)
    with open(made, "w") as file:  # noqa: PTH123 - a descriptor
        file.write(f"{text}\n")
    return Token(text)


def _read(path: Path, uid: int) -> str:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            text = file.read(_MOST).decode("utf-8", "replace").strip()
    except OSError as error:
        raise Unsafe(f"the token file {path} cannot be read: {error.strerror}") from None
    if found.st_uid not in (0, uid) or stat.S_IMODE(found.st_mode) & 0o077:
        raise Unsafe(f"the token file {path} may be read by others; give it mode 0600, or remove it")
    if len(text) < LEAST:
        raise Unsafe(f"the token in {path} is shorter than {LEAST} characters; remove the file, and one is made")
    return text
