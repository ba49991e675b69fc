"""Secrets that no program makes up, and the search for them in every form in which they could have been written down.

The rule: a form that is searched for is one that somebody once found in a log: as it is, base64 at any offset, hex, percent.
"""

import base64
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote


def forms(secret: str) -> set[bytes]:
    """How it may look. Base64 of a longer text that holds it shows one of three cores, whatever stands around it."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), raw.hex().encode(), raw.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + raw)
        core = text[-(-shift * 8 // 6) + (1 if shift else 0) : -(4 + len(raw) % 3)]
        found |= {core, core.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


@dataclass
class Canaries:
    """The planted ones by name; a place names those that it may know."""

    planted: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str, secret: str | None = None) -> str:
        """Remember one, or make one up."""
        self.planted[name] = secret or f"canary-{name}-{secrets.token_hex(16)}"
        return self.planted[name]

    def seen(self, text: bytes) -> set[str]:
        """Which of them are in there."""
        return {name for name, secret in self.planted.items() if any(form in text for form in forms(secret))}


def everything_in(folder: Path, *but: str) -> dict[str, bytes]:
    """All files below a folder, by name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in but}


def of_process(pid: int, what: str) -> bytes:
    """A file of /proc; nothing if the process has gone."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""
