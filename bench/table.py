"""From rounds to rows: medians, ratios, and the table that is printed.

The one rule: a ratio is the median of the ratios within each round, where both sides met the same machine; and a row
with an error has no numbers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

TARGET_CONNECTIONS = 64
MOST_FOR_THE_CHAIN = 0.25
REFERENCES = ("nginx", "direct")
COLUMNS = (
    "era size conns subject req/s p50_ms p99_ms CPU_µs busy PSS_MiB RSS_MiB errors "
    "req/s÷nginx CPU÷nginx req/s÷direct CPU÷direct"
)
WIDTHS = (10, 4, 5, 15, 8, 8, 8, 8, 5, 7, 7, 6, 11, 9, 12, 10)
LEFT = 4  # so many columns are words


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination that every subject goes through."""

    era: str
    size: str
    connections: int


@dataclass(frozen=True, slots=True)
class Round:
    """One subject in one round: seconds throughout, bytes for memory."""

    requests: int
    seconds: float
    cpu: float
    p50: float
    p99: float
    pss: int
    rss: int
    errors: int
    first_error: str

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_request(self) -> float:
        """Seconds of the subject's CPU for each request."""
        return self.cpu / self.requests if self.requests else 0.0


Rounds = Mapping[str, Sequence[Round]]


def merged(copies: Sequence[Round]) -> Round:
    """What several processes of one subject did in a turn, as if it had been one: sums, mean latencies, the largest memory."""
    return Round(
        requests=sum(one.requests for one in copies),
        seconds=sum(one.seconds for one in copies),
        cpu=sum(one.cpu for one in copies),
        p50=fmean(one.p50 for one in copies),
        p99=fmean(one.p99 for one in copies),
        pss=max(one.pss for one in copies),
        rss=max(one.rss for one in copies),
        errors=errors(copies),
        first_error=next((one.first_error for one in copies if one.errors), ""),
    )


def errors(rounds: Sequence[Round]) -> int:
    """All errors of a subject in one cell."""
    return sum(one.errors for one in rounds)


def ratio(above: Sequence[Round], below: Sequence[Round], value: Callable[[Round], float]) -> float | None:
    """The median over the rounds of how one subject stands to another; None when either has no numbers."""
    pairs = [(value(a), value(b)) for a, b in zip(above, below, strict=False)]
    if not pairs or errors(above) or errors(below) or not all(b for _, b in pairs):
        return None
    return median(a / b for a, b in pairs)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _ratios(name: str, rounds: Rounds) -> list[str]:
    words = []
    for reference in REFERENCES:
        other = rounds.get(reference, ())
        words.append(_number(ratio(rounds[name], other, lambda one: one.rate), 4))
        words.append(_number(ratio(rounds[name], other, lambda one: one.cpu_per_request), 2))
    return words


def _numbers(rounds: Sequence[Round]) -> list[str]:
    def middle(value: Callable[[Round], float]) -> float:
        return median(value(one) for one in rounds)

    return [
        _number(middle(lambda one: one.rate), 0),
        _number(middle(lambda one: one.p50 * 1e3), 2),
        _number(middle(lambda one: one.p99 * 1e3), 2),
        _number(middle(lambda one: one.cpu_per_request * 1e6), 1),
        f"{middle(lambda one: one.cpu / one.seconds if one.seconds else 0):.0%}",
        _number(max(one.pss for one in rounds) / 2**20, 1),
        _number(max(one.rss for one in rounds) / 2**20, 1),
    ]


def _line(words: Sequence[str]) -> str:
    cells = [w.ljust(n) if i < LEFT else w.rjust(n) for i, (w, n) in enumerate(zip(words, WIDTHS, strict=True))]
    return "| " + " | ".join(cells) + " |"


def head() -> str:
    """The two first lines of the table."""
    names = [name.replace("_", " ") for name in COLUMNS.split()]
    rule = ["-" * n if i < LEFT else "-" * (n - 1) + ":" for i, n in enumerate(WIDTHS)]
    return _line(names) + "\n" + _line(rule)


def rows(cell: Cell, rounds: Rounds) -> list[str]:
    """One line for each subject; one with errors shows their count and nothing else."""
    lines = []
    for name, own in rounds.items():
        bad = errors(own)
        key = [cell.era, cell.size, str(cell.connections), name]
        words = ["-"] * 7 + [str(bad)] + ["-"] * 4 if bad else [*_numbers(own), "0", *_ratios(name, rounds)]
        lines.append(_line(key + words))
    return lines


def verdicts(results: Mapping[Cell, Rounds]) -> list[str]:
    """How vmcp stands to the project's targets: CPU of a call at 64 connections, against nginx, FastMCP and its own chain."""
    lines = []
    for cell, rounds in results.items():
        vmcp = rounds.get("vmcp", ())
        if cell.size != "200" or not vmcp:
            continue
        if cell.connections == TARGET_CONNECTIONS and len(rounds) > 1:
            nginx = ratio(vmcp, rounds.get("nginx", ()), lambda one: one.cpu_per_request)
            fastmcp = ratio(rounds.get("fastmcp", ()), vmcp, lambda one: one.cpu_per_request)
            lines.append(
                f"{cell.era}: vmcp needs {_number(nginx, 2)} times nginx's CPU (target: 6 or less), "
                f"FastMCP {_number(fastmcp, 1)} times vmcp's (target: 25 or more)"
            )
        full = ratio(rounds.get("vmcp-full", ()), vmcp, lambda one: one.cpu_per_request)
        if full is not None:
            lines.append(
                f"{cell.era}, {cell.connections} connections: the full chain needs {full - 1:+.1%} CPU beside the bare path "
                f"(target: +{MOST_FOR_THE_CHAIN:.0%} at most: {'met' if full - 1 <= MOST_FOR_THE_CHAIN else 'missed'})"
            )
    return lines


def save(path: Path, about: Mapping[str, object], results: Mapping[Cell, Rounds]) -> None:
    """Writes every round, so that other statistics than ours can be made of them."""
    cells = [
        asdict(cell) | {"subject": name, "rounds": [asdict(one) for one in own]}
        for cell, rounds in results.items()
        for name, own in rounds.items()
    ]
    path.write_text(json.dumps({"about": about, "results": cells}, indent=1) + "\n")
