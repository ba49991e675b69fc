"""Writes what the documentation says of the program, from the program: ``python docs/generate.py``; ``--check`` only compares.

The rule: nothing here knows a key, a command, a metric or an event by itself. What people have written stays as it is: on the
pages of ``docs/errors`` only the title, the meaning, and what an example gives are from here.
"""

import ast
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from docs.keys import NOTE, cell, configuration
from vmcp.admin.routes import BEFORE, WAYS, WHO
from vmcp.cli import VERBS, main
from vmcp.cli.manpage import ENVIRONMENT, EXITS, SIGNALS
from vmcp.cli.output import block_style
from vmcp.clients.table import CLIENTS, NAME, entry, official, places
from vmcp.config.load import loaded
from vmcp.config.report import render
from vmcp.config.rules import MEANING
from vmcp.config.schema import schema
from vmcp.errors import Code, ConfigError
from vmcp.middleware import measures
from vmcp.protocol.revisions import REQUESTS, Revision
from vmcp.server import exposition
from vmcp.server.readings import NAMES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
URL = "http://127.0.0.1:4483/mcp"
PRINTED = re.compile(r"^```yaml wrong\n(.*?)^```\n\n(```text\n.*?^```\n\n)?", re.M | re.S)


def commands() -> str:
    """Every verb, as its ``--help`` says it."""
    parts = [f"# Commands\n\n{NOTE}\n", "What each verb prints for `--help`.\n"]
    context = click.Context(main, info_name="vmcp", terminal_width=110, max_content_width=110, **main.context_settings)
    for verb in VERBS:
        found = main.get_command(context, verb)
        assert found is not None
        parts += described(found, verb, context, 2)
    for heading, registry in (("Environment", ENVIRONMENT), ("Signals", SIGNALS), ("Exit codes", EXITS)):
        parts += [
            f"## {heading}\n",
            "| | |\n|---|---|",
            *(f"| `{key}` | {cell(text)} |" for key, text in registry.items()),
            "",
        ]
    return "\n".join(parts)


def described(command: click.Command, name: str, above: click.Context, level: int) -> list[str]:
    """A verb, and those below it."""
    context = click.Context(command, info_name=name, parent=above, terminal_width=110, max_content_width=110)
    parts = [f"{'#' * level} {context.command_path}\n", f"```text\n{command.get_help(context)}\n```\n"]
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            parts += described(found, below, context, level + 1)
    return parts


def metrics() -> str:
    """Every metric."""
    parts = [
        f"# Metrics\n\n{NOTE}\n",
        "What `/metrics` has when `telemetry.enablePrometheusMetricsPath` is on, beside `process_*` and `python_gc_*`. The same",
        "numbers go over OTLP. Labels are names of the configuration and words of vmcp's own, so their number is bounded.\n",
        "| name | kind | labels | what it says |",
        "|---|---|---|---|",
    ]
    for name, known in NAMES.items():
        labels = ", ".join(f"`{label}`" for label in known.labels)
        parts.append(f"| `{name}` | {known.sort} | {labels} | {cell(known.help)} |")
    all_of = measures.Measures()
    for timed in (all_of.server, all_of.client, all_of.sessions):
        labels = ", ".join(f"`{label}`" for label in timed.labels)
        parts.append(f"| `{timed.name}` | histogram | {labels} | {cell(exposition.HELP[timed.name])} |")
    bounds = ", ".join(f"{bound:g}" for bound in measures.BOUNDS)
    parts += [
        "",
        f"Histograms have buckets up to {bounds} seconds, with the trace of a call as exemplar in OpenMetrics.\n",
    ]
    return "\n".join(parts)


def events() -> str:
    """Every constant message that is logged, read out of the source."""
    found: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for path in sorted((ROOT / "vmcp").rglob("*.py")):
        for level, message, facts in logged(ast.parse(path.read_text("utf-8"))):
            found.setdefault((message, level), (path.relative_to(ROOT).parent.name, facts))
    parts = [
        f"# Log events\n\n{NOTE}\n",
        "Each line has `ts`, `level`, `logger`, `msg` and the facts of the event. `msg` is constant: search for it.\n",
        "| event | level | part | facts |",
        "|---|---|---|---|",
    ]
    for (message, level), (part, facts) in sorted(found.items()):
        parts.append(f"| {cell(message)} | {level} | {part} | {', '.join(f'`{fact}`' for fact in facts)} |")
    return "\n".join(parts) + "\n"


def logged(tree: ast.AST) -> Iterator[tuple[str, str, list[str]]]:
    """Level, message and the facts that are named, of each call of ``log``."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        said, owner = node.args[0], node.func.value
        if not (isinstance(owner, ast.Name) and owner.id == "log" and isinstance(said, ast.Constant)):
            continue
        given = next((each.value for each in node.keywords if each.arg == "extra"), None)
        named = given.keys if isinstance(given, ast.Dict) else []
        yield node.func.attr, str(said.value), [str(key.value) for key in named if isinstance(key, ast.Constant)]


def audit() -> str:
    """Every type of an event in the audit log."""
    parts = [f"# Audit events\n\n{NOTE}\n", schema()["properties"]["audit"]["description"] + "\n"]
    parts += ["`audit.eventTypes` and `audit.excludeEventTypes` choose among:\n"]
    return "\n".join([*parts, *(f"* `{each}`" for each in schema()["$defs"]["auditEvent"]["enum"])]) + "\n"


def clients() -> str:
    """What each client needs, as ``vmcp connect`` writes it."""
    parts = [f"# Clients\n\n{NOTE}\n"]
    parts += [
        "What `vmcp connect CLIENT --token-env VMCP_TOKEN` puts into the file of each client; without a token there is none.\n"
    ]
    for client in CLIENTS:
        start = None if client.remote is not None else ("vmcp", "stdio", "--url", URL)
        made = entry(client, URL, "VMCP_TOKEN", start)
        files = ", ".join(f"`{each}`" for each in places(client, "linux", {}, "~"))
        if client.project is not None:
            files += f"; of a project `{client.project}`"
        data: dict[str, Any] = {NAME: made}
        for key in reversed(client.root):
            data = {key: data}
        parts += [
            f"## {client.title}\n",
            f"`vmcp connect {client.name}`; on Linux its file is {files}. {client.then}\n",
        ]
        parts += ["```yaml part\n" + "\n".join(block_style(data)) + "\n```\n"]
        words = official(client, URL, "VMCP_TOKEN")
        if words:
            parts += [f"Its own command for it: `{shlex.join(words)}`\n"]
    return "\n".join(parts)


def protocol() -> str:
    """Every method, and in which revisions."""
    parts = [
        f"# Methods\n\n{NOTE}\n",
        "What clients may ask for, by the revision that they speak. Every revision is spoken over every transport.\n",
        f"| method | {' | '.join(Revision)} |",
        "|---|" + ":-:|" * len(Revision),
    ]
    for method, known in REQUESTS.items():
        parts.append(f"| `{method}` | {' | '.join('yes' if each in known.revisions else '' for each in Revision)} |")
    return "\n".join(parts) + "\n"


def admin() -> str:
    """Every route of the admin listener."""
    parts = [
        f"# Admin API\n\n{NOTE}\n",
        f"What `vmcp status` and its like, and the web page, ask; JSON in both directions. Who may: {WHO}. What is not GET",
        "changes something, and is in the audit log. `*` is a name.\n",
        "| method | path |",
        "|---|---|",
        *(f"| {way.method} | `{BEFORE}{way.path}` |" for way in WAYS),
    ]
    return "\n".join(parts) + "\n"


def peers() -> str:
    """What vmcp is tested with: other people's programs, at pinned versions."""
    real = ROOT / "tests" / "real"
    wanted = json.loads((real / "package.json").read_text("utf-8"))["dependencies"]
    named = {
        version.removeprefix("npm:") if ":" in version else f"{name}@{version}" for name, version in wanted.items()
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]["test"]
    older = (ROOT / "requirements" / "mcp1.in").read_text("utf-8").split()[-1]
    python = sorted([older, *(each for each in project if each.startswith("mcp") and "==" in each)])
    rows = [each.rpartition("@") for each in sorted(named) if not each.startswith("axe")]
    parts = [
        f"# Tested with\n\n{NOTE}\n",
        "Every run of the tests starts these programs, which others wrote, before and behind vmcp: clients list everything and",
        "call every server, and what passes without vmcp has to pass through it. Every revision over every transport meets every",
        "other on both sides (`tests/eras`), and the official conformance suites run directly and through vmcp.\n",
        "| package | version |",
        "|---|---|",
        *(f"| `{name}` (npm) | {version} |" for name, _, version in rows),
        *(f"| `{name}` (Python) | {version} |" for name, _, version in (each.partition("==") for each in python)),
        "",
    ]
    return "\n".join(parts)


def title(found: Code) -> str:
    """The heading of the page of a code."""
    return f"{str(found.value).removeprefix('-')} · {found.name.lower().replace('_', ' ')}"


def errors() -> Iterator[tuple[Path, str]]:
    """The pages of rules and codes as they should be, and their list."""
    folder = DOCS / "errors"
    lines = [f"# Errors\n\n{NOTE}\n", "`vmcp help ID` prints these pages in a terminal.\n", "## In a configuration\n"]
    for rule, meaning in MEANING.items():
        path = folder / f"{rule}.md"
        if path.is_file():
            body = path.read_text("utf-8").split("\n\n", 2)[2]
            yield path, f"# {rule}\n\n{meaning}\n\n{PRINTED.sub(tried, body)}"
        lines.append(f"* [{rule}]({rule}.md): {meaning}")
    lines.append("\n## In an answer\n")
    for each in Code:
        number = str(each.value).removeprefix("-")
        path = folder / f"{number}.md"
        if path.is_file():
            body = path.read_text("utf-8").partition("\n\n")[2]
            yield path, f"# {title(each)}\n\n{body}"
        lines.append(f"* [{each.value}]({number}.md): {each.name.lower().replace('_', ' ')}")
    yield folder / "README.md", "\n".join(lines) + "\n"


def tried(found: "re.Match[str]") -> str:
    """An example, and what vmcp says about it."""
    source = [("vmcp.yaml", found[1])]
    try:
        problems = loaded(source, {}).warnings
    except ConfigError as error:
        problems = error.problems
    return f"```yaml wrong\n{found[1]}```\n\n```text\n{render(problems, source, 'text')}```\n\n"


def overview() -> str:
    """For programs that read: all pages, and how each begins."""
    lines = [
        "# vmcp",
        "",
        "> Many MCP servers behind one endpoint, declared in one file. Pages, with their first sentences:",
        "",
    ]
    for path in sorted(DOCS.rglob("*.md")):
        text = re.sub(r"<!--.*?-->", "", path.read_text("utf-8"), flags=re.S)
        heading, _, body = text.partition("\n")
        first = next((part for part in body.split("\n\n") if part.strip() and part.strip()[0] not in "#|`!["), "")
        sentence = re.split(r"(?<=\.)\s", " ".join(first.split()), maxsplit=1)[0]
        lines.append(f"- [{heading.removeprefix('# ')}]({path.relative_to(DOCS).as_posix()}): {sentence}")
    return "\n".join(lines) + "\n"


def pages() -> Iterator[tuple[Path, str]]:
    """Everything that is made here, in the order of making."""
    yield DOCS / "reference" / "configuration.md", configuration()
    yield DOCS / "reference" / "commands.md", commands()
    yield DOCS / "reference" / "metrics.md", metrics()
    yield DOCS / "reference" / "log-events.md", events()
    yield DOCS / "reference" / "audit-events.md", audit()
    yield DOCS / "reference" / "admin.md", admin()
    yield DOCS / "reference" / "clients.md", clients()
    yield DOCS / "reference" / "methods.md", protocol()
    yield DOCS / "reference" / "tested.md", peers()
    yield from errors()
    yield DOCS / "llms.txt", overview()


def drifted(*, write: bool) -> list[str]:
    """The pages that are not as they should be; with ``write`` they are then."""
    found = []
    for path, text in pages():
        if not path.is_file() or path.read_text("utf-8") != text:
            found.append(path.relative_to(ROOT).as_posix())
            if write:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, "utf-8")
    return found


if __name__ == "__main__":
    checking = "--check" in sys.argv
    changed = drifted(write=not checking)
    sys.stdout.write("".join(f"{'drifted' if checking else 'wrote'} {name}\n" for name in changed))
    sys.exit(1 if checking and changed else 0)
