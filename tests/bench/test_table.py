"""From rounds to verdicts. Rule: several processes of a subject count as one, and an error of one is an error of all."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def table(program: Callable[[str], ModuleType]) -> ModuleType:
    return program("table")


def of(table: ModuleType, cpu: float, requests: int = 1000, **more: Any) -> Any:
    told = {"seconds": 1.0, "p50": 0.001, "p99": 0.002, "pss": 10, "rss": 20, "errors": 0, "first_error": ""}
    return table.Round(**{**told, "cpu": cpu, "requests": requests, **more})


def test_copies_count_as_one_that_did_it_all(table: ModuleType) -> None:
    one = table.merged([of(table, 0.1, p50=0.001, pss=11), of(table, 0.3, 3000, p50=0.003, rss=25)])
    assert (one.requests, one.seconds, one.cpu_per_request, one.pss, one.rss) == (
        4000,
        2.0,
        pytest.approx(1e-4),
        11,
        25,
    )
    assert one.p50 == pytest.approx(0.002)
    bad = table.merged([of(table, 0.1), of(table, 0.1, errors=2, first_error="no answer")])
    assert (bad.errors, bad.first_error) == (2, "no answer")


@pytest.mark.parametrize(("cpu", "said"), [(0.125, "+25.0% CPU"), (0.126, "+26.0% CPU")])
@pytest.mark.parametrize("connections", [8, 64])
def test_the_chain_is_held_against_the_bare_path(table: ModuleType, cpu: float, said: str, connections: int) -> None:
    rounds = {"vmcp": [of(table, 0.1)] * 3, "vmcp-full": [of(table, 0.9), of(table, cpu), of(table, 0.1)]}
    line = table.verdicts({table.Cell("2025-11-25", "200", connections): rounds})[-1]
    assert said in line
    assert line.endswith("missed)" if cpu > 0.125 else "met)")
    assert table.verdicts({table.Cell("2025-11-25", "1m", connections): rounds}) == []
