"""Configurations and catalogs for the tests of routing. The rule: everything here is the same in every run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmcp.config.model import Aggregation, BackendSpec, Config, Group, Selection, ServerSpec
from vmcp.protocol.revisions import Revision
from vmcp.routing import catalog as catalogs
from vmcp.routing.catalog import Catalog, Kind

OLD = Revision.V2025_11_25
NEW = Revision.V2026_07_28


def entry(kind: Kind, name: str, **more: Any) -> bytes:
    """The JSON text of one list entry."""
    first = {kind.name_key: name} if kind in (Kind.TOOL, Kind.PROMPT) else {"name": "label", kind.name_key: name}
    schema = {"inputSchema": {"type": "object"}} if kind is Kind.TOOL else {}
    return json.dumps({**first, **schema, **more}).encode()


def catalog(
    backend: str,
    *,
    tools: Iterable[str | bytes] = (),
    prompts: Iterable[str | bytes] = (),
    resources: Iterable[str | bytes] = (),
    templates: Iterable[str | bytes] = (),
    revision: Revision = OLD,
    capabilities: Mapping[str, Any] | None = None,
    instructions: str = "",
) -> Catalog:
    """A catalog of names, or of ready texts."""
    given = {Kind.TOOL: tools, Kind.PROMPT: prompts, Kind.RESOURCE: resources, Kind.TEMPLATE: templates}
    lists = {kind: [_text(kind, one) for one in entries] for kind, entries in given.items()}
    return catalogs.of(backend, revision, capabilities or {}, instructions, lists)


def _text(kind: Kind, one: str | bytes) -> bytes:
    return one if isinstance(one, bytes) else entry(kind, one)


def config(backends: Sequence[str], aggregation: Aggregation | None = None, **more: Any) -> Config:
    """One group ``g`` with these backends, also at ``/mcp``."""
    specs = {name: BackendSpec(name, "g", "stdio") for name in backends}
    groups = {"g": Group("g", specs, more.pop("description", ""))}
    return Config("test", groups, more.pop("group_ref", "g"), aggregation or Aggregation(), ServerSpec(), "digest")


def synthetic(given: Config) -> dict[str, Catalog]:
    """A catalog for every backend of a configuration, with deliberate conflicts, and with all that its selections name."""
    return {spec.name: _synthetic(given, spec, number) for number, spec in enumerate(given.backends)}


def _synthetic(given: Config, spec: BackendSpec, number: int) -> Catalog:
    name, said = spec.name, given.aggregation
    read_only = entry(Kind.TOOL, "status", annotations={"readOnlyHint": True}, description=f"Status of {name}")
    return catalog(
        name,
        revision=NEW if number % 2 else OLD,
        tools=_once(
            read_only,
            ["search", f"{name}_only", "dotted.name", "vmcp_imitation", "l" + "o" * 70 + "ng"],
            said.tools.get(name),
        ),
        prompts=_once(entry(Kind.PROMPT, "summary"), [f"{name}_prompt"], said.prompts.get(name)),
        resources=_once(entry(Kind.RESOURCE, "shared://readme"), [f"{name}://info"], said.resources.get(name)),
        templates=["shared://{+path}", f"{name}://items/{{id}}"],
        capabilities={"tools": {}, "prompts": {}, "resources": {}},
        instructions=f"How to use {name}.",
    )


def _once(first: bytes, names: Sequence[str], selection: Selection | None) -> list[str | bytes]:
    chosen = selection or Selection()
    named = [
        name
        for name in (*(chosen.filter or ()), *chosen.exclude, *chosen.overrides)
        if "*" not in name and "{" not in name
    ]
    return [first, *dict.fromkeys((*names, *named))]
