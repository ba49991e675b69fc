"""What lies beside the executable for those who install it. Rule: it is what the sources would write, and shells take it."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.binary.manual import PAGES
from vmcp.cli.manpage import page

pytestmark = pytest.mark.binary


def test_the_page_and_the_units_are_those_of_the_sources(shipped: Path) -> None:
    assert (shipped / "share/man/man1/vmcp.1").read_text("utf-8") == page()
    for name, words in PAGES.items():
        if "systemd" in name:
            told = subprocess.run([sys.executable, "-m", "vmcp", *words], capture_output=True, timeout=60, check=True)
            assert (shipped / name).read_bytes() == told.stdout


def test_bash_completes_with_what_is_shipped(shipped: Path) -> None:
    """The script asks the program, which has to be on the PATH."""
    words = (
        f'PATH="{shipped}:$PATH"; . "{shipped}/share/bash-completion/completions/vmcp"; '
        'COMP_WORDS=(vmcp serv); COMP_CWORD=1; _vmcp_completion vmcp serv vmcp; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.split()) == ["serve", "service"]
