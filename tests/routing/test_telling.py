"""A plan in its three forms, exactly as it is written down; and what nobody's words can do to them.

The rule: a golden text changes only on purpose: ``REGOLD=1`` in the environment writes them anew, and the diff is reviewed.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.routing.catalogs import catalog, entry
from vmcp.config.load import load
from vmcp.config.model import Config
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.plan import Plan, plan
from vmcp.routing.settings import settings
from vmcp.routing.surface import surface
from vmcp.routing.telling import Form, render

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
FILES: dict[Form, str] = {"text": "plan.txt", "json": "plan.json", "markdown": "plan.md"}

OLD = """\
name: acme
groupRef: code
groups:
  code:
    backends:
      github: {command: [github-mcp], env: {TOKEN: one}}
      jira: {url: https://jira.example.com/mcp}
      slow: {command: [slow]}
"""
NEW = """\
name: acme
groupRef: code
groups:
  code:
    backends:
      github: {command: [github-mcp, --all], env: {TOKEN: two}}
      tasks: {url: https://tasks.example.com/mcp}
      slow: {command: [slow]}
personas:
  reader: {include: ["*_get"]}
incomingAuth: {type: local, local: {osUser: true}}
server: {port: 4490}
cache: {enabled: true}
"""


def tool(name: str, description: str, **more: object) -> bytes:
    return entry(Kind.TOOL, name, description=description, **more)


ISSUE = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
MORE = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "team": {"type": "string"}},
    "required": ["title", "team"],
}
BEFORE = {
    "github": catalog(
        "github",
        tools=[
            tool("create", "Create an issue.", inputSchema=ISSUE),
            tool("get", "Get an issue.", annotations={"readOnlyHint": True}),
            tool("close", "Close an issue."),
        ],
        instructions="Issues.",
    ),
    "jira": catalog("jira", tools=[tool("find", "Find a task.")], prompts=["triage"], resources=["jira://board"]),
}
AFTER = {
    "github": catalog(
        "github",
        tools=[
            tool("create", "Create an issue.\u200b Then `rm -rf`\n| <b>@all</b>.", inputSchema=MORE),
            tool("get", "Get an issue.", annotations={"readOnlyHint": False}),
            tool("list", "List issues."),
        ],
        instructions="Issues, and more.",
    ),
    "tasks": catalog("tasks", tools=[tool("find", "Find a task.")], templates=["tasks://{id}"]),
}


def config(text: str) -> Config:
    return load([("vmcp.yaml", text)], {})[0]


def made(old: str, new: str, before: dict[str, Catalog], after: dict[str, Catalog]) -> Plan:
    one, two = config(old), config(new)
    sheets = [surface(each, build(1, each, of)) for each, of in ((one, before), (two, after))]
    return plan(("old.yaml", "new.yaml"), *sheets, settings(one, two))


@pytest.mark.parametrize("form", [*FILES])
def test_a_plan_is_told_as_it_is_written_down(form: Form) -> None:
    told = render(made(OLD, NEW, BEFORE, AFTER), form)
    golden = GOLDEN / FILES[form]
    if os.environ.get("REGOLD") == "1":
        golden.write_text(told, "utf-8")
    assert told == golden.read_text("utf-8")


def test_no_secret_is_told() -> None:
    told = made(OLD.replace("one", "s3cret-a"), NEW.replace("two", "s3cret-b"), BEFORE, AFTER)
    assert not any("s3cret" in render(told, form) for form in FILES)


def test_no_difference_is_told_as_such() -> None:
    both = {**BEFORE, "slow": catalog("slow")}
    same = made(OLD, OLD, both, both)
    assert render(same, "text").startswith(
        "old.yaml -> new.yaml: no difference\n\n/mcp, /code/mcp\n  tools: 4, tokens "
    )
    assert render(same, "markdown") == (
        "### vmcp plan: `old.yaml` → `new.yaml`\n\nNo difference.\n\n"
        "<sub>tokens are estimated: bytes of JSON text divided by 4</sub>\n"
    )
    assert json.loads(render(same, "json"))["same"] is True
    nothing = plan(("a", "b"), {}, {})
    assert render(nothing, "text") == "a -> b: no difference\n"


def test_an_endpoint_that_comes_or_goes_is_told_so() -> None:
    one = config(OLD)
    sheets = surface(one, build(1, one, BEFORE))
    came, went = plan(("a", "b"), {}, sheets), plan(("a", "b"), sheets, {})
    assert "\n/mcp, /code/mcp, added\n" in render(came, "text")
    assert "#### `/mcp`, `/code/mcp`, removed\n" in render(went, "markdown")
    assert [each["change"] for each in json.loads(render(went, "json"))["endpoints"]] == ["removed"]


def test_when_only_settings_differ_the_comment_says_that_clients_see_the_same() -> None:
    both = {**BEFORE, "slow": catalog("slow")}
    told = render(made(OLD, OLD + "cache: {enabled: true}\n", both, both), "markdown")
    assert "**Settings differ; clients see the same.**" in told
    assert "* `cache`" in told


def test_a_comment_is_not_longer_than_one_may_be() -> None:
    many = {"github": catalog("github", tools=[tool(f"t{number}", f"Does {number}.") for number in range(200)])}
    told = render(made(OLD, OLD, BEFORE, {**BEFORE, **many}), "markdown")
    assert "\n* and 53 more\n" in told
    long = {"github": catalog("github", tools=[tool(f"t{number}", "x" * 60) for number in range(140)])}
    wide = {"github": catalog("github", tools=[tool(f"t{number}", "y" * 500) for number in range(140)])}
    told = render(made(OLD, OLD, {**BEFORE, **long}, {**BEFORE, **wide}), "markdown")
    assert len(told) < 65_536
    assert told.endswith("\n\nThe rest is left out; see the JSON form.\n")


def test_nothing_that_a_backend_says_is_markup() -> None:
    evil = "</sub>`` @everyone [x](http://evil) <img src=x>\n# Title | cell"
    other = {
        "github": catalog("github", tools=[entry(Kind.TOOL, "get", **{evil: 1, "title": evil})], instructions=evil)
    }
    told = render(made(OLD, OLD, BEFORE, {**BEFORE, **other}), "markdown")
    plain = told
    while "`" in plain:
        ticks = plain[plain.index("`") :]
        fence = ticks[: len(ticks) - len(ticks.lstrip("`"))]
        begin = plain.index(fence)
        plain = plain[:begin] + plain[plain.index(fence, begin + len(fence)) + len(fence) :]
    assert "everyone" in told
    assert not any(word in plain for word in ("everyone", "evil", "<img", "Title"))


def test_a_title_changes_with_the_form_only() -> None:
    told = replace(made(OLD, NEW, BEFORE, AFTER), old="a\u202eb.yaml")
    assert render(told, "text").startswith("a\\u202eb.yaml -> new.yaml: differs")


def test_changed_instructions_are_told_with_both() -> None:
    slow = {"slow": catalog("slow")}
    bare = {"github": catalog("github", instructions="Be\u200b kind.")}
    found = made(
        OLD,
        OLD,
        {**slow, "github": catalog("github"), "jira": catalog("jira")},
        {**slow, **bare, "jira": catalog("jira")},
    )
    assert render(found, "text") == (
        "old.yaml -> new.yaml: differs\n\n/mcp, /code/mcp\n  instructions: tokens 0 -> 6 (+6)\n"
        "  ~ instructions\n      was: nothing\n      now: ## github Be\\u200b kind.\n"
    )
    told = render(found, "markdown")
    assert "* changed instructions\n  * was: nothing\n  * now: `## github Be\\u200b kind.`\n" in told
    empty = {**slow, "github": catalog("github"), "jira": catalog("jira")}
    assert render(made(OLD, OLD, empty, empty), "text") == "old.yaml -> new.yaml: no difference\n"
    assert "/mcp, /code/mcp, added\n" in render(
        plan(("a", "b"), {}, surface(config(OLD), build(1, config(OLD), empty))), "text"
    )
