"""Policy texts → policies that can be decided on, and everything that is wrong with them.

The rule: a policy that names an action, an entity type, an attribute, a backend or a group that does not exist is wrong here and
now; at a request it would be silently false.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from vmcp.config.cedar import engine, uses
from vmcp.config.cedar import schema as schemas
from vmcp.config.cedar.engine import Json, Malformed
from vmcp.config.cedar.uses import Use
from vmcp.config.wording import nearest

_METHODS: Final = {"tools/call": "call_tool", "prompts/get": "get_prompt", "resources/read": "read_resource"}
_METHODS_OF_LISTS: Final = {
    "tools/list": "list_tools",
    "prompts/list": "list_prompts",
    "resources/list": "list_resources",
}


class Fault(NamedTuple):
    """What is wrong with a text, by its number; ``fatal`` false is a warning."""

    number: int
    message: str
    hint: str = ""
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Names:
    """What exists: the name of the file, its backends, its groups, the type of user groups."""

    server: str
    backends: frozenset[str]
    groups: frozenset[str]
    group_type: str


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, by the name that audit and ``vmcp explain`` give it: its ``@id``, else its place in the file."""

    name: str
    json: Json
    uses: Mapping[str, Use]

    def concerns(self, action: str, uids: Mapping[str, frozenset[tuple[str, str]]]) -> bool:
        """Whether it may apply to ``action``; ``uids`` are principal and resource, each with all that it is in."""
        named = _actions(self.json["action"])
        if named is not None and action not in named:
            return False
        return all(_within(self.json[slot], uids[slot]) for slot in ("principal", "resource"))


def _actions(scope: Json) -> set[str] | None:
    """The actions that a scope names; None for all."""
    if scope["op"] == "All":
        return None
    entities = scope["entities"] if "entities" in scope else [scope["entity"]]
    return {entity["id"] for entity in entities}


def _within(scope: Json, uids: frozenset[tuple[str, str]]) -> bool:
    """False only where Cedar would say so for certain: groups of groups are known to the engine alone."""
    kind = scope.get("entity_type")
    if kind is not None and kind not in {each for each, _ in uids}:
        return False
    entity = scope.get("entity")
    if entity is None or entity["type"] not in schemas.OWN - {"Action"}:
        return True
    return (entity["type"], entity["id"]) in uids


def read(texts: Sequence[str | None], own: schemas.Attributes, names: Names | None) -> tuple[list[Policy], list[Fault]]:
    """The policies of ``texts``, and their faults. A text that is None could not be read, and its fault is told already.

    ``own`` are the attributes that entities are given. Without ``names`` the policies are taken for checked already.
    """
    policies: dict[str, Policy] = {}
    faults: list[Fault] = []
    for number, text in enumerate(texts):
        try:
            found = engine.parse(text) if text is not None else []
        except Malformed as error:
            faults.append(Fault(number, f"this is no Cedar policy: {error}"))
            continue
        if not found and text is not None:
            faults.append(Fault(number, "there is no policy in this text"))
        for at, json in enumerate(found):
            place = f"policies[{number}]" if len(found) == 1 else f"policies[{number}].{at}"
            name = json.get("annotations", {}).get("id") or place
            policy, told = _checked(number, name if name not in policies else place, json, own, names)
            policies[policy.name] = policy
            faults += told
    return list(policies.values()), faults


def _checked(
    number: int, name: str, json: Json, own: schemas.Attributes, names: Names | None
) -> tuple[Policy, list[Fault]]:
    kinds = {attribute: kind for attributes in own.values() for attribute, kind in attributes.items()}
    try:
        policy = Policy(name, json, uses.uses(json, kinds))
    except uses.TwoTypes as error:
        return Policy(name, json, {}), [Fault(number, f"{error}; Cedar values have one type")]
    return policy, _faults(number, policy, own, names) if names is not None else []


def _faults(number: int, policy: Policy, own: schemas.Attributes, names: Names) -> list[Fault]:
    faults = [Fault(number, *told) for told in _unknown(policy.json, names)]
    faults = faults or [Fault(number, *told) for told in _wrong(policy, own, names.group_type)]
    return faults or [Fault(number, *told, fatal=False) for told in _doubtful(policy)]


def _unknown(json: Json, names: Names) -> Iterator[tuple[str, str]]:
    """Entities that cannot exist."""
    types = sorted((schemas.OWN | {names.group_type}) - {"Action"})
    known: Mapping[str, Any] = {"Backend": names.backends, "Group": names.groups, "MCP": [names.server]}
    for kind, ident in dict.fromkeys(schemas.literals(json)):
        if kind == "Action":
            yield from _action(ident)
        elif kind not in types:
            yield f"there is no entity type '{kind}'", nearest(kind, types) or f"there are: {', '.join(types)}"
        elif kind in known and ident not in known[kind]:
            hint = nearest(ident, sorted(known[kind])) or f"there are: {', '.join(sorted(known[kind]))}"
            yield f'{kind}::"{ident}" is not in this file', hint


def _action(name: str) -> Iterator[tuple[str, str]]:
    actions = [*schemas.ACTIONS, *schemas.LISTS]
    if name in actions:
        return
    meant = _METHODS.get(name) or _METHODS_OF_LISTS.get(name)
    if meant is not None:
        yield f'Action::"{name}" never happens: actions are not methods of MCP', f'write Action::"{meant}"'
    else:
        yield f'there is no Action::"{name}"', nearest(name, actions) or f"there are: {', '.join(schemas.ACTIONS)}"


def _wrong(policy: Policy, own: schemas.Attributes, group_type: str) -> Iterator[tuple[str, str]]:
    listed = bool((_actions(policy.json["action"]) or set()) & schemas.LISTS)
    for text in engine.wrong(policy.json, schemas.schema(policy.uses, listed, group_type, own)):
        yield text, _hint(text)


def _hint(text: str) -> str:
    """What to write instead, where the engine's own words leave it open."""
    quoted = text.split("`")
    if "not found" in text and len(quoted) > 1:
        attribute, *_ = quoted[1::2]
        if "Client" in text:
            return f"a claim of the caller is principal.claim_{attribute}"
        close = nearest(attribute, sorted(uses.CLOSED))
        return close or f"an argument is context.arg_{attribute}; of the resource there are: {', '.join(uses.CLOSED)}"
    if "optional attribute" in text and len(quoted) > 1:
        return f"ask before in every branch: … has {quoted[1]} && …"
    return ""


def _doubtful(policy: Policy) -> Iterator[tuple[str, str]]:
    named = _actions(policy.json["action"])
    if named is not None and named <= schemas.LISTS:
        yield "this decides nothing: lists show what may be called, got or read", 'write Action::"call_tool"'
    for name, use in policy.uses.items():
        if any(not each.guarded for each in use.settled() if not each.members) and not _sure(name):
            effect = "who calls without it" if name.startswith("arg_") else "whoever lacks it"
            where = "context" if name.startswith("arg_") else "principal"
            what = (
                f"'{name}' is read without asking whether it is there: {effect} is denied all that this policy is about"
            )
            yield what, f"write {where} has {name} && …"


def _sure(name: str) -> bool:
    return name in ("claim_sub", "claim_iss")
