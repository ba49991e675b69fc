"""What a schema cannot say about time limits, kept connections and retries.

The rule: a limit that could never come to bear is told.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vmcp.config.backends import is_remote, transport_of
from vmcp.config.quantities import seconds
from vmcp.config.rules import Rule
from vmcp.config.toolhive import Entry
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

Data = Mapping[str, Any]


def common(document: Document) -> Iterator[Problem]:
    """What is wrong with ``operational.timeouts``."""
    at: Path = ("operational", "timeouts")
    section: Data = document.data.get("operational", {}).get("timeouts", {})
    yield from _order(document, (*at, "default"), section.get("default"))
    for name, each in section.get("perWorkload", {}).items():
        yield from _order(document, (*at, "perWorkload", name), each)


def checks(document: Document, entry: Entry) -> Iterator[Problem]:
    """What is wrong with the limits of one backend."""
    settings, at = entry.settings, entry.path
    limits: Data = settings.get("timeouts", {})
    common: Path = ("operational", "timeouts", "perWorkload", entry.name)
    named = document.data.get("operational", {}).get("timeouts", {}).get("perWorkload", {}).get(entry.name)
    for path, each in (((*at, "timeouts"), limits), (common, named)):
        if isinstance(each, Mapping) and "connect" in each and not is_remote(settings):
            what = "has no effect for a child process: nothing is connected to"
            yield document.problem(Rule.MISPLACED_KEY, (*path, "connect"), what, "remove it", key=True)
    yield from _order(document, (*at, "timeouts"), limits)
    for glob, each in limits.get("tools", {}).items():
        yield from _order(document, (*at, "timeouts", "tools", glob), each)
    if "retry" in settings and transport_of(settings) != "streamable-http":
        what = "has an effect for streamable HTTP only: elsewhere nothing that was lost is asked again"
        yield document.problem(Rule.MISPLACED_KEY, (*at, "retry"), what, "remove it", key=True)
    yield from _pool(document, entry)


def _pool(document: Document, entry: Entry) -> Iterator[Problem]:
    settings, at = entry.settings, entry.path
    pool: Data = settings.get("pool", {})
    if settings.get("retry") == "idempotent" and pool.get("retryAttempts") == 0:
        what = "has no effect: pool.retryAttempts is 0"
        yield document.problem(Rule.CONTRADICTION, (*at, "retry"), what, "raise retryAttempts, or remove it", key=True)
    if pool.get("minSize", 0) and pool.get("idleTimeout") is not None and not seconds(pool["idleTimeout"]):
        what = "has no effect: pool.idleTimeout closes what is idle at once"
        yield document.problem(Rule.CONTRADICTION, (*at, "pool", "minSize"), what, "raise idleTimeout, or remove it")
    if (pool.get("minSize") or 0) > (pool.get("maxSize") or 64):
        what = f"is more than maxSize ({pool.get('maxSize', 64)})"
        yield document.problem(Rule.CONTRADICTION, (*at, "pool", "minSize"), what, "lower it, or raise maxSize")


def _order(document: Document, at: Path, limits: object) -> Iterator[Problem]:
    """Progress may prolong a call and never shorten it."""
    if not isinstance(limits, Mapping) or limits.get("total") is None or limits.get("totalWithProgress") is None:
        return
    if seconds(limits["totalWithProgress"]) < seconds(limits["total"]):
        what = "is less than total, which every call may take"
        hint = "write the same as total if progress shall not prolong calls"
        yield document.problem(Rule.CONTRADICTION, (*at, "totalWithProgress"), what, hint)
