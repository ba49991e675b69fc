"""How long a backend may take: connecting, until it begins to answer, silent on a stream, and altogether.

The rule: what is written nearest counts: for a tool, then for its backend, then for all; and a limit knows where it stands, so
that an error can name it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final

from vmcp.config.globs import Globs, globs
from vmcp.config.quantities import seconds

Data = Mapping[str, Any]

KEYS: Final = {
    "connect": "connect",
    "firstByte": "first_byte",
    "total": "total",
    "totalWithProgress": "total_with_progress",
    "idleStream": "idle_stream",
}
WHOLE: Final = frozenset({"stdio", "websocket"})
"""Transports over which an answer comes in one piece, so that its first byte is no sign of life before its end."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Times in seconds. ``tools`` has what differs for some tools, by their original names; the first that fits counts.

    ``total_with_progress`` is the most for a call that keeps reporting progress, each report of which starts ``total`` anew.
    ``place`` is where they stand among the keys of a backend.
    """

    connect: float = 2.0
    first_byte: float = 30.0
    total: float = 120.0
    idle_stream: float = 300.0
    total_with_progress: float = 600.0
    tools: tuple[tuple[Globs, "Timeouts"], ...] = ()
    place: str = "timeouts"

    def of(self, tool: str | None) -> "Timeouts":
        """The limits for a call of ``tool``."""
        for names, limits in self.tools:
            if tool is not None and names.match(tool):
                return limits
        return self

    @property
    def longest(self) -> float:
        """The most that a call may take, whatever it reports."""
        return max(self.total, self.total_with_progress)


def layers(name: str, own: Data, common: Data) -> Iterator[Data]:
    """The settings of the backend ``name``, the nearest first: its own, and those of ``operational.timeouts``."""
    yield own
    for found in (common.get("perWorkload", {}).get(name), common.get("default")):
        if found is not None:
            yield found if isinstance(found, Mapping) else {"total": found}


def from_data(name: str, own: Data, common: Data, transport: str) -> Timeouts:
    """The limits of the backend ``name``."""
    given: dict[str, Any] = {}
    for layer in layers(name, own, common):
        for key, attribute in KEYS.items():
            if key in layer:
                given.setdefault(attribute, seconds(layer[key]))
    if transport in WHOLE:
        given.setdefault("first_byte", inf)
    made = Timeouts(**given)
    tools = own.get("tools", {})
    return replace(made, tools=tuple((globs([glob]), _for_tool(made, glob, each)) for glob, each in tools.items()))


def _for_tool(made: Timeouts, glob: str, data: Data) -> Timeouts:
    """A tool that is given more time altogether may spend it in silence, unless that is written too."""
    given: dict[str, Any] = {KEYS[key]: seconds(value) for key, value in data.items()}
    total = given.get("total", 0.0)
    given = {"first_byte": max(made.first_byte, total), "idle_stream": max(made.idle_stream, total), **given}
    return replace(made, place=f"timeouts.tools[{glob}]", **given)
