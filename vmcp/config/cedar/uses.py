"""Which claims and arguments a policy reads, and as what: its own words tell the type.

The rule: Cedar knows nothing about the types of claims and arguments, so the type in which a policy uses one is the only type in
which it may come (``values``); a policy that uses one in two types is wrong. One that is only asked for (``has``) may be
anything, one that is only compared with others of the kind is a text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vmcp.config.cedar.engine import Json

BOOL, LONG, STRING, DECIMAL = "Bool", "Long", "String", "decimal"
OPEN: Final = ("arg_", "claim_")
HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
CLOSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("name", "uri", "operation", "feature", "backend", "group", "original"), STRING),
    **dict.fromkeys(HINTS, BOOL),
}
"""The attributes that every tool, prompt and resource has."""
_COMPARED = frozenset({"<", "<=", ">", ">="})
_LOGIC = frozenset({"&&", "||"})
_SUMS = frozenset({"+", "-", "*"})
_SETS = frozenset({"containsAll", "containsAny"})
_DECIMALS = frozenset({"lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"})


def set_of(element: str) -> str:
    """The type of a set of ``element``."""
    return f"Set<{element}>"


def element_of(kind: str | None) -> str | None:
    """The type of the members of a set; None for what is no set."""
    return kind[4:-1] if kind is not None and kind.startswith("Set<") else None


@dataclass(slots=True)
class Use:
    """How one claim or argument is used, or a member of one. Filled by ``uses`` only.

    ``guarded``: asked for with ``has``. ``matched``: with ``like``, as if it were a path.
    """

    kind: str | None = None
    guarded: bool = False
    matched: bool = False
    members: dict[str, "Use"] = field(default_factory=dict)

    def settled(self) -> Iterator["Use"]:
        """This one and all below it."""
        yield self
        for member in self.members.values():
            yield from member.settled()


class TwoTypes(ValueError):
    """One claim or argument is used in two types."""


def uses(policy: Json, own: Mapping[str, str]) -> dict[str, Use]:
    """By attribute (``claim_…``, ``arg_…``); ``own`` are the types of the attributes of entities. Raises ``TwoTypes``."""
    reader = _Reader({**CLOSED, **own})
    bodies = [condition["body"] for condition in policy["conditions"]]
    # What is compared with something whose type stands further on is known the second time.
    for body in bodies * 2:
        reader.read(body, BOOL)
    for name, use in reader.found.items():
        _settle(name, use, reader.equal)
    return reader.found


def _settle(name: str, use: Use, equal: set[int]) -> None:
    if use.members and use.kind is not None:
        raise TwoTypes(f"'{name}' is used as {use.kind} and as a record")
    if use.kind is None and not use.members and (id(use) in equal or not use.guarded):
        use.kind = STRING
    for member, below in use.members.items():
        if member.startswith("__"):
            raise TwoTypes(f"'{name}.{member}': names that begin with '__' are Cedar's own")
        _settle(f"{name}.{member}", below, equal)


class _Reader:
    def __init__(self, known: Mapping[str, str]) -> None:
        self.found: dict[str, Use] = {}
        self.equal: set[int] = set()
        self._known = known

    def read(self, node: Json, want: str | None = None) -> str | None:
        """The type of an expression, as far as it can be told; ``want`` is the one that its place asks for."""
        (op, body), *_ = node.items()
        if op == "Value":
            return _literal(body)
        if op in (".", "has"):
            return self._attribute(node, op, body, want)
        if op in ("==", "!=", *_COMPARED):
            self._pair(body, None if op in ("==", "!=") else LONG)
            return BOOL
        if op in ("contains", *_SETS):
            self._membership(op, body)
            return BOOL
        return self._other(op, body, want)

    def _other(self, op: str, body: Any, want: str | None) -> str | None:
        if op in _LOGIC or op in _SUMS:
            kind = BOOL if op in _LOGIC else LONG
            self.read(body["left"], kind)
            self.read(body["right"], kind)
            return kind
        if op in ("!", "neg"):
            kind = BOOL if op == "!" else LONG
            self.read(body["arg"], kind)
            return kind
        if op == "like":
            self.read(body["left"], STRING)
            self._match(body["left"])
            return BOOL
        if op == "if-then-else":
            self.read(body["if"], BOOL)
            return self.read(body["then"], want) or self.read(body["else"], want)
        if op == "Set":
            return self._set(body, element_of(want))
        return self._rest(op, body)

    def _rest(self, op: str, body: Any) -> str | None:
        """Records, entities, functions: nothing in them has a place that asks for a type, but for decimals and empty sets."""
        want = DECIMAL if op in _DECIMALS else set_of(STRING) if op == "isEmpty" else None
        for child in _children(body):
            self.read(child, want)
        return DECIMAL if op == "decimal" else BOOL if op in _DECIMALS or op in ("is", "in", "isEmpty") else None

    def _pair(self, body: Json, otherwise: str | None) -> None:
        left = self.read(body["left"])
        kind = self.read(body["right"], left) or left or otherwise
        self.read(body["left"], kind)
        self.read(body["right"], kind)
        if kind is None:
            self.equal.update(id(use) for side in ("left", "right") if (use := self._use(body[side])) is not None)

    def _membership(self, op: str, body: Json) -> None:
        left = self.read(body["left"])
        if op in _SETS:
            kind = self.read(body["right"], left) or left or set_of(STRING)
            self.read(body["left"], kind)
            self.read(body["right"], kind)
            return
        kind = self.read(body["right"], element_of(left)) or element_of(left) or STRING
        self.read(body["left"], set_of(kind))
        self.read(body["right"], kind)

    def _set(self, elements: Any, want: str | None) -> str | None:
        for each in elements:
            want = self.read(each, want) or want
        for each in elements:
            self.read(each, want)
        return set_of(want) if want is not None else None

    def _attribute(self, node: Json, op: str, body: Json, want: str | None) -> str | None:
        use = self._use(node)
        if use is None:
            self.read(body["left"])
            return BOOL if op == "has" else self._known.get(body["attr"])
        if op == "has":
            use.guarded = True
            return BOOL
        if want is not None:
            if use.kind not in (None, want):
                raise TwoTypes(f"'{body['attr']}' is used as {use.kind} and as {want}")
            use.kind = want
        return use.kind

    def _match(self, node: Json) -> None:
        use = self._use(node)
        if use is not None:
            use.matched = True

    def _use(self, node: Json) -> Use | None:
        """What is kept of ``principal.claim_a.b``; None for all that is neither a claim nor an argument."""
        (op, body), *_ = node.items()
        if op not in (".", "has"):
            return None
        left, name = body["left"], body["attr"]
        if "Var" in left:
            return self.found.setdefault(name, Use()) if name.startswith(OPEN) else None
        above = self._use(left)
        return above.members.setdefault(name, Use()) if above is not None else None


def _literal(value: object) -> str | None:
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return LONG
    return STRING if isinstance(value, str) else None


def _children(body: Any) -> Iterator[Json]:
    """The expressions directly under an operation of whatever form."""
    if isinstance(body, list):
        yield from (each for each in body if isinstance(each, dict))
    elif isinstance(body, dict):
        yield from (each for key, each in body.items() if isinstance(each, dict) and key != "entity")
