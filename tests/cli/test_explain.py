"""``vmcp explain`` as an operator runs it: over a real backend, for a caller of his choice.

The rule: what it says is what ``serve`` does, so each answer stands beside the opposite one.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.cli.processes import CHILD, run
from tests.config.samples import SMALL

FILE = """\
name: acme
groups:
  code:
    backends:
      child: {{command: [{python}, -S, {child}, "2025-06-18"]}}
      gone: {{command: [/nowhere/at/all]}}
incomingAuth:
  type: anonymous
  authz:
    type: cedar
    policies:
      - '@id("engineers") permit(principal in THVGroup::"eng", action, resource in Backend::"child");'
      - '@id("careful") forbid(principal, action, resource) when {{ context has arg_n && context.arg_n > 3 }};'
personas:
  blind: {{exclude: ["*"]}}
  other: {{overrides: {{child_echo: {{name: say, arguments: {{n: {{name: number}}}}}}}}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    text = FILE.format(python=json.dumps(sys.executable), child=json.dumps(str(CHILD)))
    (tmp_path / "alice.json").write_text(
        '{"sub": "alice", "iss": "https://id.example.com", "groups": ["eng"]}', "utf-8"
    )
    (tmp_path / "vmcp.yaml").write_text(text, "utf-8")
    return str(tmp_path / "vmcp.yaml")


def explain(file: str, *arguments: str) -> tuple[int, list[str]]:
    done = run("explain", "--config", file, *arguments, cwd=Path(file).parent)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines() or done.stderr.splitlines()


ALICE = ("--as", "alice.json")


def test_it_says_which_policy_permits(file: str) -> None:
    code, lines = explain(file, *ALICE, "--tool", "child_echo")
    assert (code, lines) == (
        0,
        [
            "tool      child_echo: echo of backend child",
            "persona   none",
            "policies  permitted by engineers",
            "so he may",
        ],
    )


def test_it_says_that_none_permits(file: str) -> None:
    code, lines = explain(file, "--tool", "child_echo")
    assert (code, lines[2:]) == (77, ["policies  denied: no policy permits it", "so he may not"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ('{"n": 3}', "permitted by engineers"),
        ('{"n": 4}', "denied by careful"),
        ('{"n": "4"}', "denied: 'arg_n' is no Long"),
    ],
)
def test_it_decides_on_arguments(file: str, arguments: str, line: str) -> None:
    code, lines = explain(file, *ALICE, "--tool", "child_echo", "--arguments", arguments)
    assert lines[2] == f"policies  {line}"
    assert (code == 0) is line.startswith("permitted")


def test_it_says_what_a_persona_hides(file: str) -> None:
    code, lines = explain(file, *ALICE, "--tool", "child_echo", "--persona", "blind")
    assert code == 77
    assert "blind" in lines[-3] + lines[0]
    code, lines = explain(file, *ALICE, "--tool", "child_echo", "--persona", "nobody")
    assert (code, lines[1]) == (77, "persona   Persona not found: nobody")


def test_it_knows_a_tool_by_the_name_that_the_persona_gives_it(file: str) -> None:
    code, lines = explain(file, *ALICE, "--tool", "say", "--persona", "other", "--arguments", '{"number": 3}')
    assert (code, lines[0]) == (0, "tool      say: echo of backend child")
    code, lines = explain(file, *ALICE, "--tool", "say", "--persona", "other", "--arguments", '{"number": 4}')
    assert (code, lines[2]) == (77, "policies  denied by careful")
    assert explain(file, *ALICE, "--tool", "child_echo", "--persona", "other")[0] == 77
    assert explain(file, *ALICE, "--tool", "say")[0] == 77


def test_what_is_not_there_is_told_with_what_may_be_the_reason(file: str) -> None:
    code, lines = explain(file, *ALICE, "--group", "code", "--prompt", "gone_p")
    assert (code, lines) == (
        77,
        [
            "prompt    gone_p: there is none at /code/mcp",
            "  perhaps backend 'gone' has not answered yet",
            "so he may not",
        ],
    )


def test_without_policies_everybody_may(tmp_path: Path) -> None:
    path = tmp_path / "vmcp.yaml"
    command = json.dumps([sys.executable, "-S", str(CHILD), "2025-06-18"])
    path.write_text(f"name: a\ngroups: {{g: {{backends: {{b: {{command: {command}}}}}}}}}\n", "utf-8")
    code, lines = explain(str(path), "--tool", "b_echo")
    assert (code, lines[2]) == (0, "policies  none: everybody may do everything (incomingAuth.authz)")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "name one thing"),
        (("--tool", "a", "--prompt", "b"), "name one thing"),
        (("--tool", "a", "--arguments", "[]"), "--arguments is no JSON object"),
        (("--tool", "a", "--as", "vmcp.yaml"), "vmcp.yaml is no JSON object"),
        (("--tool", "a", "--group", "x"), "there is no group 'x'"),
    ],
)
def test_wrong_use_is_told(file: str, arguments: tuple[str, ...], why: str) -> None:
    code, lines = explain(file, *arguments)
    assert code == 2
    assert why in lines[-1]


def test_a_wrong_file_is_told_as_everywhere(tmp_path: Path) -> None:
    (tmp_path / "vmcp.yaml").write_text(SMALL + "more: 1\n", "utf-8")
    assert explain(str(tmp_path / "vmcp.yaml"), "--tool", "a")[0] == 78
    (tmp_path / "vmcp.yaml").write_text(SMALL.replace("https://mcp.example.com", "http://127.0.0.1:1"), "utf-8")
    code, lines = explain(str(tmp_path / "vmcp.yaml"), "--tool", "a", "--wait", "0.2")
    assert (code, lines[-1]) == (77, "so he may not")


def test_it_says_where_a_rule_sends_the_call_and_judges_both_places(file: str) -> None:
    path = Path(file)
    other = f"      twin: {{command: [{json.dumps(sys.executable)}, -S, {json.dumps(str(CHILD))}, '2025-06-18']}}\n"
    rule = "routing: [{match: {when: \"params.arguments.n == 1 && principal.subject == 'alice'\"}, backend: twin}]\n"
    text = path.read_text("utf-8").replace("      gone:", other + "      gone:") + rule
    path.write_text(text, "utf-8")
    code, lines = explain(file, *ALICE, "--tool", "child_echo", "--arguments", '{"n": 1}')
    assert (code, lines[1:]) == (
        77,
        [
            "routing   a rule sends this call to backend twin",
            "persona   none",
            "policies  permitted by engineers",
            "persona   none",
            "policies  denied: no policy permits it",
            "so he may not",
        ],
    )
    assert explain(file, *ALICE, "--tool", "child_echo", "--arguments", '{"n": 2}')[0] == 0
