"""Secrets that outlive the process: each sealed in a file of its own, or kept in memory where there is no folder.

The rule: what is sealed for one owner opens for no other (the owner is authenticated with it), a file is whole or not there, and
nobody but the user of this process can read or write one. What cannot be opened is not there.
"""

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from vmcp.errors import VmcpError
from vmcp.state.ticket import Seal

KEY_BYTES: Final = 32
MOST: Final = 1 << 16
"""Bytes of a file that is read."""
_KEY = re.compile(r"[0-9a-fA-F]{64}")
_OWN_KEY: Final = "vmcp.key"
_SUFFIX: Final = ".sealed"
_LOCK: Final = ".lock"


class Owner(msgspec.Struct, frozen=True, array_like=True):
    """Whose a secret is: for which backend, and of which principal."""

    backend: str
    principal: str


class _File(msgspec.Struct, frozen=True):
    owner: Owner
    sealed: str


class VaultError(VmcpError):
    """Secrets cannot be kept; the text says why and names no secret."""


def read_keys(path: str) -> list[bytes]:
    """The keys in a file, the newest first. Raises ``VaultError``."""
    try:
        lines = Path(path).read_text("ascii").split()
    except (OSError, UnicodeDecodeError):
        raise VaultError("state.keys.file cannot be read") from None
    if not lines or not all(_KEY.fullmatch(line) for line in lines):
        raise VaultError("state.keys.file must have one key on each line: 64 hexadecimal digits (openssl rand -hex 32)")
    return [bytes.fromhex(line) for line in lines]


class Claim:
    """That nobody else who asks may change a secret. It ends with the process, too."""

    def __init__(self, path: Path | None = None, file: IO[bytes] | None = None) -> None:
        self._path = path
        self._file = file

    def end(self) -> None:
        """Let the next one."""
        if self._path is not None and self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()


class Vault:
    """Secrets by their owners. ``directory`` None: in memory. ``keys`` is the file of the keys; None: the folder has its own.

    It reads and writes files, so it is asked from a thread.
    """

    def __init__(self, directory: str | None = None, keys: str | None = None) -> None:
        self._folder = Path(directory) / "tokens" if directory is not None else None
        self._keys = keys
        self._seal: Seal | None = None
        self._kept: dict[Owner, bytes] = {}

    def check(self) -> None:
        """Raise ``VaultError`` if nothing could be kept."""
        if self._folder is not None:
            self._ready(self._folder)

    def get(self, owner: Owner) -> bytes | None:
        """What is kept for ``owner``. Raises ``VaultError`` when there are no keys to open it with."""
        if self._folder is None:
            return self._kept.get(owner)
        found = _read(self._folder / _name(owner))
        return self._ready(self._folder).unwrap(found.sealed, _aad(owner)) if found is not None else None

    def put(self, owner: Owner, secret: bytes) -> None:
        """Keep ``secret`` in place of what was kept. Raises ``VaultError``: then what was kept is there still."""
        if self._folder is None:
            self._kept[owner] = secret
            return
        sealed = self._ready(self._folder).wrap(secret, _aad(owner))
        try:
            _write(self._folder / _name(owner), msgspec.json.encode(_File(owner, sealed)))
        except OSError as error:
            raise VaultError(f"tokens cannot be kept in state.directory: {error.strerror or 'no reason'}") from None

    def drop(self, owner: Owner) -> bool:
        """Keep nothing for ``owner``; whether there was something."""
        if self._folder is None:
            return self._kept.pop(owner, None) is not None
        try:
            (self._folder / _name(owner)).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise VaultError(f"a token cannot be removed from state.directory: {error.strerror}") from None
        return True

    def claim(self, owner: Owner) -> Claim | None:
        """Have what is kept for ``owner`` to oneself, whether there is something or not; None while somebody else has it.

        Raises ``VaultError``. In memory there is nobody else.
        """
        if self._folder is None:
            return Claim()
        self._ready(self._folder)
        path = (self._folder / _name(owner)).with_suffix(_LOCK)
        try:
            file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b", 0)  # noqa: PTH123, SIM115
            if _claimed(path, file):
                return Claim(path, file)
        except OSError as error:  # (file systems without locks are among these)
            raise VaultError(f"state.directory cannot be used: {error.strerror or 'no reason'}") from None
        file.close()
        return None

    def owners(self, backend: str) -> Iterator[Owner]:
        """Who has something kept for a backend."""
        if self._folder is None:
            found = list(self._kept)
        else:
            read = (_read(path) for path in sorted(self._folder.glob(f"*{_SUFFIX}")))
            found = [each.owner for each in read if each is not None]
        return (owner for owner in found if owner.backend == backend)

    def _ready(self, folder: Path) -> Seal:
        if self._seal is None:
            try:
                _made(folder)
                own = str(_own_key(folder / _OWN_KEY)) if self._keys is None else None
            except OSError as error:
                raise VaultError(f"state.directory cannot be used: {error.strerror or 'no reason'}") from None
            self._seal = seal_of(self._keys or own)
        return self._seal


def seal_of(path: str | None) -> Seal:
    """A seal with the keys of a file; with one of its own where there is no file. Raises ``VaultError``."""
    return Seal(*read_keys(path)) if path is not None else Seal()


def _aad(owner: Owner) -> bytes:
    return b"vmcp vault 1" + msgspec.msgpack.encode(owner)


def _name(owner: Owner) -> str:
    return hashlib.sha256(_aad(owner)).hexdigest() + _SUFFIX


def _made(folder: Path) -> None:
    """The folder, which nobody else may read or write. Raises ``VaultError``."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise VaultError("the folder 'tokens' in state.directory must belong to this user alone (mode 700)")


def _own_key(path: Path) -> Path:
    """The file with the key of a folder for which none is configured: as safe as the modes of its files, and no safer."""
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        _fill(fresh, secrets.token_bytes(KEY_BYTES).hex().encode())
        try:
            path.hardlink_to(fresh)  # whoever comes second takes the key of the first
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path


def _read(path: Path) -> _File | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MOST), type=_File)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _claimed(path: Path, file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))  # or the one before us has just removed it
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        file.close()
        raise


def _write(path: Path, text: bytes) -> None:
    """All of it or nothing, and on the disk when this returns."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _fill(fresh, text)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _fill(path: Path, text: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
