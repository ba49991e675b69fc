"""What the pages show is so: configurations are valid or wrong as they say, commands exist, requests get these answers.

Rule: nothing is shown to people that a test has not tried.
"""

import http.client
import itertools
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.processes import Process, serving
from tests.docs.pages import DOCS, PAGES, ROOT, Block, blocks, every
from vmcp.cli import main
from vmcp.config.load import loaded
from vmcp.config.source import compose
from vmcp.errors import ConfigError, Problem


def problems(text: str) -> tuple[Problem, ...]:
    try:
        return loaded([("vmcp.yaml", text)], {}).warnings
    except ConfigError as error:
        return error.problems


@pytest.mark.parametrize("block", every("yaml", ""), ids=str)
def test_a_configuration_is_valid_and_gives_no_warning(block: Block) -> None:
    assert [f"{each.position.line}: {each.path}: {each.message}" for each in problems(block.text)] == []


@pytest.mark.parametrize("block", every("yaml", "wrong"), ids=str)
def test_a_wrong_configuration_is_wrong_in_just_this_way(block: Block) -> None:
    assert {each.rule for each in problems(block.text)} == {block.page.stem}


@pytest.mark.parametrize("block", every("yaml", "part"), ids=str)
def test_a_piece_of_a_configuration_can_be_read(block: Block) -> None:
    root, wrong = compose("part.yaml", block.text)
    assert root is not None
    assert not wrong


def commands() -> Iterator[tuple[str, list[str]]]:
    for block in every("sh", "", "run", "no-run"):
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and "=" in words[0] and not words[0].startswith("-"):
                words.pop(0)
            if words[:1] == ["vmcp"]:
                cut = next(
                    (at for at, word in enumerate(words) if word in ("|", ">", "&&", "||", ";", "2>")), len(words)
                )
                yield f"{block}: {line.strip()}", words[1:cut]


@pytest.mark.parametrize(
    ("shown", "words"), list(commands()), ids=lambda value: value if isinstance(value, str) else "words"
)
def test_a_command_has_these_words(shown: str, words: list[str]) -> None:
    command: click.Command = main
    context = click.Context(main, info_name="vmcp", **main.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            break
        command, words = found, words[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    assert command is not main or words == ["--help"], "there is no such verb"
    context.allow_interspersed_args = command.allow_interspersed_args
    command.make_parser(context).parse_args(list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    for target in _links(text):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


def _links(text: str) -> list[str]:
    return [each for each in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in each]


def _anchors(file: Path) -> set[str]:
    lines = [line.lstrip("#").strip() for line in file.read_text("utf-8").splitlines() if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_every_example_is_on_the_page_of_examples() -> None:
    text = (DOCS / "examples.md").read_text("utf-8")
    for path in (ROOT / "examples").glob("*.yaml"):
        assert f"({os.path.relpath(path, DOCS)})" in text


# --- what a running vmcp says

GATEWAY = """\
name: pages
groups:
  desk:
    backends:
      notes: {{command: [{python}, -S, {notes}]}}
personas:
  reader: {{description: Looks., include: [get_*]}}
server: {{port: 0}}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    path = tmp_path_factory.mktemp("pages") / "vmcp.yaml"
    notes = json.dumps(str(ROOT / "examples" / "servers" / "notes.py"))
    path.write_text(GATEWAY.format(python=json.dumps(sys.executable), notes=notes))
    with serving("--config", str(path)) as process:
        process.until('"msg":"ready"')
        yield process


def exchanges() -> list[tuple[Block, Block]]:
    found = []
    for page in PAGES:
        all_of = list(blocks(page))
        found += [(one, after) for one, after in itertools.pairwise(all_of) if one.language == "http"]
    return found


@pytest.mark.parametrize(("request_", "answer"), exchanges(), ids=str)
def test_a_request_gets_the_answer_that_is_shown(gateway: Process, request_: Block, answer: Block) -> None:
    head, _, body = request_.text.partition("\n\n")
    first, *lines = head.splitlines()
    method, path = first.split()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    headers |= dict(line.split(": ", 1) for line in lines)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port(), timeout=10)
    try:
        connection.request(method, path, body.strip(), headers)
        said: dict[str, Any] = json.loads(connection.getresponse().read())["error"]
    finally:
        connection.close()
    expected: dict[str, Any] = json.loads(answer.text)
    more = expected.pop("data", {})
    assert said | expected == said
    assert said.get("data", {}) | more == said.get("data", {})
