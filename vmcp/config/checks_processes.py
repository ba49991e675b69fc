"""What a schema cannot say about child processes.

The rule: a limit under which no program could start is told here, not by the kernel later.
"""

from collections.abc import Iterator
from typing import Final

from vmcp.config.backends import is_remote, isolation_of
from vmcp.config.quantities import size
from vmcp.config.rules import Rule
from vmcp.config.toolhive import Entry
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

LEAST: Final = 16 << 20
"""Bytes that a small interpreter needs to start."""


def checks(document: Document, entry: Entry) -> Iterator[Problem]:
    """Every problem of one backend with what its child process may use."""
    if is_remote(entry.settings):
        return  # there these keys are refused as a whole
    at: Path = (*entry.path, "limits", "memory")
    memory = entry.settings.get("limits", {}).get("memory")
    if memory is not None and at not in document.broken and size(memory) < LEAST:
        yield document.problem(Rule.BAD_VALUE, at, "is too little for any program to start", "give it 16MiB or more")
    yield from _alone(document, entry)


def _alone(document: Document, entry: Entry) -> Iterator[Problem]:
    """What concerns only a child that is somebody's own."""
    isolation = isolation_of(entry.settings)
    for key in ("idleStop", "warm"):
        if key in entry.settings and isolation == "shared" and entry.settings[key] is not False:
            what = "has no effect on a child process that all clients share"
            hint = "add isolation: session, or remove it"
            yield document.problem(Rule.CONTRADICTION, (*entry.path, key), what, hint, key=True)
    if "idleStop" in entry.settings and isolation == "request":
        what = "has no effect on a child process that lives for one request"
        yield document.problem(Rule.CONTRADICTION, (*entry.path, "idleStop"), what, "remove it", key=True)
