"""Texts of files → ``Config``, or every problem in them. ``serve`` and ``validate`` call the same function.

The rule: it reads no file but the packaged schema, resolves no secret and asks the environment only for what ``${…}``
names; the same input gives the same output.
"""

import os.path
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, cast

from vmcp.config import build
from vmcp.config.checks import checks
from vmcp.config.elsewhere import elsewhere
from vmcp.config.findings import MOST, findings
from vmcp.config.model import Config
from vmcp.config.rules import Rule
from vmcp.config.schema import canonical, schema, secret_paths, settle, shape, veiled_keys
from vmcp.config.source import MAX_PROBLEMS, compose
from vmcp.config.substitute import Missing, substitute
from vmcp.config.tree import Document, Node, Path, flatten, merge, printable
from vmcp.config.unbuilt import unbuilt
from vmcp.errors import ConfigError, Position, Problem

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration with what there is to say about its files, and where in them everything stands."""

    config: Config
    warnings: tuple[Problem, ...]
    document: Document


def load(
    files: Sequence[tuple[str, str]],
    environ: Mapping[str, str],
    *,
    directory: Callable[[str], str] = lambda name: os.path.dirname(os.path.abspath(name)),  # noqa: PTH100, PTH120 - pure
) -> tuple[Config, tuple[Problem, ...]]:
    """The configuration that ``files`` (name, text) make together, and the warnings. Raises ``ConfigError``.

    ``directory`` gives the folder that relative paths of a file start at.
    """
    found = loaded(files, environ, directory=directory)
    return found.config, found.warnings


def loaded(
    files: Sequence[tuple[str, str]],
    environ: Mapping[str, str],
    *,
    directory: Callable[[str], str] = lambda name: os.path.dirname(os.path.abspath(name)),  # noqa: PTH100, PTH120 - pure
) -> Loaded:
    """The same, with the places of everything in the files. Raises ``ConfigError``."""
    order = {name: number for number, (name, _) in enumerate(files)}
    root, problems = _trees(files)
    if root is None:
        raise ConfigError(_sorted(problems, order))
    tree, missing = substitute(root, environ)
    document = flatten(settle(tree, shape(schema())))
    document.hidden.update(secret_paths(document.data, shape(schema())))
    document.veiled.update(veiled_keys(tree, shape(schema())))
    problems += (*(_missing(each, document) for each in missing), *_judged(document))
    told = _sorted(problems, order)
    if any(problem.severity == "error" for problem in told):
        raise ConfigError(told)

    def resolve(path: Path, value: str) -> str:
        return os.path.normpath(os.path.join(directory(document.at_value(path).file), value))  # noqa: PTH118 - pure

    return Loaded(build.config(document, resolve), told, document)


def _trees(files: Sequence[tuple[str, str]]) -> tuple[Node | None, tuple[Problem, ...]]:
    """The files merged in order; no tree when one of them could not be read."""
    merged: Node | None = None
    problems: list[Problem] = []
    readable = True
    for name, text in files:
        root, found = compose(name, text)
        problems += found
        if root is None:
            readable = False
            continue
        tree, twice = canonical(root, shape(schema()))
        problems += [_twice(*each) for each in twice]
        merged = tree if merged is None else merge(merged, tree)
    return (merged if readable else None), tuple(problems)


def _twice(key: str, at: Position, first: Position) -> Problem:
    what = f"duplicate key '{printable(key)}', in camelCase and snake_case"
    return Problem(at, "", what, f"it is already given at {first}", "error", str(Rule.DUPLICATE_KEY))


def _missing(each: Missing, document: Document) -> Problem:
    return Problem(each.at, document.label(each.path), each.message, each.hint, "error", str(each.rule))


def _judged(document: Document) -> tuple[Problem, ...]:
    """What schema, missing features and checks say. The checks see only what the schema accepts."""
    found = findings(document)
    wrong = {path for problem, path in found if problem.rule in _PRUNED}
    for path in sorted(wrong | document.broken, key=len, reverse=True):
        prune(document, path)
    return (
        *(problem for problem, _ in found),
        *unbuilt(document),
        *elsewhere(document),
        *islice(checks(document), MOST),
    )


_PRUNED = frozenset({Rule.BAD_TYPE, Rule.BAD_VALUE, Rule.UNKNOWN_KEY, Rule.MISPLACED_KEY})


def prune(document: Document, path: Path) -> None:
    """Take a wrong value out of the data; an element of a list leaves None, so that its neighbours keep their places."""
    document.broken.add(path)
    parent: object = document.data
    for step in path[:-1]:
        parent = _member(parent, step)
    if path and _member(parent, path[-1], missing := object()) is not missing:
        _take(parent, path[-1])


def _take(parent: object, step: str | int) -> None:
    if isinstance(parent, dict):
        del parent[step]
    else:
        cast("list[object]", parent)[cast("int", step)] = None


def _member(value: object, step: str | int, otherwise: object = None) -> object:
    if isinstance(value, dict):
        return value.get(step, otherwise)
    if isinstance(value, list) and isinstance(step, int):
        return value[step]
    return otherwise


def _sorted(problems: Sequence[Problem], order: Mapping[str, int]) -> tuple[Problem, ...]:
    """In order of position, each once, at most so many."""

    def place(problem: Problem) -> tuple[int, int, int, str]:
        at = problem.position
        return order[at.file], at.line, at.column, problem.rule

    told = sorted(dict.fromkeys(problems), key=place)
    if len(told) <= MAX_PROBLEMS:
        return tuple(told)
    rest = told[MAX_PROBLEMS:]
    severity: Severity = "error" if any(problem.severity == "error" for problem in rest) else "warning"
    what = f"at least {len(told) - MAX_PROBLEMS} more problems are not shown"
    return (*told[:MAX_PROBLEMS], Problem(rest[0].position, "", what, "", severity, str(Rule.TOO_MANY)))
