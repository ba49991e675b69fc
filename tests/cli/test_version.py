"""``vmcp version``. Rule: it says what it is, and imports nothing for it that it does not need."""

import subprocess
import sys

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
