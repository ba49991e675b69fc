"""``vmcp auth`` at a real shell: exit codes and words. (The way through a real authorization server is in tests/real.)"""

import json
from pathlib import Path

from tests.cli.processes import run


def file(folder: Path, **more: object) -> str:
    oauth = {"type": "oauth", "oauth": {"mode": "gateway"}}
    backends = {
        "notes": {"url": "http://127.0.0.1:9/mcp", "auth": oauth},
        "plain": {"url": "http://127.0.0.1:9/mcp"},
    }
    config = {"name": "x", "groups": {"g": {"backends": backends}}, "state": {"directory": str(folder / "st")}, **more}
    path = folder / "vmcp.yaml"
    path.write_text(json.dumps(config), "utf-8")
    return str(path)


def test_how_it_stands_is_told_and_is_the_exit_code(tmp_path: Path) -> None:
    told = run("auth", "status", "notes", "--config", file(tmp_path))
    assert (told.returncode, told.stdout) == (77, "notes: not logged in; this login is the gateway's\n")
    path = Path(file(tmp_path, incomingAuth={"type": "local"}))
    path.write_text(path.read_text("utf-8").replace("gateway", "user"), "utf-8")
    told = run("auth", "status", "notes", "--config", str(path))
    assert told.stdout.splitlines() == [
        "notes: not logged in; this login is yours",
        "notes: logins of 0 other users are kept",
    ]


def test_what_cannot_be_logged_in_to_is_told(tmp_path: Path) -> None:
    path = file(tmp_path)
    told = run("auth", "login", "plain", "--config", path)
    assert (told.returncode, "not oauth" in told.stderr) == (69, True)
    told = run("auth", "login", "notes", "--config", path)
    assert (told.returncode, "no login is possible" in told.stderr) == (77, True)
    assert "127.0.0.1" not in told.stderr


def test_a_wrong_file_ends_it_as_everywhere(tmp_path: Path) -> None:
    assert run("auth", "login", "notes", "--config", file(tmp_path, state={})).returncode == 78
