"""The whole benchmark, and what is published of it: ``python3 build.py bench [--quick]``.

The one rule: what is compared is measured in turns, on one stage. report_page.py makes pages of it.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import account
import curves
import peers
import prepare
import run
from calls import ERAS, HANDSHAKE
from report_page import CPU, MAIN, RATE, Crew, Results, Run, figures, figures_table, machine, placed, saved
from run import Bench, FaultySubjectError, pick_cores
from subjects import ROOT, NotReadyError, Site, Stage, Subject, find_program
from table import Cell, ratio

RESULTS = ROOT / "bench" / "results"
SCRATCH = ROOT / "build" / "bench"
README = ROOT / "README.md"
FEW = ("direct", "nginx", "vmcp", "vmcp-full", "fastmcp", "mcp-hub")
MANY = (*FEW, "1xn-vmcp", "litellm", "contextforge", "contextforge-stateful")
BRIDGES = ("vmcp-stdio", "mcp-proxy", "mcp-proxy-npm", "supergateway")
LARGE = ("direct", "nginx", "vmcp")
TWICE = ("vmcp", "vmcp-full")
"""Of these there are two processes, in turns: two of the same code differ by some percent."""


def _versions(names: Sequence[str]) -> dict[str, str]:
    told = {name: peers.PEERS[name].version for name in names if name in peers.PEERS}
    if "nginx" in names:
        said = subprocess.run([find_program("nginx") or "nginx", "-v"], capture_output=True, text=True, check=True)
        told["nginx"] = said.stderr.strip().rpartition("/")[2]
    return told


@contextlib.contextmanager
def _site() -> Iterator[tuple[Site, Stage]]:
    """A place for a run, with the programs in it; what was started on its stage ends with it."""
    with contextlib.ExitStack() as keep:
        site = Site(Path(keep.enter_context(tempfile.TemporaryDirectory(prefix="vmcp-bench-"))), *pick_cores())
        prepare.compile_programs(site.folder)
        yield site, Stage(site, keep)


def _started(site: Site, stage: Stage, names: Sequence[str]) -> list[Subject]:
    """These, without those peers that do not come up or answer wrongly: they are told and left out."""
    backend, found = stage.backend(), []
    for name in names:
        try:
            subject = stage.subject(name, backend, peers.RECIPES[name])
            bench = Bench(site, [subject])
            bench.open_sessions(8)
            bench.check(subject, HANDSHAKE, "200")
        except (NotReadyError, FaultySubjectError, RuntimeError, OSError) as error:
            if name not in peers.PEERS:
                raise
            sys.stderr.write(f"{name} is left out: {error}\n")
        else:
            found.append(subject)
    return found


def _calls(chosen: argparse.Namespace) -> Results:
    """Gateways in both eras, and large results of those that are near each other."""
    with _site() as (site, stage):
        again = [] if chosen.quick else [name for name in TWICE if name in chosen.subjects]
        gateways = _started(site, stage, [*chosen.subjects, *again])
        cells = [Cell(era, "200", count) for era, count in product(ERAS, chosen.connections)]
        results = dict(run.run(Bench(site, gateways), cells, chosen.rounds, chosen.seconds))
        large = [subject for subject in gateways if subject.name in LARGE]
        if large and not chosen.quick:
            cells = [Cell(era, "1m", count) for era, count in product(ERAS, chosen.connections)]
            results |= run.run(Bench(site, large), cells, chosen.rounds, chosen.seconds)
    return results


def _bridges(chosen: argparse.Namespace) -> Results:
    """What stands before a stdio server. Apart from the gateways, as one of these starts a child for each session."""
    with _site() as (site, stage):
        bench = Bench(site, _started(site, stage, BRIDGES))
        return run.run(bench, [Cell(HANDSHAKE, "200", 8)], chosen.rounds, chosen.seconds)


def _crew(chosen: argparse.Namespace) -> Crew:
    """One worker on its core; two on both, the second of which they share with the generator; and two on the core of one."""
    with _site() as (site, stage):
        one, two, narrow = _started(site, stage, ("vmcp", "vmcp-2", "vmcp-2-on-1"))
        before = {pid: account.cpu_seconds(pid) for pid in account.tree(two.pid)}
        taken = run.run(Bench(site, [one, two, narrow]), [MAIN], 2 * chosen.rounds, chosen.seconds)[MAIN]
        used = [account.cpu_seconds(pid) - before[pid] for pid in before if pid != two.pid]
    rate, cpu = ratio(taken["vmcp-2"], taken["vmcp"], RATE), ratio(taken["vmcp-2-on-1"], taken["vmcp"], CPU)
    if rate is None or cpu is None:
        raise FaultySubjectError("vmcp-2 has no numbers")
    workers = sorted(used)[-2:]
    return Crew(rate, cpu, [each / sum(workers) for each in workers])


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line; ``--quick`` changes the defaults and where it is written."""
    quick = "--quick" in argv
    parser = argparse.ArgumentParser(prog="build.py bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few of everything, in less than three minutes")
    parser.add_argument("--subjects", type=lambda text: text.split(","), default=list(FEW if quick else MANY))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.6 if quick else 1.5)
    parser.add_argument("--into", type=Path, default=SCRATCH if quick else RESULTS, metavar="FOLDER")
    parser.add_argument(
        "--again", action="store_true", help="measure nothing; make the pages of what was measured last"
    )
    chosen = parser.parse_args(argv)
    chosen.connections = (1, 64) if quick else (1, 8, 64)
    return chosen


def main(argv: Sequence[str]) -> int:
    """Measure, write, and say what was reached. 0 when everything could be measured; targets that were missed are only told."""
    chosen = arguments(argv)
    if chosen.again:
        return _publish(saved(chosen.into), chosen.into)
    wanted = [*chosen.subjects, *(() if chosen.quick else BRIDGES)]
    if command := prepare.missing(wanted):
        sys.stderr.write(f"programs are missing; on Debian: {command}\n")
        return run.MISSING
    peers.install(wanted)
    try:
        done = _measured(chosen, wanted)
    except (NotReadyError, FaultySubjectError) as error:
        sys.stderr.write(f"{error}\n")
        return run.FAILED
    return _publish(done, chosen.into)


def _publish(done: Run, folder: Path) -> int:
    done.save(folder)
    if folder == RESULTS:
        README.write_text(placed(README.read_text("utf-8"), done.excerpt()), "utf-8")
    print("\n".join(["", *figures_table(figures(done.results, done.crew)), "", f"written to {folder}"]))
    return run.SUCCESS


def _measured(chosen: argparse.Namespace, names: Sequence[str]) -> Run:
    results = _calls(chosen)
    bridges = {} if chosen.quick else _bridges(chosen)
    rounds, seconds = (2, 0.3) if chosen.quick else (4, 0.8)
    costs = curves.measured(list(curves.CURVES), chosen.quick, rounds, seconds)
    return Run(results, bridges, costs, _crew(chosen), _versions(names), machine())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
