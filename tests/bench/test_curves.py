"""curves.py: how steep a curve is told to be."""

from collections.abc import Callable
from types import ModuleType

import pytest

Program = Callable[[str], ModuleType]


@pytest.fixture
def curves(program: Program) -> ModuleType:
    return program("curves")


def test_what_each_kib_costs_is_told_beside_what_a_call_costs_without_any(curves: ModuleType) -> None:
    costs = [curves.Cost("payload", "vmcp", size, 100 + 1.5 * size / 1024, 1.0) for size in (200, 10_240, 1_048_576)]
    (told,) = curves.slopes(costs)
    assert told.endswith("; 1.50 µs for each KiB, and 100 µs without any")


def test_the_first_connection_says_nothing_about_the_slope_of_the_others(curves: ModuleType) -> None:
    costs = [curves.Cost("connections", "vmcp", at, cpu, 1.0) for at, cpu in ((1, 900.0), (10, 100.0), (100, 120.0))]
    (told,) = curves.slopes(costs)
    assert told == "connections, vmcp: 900 µs at 1, 120 µs at 100; times 1.20 for ten times as many, from 8 on"


def test_curves_of_two_lines_are_drawn_into_one_panel(curves: ModuleType, program: Program) -> None:
    costs = [curves.Cost(name, line, at, 50.0, 1.0) for name in curves.CURVES for line in "ab" for at in (1000, 2000)]
    page = curves.picture(costs, program("plot").THEMES["dark"])
    assert page.count("<polyline") == 2 * len(curves.CURVES)
    assert all(f">{name.capitalize()}<" in page for name in curves.CURVES)
