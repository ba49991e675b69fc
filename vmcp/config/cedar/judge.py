"""May this caller do that? The one function that decides it, for lists, for calls and for ``vmcp explain``.

The rule: permitted is what a policy permits, no policy forbids and nothing went wrong about; every doubt denies, and says why.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from vmcp.config.authz import Authz
from vmcp.config.cedar import entities as given
from vmcp.config.cedar import policies, schema, uses, values
from vmcp.config.cedar.engine import Engine, Json, Malformed
from vmcp.config.cedar.entities import Uid
from vmcp.config.cedar.policies import Policy
from vmcp.config.cedar.uses import Use
from vmcp.config.cedar.values import Mismatch
from vmcp.config.model import Config

_GROUP_CLAIMS: Final = ("groups", "roles", "cognito:groups")
MAX_GROUPS: Final = 1024
_CONFLICT: Final = "one thing (two policies use it in two types)"
_OPERATIONS: Final = {"Tool": "call", "Prompt": "get", "Resource": "read"}
_PRESENT: Final = "_present"
_WHO: Final = frozenset({"sub", "iss"})

Arguments = Mapping[str, Any]
NO_ARGUMENTS: Arguments = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who wants it. ``wrong`` says why nothing can be decided about him."""

    subject: str
    claims: Mapping[str, Any]
    groups: tuple[Uid, ...] = ()
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Thing:
    """What is wanted: ``kind`` is Tool, Prompt or Resource, ``name`` the advertised name or the URI itself."""

    kind: str
    name: str
    backend: str
    original: str
    hints: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Verdict:
    """``policies`` are the ones that decided; ``why`` is what went wrong, if something did.

    ``detail`` is what Cedar says of it, perhaps with values of claims and arguments: for the operator's own eyes.
    """

    allowed: bool
    policies: tuple[str, ...] = ()
    why: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """The names in a configuration: its own, and its backends with their groups."""

    server: str
    backends: Mapping[str, str]
    groups: frozenset[str]


def world(config: Config) -> World:
    """Of a configuration."""
    return World(config.name, {spec.name: spec.group for spec in config.backends}, frozenset(config.groups))


class Judge:
    """Policies ready to be asked, of a checked configuration. Never changed; it remembers nothing (``middleware.authz`` does)."""

    def __init__(self, authz: Authz, world: World) -> None:
        self._authz = authz
        self._world = world
        self._given = given.read(authz.entities, authz.group_type)
        self._policies, faults = policies.read(authz.policies, given.attribute_types(self._given), None)
        if faults:
            raise Malformed(faults[0].message)
        self._engine = Engine({policy.name: policy.json for policy in self._policies}, self._lasting())
        names = {name for policy in self._policies for name in policy.uses if name.startswith("arg_")}
        self.arguments: frozenset[str] = frozenset(_names(names))
        """The arguments that some policy reads; what others are is all the same."""
        self.named: frozenset[Uid] = frozenset(
            uid for policy in self._policies for uid in schema.literals(policy.json) if uid[0] in schema.KINDS
        )
        """The tools, prompts and resources that policies name. Which there are is not known before the backends have answered."""
        self._told_apart: frozenset[str] = frozenset(
            id_ for policy in self._policies for kind, id_ in schema.literals(policy.json) if kind == "Client"
        )
        self.claims: frozenset[str] = self._claims()
        """The claims that some policy or the groups are read from."""

    def _claims(self) -> frozenset[str]:
        of_groups = (self._authz.group_claim,) if self._authz.group_claim is not None else _GROUP_CLAIMS
        more = (self._authz.role_claim,) if self._authz.role_claim is not None else ()
        names = {name for policy in self._policies for name in policy.uses if name.startswith("claim_")}
        return frozenset([*(name.removeprefix("claim_") for name in names), *of_groups, *more])

    def _lasting(self) -> list[Json]:
        """Entities that are the same for every request: all but callers and things."""
        of: dict[Uid, tuple[Uid, ...]] = {("MCP", self._world.server): ()}
        of |= {("Group", name): (("MCP", self._world.server),) for name in self._world.groups}
        of |= {("Backend", name): (("Group", group),) for name, group in self._world.backends.items()}
        passing = {"Client", *schema.KINDS}
        for uid in self._given:
            if uid[0] not in passing:
                of.setdefault(uid, ())
        return [self._entity(uid, {}, parents) for uid, parents in of.items()]

    def _entity(self, uid: Uid, attributes: Mapping[str, Any], parents: tuple[Uid, ...]) -> Json:
        more = self._given.get(uid)
        if more is None:
            return given.json(uid, attributes, parents)
        return given.json(uid, {**more.attributes, **attributes}, tuple(dict.fromkeys((*parents, *more.parents))))

    def caller(self, issuer: str, subject: str, claims: Mapping[str, Any]) -> Caller:
        """Somebody, from what was verified about him; the claims ``sub`` and ``iss`` are always there."""
        known = {**claims, "sub": subject, "iss": issuer}
        if not subject:
            return Caller(subject, known, (), "nobody is said to call")
        try:
            names = [*self._groups(known), *self._names(known, self._authz.role_claim)]
        except Mismatch as error:
            return Caller(subject, known, (), str(error))
        return Caller(subject, known, tuple((self._authz.group_type, name) for name in dict.fromkeys(names)))

    def _groups(self, claims: Mapping[str, Any]) -> list[str]:
        claim = self._authz.group_claim or next((name for name in _GROUP_CLAIMS if name in claims), None)
        return self._names(claims, claim)

    def _names(self, claims: Mapping[str, Any], claim: str | None) -> list[str]:
        value = claims.get(claim, []) if claim is not None else []
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or len(names) > MAX_GROUPS or not all(isinstance(name, str) for name in names):
            raise Mismatch(f"the claim '{claim}' is no list of at most {MAX_GROUPS} names")
        return names

    def alike(self, subject: str) -> bool:
        """Whether ``subject`` is decided about like anybody else with the same claims: no policy names him or reads who he is.

        Where entities are configured, nobody is: what they say of a caller, or of a thing and him, is the engine's to know.
        """
        return bool(subject) and not self._given and not self.claims & _WHO and subject not in self._told_apart

    def decide(self, caller: Caller, thing: Thing, arguments: Arguments = NO_ARGUMENTS) -> Verdict:
        """Whether ``caller`` may have ``thing`` called with ``arguments``; without them it is seen in lists."""
        if caller.wrong:
            return Verdict(False, (), caller.wrong)
        action = next(name for name, kind in schema.ACTIONS.items() if kind == thing.kind)
        uid, above = (thing.kind, thing.name), self._above(thing)
        within = {
            "principal": frozenset([("Client", caller.subject), *caller.groups]),
            "resource": frozenset([uid, *above]),
        }
        concerned = [policy for policy in self._policies if policy.concerns(action, within)]
        try:
            if thing.kind == "Resource":
                values.beaten("uri", thing.name)
            claims, given_arguments = _read(concerned, caller.claims, arguments)
        except Mismatch as error:
            return Verdict(False, (), str(error))
        context = {**claims, **given_arguments}
        request = {
            "principal": given.euid(("Client", caller.subject)),
            "action": given.euid(("Action", action)),
            "resource": given.euid(uid),
            "context": context,
        }
        attributes = {**self._attributes(thing), **context}
        passing = [
            self._entity(("Client", caller.subject), claims, caller.groups),
            self._entity(uid, attributes, above[:1]),
        ]
        answer = self._engine.ask(request, passing)
        if answer.errors:
            return Verdict(False, (), "a policy that applies could not be evaluated", answer.errors[0])
        return Verdict(
            answer.allowed, answer.reasons, "" if answer.allowed or answer.reasons else "no policy permits it"
        )

    def _above(self, thing: Thing) -> tuple[Uid, ...]:
        """The backend of ``thing``, and what that is in."""
        group = self._world.backends.get(thing.backend, "")
        return ("Backend", thing.backend), ("Group", group), ("MCP", self._world.server)

    def _attributes(self, thing: Thing) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "name": thing.name,
            "original": thing.original,
            "backend": thing.backend,
            "group": self._world.backends.get(thing.backend, ""),
            "feature": thing.kind.lower(),
            "operation": _OPERATIONS[thing.kind],
            **_hints(thing),
        }
        return {**attributes, "uri": thing.name} if thing.kind == "Resource" else attributes


def _hints(thing: Thing) -> dict[str, bool]:
    """What the protocol says of a tool whose annotations say nothing: it may destroy. What is got or read does not."""
    reads = thing.kind != "Tool" or thing.hints.get("readOnlyHint", False)
    otherwise = {
        "readOnlyHint": reads,
        "destructiveHint": not reads,
        "idempotentHint": reads,
        "openWorldHint": thing.kind == "Tool",
    }
    return {name: thing.hints.get(name, otherwise[name]) for name in uses.HINTS}


def _read(concerned: Iterable[Policy], claims: Mapping[str, Any], arguments: Arguments) -> tuple[Json, Json]:
    """What these policies read, in the types in which they do. Raises ``Mismatch``."""
    wanted: dict[str, Use] = {}
    for policy in concerned:
        _combine(wanted, policy.uses)
    of_claims, of_arguments = {}, {}
    for name, use in wanted.items():
        if name.startswith("claim_"):
            plain = name.removeprefix("claim_")
            if plain in claims:
                of_claims[name] = values.cedar(name, claims[plain], use)
        elif (found := _argument(name.removeprefix("arg_"), arguments)) is not _ABSENT:
            of_arguments[name] = values.cedar(name, found, use)
    return of_claims, of_arguments


_ABSENT: Final = object()


def _argument(name: str, arguments: Arguments) -> object:
    """An argument; ``<name>_present`` is true, as in ToolHive, when there is one called ``name`` that is no plain value."""
    value = arguments.get(name, _ABSENT)
    whole = arguments.get(name.removesuffix(_PRESENT), _ABSENT) if name.endswith(_PRESENT) else _ABSENT
    if whole is _ABSENT or isinstance(whole, str | int | float):
        return value
    if value is not _ABSENT:
        raise Mismatch(f"'arg_{name}' may mean two arguments")
    return True


def _names(attributes: Iterable[str]) -> Iterable[str]:
    for attribute in attributes:
        name = attribute.removeprefix("arg_")
        yield name
        if name.endswith(_PRESENT):
            yield name.removesuffix(_PRESENT)


def _combine(into: dict[str, Use], found: Mapping[str, Use]) -> None:
    """Two policies may read one thing; then it must be right for both."""
    for name, use in found.items():
        one = into.setdefault(name, Use())
        if use.kind is not None:
            one.kind = use.kind if one.kind in (None, use.kind) else _CONFLICT
        one.matched = one.matched or use.matched
        _combine(one.members, use.members)
        if one.members and one.kind is not None:
            one.kind, one.members = _CONFLICT, {}
