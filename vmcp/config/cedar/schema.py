"""The world that policies are written for: ToolHive's names, and backends and groups besides.

    principal  Client::"<subject>" in THVGroup::"<each of its groups>"
    action     Action::"call_tool" | "get_prompt" | "read_resource"
    resource   Tool::"<advertised name>", Prompt::"<advertised name>", Resource::"<URI>"
               in Backend::"<name>" in Group::"<name>" in MCP::"<name of the file>"

The rule: every policy is checked against a schema of its own, which has the claims and arguments that it reads in the types in
which it reads them; so two policies may mean different arguments by one name.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vmcp.config.cedar import uses
from vmcp.config.cedar.engine import Json
from vmcp.config.cedar.uses import Use

ACTIONS: Final = {"call_tool": "Tool", "get_prompt": "Prompt", "read_resource": "Resource"}
LISTS: Final = frozenset({"list_tools", "list_prompts", "list_resources"})
"""ToolHive's other actions. They decide nothing, there as here: a list shows what may be called."""
KINDS: Final = tuple(ACTIONS.values())
OWN: Final = frozenset({"Client", "Action", "FeatureType", "Backend", "Group", "MCP", *KINDS})

Attributes = Mapping[str, Mapping[str, str]]
"""By entity type: the types of the attributes that ``entitiesJson`` gives."""


def schema(found: Mapping[str, Use], listed: bool, group_type: str, own: Attributes) -> Json:
    """For one policy: what it reads, and whether it names actions of ``LISTS``."""
    claims = {name: _type(use) for name, use in found.items()}
    fixed = {name: {**_plain(kind), "required": name != "uri"} for name, kind in uses.CLOSED.items()}
    actions = {name: _action([kind], claims) for name, kind in ACTIONS.items()}
    if listed:
        actions |= dict.fromkeys(LISTS, _action(["FeatureType"], claims))
    types = {
        "Client": _entity([group_type], claims, own.get("Client")),
        group_type: _entity([group_type], {}, own.get(group_type)),
        "FeatureType": _entity(["MCP"], {}, own.get("FeatureType")),
        "Backend": _entity(["Group"], {}, own.get("Backend")),
        "Group": _entity(["MCP"], {}, own.get("Group")),
        "MCP": _entity([], {}, own.get("MCP")),
        **{kind: _entity(["Backend"], {**claims, **fixed}, own.get(kind)) for kind in KINDS},
    }
    return {"": {"entityTypes": types, "actions": actions}}


def _action(resources: list[str], context: Json) -> Json:
    shape = {"type": "Record", "attributes": context}
    return {"appliesTo": {"principalTypes": ["Client"], "resourceTypes": resources, "context": shape}}


def _entity(parents: list[str], attributes: Json, own: Mapping[str, str] | None) -> Json:
    given = {name: {**_plain(kind), "required": False} for name, kind in (own or {}).items()}
    return {"memberOfTypes": parents, "shape": {"type": "Record", "attributes": {**given, **attributes}}}


def _type(use: Use) -> dict[str, Any]:
    """Required unless the policy asks first: what is read without asking is missed with an error, and that denies."""
    if use.members:
        members = {name: _type(below) for name, below in use.members.items()}
        return {"type": "Record", "attributes": members, "required": not use.guarded}
    return {**_plain(use.kind or uses.BOOL), "required": not use.guarded}


def _plain(kind: str) -> dict[str, Any]:
    element = uses.element_of(kind)
    if element is not None:
        return {"type": "Set", "element": _plain(element)}
    if kind == uses.DECIMAL:
        return {"type": "Extension", "name": "decimal"}
    return {"type": "Boolean" if kind == uses.BOOL else kind}


def literals(value: object) -> Iterator[tuple[str, str]]:
    """Type and id of every entity that a policy names."""
    if isinstance(value, dict):
        if value.keys() == {"type", "id"} and all(isinstance(each, str) for each in value.values()):
            yield value["type"], value["id"]
        for below in value.values():
            yield from literals(below)
    elif isinstance(value, list):
        for below in value:
            yield from literals(below)
