"""What the schema says against a document, in our own words.

The rule: never jsonschema's message (it repeats the value); one cause, one problem; every problem where its cause stands.
"""

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.protocols import Validator

from vmcp.config.rules import Rule
from vmcp.config.schema import Schema, schema
from vmcp.config.tree import Document, Path
from vmcp.config.wording import Finding, told
from vmcp.errors import Problem

MOST = 1000  # ten times what is ever printed: the rest is not worth the time


def findings(document: Document) -> tuple[tuple[Problem, Path], ...]:
    """Every problem that the schema finds, each once, in no particular order, with the path of its cause."""
    found: dict[tuple[str, Path], Problem] = {}
    for error in islice(_validator().iter_errors(document.data), MOST):
        finding = _finding(error)
        problem = told(finding, document)
        if problem is not None:
            found.setdefault((problem.rule, finding.path), problem)
    again = {(rule, path) for rule, path in found if _follows(rule, path, found, document)}
    return tuple((problem, at[1]) for at, problem in found.items() if at not in again)


def _follows(rule: str, path: Path, found: Collection[tuple[str, Path]], document: Document) -> bool:
    """Whether the cause is told already: a missing key that another one was meant to be, or a value of the wrong type."""
    if rule == Rule.MISSING_KEY:
        return path in document.broken
    return rule == Rule.BAD_VALUE and (Rule.BAD_TYPE, path) in found


@functools.cache
def _validator() -> Validator:
    ours = {"additionalProperties": _additional, "pattern": _pattern, "required": _required, "uniqueItems": _unique}
    kind: type[Validator] = validators.extend(Draft202012Validator, ours)  # type: ignore[no-untyped-call] # stubs
    return kind(schema())


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern)  # Python's $ lets a line end pass


def _pattern(_validator: Any, pattern: str, value: Any, _part: Schema) -> Iterator[ValidationError]:
    if isinstance(value, str) and not _compiled(pattern).search(value):
        yield ValidationError("")


def _additional(validator: Any, extra: Any, value: Any, part: Schema) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    known = part.get("properties", {})
    for key, member in value.items():
        if key in known:
            continue
        if extra is False:
            yield ValidationError("", path=[key])
        else:
            yield from validator.descend(member, extra, path=key)


def _required(_validator: Any, keys: Sequence[str], value: Any, _part: Schema) -> Iterator[ValidationError]:
    if isinstance(value, dict):
        for key in keys:
            if key not in value:
                yield ValidationError("", path=[key])


def _unique(_validator: Any, _wanted: Any, value: Any, _part: Schema) -> Iterator[ValidationError]:
    """In linear time, whatever the elements are."""
    if isinstance(value, list) and len({repr(each) for each in value}) < len(value):
        yield ValidationError("")


def _finding(error: ValidationError) -> Finding:
    """What we take of an error: never its message."""
    path: Path = tuple(error.absolute_path)
    where = error.absolute_schema_path
    naming = len(where) > 1 and where[-2] == "propertyNames"
    part = error.schema if isinstance(error.schema, dict) else {}
    value: Any = error.instance
    return Finding((*path, value) if naming else path, str(error.validator), error.validator_value, value, part, naming)
