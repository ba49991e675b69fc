"""What several workers have counted, as one would have counted it.

The rule: what was counted is added, whatever has become of who counted it; of what is the case now the registry says how several
are told as one. Nothing is told of a worker alone: a scrape may come to any of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from vmcp.middleware.measures import Exemplar, Labels
from vmcp.server.readings import ALIASES, NAMES, STATES, How, Reading

Timed = tuple[str, Labels, list[tuple[Labels, list[int], float, dict[int, Exemplar]]]]
"""The name of a histogram, its labels, and what each combination of them has seen."""
_RELOADS: Final = "vmcp_config_reloads_"
_OLDEST: Final = "process_start_time_seconds"
_ONE: Final[Mapping[How, Callable[[Sequence[Any]], Any]]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "mean": lambda values: sum(values) / len(values),
}


class Family(msgspec.Struct, frozen=True):
    """What the library knows of the process itself; ``samples`` have a name, labels and a number."""

    name: str
    help: str
    sort: str
    samples: list[tuple[str, dict[str, str], float]]


class Numbers(msgspec.Struct, frozen=True):
    """All that one worker tells."""

    readings: list[Reading]
    timed: list[Timed]
    process: list[Family]


_Named = TypeVar("_Named", Reading, Family)


def left(numbers: Numbers) -> Numbers:
    """What is true of it for good, also when its worker is gone."""
    return Numbers(
        [each for each in numbers.readings if NAMES[each.name].sort in ("counter", "summary")],
        numbers.timed,
        [each for each in numbers.process if each.sort == "counter"],
    )


def added(all_of: Sequence[Numbers]) -> Numbers:
    """Of all of them."""
    return Numbers(
        [_reading(*each) for each in _by_name(reading for one in all_of for reading in one.readings).items()],
        [_timed(each) for each in zip(*(one.timed for one in all_of), strict=True)],
        [_family(each) for each in _by_name(family for one in all_of for family in one.process).values()],
    )


def _by_name(things: Iterable[_Named]) -> dict[str, list[_Named]]:
    found: dict[str, list[_Named]] = {}
    for each in things:
        found.setdefault(each.name, []).append(each)
    return found


def _reading(name: str, several: Sequence[Reading]) -> Reading:
    points: dict[Labels, list[Any]] = {}
    for each in several:
        for labels, value in each.points:
            points.setdefault(tuple(labels), []).append(value)
    known = NAMES[name]
    if known.sort == "summary":
        return Reading(name, [(labels, tuple(map(sum, zip(*pairs, strict=True)))) for labels, pairs in points.items()])
    if known.several == "worst":
        return Reading(name, _worst(points))
    one = _ONE[known.several]
    return Reading(name, [(labels, one(values)) for labels, values in points.items()])


def _worst(points: Mapping[Labels, Sequence[int]]) -> list[tuple[Labels, Any]]:
    """Of a breaker's states the worst that it is in anywhere."""
    at: dict[str, str] = {}
    for (backend, state), values in points.items():
        if any(values):
            at[backend] = max(at.get(backend, state), state, key=STATES.index)
    return [((backend, state), int(at.get(backend) == state)) for backend, state in points]


def _timed(several: Sequence[Timed]) -> Timed:
    name, names, _ = several[0]
    found: dict[Labels, tuple[list[int], float, dict[int, Exemplar]]] = {}
    for _, _, lines in several:
        for labels, counts, total, exemplars in lines:
            key = tuple(str(label) for label in labels)
            before = found.get(key)
            if before is None:
                found[key] = list(counts), total, dict(exemplars)
                continue
            found[key] = (
                [one + other for one, other in zip(before[0], counts, strict=True)],
                before[1] + total,
                {place: _later(before[2].get(place), exemplars.get(place)) for place in before[2] | exemplars},
            )
    return name, names, [(labels, *seen) for labels, seen in found.items()]


def _later(one: Exemplar | None, other: Exemplar | None) -> Exemplar:
    return max((each for each in (one, other) if each is not None), key=lambda each: each[3])


def _family(several: Sequence[Family]) -> Family:
    first = several[0]
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
    for each in several:
        for name, labels, value in each.samples:
            found.setdefault((name, tuple(sorted(labels.items()))), []).append(value)
    one = min if first.name == _OLDEST else sum
    return Family(
        first.name,
        first.help,
        first.sort,
        [(name, dict(labels), float(one(values))) for (name, labels), values in found.items()],
    )


def numbers(all_of: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The same of the names of ``vmcp/metrics``: numbers, or maps of them."""
    names = dict.fromkeys(name for one in all_of for name in one)
    return {name: _number(name, [one[name] for one in all_of if name in one]) for name in names}


def _number(name: str, values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {
            key: _number("", [each[key] for each in values if key in each])
            for key in dict.fromkeys(key for each in values for key in each)
        }
    known = NAMES.get(ALIASES.get(name, name))
    how: How = known.several if known is not None else "max" if name.startswith(_RELOADS) else "sum"
    return _ONE[how](values)
