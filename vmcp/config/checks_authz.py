"""What can be wrong with ``incomingAuth.authz``: policies and entities, read and checked as they will be decided on."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vmcp.config import authz, toolhive
from vmcp.config.cedar import entities, policies, schema
from vmcp.config.cedar.engine import Malformed
from vmcp.config.cedar.judge import Judge, World
from vmcp.config.cedar.policies import Fault, Names
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.errors import Problem

AT: Final[Path] = ("incomingAuth", "authz")


def checks(document: Document) -> Iterator[Problem]:
    """Every problem of the policies, or the one of the entities without which they cannot be read."""
    data = document.data
    block = data.get("incomingAuth", {}).get("authz", {})
    texts = block.get("policies")
    if block.get("type", "none") != "cedar":
        for key in block.keys() - {"type"}:
            hint = "add type: cedar, or remove it"
            yield document.problem(
                Rule.CONTRADICTION, (*AT, key), f"'{key}' has no effect without type: cedar", hint, key=True
            )
        return
    if not texts or any(path[:2] == AT[:2] for path in document.broken):
        if texts == []:
            yield document.problem(Rule.MISSING_KEY, (*AT, "policies"), "without a policy nobody may do anything")
        return
    yield from _read(document, block)


def _read(document: Document, block: Mapping[str, Any]) -> Iterator[Problem]:
    group_type = block.get("groupEntityType", authz.GROUP_TYPE)
    if group_type in schema.OWN:
        what = f"'{group_type}' is an entity type of vmcp's own"
        yield document.problem(Rule.RESERVED_NAME, (*AT, "groupEntityType"), what, "choose another, or leave it out")
        return
    try:
        own = entities.attribute_types(entities.read(block.get("entitiesJson", "[]"), group_type))
        _, faults = policies.read(block["policies"], own, _names(document.data, group_type))
        if not any(fault.fatal for fault in faults):
            Judge(_authz(block), World(document.data.get("name", ""), {}, frozenset()))
    except Malformed as error:
        hidden = (*AT, "entitiesJson") in document.hidden
        what = "Cedar cannot use these entities" + ("" if hidden else f": {error}")
        yield document.problem(Rule.BAD_POLICY, (*AT, "entitiesJson"), what)
        return
    for fault in faults:
        yield _problem(document, fault)


def _authz(block: Mapping[str, Any]) -> authz.Authz:
    found = authz.from_data(block)
    assert found is not None
    return found


def _problem(document: Document, fault: Fault) -> Problem:
    path = (*AT, "policies", fault.number)
    what, hint = (fault.message, fault.hint) if path not in document.hidden else ("this policy is wrong", "")
    return document.problem(Rule.BAD_POLICY, path, what, hint, severity="error" if fault.fatal else "warning")


def _names(data: Mapping[str, Any], group_type: str) -> Names:
    backends = frozenset(entry.name for entry in toolhive.entries(data))
    return Names(data.get("name", ""), backends, frozenset(toolhive.group_names(data)), group_type)
