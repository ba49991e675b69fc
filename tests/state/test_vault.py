"""The vault: sealed files, their modes, their keys, and what happens to those that were tampered with.

The rule: a secret opens for its owner, with its key, unchanged; everything else is as if it were not there.
"""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from vmcp.state.vault import Owner, Vault, VaultError, read_keys, seal_of

ADA, BOB = Owner("notes", "1:iada"), Owner("notes", "1:ibob")
SECRET = b"a very secret refresh token"


def tokens(folder: Path) -> list[Path]:
    return sorted((folder / "tokens").glob("*.sealed"))


def keys(folder: Path, *texts: str) -> str:
    path = folder / "keys"
    path.write_text("\n".join(texts), "ascii")
    return str(path)


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_what_is_kept_is_found_by_its_owner_alone(kind: str, tmp_path: Path) -> None:
    vault = Vault(str(tmp_path) if kind == "folder" else None)
    assert vault.get(ADA) is None
    assert not vault.drop(ADA)
    vault.put(ADA, SECRET)
    vault.put(ADA, SECRET + b"2")
    vault.put(BOB, b"his")
    assert (vault.get(ADA), vault.get(BOB)) == (SECRET + b"2", b"his")
    assert vault.get(Owner("other", ADA.principal)) is None
    assert set(vault.owners("notes")) == {ADA, BOB}
    assert not list(vault.owners("other"))
    assert vault.drop(ADA)
    assert (vault.get(ADA), vault.get(BOB)) == (None, b"his")


def test_it_is_there_for_the_next_process_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    Vault(str(tmp_path)).put(ADA, SECRET)
    assert Vault(str(tmp_path)).get(ADA) == SECRET
    for path in (tmp_path / "tokens").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert SECRET not in path.read_bytes()
    assert stat.S_IMODE((tmp_path / "tokens").stat().st_mode) == 0o700


def test_a_secret_in_the_place_of_anothers_does_not_open(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path))
    vault.put(ADA, SECRET)
    (mine,) = tokens(tmp_path)
    vault.put(BOB, b"his")
    (his,) = [path for path in tokens(tmp_path) if path != mine]
    his.write_bytes(mine.read_bytes())
    assert vault.get(BOB) is None
    his.write_bytes(mine.read_bytes().replace(b"iada", b"ibob"))
    assert vault.get(BOB) is None
    assert vault.get(ADA) == SECRET


@pytest.mark.parametrize("spoiled", [b"", b"{}", b"\xff", b"[1]"])
def test_what_was_tampered_with_is_not_there(spoiled: bytes, tmp_path: Path) -> None:
    vault = Vault(str(tmp_path))
    vault.put(ADA, SECRET)
    (path,) = tokens(tmp_path)
    text = path.read_bytes()
    path.write_bytes(text[:-6] + b"AA" + text[-4:])
    assert vault.get(ADA) is None
    path.write_bytes(spoiled)
    assert vault.get(ADA) is None
    assert not list(vault.owners("notes"))
    vault.put(ADA, SECRET)
    assert vault.get(ADA) == SECRET


def test_a_new_key_seals_and_the_old_one_opens(tmp_path: Path) -> None:
    old, new = "11" * 32, "22" * 32
    Vault(str(tmp_path), keys(tmp_path, old)).put(ADA, SECRET)
    both = Vault(str(tmp_path), keys(tmp_path, new, old))
    assert both.get(ADA) == SECRET
    both.put(ADA, SECRET)
    assert Vault(str(tmp_path), keys(tmp_path, new)).get(ADA) == SECRET
    assert Vault(str(tmp_path), keys(tmp_path, old)).get(ADA) is None


@pytest.mark.parametrize("text", ["", "short", "zz" * 32, "11" * 32 + " 22", "é"])
def test_keys_that_are_none_are_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(text, "utf-8")
    with pytest.raises(VaultError, match=r"state\.keys"):
        read_keys(str(path))
    with pytest.raises(VaultError):
        Vault(str(tmp_path), str(path)).put(ADA, SECRET)
    with pytest.raises(VaultError):
        read_keys(str(tmp_path / "none"))


def test_without_a_file_a_seal_has_a_key_of_its_own(tmp_path: Path) -> None:
    path = keys(tmp_path, "11" * 32)
    assert seal_of(path).unwrap(seal_of(path).wrap(b"x", b"p"), b"p") == b"x"
    assert seal_of(None).unwrap(seal_of(path).wrap(b"x", b"p"), b"p") is None


def test_a_folder_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens").chmod(0o750)
    with pytest.raises(VaultError, match="700"):
        Vault(str(tmp_path)).put(ADA, SECRET)
    assert not list((tmp_path / "tokens").iterdir())


def test_a_folder_that_cannot_be_is_told_without_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "ascii")
    vault = Vault(str(tmp_path / "file"))
    with pytest.raises(VaultError, match=r"state\.directory") as failed:
        vault.put(ADA, SECRET)
    assert str(tmp_path) not in str(failed.value)
    assert vault.get(ADA) is None
    with pytest.raises(VaultError, match="removed"):
        vault.drop(ADA)


def test_what_was_kept_stays_when_the_new_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault(str(tmp_path))
    vault.put(ADA, SECRET)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(VaultError, match="No space left"):
            vault.put(ADA, b"new")
    assert vault.get(ADA) == SECRET
    assert len(list((tmp_path / "tokens").iterdir())) == 2, "the key and the login; nothing half written"


def test_two_that_come_at_once_have_one_key(tmp_path: Path) -> None:
    one, two = Vault(str(tmp_path)), Vault(str(tmp_path))
    one.put(ADA, SECRET)
    two.put(BOB, SECRET)
    assert (one.get(BOB), two.get(ADA)) == (SECRET, SECRET)


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_what_one_claims_nobody_else_may_change_until_he_is_done(kind: str, tmp_path: Path) -> None:
    one, two = (Vault(str(tmp_path) if kind == "folder" else None) for _ in range(2))
    claim = one.claim(ADA)
    assert claim is not None
    other = two.claim(BOB)
    assert other is not None
    if kind == "folder":
        assert (one.claim(ADA), two.claim(ADA)) == (None, None)
    claim.end()
    other.end()
    again = two.claim(ADA)
    assert again is not None
    again.end()
    assert not list(tmp_path.glob("tokens/*.lock"))


def test_a_claim_ends_with_who_had_it(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path))
    vault.check()
    if (child := os.fork()) == 0:
        kept = Vault(str(tmp_path)).claim(ADA)
        os._exit(0 if kept is not None else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(tmp_path.glob("tokens/*.lock"))) == 1
    claim = vault.claim(ADA)
    assert claim is not None
    claim.end()


def test_a_lock_that_was_removed_in_between_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One opens it, the other ends his claim and removes it, a third one would make a new one."""
    vault = Vault(str(tmp_path))
    claim = vault.claim(ADA)
    assert claim is not None
    real = os.open

    def late(*given: object, **more: object) -> int:
        found = real(*given, **more)  # type: ignore[arg-type]
        claim.end()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", late)
        assert vault.claim(ADA) is None


def test_a_folder_that_cannot_be_claimed_in_is_told(tmp_path: Path) -> None:
    vault = Vault(str(tmp_path))
    vault.check()
    claim = vault.claim(ADA)
    assert claim is not None
    (lock,) = tmp_path.glob("tokens/*.lock")
    claim.end()
    lock.mkdir()
    with pytest.raises(VaultError, match=r"state\.directory cannot be used"):
        vault.claim(ADA)


def test_a_folder_without_locks_is_told_and_not_taken_for_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockless(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", lockless)
    with pytest.raises(VaultError, match=r"state\.directory cannot be used: No locks available"):
        Vault(str(tmp_path)).claim(ADA)
