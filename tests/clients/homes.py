"""A home with the files of clients in it. Rule: it is a test's own, and no variable leads out of it."""

import sys
from pathlib import Path

from vmcp.clients.table import BY_NAME, places


def place(home: Path, client: str) -> Path:
    """Where a client keeps its file in this home."""
    return Path(places(BY_NAME[client], sys.platform, {}, str(home))[0])


def put(home: Path, client: str, text: str) -> Path:
    """Write the file of a client."""
    path = place(home, client)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path
