"""What is published of a run of the benchmark: tables, targets, pictures, and every round for who wants to know more.

The one rule: every number of a page comes from one run, and each target stands beside what was reached, be it enough or not.
"""

import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import curves
import peers
import plot
import table
from calls import ERAS, HANDSHAKE, STATELESS
from table import Cell, Round, Rounds, ratio

ROUNDS = "rounds.json"
BEGIN, END = "<!-- bench: begin, written by build.py bench -->", "<!-- bench: end -->"
OURS = {
    "direct": ("the backend itself", "C"),
    "nginx": ("nginx as a reverse proxy", ""),
    "vmcp": ("vmcp", ""),
    "vmcp-full": ("vmcp, full chain", "key, policy, audit log, metrics"),
    "vmcp-stdio": ("vmcp", ""),
}
CONTEXTFORGE = ("contextforge", "contextforge-stateful")
MAIN = Cell(HANDSHAKE, "200", 64)
ALONE = Cell(HANDSHAKE, "200", 1)
CPU: Callable[[Round], float] = lambda one: one.cpu_per_request  # noqa: E731
RATE: Callable[[Round], float] = lambda one: one.rate  # noqa: E731

Results = Mapping[Cell, Rounds]


@dataclass(frozen=True, slots=True)
class Figure:
    """What was asked for and what was reached; ``least`` says that more is better. None: it was not measured."""

    what: str
    target: float
    reached: float | None
    least: bool = True

    @property
    def met(self) -> bool:
        """Whether it is good enough."""
        return self.reached is not None and (self.reached >= self.target if self.least else self.reached <= self.target)

    def row(self) -> str:
        """A line of a table."""
        reached = "–" if self.reached is None else f"{self.reached:.3g}"
        met = "yes" if self.met else "no" if self.reached is not None else "not measured"
        return f"| {self.what} | {'≥' if self.least else '≤'} {self.target:g} | {reached} | {met} |"


@dataclass(frozen=True, slots=True)
class Crew:
    """Two workers beside one: throughput where the generator takes part of their cores, CPU for each call where it does not,
    and how the work was shared between them."""

    rate: float
    cpu: float
    shares: Sequence[float]

    @property
    def elsewhere(self) -> float:
        """Throughput against one worker if the generator were elsewhere: the busiest one is the limit then."""
        return 1 / (self.cpu * max(self.shares))


def _title(name: str) -> str:
    return OURS[name][0] if name in OURS else peers.PEERS[name].title


def _middle(rounds: Sequence[Round], value: Callable[[Round], float]) -> float:
    return median(value(one) for one in rounds)


def _added(rounds: Rounds) -> float | None:
    """Median latency that vmcp adds, against what nginx adds; each within its round."""
    needed = [rounds.get(name, ()) for name in ("vmcp", "nginx", "direct")]
    if not all(needed) or any(table.errors(own) for own in needed):
        return None
    pairs = [(ours.p50 - none.p50, its.p50 - none.p50) for ours, its, none in zip(*needed, strict=True)]
    return median(ours / its for ours, its in pairs if its > 0)


def figures(results: Results, crew: Crew | None) -> list[Figure]:
    """The targets of the project that this run can judge."""
    main, found = results.get(MAIN, {}), []

    def ahead(names: Sequence[str]) -> float | None:
        ratios = [ratio(main.get("vmcp", ()), main.get(name, ()), RATE) for name in names]
        return min((each for each in ratios if each is not None), default=None)

    gateways = [name for name, peer in peers.PEERS.items() if peer.kind == peers.GATEWAY]
    found.append(Figure("throughput against the fastest Python or Node gateway", 25, ahead(gateways)))
    for name, own in (("ContextForge", CONTEXTFORGE), ("1xn-vmcp", ("1xn-vmcp",)), ("LiteLLM", ("litellm",))):
        found.append(Figure(f"throughput against {name}", 150, ahead(own)))
    for era in ERAS:
        rounds = results.get(Cell(era, "200", 64), {})
        full = ratio(rounds.get("vmcp-full", ()), rounds.get("nginx", ()), CPU)
        found.append(Figure(f"CPU of the full chain against nginx, {era}", 5, full, least=False))
        bare = ratio(rounds.get("vmcp-full", ()), rounds.get("vmcp", ()), CPU)
        found.append(Figure(f"CPU of the full chain against the bare path, {era}", 1.25, bare, least=False))
    for era in ERAS:
        added = _added(results.get(Cell(era, "200", 1), {}))
        found.append(Figure(f"latency added at 1 connection against nginx's, {era}", 2, added, least=False))
    for era, count in product(ERAS, (1, 8, 64)):
        rounds = results.get(Cell(era, "1m", count), {})
        if rounds:
            much = ratio(rounds.get("vmcp", ()), rounds.get("nginx", ()), RATE)
            found.append(Figure(f"throughput of 1 MB results against nginx, {count} at once, {era}", 0.5, much))
    if crew is not None:
        told = f"two workers against one, the generator elsewhere (measured beside it: {crew.rate:.2f})"
        found.append(Figure(told, 1.7, crew.elsewhere))
    return found


def _ordered(rounds: Rounds) -> list[str]:
    good = [name for name in rounds if not table.errors(rounds[name])]
    return sorted(good, key=lambda name: -_middle(rounds[name], RATE))


def _size(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def gateways_table(results: Results, versions: Mapping[str, str]) -> list[str]:
    """The one that everybody looks at: all at 64 connections."""
    main, alone = results[MAIN], results.get(ALONE, {})
    modern = results.get(Cell(STATELESS, "200", 64), {})
    lines = [
        "| | version | calls/s | CPU per call | p50 at 1 connection | vmcp is faster by | calls/s, 2026-07-28 |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name in _ordered(main):
        own = main[name]
        ahead = ratio(main.get("vmcp", ()), own, RATE) if name in peers.PEERS else None
        p50 = f"{_middle(alone[name], lambda one: one.p50) * 1e3:.2f} ms" if name in alone else "–"
        cells = [
            f"**{_title(name)}**" if name == "vmcp" else _title(name),
            versions.get(name, ""),
            _size(_middle(own, RATE)),
            f"{_size(_middle(own, CPU) * 1e6)} µs",
            p50,
            "" if ahead is None else f"{_size(ahead)} ×",
            _size(_middle(modern[name], RATE)) if name in modern else "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def bridges_table(results: Results, versions: Mapping[str, str]) -> list[str]:
    """Those before a stdio server; CPU is that of the child, too."""
    rounds = results[Cell(HANDSHAKE, "200", 8)]
    lines = ["| | version | calls/s | CPU per call | vmcp is faster by |", "|---|---|--:|--:|--:|"]
    for name in _ordered(rounds):
        ahead = "" if name in OURS else f"{_size(ratio(rounds['vmcp-stdio'], rounds[name], RATE) or 0)} ×"
        cpu = f"{_size(_middle(rounds[name], CPU) * 1e6)} µs"
        cells = [_title(name), versions.get(name, ""), _size(_middle(rounds[name], RATE)), cpu, ahead]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def figures_table(found: Sequence[Figure]) -> list[str]:
    """Targets and what was reached."""
    return ["| figure | target | reached | met |", "|---|--:|--:|---|", *(figure.row() for figure in found)]


def picture(results: Results, versions: Mapping[str, str], theme: plot.Theme) -> str:
    """Calls per second of all, as bars."""
    rounds, rows = results[MAIN], []
    for name in _ordered(rounds):
        rate = _middle(rounds[name], RATE)
        role = "accent" if name.startswith("vmcp") else "reference" if name in OURS else "other"
        note = OURS.get(name, ("", ""))[1] or versions.get(name, "")
        rows.append(plot.Bar(_title(name), note, rate, f"{_size(rate)}/s", role))
    told = f"tools/call of 200 bytes on one core, 64 connections, {MAIN.era}; each line stands for ten times as many"
    return plot.bars("Calls per second", told, rows, theme)


def machine() -> str:
    """Where it was measured, in a sentence."""
    model = re.search(r"(?m)^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text())
    processor = f"{os.cpu_count()} cores ({model[1].strip()})" if model else f"{os.cpu_count()} cores"
    node = shutil.which("node")
    said = f", Node {subprocess.check_output([node, '--version'], text=True).strip()[1:]}" if node else ""
    return f"{processor}, Linux {platform.release().partition('-')[0]}, CPython {platform.python_version()}{said}"


@dataclass(frozen=True, slots=True)
class Run:
    """All that was measured."""

    results: Results
    bridges: Results
    costs: Sequence[curves.Cost]
    crew: Crew | None
    versions: Mapping[str, str]
    machine: str

    def page(self) -> str:
        """bench/results/README.md."""
        parts = [
            "# What was measured last",
            f"`python3 build.py bench`, one run: {self.machine}. What the columns mean stands in [the method](../README.md).",
            "## Gateways",
            _pictures("throughput", "Calls per second of all", ""),
            "\n".join(gateways_table(self.results, self.versions)),
            "## Targets",
            "\n".join(figures_table(figures(self.results, self.crew))),
        ]
        if self.bridges:
            parts += ["## Before a stdio server, 8 connections", "\n".join(bridges_table(self.bridges, self.versions))]
        if self.crew:
            parts += ["## Two workers", crew_text(self.crew)]
        if self.costs:
            told = [f"* {line}" for line in curves.slopes(self.costs)]
            parts += ["## Curves", _pictures("curves", "What a call costs as things grow", "")]
            parts += ["\n".join(told), curves.table(self.costs), "[What they mean](../curves.md)"]
        each = [*self.results.items(), *self.bridges.items()]
        rows = [row for cell, rounds in each for row in table.rows(cell, rounds)]
        parts += ["## Everything", "\n".join([table.head(), *rows])]
        return "\n\n".join(parts) + "\n"

    def excerpt(self) -> str:
        """What the README shows."""
        return "\n\n".join(
            [
                _pictures("throughput", "Calls per second of vmcp, nginx and other gateways", "bench/results/"),
                f"One run of `python3 build.py bench` on {self.machine}:",
                "\n".join(gateways_table(self.results, self.versions)),
            ]
        )

    def save(self, folder: Path) -> None:
        """Write pictures, page and every round."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, theme in plot.THEMES.items():
            (folder / f"throughput-{name}.svg").write_text(picture(self.results, self.versions, theme))
            if self.costs:
                (folder / f"curves-{name}.svg").write_text(curves.picture(self.costs, theme))
        (folder / "README.md").write_text(self.page())
        told = {
            "machine": self.machine,
            "versions": self.versions,
            "workers": self.crew and asdict(self.crew),
            "curves": [asdict(cost) for cost in self.costs],
            "results": _plain(self.results),
            "bridges": _plain(self.bridges),
        }
        (folder / ROUNDS).write_text(
            json.dumps(told, indent=None, separators=(",", ":")).replace('{"era"', '\n{"era"') + "\n"
        )


def _plain(results: Results) -> list[Mapping[str, object]]:
    return [
        asdict(cell) | {"subject": name, "rounds": [asdict(one) for one in own]}
        for cell, taken in results.items()
        for name, own in taken.items()
    ]


def _results(plain: Sequence[Mapping[str, Any]]) -> Results:
    found: dict[Cell, dict[str, list[Round]]] = {}
    for one in plain:
        cell = Cell(one["era"], one["size"], one["connections"])
        found.setdefault(cell, {})[one["subject"]] = [Round(**each) for each in one["rounds"]]
    return found


def saved(folder: Path) -> Run:
    """What was measured before and saved there."""
    told = json.loads((folder / ROUNDS).read_text())
    return Run(
        _results(told["results"]),
        _results(told["bridges"]),
        [curves.Cost(**cost) for cost in told["curves"]],
        Crew(**told["workers"]) if told["workers"] else None,
        told["versions"],
        told["machine"],
    )


def crew_text(crew: Crew) -> str:
    """What two workers are worth, in words."""
    shares = " and ".join(f"{share:.0%}" for share in crew.shares)
    return (
        f"Two workers on both cores, one of which generator and backend need, too, answered {crew.rate:.2f} times what a worker "
        f"with a core of its own did, and shared the work as {shares}. On that same core, where nobody else is, the two needed "
        f"{crew.cpu:.2f} times the CPU for each call. So with the generator elsewhere, and the busier one the limit, they answer "
        f"1 ÷ ({crew.cpu:.2f} × {max(crew.shares):.2f}) = {crew.elsewhere:.2f} times what one does."
    )


def _pictures(name: str, told: str, folder: str) -> str:
    return (
        f'<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="{folder}{name}-dark.svg">\n'
        f'  <img alt="{told}" src="{folder}{name}-light.svg">\n</picture>'
    )


def placed(page: str, excerpt: str) -> str:
    """The page with the excerpt between the two marks; unchanged where there are none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{excerpt}\n{end}{after}" if begin and end else page
