"""``vmcp version``. Rule: it says what it is, and imports nothing for it that it does not need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import environment, run
from vmcp import __version__


def test_it_says_its_version_and_the_revisions() -> None:
    ended = run("version")
    assert ended.returncode == 0
    assert ended.stdout.startswith(f"vmcp {__version__} (Python 3.")
    for revision in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"):
        assert revision in ended.stdout


def test_it_loads_no_server_for_that() -> None:
    code = "import sys; from vmcp.cli import main; main(['version'], standalone_mode=False); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True)
    loaded = set(ended.stdout.split())
    assert "vmcp.cli.version" in loaded
    assert not loaded & {"uvicorn", "asyncio", "ruamel.yaml", "jsonschema", "vmcp.cli.serve", "vmcp.server.serving"}


HEAVY = {
    "uvicorn",
    "asyncio",
    "ruamel.yaml",
    "jsonschema",
    "httpx",
    "msgspec",
    "mcp",
    "opentelemetry",
    "vmcp.config.load",
}


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["status"],
        ["list", "tools"],
        ["info", "a"],
        ["health", "-q"],
        ["metrics"],
        ["reload"],
        ["drain"],
        ["reset", "a"],
        ["cache"],
        ["cache", "clear"],
        ["sessions", "end", "a"],
        ["stop"],
        ["logs"],
        ["completion", "bash"],
    ],
)
def test_what_asks_an_instance_is_as_light(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from vmcp.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as end: print('ended', end.code, *sys.modules, file=sys.__stderr__)"
    )
    environ = {**environment(), "VMCP_RUN_DIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=True)
    _, _, after = ended.stderr.rpartition("ended ")
    code_, *loaded = after.split()
    assert code_ == ("0" if words[0] in ("--help", "completion") else "4")
    assert not HEAVY & set(loaded)


def test_everything_it_is_made_of_is_told_for_programs() -> None:
    found = json.loads(run("version", "--output", "json").stdout)
    assert found["version"] == __version__
    assert found["form"] == "source"
    assert "uvloop" in {each["name"] for each in found["dependencies"]}
    assert f'version: "{__version__}"' in run("version", "-o", "yaml").stdout


def test_the_licences_are_shown_with_their_texts() -> None:
    shown = run("version", "--licenses").stdout
    assert "\nclick " in shown
    assert "Permission is hereby granted" in shown
    assert {"name", "version", "licence", "texts"} == set(
        json.loads(run("version", "--licenses", "-o", "json").stdout)[0]
    )
