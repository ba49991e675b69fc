"""Problems of a configuration as text: for people, for scripts, for GitHub, as SARIF.

The rule: the same problems in every form, ids and keys that do not change, and no value that could be a secret.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from vmcp import __version__
from vmcp.config.rules import MEANING
from vmcp.config.veil import Veil
from vmcp.errors import Position, Problem

Form = Literal["text", "json", "github", "sarif"]
Paint = Callable[[str, str], str]
"""(what it is: "error", "warning", "caret" or "hint", text) → the text in colour."""

MAX_WIDTH = 160


def plain(_kind: str, text: str) -> str:
    """No colour."""
    return text


def render(problems: Sequence[Problem], sources: Sequence[tuple[str, str]], form: Form, paint: Paint = plain) -> str:
    """All problems in one of the forms, with a line end at the end unless it is empty."""
    if form == "text":
        return _text(problems, sources, paint)
    return _FORMS[form](problems)


def _text(problems: Sequence[Problem], sources: Sequence[tuple[str, str]], paint: Paint) -> str:
    veils = {name: Veil(name, text) for name, text in sources}
    return "".join(_block(problem, veils, paint) for problem in problems)


def _block(problem: Problem, veils: Mapping[str, Veil], paint: Paint) -> str:
    at = problem.position
    lines = [f"{at}: {paint(problem.severity, problem.severity)}: {said(problem)}"]
    veil = veils.get(at.file)
    line = veil.line(at.line) if veil else ""
    if line.strip():
        lines += _excerpt(line, at, paint)
    if problem.hint:
        lines.append(f"    {paint('hint', 'hint')}: {problem.hint}")
    return "\n".join(lines) + "\n"


def _excerpt(line: str, at: Position, paint: Paint) -> list[str]:
    start = at.column - 1
    cut = max(0, start - MAX_WIDTH // 2) if len(line) > MAX_WIDTH else 0
    part = line[cut : cut + MAX_WIDTH].replace("\t", " ")
    room = max(1, min(at.length, len(part) - (start - cut)))
    return [f"    {part.rstrip()}", "    " + " " * (start - cut) + paint("caret", "^" * room)]


def said(problem: Problem) -> str:
    """``path: what``; only what, where there is no path."""
    return f"{problem.path}: {problem.message}" if problem.path else problem.message


def _whole(problem: Problem) -> str:
    return said(problem) + (f" ({problem.hint})" if problem.hint else "")


def _json(problems: Sequence[Problem]) -> str:
    count = {kind: sum(problem.severity == kind for problem in problems) for kind in ("error", "warning")}
    listed = [
        {
            "file": problem.position.file,
            "line": problem.position.line,
            "column": problem.position.column,
            "length": problem.position.length,
            "severity": problem.severity,
            "rule": problem.rule,
            "path": problem.path,
            "message": problem.message,
            "hint": problem.hint,
        }
        for problem in problems
    ]
    told = {"ok": not count["error"], "errors": count["error"], "warnings": count["warning"], "problems": listed}
    return json.dumps(told, indent=2) + "\n"


def _github(problems: Sequence[Problem]) -> str:
    return "".join(f"{_command(problem)}\n" for problem in problems)


def _command(problem: Problem) -> str:
    """A workflow command (GitHub Actions, "Workflow commands": percent-encoding of data and of properties)."""
    at = problem.position
    places = {
        "file": at.file,
        "line": at.line,
        "endLine": at.line,
        "col": at.column,
        "endColumn": at.column + at.length,
    }
    places["title"] = f"vmcp {problem.rule}"
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in places.items())
    return f"::{problem.severity} {properties}::{_data(_whole(problem))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _sarif(problems: Sequence[Problem]) -> str:
    """SARIF 2.1.0 (OASIS); columns count code points."""
    used = sorted({problem.rule for problem in problems})
    meanings = {str(rule): meaning for rule, meaning in MEANING.items()}
    rules = [{"id": rule, "shortDescription": {"text": meanings.get(rule, rule)}} for rule in used]
    driver = {"name": "vmcp", "version": __version__, "rules": rules}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, used) for problem in problems],
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2) + "\n"


def _result(problem: Problem, used: Sequence[str]) -> dict[str, Any]:
    at = problem.position
    region = {"startLine": at.line, "startColumn": at.column, "endLine": at.line, "endColumn": at.column + at.length}
    place = {"artifactLocation": {"uri": quote(at.file)}, "region": region}
    return {
        "ruleId": problem.rule,
        "ruleIndex": used.index(problem.rule),
        "level": problem.severity,
        "message": {"text": _whole(problem)},
        "locations": [{"physicalLocation": place}],
    }


_FORMS: Mapping[str, Callable[[Sequence[Problem]], str]] = {"json": _json, "github": _github, "sarif": _sarif}
