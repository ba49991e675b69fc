"""Problems in six forms, each as its readers expect it."""

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.config.samples import SMALL, problems
from vmcp.config.report import Form, render
from vmcp.errors import Position, Problem

SOURCES = [("vmcp.yaml", "name: acme\nserver: {port: x, host: 127.0.0.1}\n")]
PROBLEMS = (
    Problem(Position("vmcp.yaml", 2, 16), "server.port", "must be a whole number, not text", "", "error", "bad-type"),
    Problem(Position("vmcp.yaml", 2, 19, 4), "server.host", "is: 100%,\nodd", "look\rhere", "warning", "bad-value"),
    Problem(Position("gone.yaml", 7, 3), "", "the file is empty", "write one", "error", "one-document"),
)


def test_text_has_the_line_a_caret_and_the_hint() -> None:
    assert render(PROBLEMS, SOURCES, "text") == (
        "vmcp.yaml:2:16: error: server.port: must be a whole number, not text\n"
        "    server: {port: x, host: 127.0.0.1}\n"
        "                   ^\n"
        "vmcp.yaml:2:19: warning: server.host: is: 100%,\nodd\n"
        "    server: {port: x, host: 127.0.0.1}\n"
        "                      ^^^^\n"
        "    hint: look\rhere\n"
        "gone.yaml:7:3: error: the file is empty\n"
        "    hint: write one\n"
        "help: vmcp help bad-type bad-value one-document\n"
    )


def test_colour_is_what_the_caller_makes_of_it() -> None:
    text = render(PROBLEMS[1:2], SOURCES, "text", lambda kind, text: f"<{kind} {text}>")
    assert "vmcp.yaml:2:19: <warning warning>: server.host" in text
    assert "<caret ^^^^>" in text
    assert "<hint hint>: look" in text


@pytest.mark.parametrize("column", [1, 150, 290])
def test_a_long_line_is_cut_around_the_place(column: int) -> None:
    line = "name: '" + "".join(chr(97 + number % 26) for number in range(300)) + "'"
    found = Problem(Position("f", 1, column, 5), "", "x")
    _, shown, caret = render([found], [("f", line)], "text").splitlines()
    assert len(shown) <= 164
    at = caret.index("^")
    assert shown[at : at + 5] == line[column - 1 : column + 4]
    assert caret.count("^") == 5


def test_a_tab_keeps_the_caret_in_its_column() -> None:
    found = Problem(Position("f", 1, 8, 1), "", "x")
    _, shown, caret = render([found], [("f", "name:\t\tx")], "text").splitlines()
    assert shown == "    name:  *"
    assert caret == "           ^"


def test_an_underline_ends_with_the_line() -> None:
    found = Problem(Position("f", 1, 7, 500), "", "x")
    _, _, caret = render([found], [("f", "name: abc")], "text").splitlines()
    assert caret == "          ^^^"


def test_a_blank_line_is_not_shown() -> None:
    assert render([Problem(Position("f", 2, 1), "", "x")], [("f", "a:\n\n")], "text") == "f:2:1: error: x\n"


def test_json_has_every_field() -> None:
    told = json.loads(render(PROBLEMS, SOURCES, "json"))
    assert {key: told[key] for key in ("ok", "errors", "warnings")} == {"ok": False, "errors": 2, "warnings": 1}
    assert told["problems"][0] == {
        "file": "vmcp.yaml",
        "line": 2,
        "column": 16,
        "length": 1,
        "severity": "error",
        "rule": "bad-type",
        "path": "server.port",
        "message": "must be a whole number, not text",
        "hint": "",
    }
    assert json.loads(render((), SOURCES, "json")) == {"ok": True, "errors": 0, "warnings": 0, "problems": []}


def test_github_commands_are_escaped() -> None:
    first, second, third = render(PROBLEMS, SOURCES, "github").splitlines()
    assert first == (
        "::error file=vmcp.yaml,line=2,endLine=2,col=16,endColumn=17,title=vmcp bad-type"
        "::server.port: must be a whole number, not text"
    )
    assert second == (
        "::warning file=vmcp.yaml,line=2,endLine=2,col=19,endColumn=23,title=vmcp bad-value"
        "::server.host: is: 100%25,%0Aodd (look%0Dhere)"
    )
    assert third.endswith("::the file is empty (write one)")
    odd = Problem(Position("a,b:c%.yaml", 1, 1), "", "x")
    assert render([odd], [], "github").startswith("::error file=a%2Cb%3Ac%25.yaml,line=1,")


def test_sarif_has_rules_results_and_places() -> None:
    log: dict[str, Any] = json.loads(render(PROBLEMS, SOURCES, "sarif"))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["bad-type", "bad-value", "one-document"]
    assert rules[0]["shortDescription"]["text"] == "A value has the wrong type."
    assert rules[0]["help"]["text"] == "vmcp help bad-type"
    assert [rules[result["ruleIndex"]]["id"] for result in run["results"]] == [
        result["ruleId"] for result in run["results"]
    ]
    assert [result["level"] for result in run["results"]] == ["error", "warning", "error"]
    place = run["results"][1]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "vmcp.yaml"
    assert place["region"] == {"startLine": 2, "startColumn": 19, "endLine": 2, "endColumn": 23}
    odd = json.loads(render([Problem(Position("a b.yaml", 1, 1), "", "x")], [], "sarif"))
    assert odd["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a%20b.yaml"
    assert json.loads(render((), (), "sarif"))["runs"][0]["results"] == []


def test_gitlab_knows_a_problem_again_when_its_line_has_moved() -> None:
    again = replace(PROBLEMS[0], position=Position("vmcp.yaml", 9, 1))
    first, second, _, fourth = json.loads(render((*PROBLEMS, again), SOURCES, "gitlab"))
    assert first == {
        "description": "server.port: must be a whole number, not text",
        "check_name": "bad-type",
        "fingerprint": first["fingerprint"],
        "severity": "major",
        "location": {"path": "vmcp.yaml", "lines": {"begin": 2}},
    }
    assert second["severity"] == "minor"
    assert first["fingerprint"] != fourth["fingerprint"], "what is alike is two problems"
    (moved,) = json.loads(render([again], SOURCES, "gitlab"))
    assert moved["fingerprint"] == first["fingerprint"]
    assert json.loads(render((), SOURCES, "gitlab")) == []


def test_junit_has_a_test_for_each_problem_and_each_good_file() -> None:
    odd = Problem(Position('a"<b>.yaml', 1, 1), "x", 'is <&> "odd" \x1b\ud800', "", "warning", "bad-value")
    told = ElementTree.fromstring(render((*PROBLEMS, odd), [*SOURCES, ("good.yaml", "")], "junit").encode())  # noqa: S314 - our own
    (suite,) = told
    assert (suite.get("tests"), suite.get("failures")) == ("5", "2")
    first, second, third, fourth, fifth = suite
    failure = first.find("failure")
    assert failure is not None
    assert (first.get("file"), first.get("line"), first.get("name")) == ("vmcp.yaml", "2", "2:16 bad-type")
    assert failure.get("message") == "server.port: must be a whole number, not text"
    assert failure.text == "vmcp.yaml:2:16: server.port: must be a whole number, not text"
    assert second.find("failure") is None, "a warning fails nothing"
    assert third.find("failure") is not None
    assert fourth.get("classname") == 'a"<b>.yaml'
    assert fourth.findtext("system-out") == 'a"<b>.yaml:1:1: warning: x: is <&> "odd" ??'
    assert (fifth.get("classname"), len(fifth)) == ("good.yaml", 0)


@pytest.mark.parametrize("form", ["text", "json", "github", "sarif", "gitlab", "junit"])
def test_every_form_tells_every_problem(form: Form) -> None:
    text = SMALL + "nonsense: 1\nserver: {port: x}\n"
    rendered = render(problems(text), [("vmcp.yaml", text)], form)
    assert "nonsense" in rendered
    assert "server.port" in rendered


def test_nothing_wrong_is_no_text() -> None:
    assert render((), SOURCES, "text") == ""
    assert render((), SOURCES, "github") == ""
