"""Records what a terminal shows: ``python docs/capture.py`` makes ``docs/pictures/terminal.svg`` for the README.

The rule: the commands are really run, on a terminal, and what they print is drawn as it came, but for the name of a folder.
"""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "terminal.svg"
WIDTH, PATIENCE = 118, 20.0
WRONG = """\
name: office
groups:
  desk:
    backends:
      notes: {comand: [python3, notes.py]}
"""
RIGHT = """\
name: office
groups:
  desk:
    backends:
      notes: {command: [python3, notes.py]}
      units: {url: "http://127.0.0.1:4491/mcp"}
      archive: {command: [python3, -c, "import sys; sys.exit('FATAL: no such database')"]}
aggregation:
  conflictResolution: prefix
"""
THEME = TerminalTheme(
    (22, 24, 29),
    (222, 226, 232),
    [
        *((22, 24, 29), (240, 113, 120), (122, 204, 132), (240, 198, 116)),
        *((110, 168, 254), (198, 146, 233), (102, 204, 204), (222, 226, 232)),
    ],
)
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def shown(folder: Path, words: list[str], until: str = "") -> str:
    """What a command prints on a terminal: to its end, or until something is there; then it is told to stop."""
    here, there = os.openpty()
    around = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    command = [sys.executable, "-m", "vmcp", *words]
    own = {
        **around,
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "VMCP_RUN_DIR": str(folder),
        "COLUMNS": str(WIDTH),
    }
    process = subprocess.Popen(command, cwd=folder, env=own, stdin=there, stdout=there, stderr=there)  # noqa: S603
    os.close(there)
    text, deadline = b"", time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline and not (until and until in text.decode("utf-8", "replace")):
            ready, _, _ = select.select([here], [], [], 0.2)
            piece = os.read(here, 1 << 16) if ready else b""
            if ready and not piece:
                break
            text += piece
            if process.poll() is not None and not ready:
                break
    except OSError:
        pass  # the other end of the terminal is closed
    finally:
        process.send_signal(signal.SIGINT) if process.poll() is None else None
        process.wait(PATIENCE)
        os.close(here)
    return text.decode("utf-8", "replace").replace("\r\n", "\n")


def main() -> None:
    """Run them and draw them."""
    with tempfile.TemporaryDirectory(prefix="vmcp-") as made:
        folder = Path(made)
        (folder / "notes.py").write_bytes((ROOT / "examples" / "servers" / "notes.py").read_bytes())
        (folder / "vmcp.yaml").write_text(WRONG)
        wrong = shown(folder, ["validate"])
        (folder / "vmcp.yaml").write_text(RIGHT)
        units = subprocess.Popen([sys.executable, ROOT / "examples" / "servers" / "units.py"])  # noqa: S603
        try:
            served = shown(folder, ["serve"], "twice to force.")
        finally:
            units.terminate()
            units.wait(PATIENCE)
        called = shown(folder, ["call", "-c", "vmcp.yaml", "notes_add", "title=milk", "text=two litres"])
        called = f"$ vmcp call -c vmcp.yaml notes_add title=milk text='two litres'\n{called}"
        text = f"$ vmcp validate\n{wrong}\n$ vmcp serve\n{served.rstrip()}\n\n{called}"
        if "Traceback" in text:
            sys.exit(text)
        text = text.replace(made, "/run/user/1000/vmcp")
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    console.print(Text.from_ansi(text.rstrip()))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    drawn = console.export_svg(title="vmcp", theme=THEME, unique_id="vmcp")
    PICTURE.write_text(FONTS.sub("", drawn), "utf-8")


if __name__ == "__main__":
    main()
