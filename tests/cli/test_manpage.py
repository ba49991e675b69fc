"""``vmcp manpage``. Rule: the page is read as roff is; nothing of a command is missing in it."""

import re

import click
from click.testing import CliRunner

from vmcp.cli import VERBS, main
from vmcp.cli.manpage import EXITS, page


def leaves(group: click.Group, path: str = "vmcp") -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        each = group.get_command(ctx, name)
        assert each is not None
        if not each.hidden:
            found.append((f"{path} {name}", each))
            found += leaves(each, f"{path} {name}") if isinstance(each, click.Group) else []
    return found


def test_every_command_and_option_is_there() -> None:
    text = page().replace(r"\-", "-")
    for path, each in leaves(main):
        assert f'.SS "{path}' in text, path
        for parameter in each.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[0] in text
    assert {path.split()[1] for path, _ in leaves(main)} == set(VERBS)


def test_no_line_is_a_request_by_chance() -> None:
    known = {".TH", ".SH", ".SS", ".PP", ".TP", ".B"}
    for line in page().splitlines():
        assert not line.startswith("'"), line
        assert not line.startswith(".") or line.split()[0] in known, line
        assert not re.search(r"\\(?![-e&f(])", line), line


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    told = main.callback.__module__ if main.callback is not None else ""
    documented = re.findall(r"(\d+) ", __import__(told, fromlist=["x"]).__doc__ or "")
    assert set(EXITS) == set(documented)


def test_the_command_prints_it() -> None:
    printed = CliRunner().invoke(main, ["manpage"])
    assert printed.exit_code == 0
    assert printed.output == page()
    assert printed.output.startswith('.TH VMCP 1 "" "vmcp ')
