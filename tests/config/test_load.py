"""Texts → Config or all problems: several files, order, limits, speed; no mutation makes it raise anything else.

The rule: secrets stand in no form of any report.
"""

import copy
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.config.samples import SMALL, problems, problems_of, told
from tests.config.test_build import FULL
from vmcp.config.load import load, prune
from vmcp.config.report import render
from vmcp.config.source import compose
from vmcp.config.tree import Path as Place
from vmcp.config.tree import flatten
from vmcp.errors import ConfigError, Problem

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
MODELINE = "# yaml-language-server: $schema=../schemas/vmcp.schema.json"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid_and_tells_editors_its_schema(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.splitlines()[0] == MODELINE
    assert not problems_of([(str(path), text)])


def test_later_files_merge_over_earlier_ones() -> None:
    over = "groups: {code: {backends: {jira: {url: '${JIRA}'}}}}\nserver: {port: 9000}\nname: prod\n"
    files = [
        ("base.yaml", SMALL + "server: {host: localhost, port: ${MISSING}}\n".replace("${MISSING}", "'${MISSING}'")),
        ("prod.yaml", over),
    ]
    found, warnings = load(files, {"JIRA": "https://jira.example.com/mcp"})
    assert not warnings
    assert (found.name, found.server.host, found.server.port) == ("prod", "localhost", 9000)
    assert list(found.groups["code"].backends) == ["github", "jira"]


def test_every_problem_names_the_file_that_it_came_from() -> None:
    found = problems_of([("a", SMALL + "server: {port: x}\n"), ("b", "server: {hots: y}\ngroups: {code: 5}\n")])
    assert [(str(each.position), each.rule) for each in found] == [
        ("a:6:16", "bad-type"),
        ("b:1:10", "unknown-key"),
        ("b:2:16", "bad-type"),
    ]


def test_a_relative_path_starts_at_the_folder_of_the_file_that_has_it() -> None:
    child = "groups: {code: {backends: {%s: {command: [x], cwd: %s}}}}\n"
    files = [("a.yaml", "name: x\n" + child % ("one", "work")), ("b.yaml", child % ("two", "../work"))]
    found, _ = load(files, {}, directory=lambda name: f"/srv/{name[0]}")
    assert [each.cwd for each in found.backends] == ["/srv/a/work", "/srv/work"]
    found, _ = load([("sub/a.yaml", "name: x\n" + child % ("one", "work"))], {})
    assert found.backends[0].cwd == str(Path("sub/work").resolve())


def test_files_that_cannot_be_read_are_all_told() -> None:
    found = problems_of([("a", "x: [\n"), ("b", SMALL + "nonsense: &x 1\n"), ("c", "y: {\n")])
    assert [each.position.file for each in found] == ["a", "b", "c"]
    assert {each.rule for each in found} == {"bad-yaml", "no-anchors"}


def test_warnings_come_with_the_configuration() -> None:
    found, warnings = load([("a", SMALL.replace("https", "http"))], {})
    assert found.name == "acme"
    assert [(each.rule, each.severity) for each in warnings] == [("plain-http", "warning")]


def test_errors_and_warnings_come_together_in_order() -> None:
    text = SMALL.replace("https", "http") + "server: {port: x, hots: y}\nnme: z\n"
    assert told(problems(text)) == [
        "5:21 plain-http groups.code.backends.github.url",
        "6:16 bad-type server.port",
        "6:19 unknown-key server.hots",
        "7:1 unknown-key nme",
    ]


def test_the_message_of_the_exception_has_them_all() -> None:
    with pytest.raises(ConfigError, match=r"f:1:1: x: unknown key"):
        load([("f", "x: 1\n" + SMALL)], {})


@pytest.mark.parametrize(("count", "shown", "severity"), [(100, 100, None), (101, 101, "error"), (150, 101, "error")])
def test_only_so_many_problems_are_told(count: int, shown: int, severity: str | None) -> None:
    found = problems(SMALL + "".join(f"qq{number}: 1\n" for number in range(count)))
    assert len(found) == shown
    if severity:
        assert (found[-1].rule, found[-1].severity) == ("too-many", severity)
        assert found[-1].message == f"at least {count - 100} more problems are not shown"


def test_too_many_warnings_are_a_warning() -> None:
    many = "".join(f"      x{number}: {{url: http://x.example.com/mcp}}\n" for number in range(105))
    _, found = load([("f", SMALL + many)], {})
    assert (found[-1].rule, found[-1].severity) == ("too-many", "warning")


def test_one_cause_is_one_problem() -> None:
    assert told(problems("nme: x\n" + SMALL.replace("name: acme\n", ""))) == ["1:1 unknown-key nme"]
    assert told(problems(SMALL.replace("url: https://mcp.example.com/mcp", "url: &x [5]"))) == [
        "5:21 bad-type groups.code.backends.github.url",
        "5:21 no-anchors",
    ]
    assert told(problems(SMALL.replace("{url: https://mcp.example.com/mcp}", "*x"))) == ["5:15 no-anchors"]
    assert told(problems("name: a\ngroups: {code: {<<: *x}}\n")) == ["2:17 no-anchors"]


@pytest.mark.parametrize(
    ("path", "left"),
    [
        (("a", "b"), {"a": {"c": [1, 2]}}),
        (("a", "c", 0), {"a": {"b": 1, "c": [None, 2]}}),
        (("a", "none", "deeper"), {"a": {"b": 1, "c": [1, 2]}}),
        (("a", "c", "x"), {"a": {"b": 1, "c": [1, 2]}}),
        (("a", "b", "x"), {"a": {"b": 1, "c": [1, 2]}}),
        ((), {"a": {"b": 1, "c": [1, 2]}}),
    ],
)
def test_wrong_values_are_taken_out(path: Place, left: object) -> None:
    root, _ = compose("f", "a: {b: 1, c: [1, 2]}")
    assert root is not None
    document = flatten(root)
    prune(document, path)
    assert document.data == left
    assert path in document.broken


def large(lines: int) -> str:
    """A valid file of so many lines."""
    text = SMALL
    number = 0
    while text.count("\n") < lines - 8:
        number += 1
        text += f"      b{number}:\n        url: https://b{number}.example.com/mcp\n        # a comment\n"
        text += "        headers: {X-Team: platform, X-Id: 'abc'}\n        timeouts: {connect: 2s, total: 60s}\n"
        text += "        pool:\n          maxSize: 8\n        required: false\n"
    return text


HOSTILE = {
    "unknown keys": SMALL + "".join(f"unknown{number}: 1\n" for number in range(5_000)),
    "unknown backends": SMALL
    + "operational: {timeouts: {perWorkload: {\n"
    + "".join(f"b{n}: 1s,\n" for n in range(4_000))
    + "}}}",
    "unsortable list": SMALL
    + "aggregation: {conflictResolutionConfig: {priorityOrder: [\n"
    + "a, 1,\n" * 3_000
    + "]}}",
    "half a token": SMALL.replace("mcp}", "mcp, headers: {A: " + "eyJ" * 40_000 + "}}"),
    "a query without end": SMALL.replace("/mcp}", "/mcp" + "?" * 100_000 + "#}"),
    "a number without end": SMALL + "server: {port: " + "9" * 100_000 + "}",
    "a duration without end": SMALL + "server: {limits: {keepAlive: " + "1s" * 50_000 + "x}}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_told_in_bounded_time(name: str) -> None:
    began = time.process_time()
    files = [("f", HOSTILE[name])]
    rendered = render(problems_of(files), files, "text")
    assert time.process_time() - began < 15
    assert len(rendered) < 100_000


CANARIES = {"SECRET": "canary-environ-secret", "TEAM": "canary-environ-team", "HOST": "mcp-canary-environ"}
SECRETS: dict[str, Any] = {
    "name": "acme",
    "groups": {
        "code": {
            "backends": {
                "remote": {
                    "url": "https://a.example.com/mcp",
                    "headers": {"Authorization": "Bearer canary-header", "X-Env": "${SECRET}", "X-File": {"file": "a"}},
                    "auth": {
                        "type": "header_injection",
                        "headerInjection": {"headerName": "X-A", "headerValue": "canary-injected"},
                    },
                },
                "local": {
                    "command": ["run", "--token=canary-command"],
                    "env": {"TOKEN": "canary-env", "E": "${SECRET}"},
                },
            }
        }
    },
    "outgoingAuth": {"default": {"type": "basic", "basic": {"username": "u", "password": "canary-password"}}},
    "state": {"store": "redis", "redis": {"url": "rediss://redis:6379", "password": "canary-redis"}},
    "aggregation": {"tools": [{"workload": "${HOST}", "filter": ["${SECRET}"]}], "conflictResolution": "${TEAM}"},
    "server": {"host": "${HOST}", "allowedOrigins": ["${SECRET}"], "limits": {"bodyBytes": "1MiB"}},
}
FORMS = ("text", "json", "github", "sarif")


def assert_no_secret(found: Sequence[Problem], files: Sequence[tuple[str, str]]) -> None:
    for form in FORMS:
        assert "canary" not in render(found, files, form)  # type: ignore[arg-type] # the four forms


def report(text: str, environ: Mapping[str, str]) -> None:
    """Load and render; whatever is not a ConfigError fails the test, and so does a secret."""
    files = [("vmcp.yaml", text)]
    assert_no_secret(problems_of(files, environ), files)


def test_secrets_are_in_no_report() -> None:
    for indent in (None, 2):
        text = json.dumps(SECRETS, indent=indent)
        assert problems(text, CANARIES)
        report(text, CANARIES)


def containers(value: Any) -> list[Any]:
    """Every map and list in it."""
    if isinstance(value, dict):
        return [value, *(each for member in value.values() for each in containers(member))]
    if isinstance(value, list):
        return [value, *(each for member in value for each in containers(member))]
    return []


NAMES = """
    name url command groups backends tools env headers tls timeouts overrides arguments workload auth server type nonsense
    aggregation conflictResolution conflictResolutionConfig priorityOrder prefix_format headerInjection
"""
KEYS = st.sampled_from(NAMES.split())
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(
        ["", "x", "0s", "30s", "1MiB", "a\r\nb", "a\0b", "${SECRET}", "${NONE}", "${", "https://[", "\ud800"]
    ),
    st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2)),
)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 10_000), KEYS, VALUES), min_size=1, max_size=4), st.booleans())
def test_a_mutated_structure_gives_problems_and_no_secrets(changes: list[tuple[int, str, Any]], delete: bool) -> None:
    data = copy.deepcopy(SECRETS)
    for where, key, value in changes:
        found = containers(data)
        into = found[where % len(found)]
        if isinstance(into, list):
            into[where % (len(into) + 1) :] = [value]
        elif delete and into:
            into.pop(list(into)[where % len(into)])
        else:
            into[key] = value
    report(json.dumps(data), CANARIES)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from("{}[]:,-#&*!|>'\"%@\t\n ?a")), min_size=1, max_size=4)
)
@example([(0, "\t")])
def test_a_mutated_text_gives_problems_and_no_traceback(changes: list[tuple[int, str]]) -> None:
    text = FULL
    for where, char in changes:
        at = where % len(text)
        text = text[:at] + char + text[at + 1 :]
    problems(text)
