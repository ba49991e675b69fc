"""The routing rules of one face: for a call that the table has an answer for, which backend really gets it.

The rule: pure, and the same for the same call. The first rule that fits and has a target decides; a target is a backend of the
face that offers the same thing, by its original name, and shows it. Only a rule with ``uri`` reaches what nobody lists, and only
where the backend's own selection would show it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from vmcp.config.model import Aggregation, BackendSpec, Override
from vmcp.config.steering import RoutingRule
from vmcp.routing import selection
from vmcp.routing.catalog import Catalog, Kind
from vmcp.routing.table import Asked, Hidden, Route

Offered = Mapping[tuple[Kind, str, str], Route]
"""What backends show, winners and losers of names, by kind, backend and original name."""
_UNCHANGED = Override()


@dataclass(frozen=True, slots=True)
class _Aimed:
    """A rule and the backends of the face that it may send to, in their order."""

    rule: RoutingRule
    backends: tuple[str, ...]


class Steering:
    """The rules of one face."""

    def __init__(self, rules: Sequence[_Aimed], offered: Offered, shows: Callable[[str, str], bool]) -> None:
        self._rules = rules
        self._offered = offered
        self._shows = shows

    def aim(self, asked: Asked, route: Route) -> Route:
        """``route``, or the same thing at another backend. What the client sees of it stays that of ``route``."""
        for aimed in self._fitting(asked, route.kind):
            for backend in aimed.backends:
                other = self._offered.get((route.kind, backend, route.original))
                if other is not None:
                    return msgspec.structs.replace(
                        route, backend=backend, header_params=other.header_params, tasked=other.tasked
                    )
        return route

    def reach(self, asked: Asked) -> Route | None:
        """Who shall be asked for a URI that nobody lists."""
        for aimed in self._fitting(asked, Kind.RESOURCE):
            for backend in aimed.backends if aimed.rule.uri is not None else ():
                if self._shows(backend, asked.name):
                    return Route(Kind.RESOURCE, asked.name, backend, asked.name, b"{}", b"{}")
        return None

    def _fitting(self, asked: Asked, kind: Kind) -> Iterator[_Aimed]:
        return (aimed for aimed in self._rules if _fits(aimed.rule, asked, kind))


def _fits(rule: RoutingRule, asked: Asked, kind: Kind) -> bool:
    return (
        (rule.method is None or rule.method.match(asked.method))
        and (rule.tool is None or (kind is Kind.TOOL and rule.tool.match(asked.name)))
        and (rule.uri is None or (kind in (Kind.RESOURCE, Kind.TEMPLATE) and rule.uri.match(asked.name)))
        and (rule.when is None or rule.when.holds(asked.values()))
    )


@dataclass(frozen=True, slots=True)
class Premises:
    """What the rules of a face stand on."""

    aggregation: Aggregation
    backends: Mapping[str, BackendSpec]
    catalogs: Sequence[Catalog]
    offered: Offered
    hidden: Hidden


def steering(rules: Sequence[RoutingRule], face: Premises) -> Steering | None:
    """``rules`` for one face; None when none of them can have an effect there."""
    aimed = [_Aimed(rule, tuple(_targets(rule, face))) for rule in rules]
    useful = tuple(each for each in aimed if each.backends)
    if not useful:
        return None
    choosers = {name: selection.chooser(face.aggregation, Kind.RESOURCE, name) for name in face.backends}
    readers = {each.backend for each in face.catalogs if "resources" in each.capabilities}

    def shows(backend: str, uri: str) -> bool:
        hidden = (backend, uri) in face.hidden[Kind.RESOURCE]
        return backend in readers and not hidden and choosers[backend].admits(uri, uri, None, _UNCHANGED)

    return Steering(useful, face.offered, shows)


def _targets(rule: RoutingRule, face: Premises) -> Iterator[str]:
    declared = {each.backend: each.capabilities for each in face.catalogs}
    for name, spec in face.backends.items():
        named = rule.backend in (None, name) and rule.tags <= set(spec.tags)
        if named and (rule.capability is None or _declares(declared.get(name, {}), rule.capability)):
            yield name


def _declares(capabilities: Mapping[str, Any], wanted: str) -> bool:
    """``wanted`` may name a part: ``resources.subscribe``."""
    found: Any = capabilities
    for step in wanted.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found is not None and found is not False
