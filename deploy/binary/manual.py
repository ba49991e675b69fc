"""The manual page and the completions of shells, which lie beside the executable.

The rule: the executable that is shipped writes them, so that they tell of its very commands.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "share/man/man1/vmcp.1": ("manpage",),
    "share/bash-completion/completions/vmcp": ("completion", "bash"),
    "share/zsh/site-functions/_vmcp": ("completion", "zsh"),
    "share/fish/vendor_completions.d/vmcp.fish": ("completion", "fish"),
    "share/systemd/vmcp.service": ("service", "print", "--program", "/usr/local/bin/vmcp"),
    "share/systemd/vmcp.socket": ("service", "print", "--socket"),
}
"""Where each belongs below ``/usr/local``, and what tells it."""


def make(program: Path, out: Path) -> None:
    """Write them below ``out``. Raises ``CalledProcessError``."""
    for name, words in PAGES.items():
        told = subprocess.run(
            [program, *words], capture_output=True, timeout=60, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(told.stdout)
