"""Where admin sockets are. Rule: real folders; a place that others could reach into is refused, and never mended."""

import os
from pathlib import Path

import pytest

from vmcp.admin.place import LONGEST, Unsafe, file, folders, prepared, private

ME = os.geteuid()


def test_the_run_folder_of_the_session_comes_first() -> None:
    own = Path(f"/tmp/vmcp-{ME}")  # noqa: S108 - that is where it is
    assert folders({"XDG_RUNTIME_DIR": "/run/user/7"}, ME) == (Path("/run/user/7/vmcp"), own)
    assert folders({}, ME) == (own,)
    assert folders({"XDG_RUNTIME_DIR": "relative"}, ME) == (own,)
    assert folders({"XDG_RUNTIME_DIR": "/run/user/7", "VMCP_RUN_DIR": "/run/own"}, ME) == (Path("/run/own"),)
    assert folders({"VMCP_RUN_DIR": "relative"}, ME) == (own,)


def test_a_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    private(tmp_path / "made", ME)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    private(tmp_path / "made", ME)


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(0o755)
    (tmp_path / "mine").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "file").write_text("")
    for name in ("open", "link", "file"):
        with pytest.raises(Unsafe, match=f"{name} .*admin.socket|{name} cannot be used"):
            private(tmp_path / name, ME)
    with pytest.raises(Unsafe, match="not a folder of this user alone"):
        private(tmp_path / "mine", ME + 1)
    with pytest.raises(Unsafe, match="cannot be used"):
        private(tmp_path / "no" / "such", ME)


def test_the_first_that_can_be_used_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spare = tmp_path / "spare"
    monkeypatch.setattr("vmcp.admin.place.folders", lambda environ, uid: (tmp_path / "no" / "vmcp", spare))
    assert prepared({}, ME) == spare
    spare.chmod(0o755)
    with pytest.raises(Unsafe, match="spare is not a folder of this user alone"):
        prepared({}, ME)


@pytest.mark.parametrize(
    ("name", "shape"), [("house", "house.sock"), ("my.house-2", "my.house-2.sock"), ("a/b ../é", "a_b_..__-*.sock")]
)
def test_a_name_is_a_file_name(name: str, shape: str) -> None:
    assert file(Path("/run/vmcp"), name).match(shape)


def test_two_odd_names_are_two_files_and_none_leaves_the_folder() -> None:
    names = ["a/b", "a_b", "a b", "../a", "..", ".", "x" * 128, "x" * 127 + "y", "\udce9"]
    found = [file(Path("/run/vmcp"), name) for name in names]
    assert len(set(found)) == len(names)
    assert all(each.parent == Path("/run/vmcp") and len(os.fsencode(each)) <= LONGEST for each in found)
    assert not any(each.name.startswith(".") for each in found)
