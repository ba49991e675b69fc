"""``vmcp service``: units that start this very vmcp with these very files.

Rule: what is printed is read as systemd reads it; that it is what ``deploy/systemd`` holds is proved in tests/deploy.
"""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmcp.cli.unit import command, ourselves, word


def printed(*options: str) -> str:
    done = CliRunner().invoke(command, ["print", *options])
    assert done.exit_code == 0, done.output
    return done.output


def setting(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_it_starts_the_vmcp_that_prints_it() -> None:
    (start,) = setting(printed(), "ExecStart")
    program, *rest = start.split()
    assert Path(program).is_file()
    assert rest == ["serve", "--config", "%E/vmcp/vmcp.yaml"]


def test_files_and_a_program_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (start,) = setting(printed("-c", "a.yaml", "-c", "/etc/b c.yaml", "--program", "/opt/vmcp/vmcp"), "ExecStart")
    assert start == f'/opt/vmcp/vmcp serve --config {tmp_path}/a.yaml --config "/etc/b c.yaml"'


def test_what_the_unit_could_not_reach_is_said() -> None:
    for options in (["--program", "/root/.venv/bin/vmcp"], ["--program", "/opt/vmcp", "-c", "/home/me/vmcp.yaml"]):
        done = CliRunner().invoke(command, ["print", *options])
        assert done.exit_code == 0
        assert f"cannot reach {options[-1]}" in done.stderr
        assert CliRunner().invoke(command, ["print", "--user", *options]).stderr == ""


def test_a_unit_of_a_person_asks_for_nothing_that_only_the_machine_may() -> None:
    machine, person = printed(), printed("--user")
    assert setting(machine, "DynamicUser") == ["yes"]
    assert setting(machine, "WantedBy") == ["multi-user.target"]
    for key in ("DynamicUser", "CapabilityBoundingSet", "ProtectSystem", "Wants", "StateDirectory"):
        assert setting(person, key) == []
    assert setting(person, "NoNewPrivileges") == ["yes"]
    assert setting(person, "WantedBy") == ["default.target"]


def test_a_socket_listens_where_it_is_told() -> None:
    assert setting(printed("--socket"), "ListenStream") == ["127.0.0.1:4483"]
    assert setting(printed("--socket", "--listen", "[::]:80"), "ListenStream") == ["[::]:80"]


@pytest.mark.parametrize(
    ("folder", "heard"), [("/run/_MEI123", "all"), ("/opt/vmcp/_internal", "main"), (None, "main")]
)
def test_only_the_file_that_unpacks_itself_is_two_processes(
    monkeypatch: pytest.MonkeyPatch, folder: str | None, heard: str
) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/vmcp/vmcp")
    if folder is not None:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        monkeypatch.setattr(sys, "_MEIPASS", folder, raising=False)
    text = printed()
    assert setting(text, "NotifyAccess") == [heard]
    begins = "/opt/vmcp/vmcp serve" if folder is not None else "/opt/vmcp/vmcp -m vmcp serve"
    assert setting(text, "ExecStart")[0].startswith(begins)


def test_an_installed_vmcp_is_started_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmcp").touch(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    assert [*ourselves()] == [str(tmp_path / "vmcp")]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/usr/bin/vmcp", "/usr/bin/vmcp"),
        ("a b", '"a b"'),
        ("50%", '"50%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "hi"\\', '"say \\"hi\\"\\\\"'),
        ("two\nlines", '"two\\nlines"'),
        ("", '""'),
        ("a;b", '"a;b"'),
    ],
)
def test_a_word_stays_one_word(text: str, written: str) -> None:
    assert word(text) == written
