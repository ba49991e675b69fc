"""build.py: what it installs, when it installs again, and what it says on a machine that lacks something."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

import build

LOCKS = sorted(build.LOCKS.glob("*.lock"))
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((build.LOCKS / lock).read_text("utf-8")))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_host_and_hashes_everything(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    entries = re.split(r"\n(?=\S)", text)
    assert len(entries) > 20
    assert not [entry for entry in entries if "--hash=sha256:" not in entry]


def test_the_npm_lock_names_no_registry_and_runs_nothing() -> None:
    packages = json.loads((build.PEERS / "package-lock.json").read_text("utf-8"))["packages"]
    assert len(packages) > 100
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert not [name for name, package in packages.items() if name and "integrity" not in package]


def test_the_npm_peers_are_pinned_exactly() -> None:
    told = json.loads((build.PEERS / "package.json").read_text("utf-8"))
    versions = [*told["dependencies"].values(), *told["optionalDependencies"].values()]
    assert not [version for version in versions if not re.fullmatch(r"(npm:@?[\w/-]+@)?\d[\w.-]*", version)]


def test_developers_test_with_what_users_run() -> None:
    runtime, developer = pins("runtime.lock"), pins("dev.lock")
    assert {"starlette", "uvicorn", "msgspec"} <= runtime.keys()
    assert {name: developer.get(name) for name in runtime} == runtime


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A tree with two locks and no environment; what would have been run is in the list."""
    ran: list[str] = []

    def record(*command: str | Path, cwd: Path = tmp_path) -> None:
        words = [Path(part).name if isinstance(part, Path) else part for part in command]
        ran.append(" ".join(words[1:]))
        if "venv" in words:
            python = Path(command[-1]) / build.BIN / "python"
            python.parent.mkdir(parents=True)
            python.touch()

    (tmp_path / "requirements").mkdir()
    for lock in ("runtime.lock", "dev.lock"):
        (tmp_path / "requirements" / lock).write_text(lock, "utf-8")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "LOCKS", tmp_path / "requirements")
    monkeypatch.setattr(build, "need", record)
    return ran


def test_an_environment_is_made_once(sandbox: list[str]) -> None:
    build.environment(".venv", "runtime.lock", "dev.lock")
    assert [line for line in sandbox if "-m venv" in line]
    assert [line for line in sandbox if "--require-hashes -r runtime.lock" in line]
    assert [line for line in sandbox if "--no-deps --no-build-isolation --editable" in line]
    sandbox.clear()
    build.environment(".venv", "runtime.lock", "dev.lock")
    assert not sandbox


def test_a_changed_lock_is_installed_into_the_environment_that_is_there(sandbox: list[str]) -> None:
    build.environment(".venv", "runtime.lock")
    sandbox.clear()
    (build.LOCKS / "runtime.lock").write_text("another", "utf-8")
    build.environment(".venv", "runtime.lock")
    assert [line for line in sandbox if "--require-hashes -r runtime.lock" in line]
    assert not [line for line in sandbox if "-m venv" in line]


def test_a_developer_environment_serves_but_a_serving_one_does_not_test(sandbox: list[str]) -> None:
    build.environment(".venv", "runtime.lock", "dev.lock")
    build.environment(".venv", "dev.lock")
    assert [line for line in sandbox if "-r dev.lock" in line]
    sandbox.clear()
    build.environment(".venv", "runtime.lock", "dev.lock")
    assert not sandbox


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_that_was_taken_apart_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(SystemExit, match=rf"(?s)without {missing} .*apt-get install python3-venv"):
        build.can_make_environments()


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    build.can_make_environments()
    monkeypatch.setattr(build, "OLDEST", (99, 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        build.can_make_environments()


def test_without_npm_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package-lock.json").write_text("{}", "utf-8")
    monkeypatch.setattr(build, "PEERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-get install nodejs npm"):
        build.node_peers()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main([]) == 0
    told = capsys.readouterr().out
    assert not [name for name in build.COMMANDS if f"\n  {name}" not in told]


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main(["nope"]) == 2
    assert "there are: serve, test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "code"), [("print('one'); print('two\\n')", 0), ("print('two'); raise SystemExit(3)", 3)]
)
def test_a_watched_command_is_shown_and_its_last_line_kept(
    script: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.watched(sys.executable, "-c", script) == (code, "two")
    assert "two\n" in capsys.readouterr().out


@pytest.mark.parametrize(("failed", "code"), [([], 0), (["mypy", "pytest"], 1)])
def test_the_verdict_names_what_failed(failed: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.verdict(failed) == code
    assert capsys.readouterr().err == (f"build.py: FAILED: {', '.join(failed)}\n" if failed else "")
