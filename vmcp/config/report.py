"""Problems of a configuration as text: for people, for scripts, for GitHub and GitLab, as SARIF and as JUnit's XML.

The rule: the same problems in every form, ids and keys that do not change, and no value that could be a secret.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import quote

from vmcp import __version__
from vmcp.config.markup import escaped
from vmcp.config.rules import MEANING
from vmcp.config.veil import Veil
from vmcp.errors import Position, Problem

Form = Literal["text", "json", "github", "sarif", "gitlab", "junit"]
Paint = Callable[[str, str], str]
"""(what it is: "error", "warning", "caret" or "hint", text) → the text in colour."""

MAX_WIDTH = 160
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def plain(_kind: str, text: str) -> str:
    """No colour."""
    return text


def render(problems: Sequence[Problem], sources: Sequence[tuple[str, str]], form: Form, paint: Paint = plain) -> str:
    """All problems in one of the forms, with a line end at the end unless it is empty."""
    if form == "text":
        return _text(problems, sources, paint)
    if form == "junit":
        return _junit(problems, [name for name, _ in sources])
    return _FORMS[form](problems)


def _text(problems: Sequence[Problem], sources: Sequence[tuple[str, str]], paint: Paint) -> str:
    veils = {name: Veil(name, text) for name, text in sources}
    return "".join(_block(problem, veils, paint) for problem in problems) + _help(problems, paint)


def _help(problems: Sequence[Problem], paint: Paint) -> str:
    """The command that tells more, once for all of them."""
    rules = dict.fromkeys(problem.rule for problem in problems if problem.rule)
    return f"{paint('hint', 'help')}: vmcp help {' '.join(rules)}\n" if rules else ""


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
    rules = [
        {"id": rule, "shortDescription": {"text": meanings.get(rule, rule)}, "help": {"text": f"vmcp help {rule}"}}
        for rule in used
    ]
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


def _gitlab(problems: Sequence[Problem]) -> str:
    """A report of GitLab's Code Quality. A fingerprint stays when lines move; what is alike is told apart by its turn."""
    seen: Counter[str] = Counter()
    told = []
    for problem in problems:
        key = f"{problem.position.file}\0{problem.rule}\0{problem.path}\0{problem.message}"
        seen[key] += 1
        told.append(
            {
                "description": _whole(problem),
                "check_name": problem.rule,
                "fingerprint": sha256(f"{key}\0{seen[key]}".encode("utf-8", "surrogateescape")).hexdigest(),
                "severity": "major" if problem.severity == "error" else "minor",
                "location": {"path": problem.position.file, "lines": {"begin": problem.position.line}},
            }
        )
    return json.dumps(told, indent=2) + "\n"


def _junit(problems: Sequence[Problem], files: Sequence[str]) -> str:
    """Each problem is a test, and so is each file without one; a warning is a test that passes and has something to say."""
    failed = sum(problem.severity == "error" for problem in problems)
    found = {problem.position.file for problem in problems}
    cases = [
        *map(_case, problems),
        *(f'<testcase classname="{_xml(name)}" name="valid"/>' for name in files if name not in found),
    ]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuites tests="{len(cases)}" failures="{failed}">\n'
        f'<testsuite name="vmcp validate" tests="{len(cases)}" failures="{failed}" errors="0" skipped="0">\n'
        + "".join(f"{case}\n" for case in cases)
        + "</testsuite>\n</testsuites>\n"
    )


def _case(problem: Problem) -> str:
    at, whole = problem.position, _xml(_whole(problem))
    name = _xml(f"{at.line}:{at.column} {problem.rule}")
    inside = f'<failure type="{_xml(problem.rule)}" message="{whole}">{_xml(str(at))}: {whole}</failure>'
    if problem.severity != "error":
        inside = f"<system-out>{_xml(str(at))}: {problem.severity}: {whole}</system-out>"
    return f'<testcase classname="{_xml(at.file)}" name="{name}" file="{_xml(at.file)}" line="{at.line}">{inside}</testcase>'


def _xml(text: str) -> str:
    """For an element and for an attribute; what XML cannot say at all is a question mark."""
    return escaped(_NO_XML.sub("?", text))


_FORMS: Mapping[str, Callable[[Sequence[Problem]], str]] = {
    "json": _json,
    "github": _github,
    "sarif": _sarif,
    "gitlab": _gitlab,
}
