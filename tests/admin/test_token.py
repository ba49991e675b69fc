"""The file of the token. Rule: real files with real modes; what is refused stays as it was."""

import os
from pathlib import Path

import pytest

from vmcp.admin.place import Unsafe
from vmcp.admin.token import LEAST, Token, kept

ME = os.geteuid()


def test_a_file_that_is_not_there_is_made_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "token"
    made = kept(path, ME)
    text = path.read_text().strip()
    assert (path.stat().st_mode & 0o777, len(text) >= LEAST) == (0o600, True)
    assert made.fits(f"Bearer {text}")
    assert kept(path, ME).fits(f"Bearer {text}"), "the next process takes the same"
    assert text not in repr(vars(made))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_may_read_is_refused_and_left(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text("x" * LEAST)
    path.chmod(mode)
    with pytest.raises(Unsafe, match="may be read by others"):
        kept(path, ME)
    assert path.stat().st_mode & 0o777 == mode


def test_what_is_no_good_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("short\n")
    path.chmod(0o600)
    with pytest.raises(Unsafe, match=f"shorter than {LEAST}"):
        kept(path, ME)
    with pytest.raises(Unsafe, match="cannot be made"):
        kept(tmp_path / "no" / "token", ME)
    with pytest.raises(Unsafe, match="cannot be read"):
        kept(tmp_path, ME)
    if ME:
        return
    path.write_text("x" * LEAST)
    os.chown(path, 4242, -1)
    with pytest.raises(Unsafe, match="may be read by others"):
        kept(path, ME)


def test_only_the_whole_token_fits() -> None:
    token = Token("a" * LEAST)
    assert token.fits("Bearer " + "a" * LEAST)
    for shown in (
        "",
        "Bearer",
        "Bearer ",
        "Bearer " + "a" * (LEAST - 1),
        "a" * LEAST,
        "Basic " + "a" * LEAST,
        "Bearer \udce9",
    ):
        assert not token.fits(shown)
