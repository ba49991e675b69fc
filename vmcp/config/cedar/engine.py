"""The one door to the Cedar engine (``cedarpy``).

The rule: it is loaded when the first policy is read, as that takes 30 ms which most configurations need not pay. Everything else
deals in the JSON forms of policies, schemas and entities, and never in text that it puts together itself.
"""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

Json = Mapping[str, Any]
DEEPEST: Final = 64


class Malformed(ValueError):
    """What Cedar refuses to read, and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine said: allowed, the names of the policies that decided, and what went wrong on the way."""

    allowed: bool
    reasons: tuple[str, ...]
    errors: tuple[str, ...]


@functools.cache
def _cedar() -> Any:
    return importlib.import_module("cedarpy")


def parse(text: str) -> list[Json]:
    """The policies of ``text`` in their JSON form. Raises ``Malformed``."""
    try:
        found: Json = msgspec.json.decode(_cedar().policies_to_json_str(text))
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if found["templates"]:
        raise Malformed("a template (?principal, ?resource) decides nothing")
    policies = list(found["staticPolicies"].values())
    if any(_deeper(policy, DEEPEST) for policy in policies):
        raise Malformed("it is nested too deeply")
    return policies


def _deeper(value: object, most: int) -> bool:
    """Whether ``value`` is nested deeper than ``most`` operations; each of them is two levels of JSON."""
    level = [value]
    for _ in range(2 * most):
        level = [below for each in level for below in _below(each)]
    return bool(level)


def _below(value: object) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def wrong(policy: Json, schema: Json) -> list[str]:
    """What the schema has against ``policy``, in the engine's words."""
    text = _cedar().policies_from_json_str(_set({"it": policy}))
    result = _cedar().validate_policies(text, msgspec.json.encode(schema).decode())
    told = sorted(str(each.error).removeprefix("for policy `policy0`, ") for each in result.errors)
    # The same attribute is missed for every action and type of resource that the policy may be about: one mistake.
    once = {text.partition(" on entity type")[0].partition(" in context for")[0]: text for text in reversed(told)}
    return list(once.values()) or ([] if result.validation_passed else ["it is not valid"])


def _set(policies: Json) -> str:
    return msgspec.json.encode({"templates": {}, "staticPolicies": policies, "templateLinks": []}).decode()


class Engine:
    """Policies by name and entities, parsed once. Raises ``Malformed`` for entities that are none."""

    def __init__(self, policies: Json, entities: list[Json]) -> None:
        self._policies = _cedar().PolicySet.from_json_str(_set(policies))
        self._entities = _handle(entities)

    def ask(self, request: Json, entities: list[Json]) -> Answer:
        """Decide ``request`` with these entities besides. What the engine cannot read is an error, and no permission."""
        try:
            known = self._entities.with_added_json_str(msgspec.json.encode(entities).decode())
            result = _cedar().is_authorized(request, self._policies, known)
        except ValueError as error:
            return Answer(False, (), (str(error),))
        told = result.diagnostics
        return Answer(result.allowed, tuple(sorted(told.reasons)), tuple(told.errors))


def _handle(entities: list[Json]) -> Any:
    try:
        return _cedar().Entities.from_json_str(msgspec.json.encode(entities).decode())
    except ValueError as error:
        raise Malformed(str(error)) from None
