"""``vmcp help``: every rule and code has its page, and the verbs have theirs.

Rule: what it prints is the file that stands in docs/errors, for a terminal.
"""

import json

import pytest
from click.testing import CliRunner

from vmcp.cli import main
from vmcp.cli.target import failed
from vmcp.config.rules import Rule
from vmcp.errors import Code, McpError


def shown(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(main, ["help", *words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("topic", [*Rule, *(str(code.value) for code in Code)])
def test_whatever_can_go_wrong_has_a_page(topic: str) -> None:
    text = shown(str(topic))
    assert text.startswith(f"# {topic.removeprefix('-')}")
    assert "](" not in text, "links lead nowhere on a terminal"


def test_several_topics_are_shown_one_after_the_other() -> None:
    text = shown("unknown-key", "VMCP-2001", "-32602")
    assert [text.index(f"# {each}") for each in ("unknown-key", "2001", "32602")] == sorted(
        text.index(f"# {each}") for each in ("unknown-key", "2001", "32602")
    )


def test_a_verb_has_its_own_help() -> None:
    assert "Usage: main call [OPTIONS]" in shown("call")
    assert "Commands:" in shown()


@pytest.mark.parametrize("topic", ["no-such-rule", "../reference/metrics", "9999", "x" * 99, "README"])
def test_what_has_no_page_is_a_usage_error(topic: str) -> None:
    assert f"there is no page '{topic}'" in shown(topic, code=2)


def test_an_error_of_the_protocol_names_its_page() -> None:
    away = failed(McpError(Code.INTERNAL_ERROR, "it is gone", {"vmcpCode": 2001}))
    assert (away.message, away.exit_code) == ("it is gone\nhelp: vmcp help 2001", 4)
    assert failed(McpError(Code.INTERNAL_ERROR, "its own")).message == "its own"


def test_who_asks_for_json_is_told_in_json_that_it_failed() -> None:
    done = CliRunner().invoke(main, ["status", "--admin", "/no/such.sock", "-o", "json"])
    told = json.loads(done.stderr)["error"]
    assert (done.exit_code, done.stdout, told["code"]) == (4, "", "unreachable")
    assert "nobody answers at /no/such.sock" in told["message"]
    plain = CliRunner().invoke(main, ["status", "--admin", "/no/such.sock"])
    assert plain.stderr.startswith("vmcp: nobody answers")
