"""The benchmark: one tools/call through the backend alone, nginx, vmcp and FastMCP's proxy, interleaved in one run.

The one rule: a subject that gives one wrong answer gives no numbers. How to read the table stands in README.md.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import account
import peers
import prepare
import table
from calls import ERAS, HANDSHAKE, SIZES, Load, open_session, plan
from peers import RECIPES
from subjects import NotReadyError, Site, Stage, Subject
from table import Cell, Round

STANDARD = ("direct", "nginx", "vmcp", "fastmcp")
CHECKED_REQUESTS = 32
AFTERMATH = 0.06  # seconds in which a subject does what it had put off: vmcp writes its audit log every 50 ms
MOST_CONNECTIONS = 4096  # as in load.c
SUCCESS, FAILED, USAGE, MISSING = 0, 1, 2, 69


class FaultySubjectError(Exception):
    """A subject did not pass the checked calls, or ended while it was measured."""


class Bench:
    """The running subjects, their sessions, and the next request id; only the driver's one thread uses it."""

    def __init__(self, site: Site, subjects: Sequence[Subject]) -> None:
        self._site = site
        self.subjects = subjects
        self._sessions: dict[int, list[str]] = {}
        self._next_id = 1_000_000_000  # ten digits, and never twice in a session

    def open_sessions(self, count: int) -> None:
        """One session per connection for each subject that keeps sessions."""
        for subject in self.subjects:
            ids = [] if subject.door.stream else [open_session(subject.port, subject.door) for _ in range(count)]
            self._sessions[subject.port] = [session for session in ids if session]

    def check(self, subject: Subject, era: str, size: str) -> None:
        """A few calls with every answer compared byte by byte."""
        one = self.measure(subject, Cell(era, size, 8), Load(8, 60, CHECKED_REQUESTS, check=True))
        if one.errors or one.requests != CHECKED_REQUESTS:
            raise FaultySubjectError(f"{subject.name}, {era}, {size}: {one.errors} errors; first: {one.first_error}")

    def measure(self, subject: Subject, cell: Cell, load: Load) -> Round:
        """One round of one subject."""
        sessions = self._sessions.get(subject.port, []) if cell.era == HANDSHAKE else []
        keys = sessions[: load.connections]
        text = plan(subject.port, cell.era, SIZES[cell.size], load, keys, self._next_id, subject.door)
        try:
            told, cpu = self._generate(text, subject.pid)
            memory = account.memory(subject.pid)
        except (subprocess.CalledProcessError, FileNotFoundError, ProcessLookupError) as cause:
            raise FaultySubjectError(f"{subject.name} cannot be reached any more: {cause}") from cause
        self._next_id += told["requests"] + load.connections
        return Round(
            requests=told["requests"],
            seconds=told["seconds"],
            cpu=cpu,
            p50=told["p50"] / 1e6,
            p99=told["p99"] / 1e6,
            pss=memory.pss,
            rss=memory.rss,
            errors=told["errors"],
            first_error=told["first_error"],
        )

    def _generate(self, text: str, pid: int) -> tuple[dict[str, Any], float]:
        """What the generator tells, and the CPU seconds of the process from when it was connected."""
        command = ["taskset", "-c", self._site.other_cores, str(self._site.folder / "load")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdin
            assert load.stdout
            load.stdin.write(text + "pause 1\n")
            load.stdin.close()
            os.waitid(os.P_PID, load.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # it stops itself when it is connected
            before = account.cpu_seconds(pid)
            load.send_signal(signal.SIGCONT)
            said = load.stdout.read()
        if load.returncode:
            raise subprocess.CalledProcessError(load.returncode, command)
        told: dict[str, Any] = json.loads(said)
        time.sleep(AFTERMATH)
        return told, account.cpu_seconds(pid) - before


def run(bench: Bench, cells: Sequence[Cell], rounds: int, seconds: float) -> dict[Cell, table.Rounds]:
    """Checks every subject, then measures cell after cell; within a cell the subjects take turns, and so do their copies."""
    bench.open_sessions(max(cell.connections for cell in cells))
    for subject, (era, size) in product(bench.subjects, dict.fromkeys((cell.era, cell.size) for cell in cells)):
        if era in subject.eras:
            bench.check(subject, era, size)
    print(table.head(), flush=True)
    results: dict[Cell, table.Rounds] = {}
    for cell in cells:
        present = [subject for subject in bench.subjects if cell.era in subject.eras]
        taken: dict[str, list[Round]] = {subject.name: [] for subject in present}
        for number in range(rounds):
            turn: dict[str, list[Round]] = {name: [] for name in taken}
            for subject in present[:: -1 if number % 2 else 1]:  # to be the first or the last is nobody's part
                turn[subject.name].append(bench.measure(subject, cell, Load(cell.connections, seconds)))
            for name, copies in turn.items():
                taken[name].append(table.merged(copies))
        results[cell] = taken
        print("\n".join(table.rows(cell, taken)), flush=True)
    return results


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; `--quick` only changes the defaults."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description="Measures vmcp beside nginx and FastMCP.")
    quick = "--quick" in argv
    parser.add_argument("--quick", action="store_true", help="200 B only, 8 and 64 connections, 3 rounds of 1 s")
    parser.add_argument("--subjects", type=_words, default=list(STANDARD), help=f"of {','.join(RECIPES)}")
    parser.add_argument("--connections", type=_words, default=_words("8,64" if quick else "1,8,64"))
    parser.add_argument("--eras", type=_words, default=list(ERAS), help=f"of {','.join(ERAS)}")
    parser.add_argument(
        "--sizes",
        type=_words,
        default=_words("200" if quick else "200,10k,1m"),
        help="; ".join(f"{name}: tool {size.tool}" for name, size in SIZES.items()),
    )
    parser.add_argument("--rounds", type=int, default=3 if quick else 5)
    parser.add_argument(
        "--copies", type=int, default=1, help="processes of each subject, which take turns and count as one"
    )
    parser.add_argument("--seconds", type=float, default=1.0 if quick else 2.0, help="length of one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round there")
    chosen = parser.parse_args(argv)
    for name, known in (("subjects", RECIPES), ("eras", ERAS), ("sizes", SIZES)):
        if strange := [word for word in getattr(chosen, name) if word not in known]:
            parser.error(f"--{name}: {', '.join(strange)} is none of {', '.join(known)}")
    if not all(word.isdigit() and 0 < int(word) <= MOST_CONNECTIONS for word in chosen.connections):
        parser.error(f"--connections: numbers from 1 to {MOST_CONNECTIONS}")
    return chosen


def pick_cores() -> tuple[str, str]:
    """The subject's core, and the rest for generator and backend."""
    cores = [str(core) for core in sorted(os.sched_getaffinity(0))]
    if len(cores) == 1:
        sys.stderr.write("warning: one core only; the generator takes time from the subjects\n")
        return cores[0], cores[0]
    return cores[-1], ",".join(cores[:-1])


def about(chosen: argparse.Namespace) -> Mapping[str, object]:
    """What a reader of the JSON file has to know about the run."""
    options = {name: value for name, value in vars(chosen).items() if name != "json"}
    return {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count(), **options}


def main(argv: Sequence[str]) -> int:
    """Prepares, runs, prints; gives the exit code."""
    chosen = arguments(argv)
    if command := prepare.missing(chosen.subjects):
        sys.stderr.write(f"programs are missing; on Debian: {command}\n")
        return MISSING
    peers.install(chosen.subjects)
    cells = [Cell(e, s, int(c)) for e, s, c in product(chosen.eras, chosen.sizes, chosen.connections)]
    with ExitStack() as keep:
        site = Site(Path(keep.enter_context(tempfile.TemporaryDirectory(prefix="vmcp-bench-"))), *pick_cores())
        prepare.compile_programs(site.folder)
        stage = Stage(site, keep)
        try:
            backend = stage.backend()
            started = product(range(chosen.copies), chosen.subjects)
            bench = Bench(site, [stage.subject(name, backend, RECIPES[name]) for _, name in started])
            results = run(bench, cells, chosen.rounds, chosen.seconds)
        except (NotReadyError, FaultySubjectError) as error:
            sys.stderr.write(f"{error}\n")
            return FAILED
    print("\n".join(["", *table.verdicts(results)]))
    if chosen.json:
        table.save(chosen.json, about(chosen), results)
    faulty = [(name, own) for rounds in results.values() for name, own in rounds.items() if table.errors(own)]
    for name, own in faulty:
        sys.stderr.write(f"{name}: {next(one.first_error for one in own if one.errors)}\n")
    return FAILED if faulty else SUCCESS


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
