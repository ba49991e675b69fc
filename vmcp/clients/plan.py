"""Files of clients → one configuration of ours, the variables that it needs, and what became of everything.

The rule: what comes out passes ``vmcp validate``: each backend is tried with the loader, and one that it refuses is dropped.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vmcp.clients import edit
from vmcp.clients.edit import Format
from vmcp.clients.entry import Draft, Finding, Status, draft, itself
from vmcp.clients.secrets import Around, Lift, Need, Unclear, Vault, references, variable
from vmcp.clients.shapes import Contents, Entry, contents
from vmcp.clients.trial import stand_ins
from vmcp.clients.whole import whole
from vmcp.config.load import load
from vmcp.config.rules import Rule
from vmcp.config.tree import printable
from vmcp.errors import ConfigError, Position, Problem

MAX_SERVERS = 500
_BARE_REFERENCES = ("gemini", "goose")


_UNKNOWN = "it is none of a client, of ToolHive, of agentgateway, and no server.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A file as it was read: its path for people, its text, whose it is if that is known, and where."""

    label: str
    text: str
    form: Format
    around: Around
    client: str | None = None


@dataclass(slots=True)
class Plan:
    """What comes out of some files: backends and choices of tools, what is needed, and findings by file."""

    backends: dict[str, dict[str, Any]] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)
    group: str = "default"
    name: str | None = None
    needs: list[Need] = field(default_factory=list)
    findings: dict[str, list[Finding]] = field(default_factory=dict)

    def count(self, status: Status) -> int:
        """How many servers ended like this."""
        return sum(worst == status for each in self.findings.values() for worst in servers(each).values())

    def data(self, name: str) -> dict[str, Any]:
        """The configuration."""
        found: dict[str, Any] = {"name": self.name or name, **self.rest}
        found["groups"] = {self.group: {"backends": self.backends}}
        if "aggregation" not in found:
            found["aggregation"] = {
                "conflictResolution": "prefix",
                "conflictResolutionConfig": {"prefixFormat": "{workload}_"},
            }
            if self.tools:
                found["aggregation"]["tools"] = self.tools
        return found


_ORDER: Mapping[Status, int] = {"exact": 0, "approximated": 1, "dropped": 2}


def servers(findings: Sequence[Finding]) -> dict[str, Status]:
    """What became of each server: dropped if it is not there, approximated if anything of it is lost, else exact."""
    found: dict[str, Status] = {}
    for each in findings:
        status: Status = "approximated" if each.status == "dropped" and each.server in found else each.status
        if each.server not in found or _ORDER[status] > _ORDER[found[each.server]]:
            found[each.server] = status
    return found


def read(source: Source) -> Contents:
    """What a file holds. Raises ``ConfigError``."""
    data = edit.read(source.label, source.text, source.form)
    found = contents(data, source.around.folder) if data else Contents()
    if found is None and source.client is not None:
        return Contents()
    if found is None:
        hint = "it is a configuration of vmcp: vmcp serve --config" if "groups" in data else _UNKNOWN
        raise ConfigError([_problem(source, "no MCP servers are recognised in this file", hint)])
    if len(found.entries) > MAX_SERVERS:
        raise ConfigError([_problem(source, f"more than {MAX_SERVERS} servers in one file", "")])
    return found


def _problem(source: Source, what: str, hint: str) -> Problem:
    return Problem(Position(source.label, 1, 1), "", what, hint, "error", str(Rule.BAD_VALUE))


def plan(sources: Sequence[Source]) -> Plan:
    """All files together; the same server in two of them is one backend. Raises ``ConfigError``."""
    held = [(source, read(source)) for source in sources]
    reserved = {name for _, found in held for entry in found.entries for name in references(entry.raw)}
    vault, made = Vault(reserved), Plan()
    for source, found in held:
        made.findings.setdefault(source.label, [])
        if found.whole is not None:
            _whole(made, source, found, vault, alone=len(held) == 1)
        for entry in found.entries:
            _add(made, source, entry, vault)
        made.findings[source.label] += _cleaned(found)
    made.needs = list(_needs(made, vault))
    return made


def _cleaned(found: Contents) -> list[Finding]:
    """What the file itself lost, under the names that its servers have here."""
    names = {entry.name: _name(entry.name) for entry in found.entries}
    return [Finding(each.status, names.get(each.server) or printable(each.server), each.what) for each in found.lost]


def _whole(made: Plan, source: Source, found: Contents, vault: Vault, *, alone: bool) -> None:
    """A configuration of ToolHive: it is ours but for its literal secrets; beside other files only its backends are taken."""
    data, backends = whole(source.label, source.text, vault, source.around)
    assert found.whole is not None
    if alone:
        made.group, made.name = data.get("groupRef", made.group), data.get("name")
        made.rest = {key: value for key, value in data.items() if key != "name"}
    elif data.keys() - {"name", "groupRef"}:
        what = "what it says beside its backends; import it by itself, or give it to vmcp serve as it is"
        found.lost.append(Finding("dropped", source.label, what))
    for name, settings in backends.items():
        _settle(made, source, Draft(name, name, settings))


def _add(made: Plan, source: Source, entry: Entry, vault: Vault) -> None:
    name = _name(entry.name)
    told = made.findings[source.label]
    lift = Lift(vault, variable(name), source.around, bare=source.client in _BARE_REFERENCES)
    place = printable(f"{source.label}: {entry.place}", 120)
    try:
        found = draft(name, entry.raw, place, lift, source.client)
    except Unclear as why:
        told.append(Finding("dropped", name, str(why)))
        return
    if itself(entry.name, found.settings):
        told.append(Finding("dropped", name, "it is vmcp itself"))
        return
    if name != entry.name:
        found.tell("approximated", f"it is called {name} now: a name has letters, digits, '.', '_' and '-' only")
    _settle(made, source, found)


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:63].rstrip("-._") or "server"


def _settle(made: Plan, source: Source, found: Draft) -> None:
    """Keep a backend, unless it is there already or the loader refuses it."""
    told = made.findings[source.label]
    for name, settings in made.backends.items():
        if _identity(settings) == _identity(found.settings):
            told.append(Finding("exact", found.name, f"it is the same as {name}"))
            return
    wrong = refused(found.settings)
    if wrong is not None:
        told.append(Finding("dropped", found.name, wrong))
        return
    name = _free(found.name, made.backends)
    if name != found.name:
        found.tell("approximated", f"it is called {name} here: another file has a different server of this name")
    made.backends[name] = found.settings
    if found.tools:
        made.tools.append({"workload": name, **found.tools})
    told.append(Finding("exact", found.name, ""))
    told += found.lost


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[:58]}-{number}"
    return free


def _identity(settings: Mapping[str, Any]) -> str:
    return json.dumps(
        {k: v for k, v in settings.items() if k not in ("enabled", "timeouts", "transport")}, sort_keys=True
    )


def refused(settings: Mapping[str, Any]) -> str | None:
    """Why the loader does not take a backend, variables aside; None when it does."""
    data = {"name": "trial", "groups": {"trial": {"backends": {"trial": {**settings, "enabled": True}}}}}
    text = json.dumps(data, ensure_ascii=False)
    try:
        load([("trial", text)], stand_ins(text))
    except ConfigError as error:
        problem = error.problems[0]
        path = problem.path.removeprefix("groups.trial.backends.trial").lstrip(".")
        return f"{path}: {problem.message}" if path else problem.message
    return None


def _needs(made: Plan, vault: Vault) -> Iterator[Need]:
    """The variables that the result really names."""
    named = set(_named(made.data("")))
    early = stand_ins(json.dumps(made.data(""), ensure_ascii=False))
    for need in vault.needs.values():
        need.early = need.name in early
        if need.name in named or need.early:
            yield need


def _named(data: Any) -> Iterator[str]:
    if isinstance(data, Mapping):
        if set(data) == {"env"} and isinstance(data["env"], str):
            yield data["env"]
        for key, value in data.items():
            if isinstance(value, str) and key.endswith("Env"):
                yield value
            yield from _named(value)
    elif isinstance(data, list):
        for value in data:
            yield from _named(value)
