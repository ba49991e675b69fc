"""``vmcp doctor``. Rule: whatever is wrong stands beside what is right, and with what to do."""

import socket
from pathlib import Path

import pytest

from tests.cli.instances import TEXT, Site, site, started

SICK = """\
name: sick
groups:
  g:
    backends:
      node: {command: [/no/such/npx, x], env: {A: {env: SET_BY_A_TEST}, B: {env: NEVER_SET}}}
      web: {url: "http://127.0.0.1:1/mcp", headers: {X-A: {file: there.txt}, X-B: {file: none.txt}}}
audit: {logFile: none/audit.log}
"""


@pytest.fixture(autouse=True)
def own_logging(own_logs: None) -> None:
    """Commands say where logs go."""


def told(here: Site, *words: str, code: int) -> dict[str, tuple[str, str]]:
    return {f"{each['what']}: {each['about']}": (each["state"], each["fix"]) for each in here.json(*words, code=code)}


def test_what_works_is_well(tmp_path: Path) -> None:
    with site(tmp_path) as here:
        found = told(here, "doctor", code=0)
        assert found["backend box: 5 tools"] == ("ok", "")
        assert {state for state, _ in found.values()} == {"ok"}


def test_what_does_not_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_BY_A_TEST", "x")
    with site(tmp_path, SICK) as here, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        here.file.write_text(f"{SICK}server: {{port: {port}}}\n")
        (tmp_path / "there.txt").write_text("x")
        (tmp_path / "run").chmod(0o755)
        found = told(here, "doctor", "--offline", code=1)
        assert found["program of node: npx is not on PATH"] == ("failed", "install Node.js")
        assert found["secret: variable SET_BY_A_TEST"] == ("ok", "")
        assert found["secret: variable NEVER_SET"] == ("failed", "export NEVER_SET=…")
        assert found[f"secret: file {tmp_path}/there.txt"] == ("ok", "")
        assert found[f"secret: file {tmp_path}/none.txt"][0] == "failed"
        assert found[f"audit log: {tmp_path}/none"][0] == "failed"
        assert found[f"listener: 127.0.0.1:{port} cannot be had: Address already in use"][0] == "failed"
        assert any("is not a folder of this user alone" in about for about in found)
        assert not any(about.startswith("backend") for about in found)
        assert "failed" in here.run("doctor", "--wait", "2", code=1).stdout
        here.run("doctor", "-c", "none.yaml", code=66)


def test_an_instance_that_runs_is_asked(tmp_path: Path) -> None:
    with started(tmp_path, TEXT) as here:
        found = told(here, "doctor", code=0)
        assert found[f"instance: runs, at {tmp_path}/run/house.sock"] == ("ok", "")
        assert found["backend box: 5 tools"] == ("ok", "")
