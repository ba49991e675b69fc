"""Routing rules: which calls go to another backend than the table's own answer.

The rule: a rule only moves a call among backends that offer the same thing; it opens nothing that a selection closed. Whether
there is a backend for it to name is told when the file is loaded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vmcp.config.conditions import BadCondition, Condition, compiled
from vmcp.config.globs import Globs, globs
from vmcp.config.rules import Rule
from vmcp.config.toolhive import Entry
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

Data = Mapping[str, Any]

ROOTS: Final = ("method", "name", "params", "principal", "persona")
"""What the condition of a rule is about. ``name``: the advertised name or URI; ``principal``: issuer, subject, claims, scopes."""
METHODS: Final = ("tools/call", "prompts/get", "resources/read", "resources/subscribe", "completion/complete")
"""What is sent to a backend because of its name, and so can be sent elsewhere. A subscription of 2026-07-28 counts as the
``resources/subscribe`` that it replaced."""


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """All of ``method``, ``tool``, ``uri`` and ``when`` must fit (None: whatever). The target has to be ``backend``, to have all
    ``tags`` and to declare ``capability``, so far as these are said."""

    priority: int = 100
    method: Globs | None = None
    tool: Globs | None = None
    uri: Globs | None = None
    when: Condition | None = None
    backend: str | None = None
    tags: frozenset[str] = frozenset()
    capability: str | None = None


def from_data(data: Any) -> tuple[RoutingRule, ...]:
    """``routing`` as values: the smaller priority first, and among equals the one that stands first."""
    return tuple(sorted((_rule(each) for each in data), key=lambda rule: rule.priority))


def _rule(data: Data) -> RoutingRule:
    match: Data = data["match"]
    patterns = {key: globs([match[key]]) for key in ("method", "tool", "uri") if key in match}
    return RoutingRule(
        priority=data.get("priority", 100),
        when=compiled(match["when"], ROOTS) if "when" in match else None,
        backend=data.get("backend"),
        tags=frozenset(data.get("tags", ())),
        capability=data.get("capability"),
        **patterns,
    )


def checks(document: Document, entries: tuple[Entry, ...], *, whole: bool) -> Iterator[Problem]:
    """What is wrong with ``routing``; ``whole`` is false when not all backends are known."""
    rules = document.data.get("routing", ())
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        if isinstance(rule, dict):
            at: Path = ("routing", number)
            yield from _match(document, (*at, "match"), rule.get("match") or {})
            yield from _target(document, at, rule)
            yield from _known(document, at, rule, entries) if whole else ()


def _match(document: Document, at: Path, match: Data) -> Iterator[Problem]:
    text = match.get("when")
    if isinstance(text, str):
        try:
            compiled(text, ROOTS)
        except BadCondition as wrong:
            hint = "compare with == != < <= > >= in like, and join with && || !"
            yield document.problem(Rule.BAD_CONDITION, (*at, "when"), f"is no condition: {wrong}", hint)
    if "tool" in match and "uri" in match:
        what = "never fits: nothing is a tool and a resource"
        yield document.problem(Rule.CONTRADICTION, (*at, "uri"), what, "make two rules of it", key=True)
    method = match.get("method")
    if isinstance(method, str) and not any(map(globs([method]).match, METHODS)):
        what = f"{document.show((*at, 'method'), method)} fits nothing that is sent to a backend by its name"
        yield document.problem(Rule.BAD_VALUE, (*at, "method"), what, f"there are: {', '.join(METHODS)}")


def _target(document: Document, at: Path, rule: Data) -> Iterator[Problem]:
    if not {"backend", "tags", "capability"} & rule.keys() and not document.damaged(at):
        yield document.problem(Rule.MISSING_KEY, at, "sends calls nowhere", "add backend, tags or capability")
    if "backend" in rule and "tags" in rule:
        what = "there is a backend already, which is one and no choice"
        yield document.problem(Rule.CONTRADICTION, (*at, "tags"), what, "keep one of the two", key=True)


def _known(document: Document, at: Path, rule: Data, entries: tuple[Entry, ...]) -> Iterator[Problem]:
    name, tags = rule.get("backend"), rule.get("tags")
    if name is not None and name not in {entry.name for entry in entries}:
        what = f"{document.show((*at, 'backend'), name)} is no backend of this file"
        yield document.problem(Rule.UNKNOWN_REFERENCE, (*at, "backend"), what, "write the name of a backend")
    if tags and not any(set(tags) <= set(entry.settings.get("tags", ())) for entry in entries):
        what = "no backend has all these tags"
        yield document.problem(Rule.UNKNOWN_REFERENCE, (*at, "tags"), what, "give a backend tags: […]", key=True)
