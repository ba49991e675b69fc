"""Servers that could be added. Rule: each snippet is a configuration that loads as it stands, and each command makes the same."""

import shlex
from typing import Any

import pytest

from vmcp.admin.discovery import backend, discovered, mount, mounted
from vmcp.admin.known import SERVERS, Known
from vmcp.cli.mount import command
from vmcp.config.load import load
from vmcp.config.model import Config
from vmcp.config.source import compose
from vmcp.config.tree import flatten

HERE = (
    "name: here\ngroups: {tools: {backends: {own: {url: 'https://MCP.context7.com/mcp/'},"
    " files: {command: [npx, -y, '@modelcontextprotocol/server-filesystem@1.2.3', /x]},"
    " many: {endpoints: [{url: 'https://mcp.deepwiki.com/mcp'}, {url: 'https://b.example.com/mcp'}]}}}}\n"
)
KEYS = "incomingAuth: {type: local, local: {keys: [{subject: a, sha256: '" + "0" * 64 + "'}]}}\n"


def config(text: str = HERE, **environ: str) -> Config:
    return load([("vmcp.yaml", text)], environ)[0]


def test_the_names_are_different_and_each_is_reached_one_way() -> None:
    assert len({each.name for each in SERVERS}) == len(SERVERS) >= 25
    assert all(bool(each.url) is not bool(each.command) for each in SERVERS)
    assert all("${" in value for each in SERVERS for value in (*each.env.values(), *each.headers.values()))


@pytest.mark.parametrize("more", ["", KEYS])
@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_a_snippet_is_a_configuration_that_loads(server: Known, more: str) -> None:
    around = config("name: x\ngroups: {g: {backends: {a: {url: 'http://127.0.0.1/'}}}}\n" + more)
    found = next(each for each in discovered(around)["servers"] if each["name"] == server.name)
    made = config("name: x\n" + more + found["yaml"], **dict.fromkeys(found["variables"], "s"))
    (spec,) = made.backends
    assert (spec.name, spec.url or "", spec.command) == (server.name, server.url, server.command)
    assert spec.group == "g"


@pytest.mark.parametrize("server", [each for each in SERVERS if not each.auth], ids=lambda server: server.name)
def test_the_command_makes_what_the_snippet_says(server: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr("vmcp.cli.edit.put", lambda _text, _group, name, told: made.append((name, told)))
    monkeypatch.setattr("vmcp.cli.mount.change", lambda _path, _where, edited: edited(""))
    program, verb, *words = shlex.split(mount(server))
    assert (program, verb) == ("vmcp", "mount")
    command.main(words, standalone_mode=False)
    assert made == [(server.name, backend(server, anonymous=False))]


def test_what_is_there_already_says_under_which_name() -> None:
    found = {each["name"]: each["mounted"] for each in discovered(config())["servers"] if each["mounted"]}
    assert found == {"filesystem": ["files"], "context7": ["own"], "deepwiki": ["many"]}
    other = Known("x", "X", "x", "x", command=("npx", "-y", "server-filesystem"))
    assert mounted(other, config().backends) == []


def test_words_are_looked_for_in_all_that_is_told() -> None:
    assert [each["name"] for each in discovered(config(), "Wiki ATLASSIAN")["servers"]] == ["atlassian"]
    assert discovered(config(), "nothing-has-this")["servers"] == []


def test_whose_login_it_is_depends_on_whether_callers_have_names() -> None:
    def notion(text: str) -> Any:
        return discovered(config(text), "notion")["servers"][0]

    alone, named = notion(HERE), notion(HERE + KEYS)
    assert (alone["login"], alone["mount"]) == ("vmcp auth login notion", "")
    root, _ = compose("f", alone["yaml"])
    assert root is not None
    assert flatten(root).data["state"] == {"directory": "/var/lib/vmcp"}
    assert "each user" in named["login"]
    assert "state" not in named["yaml"]
    assert "state" not in notion(HERE + "state: {directory: /srv}\n")["yaml"]
