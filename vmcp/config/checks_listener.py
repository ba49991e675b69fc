"""What nothing could be served with at the listener: limits, and workers where there can be none.

The rule: a limit is told that is below what the gateway itself needs, or that another one never lets be reached.
"""

import sys
from collections.abc import Iterator
from typing import Any

from vmcp.config.model import Limits
from vmcp.config.quantities import size
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

LEAST_MEMORY = 128 << 20
_LIMITS: Path = ("server", "limits")


def checks(document: Document) -> Iterator[Problem]:
    """What is wrong with ``server.limits`` and ``server.workers``."""
    yield from _workers(document)
    given: dict[str, Any] = document.data.get("server", {}).get("limits", {})
    memory, uri, head = (_bytes(document, given, key) for key in ("memoryBytes", "uriBytes", "headerBytes"))
    if memory is not None and memory < LEAST_MEMORY:
        what = "is less than the gateway needs for itself: every request would be turned away"
        yield document.problem(Rule.BAD_VALUE, (*_LIMITS, "memoryBytes"), what, "use at least 128MiB")
    if uri is not None and uri > (Limits().header_bytes if head is None else head):
        what = "is more than headerBytes, of which the path is a part"
        hint = "make headerBytes larger, or this smaller"
        yield document.problem(Rule.CONTRADICTION, (*_LIMITS, "uriBytes"), what, hint, severity="warning")


def _workers(document: Document) -> Iterator[Problem]:
    workers, elsewhere = document.data.get("server", {}).get("workers", 1), sys.platform != "linux"
    if workers != 1 and elsewhere:
        what = f"{workers} is more than there can be here: several workers are a matter of Linux"
        yield document.problem(Rule.BAD_VALUE, ("server", "workers"), what, "leave it out")


def _bytes(document: Document, given: dict[str, Any], key: str) -> int | None:
    value = given.get(key)
    if not isinstance(value, int | str) or document.damaged((*_LIMITS, key)):
        return None
    return size(value)
