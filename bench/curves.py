"""What a call costs as things grow: connections, tools, backends, the size of a result. ``python bench/curves.py [CURVE …]``.

The one rule: one thing grows at a time, and within a round every point is measured once before any is measured again.
curves.md says what the lines mean.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median

import peers
import plot
import prepare
import run
from calls import HANDSHAKE, Door, Load
from house import ROOMY
from run import Bench, pick_cores
from subjects import Command, Recipe, Site, Stage, Subject, free_port
from table import Cell, Round

PAYLOADS = {"200": 200, "1k": 1024, "4k": 4096, "10k": 10_240, "40k": 40_960, "100k": 102_400, "400k": 409_600}
PAYLOADS |= {"1m": 1_048_576}
CONNECTIONS = (1, 8, 64, 256, 1000, 2000)
TOOLS = (10, 100, 1000, 10_000)
BACKENDS = (1, 10, 50, 100, 200)
LINK = {"transport": "streamable-http", "isolation": "shared"}
"""By default each session has its own link to each backend: opening those would be most of what a short round measures."""
FEW = 8
"""Below so many connections a call costs more than later: it wakes the process up."""
SPREAD = 64
"""So many tools are called in turns, of as many as there are."""


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """One thing to be measured: a place on a curve."""

    curve: str
    line: str
    at: float
    subject: Subject
    cell: Cell


@dataclass(frozen=True, slots=True)
class Cost:
    """What came of a point: microseconds of CPU for each call, and calls per second."""

    curve: str
    line: str
    at: float
    cpu: float
    rate: float


class Grounds:
    """What curves are measured on: a stage, the backend on it, and how much of each curve is wanted."""

    def __init__(self, site: Site, keep: ExitStack, quick: bool) -> None:
        self.stage = Stage(site, keep)
        self.quick = quick
        self._site = site
        self._keep = keep
        self.backend = self.stage.backend()

    def of(self, points: Sequence[int]) -> Sequence[int]:
        """These, or the ends and the middle."""
        return [points[0], points[len(points) // 2], points[-1]] if self.quick else points

    def vmcp(self, name: str, backends: Mapping[str, str], door: Door) -> Subject:
        """A vmcp before these, by URL."""
        return self.stage.subject(name, 0, Recipe(_serving(backends), "/readyz", lambda *_: door))

    def larger(self, tools: int) -> int:
        """Another backend beside the first, with so many more tools; its port."""
        port = free_port()
        command = ["taskset", "-c", self._site.other_cores, str(self._site.folder / "backend"), str(port), str(tools)]
        process = subprocess.Popen(command)
        self._keep.callback(process.wait)
        self._keep.callback(process.kill)
        return port


def _serving(backends: Mapping[str, str]) -> Callable[[Path, int, int], Command]:
    def command(folder: Path, port: int, _backend: int) -> Command:
        specs = {name: LINK | {"url": url} for name, url in backends.items()}
        config = {
            "name": "curves",
            "groups": {"all": {"backends": specs}},
            "incomingAuth": {"type": "anonymous"},
            "server": {"host": "127.0.0.1", "port": port, "limits": ROOMY | {"requests": 50_000}},
            "operational": {"logLevel": "warning"},
        }
        (folder / "vmcp.yaml").write_text(json.dumps(config))
        return [sys.executable, "-m", "vmcp", "serve", "--config", folder / "vmcp.yaml"]

    return command


def _url(port: int, path: str = "mcp") -> str:
    return f"http://127.0.0.1:{port}/{path}"


def _both(grounds: Grounds) -> Iterator[tuple[str, Subject]]:
    """nginx and vmcp before the same backend."""
    yield "vmcp", grounds.vmcp("vmcp", {"cb": _url(grounds.backend)}, Door(tool="cb_{}"))
    yield "nginx", grounds.stage.subject("nginx", grounds.backend, peers.RECIPES["nginx"])


def connections(grounds: Grounds) -> Iterator[Point]:
    """More callers at once, each on a connection and in a session of his own."""
    for line, subject in _both(grounds):
        for count in grounds.of(CONNECTIONS):
            yield Point("connections", line, count, subject, Cell(HANDSHAKE, "200", count))


def payload(grounds: Grounds) -> Iterator[Point]:
    """Longer results, to 8 callers."""
    for line, subject in _both(grounds):
        for number in grounds.of(range(len(PAYLOADS))):
            name, size = list(PAYLOADS.items())[number]
            yield Point("payload", line, size, subject, Cell(HANDSHAKE, name, 8))


def tools(grounds: Grounds) -> Iterator[Point]:
    """More tools of one backend; some of all parts of the list are called in turns."""
    for count in grounds.of(TOOLS):
        port = grounds.larger(count)
        step = max(1, count // SPREAD)
        door = Door(spread=[f"cb_t{n}" for n in range(0, count, step)][:SPREAD])
        subject = grounds.vmcp(f"tools-{count}", {"cb": _url(port)}, door)
        yield Point("tools", "vmcp", count, subject, Cell(HANDSHAKE, "200", 64))


def backends(grounds: Grounds) -> Iterator[Point]:
    """More backends, all called in turns. One process plays them all: to vmcp they are as many servers, each with its pool."""
    for count in grounds.of(BACKENDS):
        urls = {f"b{n}": _url(grounds.backend, f"b{n}/mcp") for n in range(count)}
        door = Door(spread=[f"b{n}_echo" for n in range(count)])
        subject = grounds.vmcp(f"backends-{count}", urls, door)
        yield Point("backends", "vmcp", count, subject, Cell(HANDSHAKE, "200", 64))


CURVES: Mapping[str, Callable[[Grounds], Iterator[Point]]] = {
    "connections": connections,
    "tools": tools,
    "backends": backends,
    "payload": payload,
}


def measured(names: Sequence[str], quick: bool, rounds: int, seconds: float) -> list[Cost]:
    """The costs of each point of these curves. Raises ``NotReadyError`` or ``FaultySubjectError``."""
    costs: list[Cost] = []
    for name in names:
        with ExitStack() as keep:
            made = keep.enter_context(tempfile.TemporaryDirectory(prefix="vmcp-curves-"))
            site = Site(Path(made), *pick_cores())
            prepare.compile_programs(site.folder)
            points = list(CURVES[name](Grounds(site, keep, quick)))
            costs += _measured(site, points, rounds, seconds)
    return costs


def _measured(site: Site, points: Sequence[Point], rounds: int, seconds: float) -> Iterator[Cost]:
    bench = Bench(site, list({point.subject.name: point.subject for point in points}.values()))
    bench.open_sessions(max(point.cell.connections for point in points))
    found: dict[Point, list[Round]] = {point: [] for point in points}
    for turn in range(rounds + 1):  # the first is for warming up
        for point, taken in list(found.items()):
            one = bench.measure(point.subject, point.cell, Load(point.cell.connections, seconds))
            if one.errors:
                sys.stderr.write(f"left out: {point.subject.name} at {point.at:.0f}: {one.first_error}\n")
                del found[point]
            elif turn:
                taken.append(one)
    for point, taken in found.items():
        cpu, rate = median(one.cpu_per_request for one in taken), median(one.rate for one in taken)
        yield Cost(point.curve, point.line, point.at, cpu * 1e6, rate)


def table(costs: Sequence[Cost]) -> str:
    """All of it in Markdown."""
    lines = ["| curve | of | at | CPU µs | req/s |", "|---|---|--:|--:|--:|"]
    lines += [f"| {c.curve} | {c.line} | {c.at:,.0f} | {c.cpu:.1f} | {c.rate:,.0f} |" for c in costs]
    return "\n".join(lines)


def slopes(costs: Sequence[Cost]) -> list[str]:
    """What each curve does from one end to the other, and how steep it is; see ``FEW``."""
    lines = []
    for curve, line in dict.fromkeys((cost.curve, cost.line) for cost in costs):
        own = [cost for cost in costs if (cost.curve, cost.line) == (curve, line)]
        ends = f"{own[0].cpu:.0f} µs at {own[0].at:,.0f}, {own[-1].cpu:.0f} µs at {own[-1].at:,.0f}"
        lines.append(f"{curve}, {line}: {ends}; {_steepness(curve, own)}")
    return lines


def _steepness(curve: str, own: Sequence[Cost]) -> str:
    if curve == "payload":
        fit = linear_regression([cost.at / 1024 for cost in own], [cost.cpu for cost in own])
        return f"{fit.slope:.2f} µs for each KiB, and {fit.intercept:.0f} µs without any"
    many = [cost for cost in own if curve != "connections" or cost.at >= FEW]
    if len(many) < 2:
        return "too few points for a slope"
    fit = linear_regression([math.log10(cost.at) for cost in many], [math.log10(cost.cpu) for cost in many])
    since = f", from {FEW} on" if curve == "connections" else ""
    return f"times {10**fit.slope:.2f} for ten times as many{since}"


def _bytes(value: float) -> str:
    for unit, size in (("M", 1 << 20), ("k", 1 << 10)):
        if value >= size:
            return f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


ACROSS = {
    "connections": ("Connections, a caller on each", CONNECTIONS),
    "tools": ("Tools of one backend", TOOLS),
    "backends": ("Backends, called in turns", BACKENDS),
    "payload": ("Bytes of the result, 8 connections", (200, 1024, 10_240, 102_400, 1_048_576)),
}


def picture(costs: Sequence[Cost], theme: plot.Theme) -> str:
    """The curves in one SVG."""
    each = []
    for curve in dict.fromkeys(cost.curve for cost in costs):
        own = [cost for cost in costs if cost.curve == curve]
        lines = [
            plot.Line(name, [(cost.at, cost.cpu) for cost in own if cost.line == name])
            for name in dict.fromkeys(cost.line for cost in own)
        ]
        across, ticks = ACROSS[curve]
        tick = _bytes if curve == "payload" else plot.short
        each.append(plot.Panel(curve.capitalize(), across, lines, ticks, tick))
    return plot.panels("What a call costs as things grow", "µs of CPU for each tools/call", each, theme)


def main(argv: Sequence[str]) -> int:
    """Measures what was named, or all."""
    parser = argparse.ArgumentParser(prog="bench/curves.py", description="Measures what a call costs as things grow.")
    parser.add_argument("curve", nargs="*", default=list(CURVES), help=f"of {', '.join(CURVES)}")
    parser.add_argument("--quick", action="store_true", help="three points of each, 2 rounds of 0.4 s")
    parser.add_argument("--rounds", type=int, default=2 if "--quick" in argv else 5)
    parser.add_argument("--seconds", type=float, default=0.4 if "--quick" in argv else 1.0)
    chosen = parser.parse_args(argv)
    if strange := [name for name in chosen.curve if name not in CURVES]:
        parser.error(f"no such curve: {', '.join(strange)}")
    costs = measured(chosen.curve, chosen.quick, chosen.rounds, chosen.seconds)
    print("\n".join([table(costs), "", *slopes(costs)]))
    return run.SUCCESS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
