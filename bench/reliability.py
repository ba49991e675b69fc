"""What vmcp does when things go wrong, in figures: what was asked for beside what was reached.

The one rule: every scenario is a vmcp of its own; a scenario that cannot be run counts as not met.

    .venv/bin/python bench/reliability.py [--long] [SCENARIO …]
"""

import argparse
import asyncio
import os
import platform
import resource
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import scenarios
import unread
import upheavals
from house import Figure

Scenario = Callable[[], Coroutine[Any, Any, list[Figure]]]


def plan(*, long: bool) -> Mapping[str, Scenario]:
    """Every scenario, by name, in the size that fits the time."""
    return {
        "idle": lambda: scenarios.idle(5000 if long else 1000, 50 if long else 10),
        "hang": scenarios.hang,
        "kill": lambda: scenarios.kill(100 if long else 10),
        "dead": lambda: scenarios.dead(100 if long else 30),
        "flap": lambda: scenarios.flap(300 if long else 20),
        "cancel": lambda: upheavals.cancel(20_000 if long else 2_000),
        "leak": lambda: upheavals.leak(1000),
        "reload": lambda: upheavals.reload(50 if long else 10, 60 if long else 12),
        "drain": upheavals.drain,
        "killed": upheavals.killed,
        "unread": lambda: unread.unread(500, 30 if long else 15),
        "over": lambda: upheavals.over(30 if long else 5),
        "soak": lambda: upheavals.soak(300_000 if long else 40_000),
    }


def table(figures: list[Figure]) -> str:
    """Markdown."""
    lines = ["| | what | asked | reached | |", "|---|---|--:|--:|---|"]
    for each in figures:
        asked = "" if each.most is None else f"≤ {each.most:g} {each.unit}"
        verdict = "" if each.most is None else "met" if each.met else "**not met**"
        lines.append(f"| {each.scenario} | {each.what} | {asked} | {each.reached:.3g} {each.unit} | {verdict} |")
    return "\n".join(lines)


def run(name: str, scenario: Scenario) -> list[Figure]:
    """The figures of one scenario; of one that broke, that."""
    print(f"{name} …", file=sys.stderr)
    with asyncio.Runner() as runner:
        # Our backends vanish on purpose, and asyncio would tell the story of each connection.
        runner.get_loop().set_exception_handler(lambda *_: None)
        try:
            return runner.run(scenario())
        except (AssertionError, RuntimeError, OSError, ExceptionGroup, asyncio.IncompleteReadError) as error:
            print(f"    {name} broke: {error!r}", file=sys.stderr)
            return [Figure(name, f"could not be run: {type(error).__name__}", 1, 0)]


def main() -> int:
    """Run what was named, or all. 0 when every figure is met."""
    known = plan(long=False)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="the sizes of a release, an hour")
    parser.add_argument("scenario", nargs="*", default=list(known), help=f"of {', '.join(known)}")
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(known):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    chosen = plan(long=options.long)
    figures = [figure for name in options.scenario for figure in run(name, chosen[name])]
    print(table(figures))
    print(f"\n{os.cpu_count()} cores, {platform.platform(terse=True)}, CPython {platform.python_version()}")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
