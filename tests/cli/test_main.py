"""The command line as a whole. Rule: every verb that is promised is there, and no other."""

import importlib

import click
import pytest
from click.testing import CliRunner

from tests.cli.processes import run
from vmcp.cli import FILES, VERBS, main


def test_help_names_every_verb() -> None:
    for argument in ("--help", "-h"):
        shown = CliRunner().invoke(main, [argument])
        assert shown.exit_code == 0
        for verb, words in VERBS.items():
            assert verb in shown.output
            assert words in " ".join(shown.output.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_own_file_and_help(verb: str) -> None:
    assert isinstance(importlib.import_module(f"vmcp.cli.{FILES.get(verb, verb)}").command, click.Command)
    shown = CliRunner().invoke(main, [verb, "--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.output


@pytest.mark.parametrize("arguments", [["nonsense"], ["files"], ["instance"], ["tail"], ["--nonsense"], ["__init__"]])
def test_what_is_no_verb_is_a_usage_error(arguments: list[str]) -> None:
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 2
    assert "Usage:" in shown.output


def test_the_module_is_the_command() -> None:
    ended = run("--help")
    assert ended.returncode == 0
    assert "Many MCP servers behind one endpoint" in ended.stdout


def test_a_verb_that_is_misspelt_is_guessed() -> None:
    assert "there is no verb 'staus'; did you mean status" in CliRunner().invoke(main, ["staus"]).output
    assert "there is no verb 'xyzzy'\n" in CliRunner().invoke(main, ["xyzzy"]).output
