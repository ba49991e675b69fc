"""report_page.py: ratios within rounds, targets told whether they are met or not, and a README changed between its marks only."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Program = Callable[[str], ModuleType]


@pytest.fixture
def page(program: Program) -> ModuleType:
    return program("report_page")


@pytest.fixture
def rounds(program: Program) -> Callable[..., list[Any]]:
    def made(*rates: float, cpu: float = 1e-4, p50: float = 1e-3, errors: int = 0) -> list[Any]:
        table = program("table")
        return [table.Round(int(rate), 1.0, cpu * rate, p50, p50, 1, 1, errors, "") for rate in rates]

    return made


@pytest.fixture
def results(page: ModuleType, rounds: Callable[..., list[Any]]) -> Mapping[Any, Mapping[str, list[Any]]]:
    main = {
        "vmcp": rounds(1000, 2000, 3000),
        "fastmcp": rounds(10, 20, 30),
        "mcp-hub": rounds(50, 100, 150),
        "litellm": rounds(1, 2, 3),
        "contextforge": rounds(4, 8, 12, errors=1),
    }
    alone = {"direct": rounds(9, p50=1e-4), "nginx": rounds(9, p50=2e-4), "vmcp": rounds(9, p50=4e-4)}
    return {page.MAIN: main, page.ALONE: alone}


def told(page: ModuleType, results: Mapping[Any, Any], start: str) -> Any:
    return next(figure for figure in page.figures(results, None) if figure.what.startswith(start))


def test_the_fastest_of_the_gateways_is_the_one_to_beat(page: ModuleType, results: Mapping[Any, Any]) -> None:
    fastest = told(page, results, "throughput against the fastest")
    assert fastest.reached == pytest.approx(20)
    assert not fastest.met
    assert told(page, results, "throughput against LiteLLM").met
    assert fastest.row().endswith("| ≥ 25 | 20 | no |")


def test_a_peer_with_errors_or_none_at_all_has_no_figure(page: ModuleType, results: Mapping[Any, Any]) -> None:
    for name in ("ContextForge", "1xn-vmcp"):
        figure = told(page, results, f"throughput against {name}")
        assert figure.reached is None
        assert not figure.met
        assert "not measured" in figure.row()
    assert "ContextForge" not in "\n".join(page.gateways_table(results, {}))


def test_added_latency_is_what_is_beyond_the_backend_itself(page: ModuleType, results: Mapping[Any, Any]) -> None:
    added = told(page, results, "latency added at 1 connection against nginx's, 2025-11-25")
    assert added.reached == pytest.approx(3)
    assert not added.met


def test_the_table_is_ordered_and_says_how_much_faster(page: ModuleType, results: Mapping[Any, Any]) -> None:
    lines = page.gateways_table(results, {"fastmcp": "4.1.2"})
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| **vmcp**",
        "| mcp-hub",
        "| FastMCP, the fastest way",
        "| LiteLLM",
    ]
    assert lines[4].split(" | ")[1:4] == ["4.1.2", "20", "100 µs"]
    assert lines[4].split(" | ")[5] == "100 ×"
    assert "0.40 ms" in lines[2]


def test_two_workers_are_worth_what_the_busier_one_leaves(page: ModuleType) -> None:
    assert page.Crew(1.1, 1.0, [0.5, 0.5]).elsewhere == pytest.approx(2)
    uneven = page.Crew(1.1, 1.25, [0.4, 0.6])
    assert uneven.elsewhere == pytest.approx(1 / 0.75)
    assert "= 1.33 times what one does" in page.crew_text(uneven)


def test_a_readme_changes_between_the_marks_and_nowhere_else(page: ModuleType) -> None:
    marked = f"# One\n{page.BEGIN}\nold\n{page.END}\nTwo\n"
    once = page.placed(marked, "new")
    assert once == f"# One\n{page.BEGIN}\nnew\n{page.END}\nTwo\n"
    assert page.placed(once, "new") == once
    assert page.placed("# no marks\n", "new") == "# no marks\n"


def test_what_was_saved_makes_the_same_pages_again(
    page: ModuleType, results: Mapping[Any, Any], program: Program, tmp_path: Path
) -> None:
    costs = [program("curves").Cost("tools", "vmcp", at, 100.0, 5.0) for at in (10.0, 100.0)]
    bridges = {program("table").Cell("2025-11-25", "200", 8): {"vmcp-stdio": results[page.MAIN]["vmcp"]}}
    done = page.Run(results, bridges, costs, page.Crew(1.1, 1.0, [0.5, 0.5]), {"fastmcp": "4.1.2"}, "here")
    done.save(tmp_path)
    again = page.saved(tmp_path)
    assert again == done
    assert (again.page(), again.excerpt()) == (done.page(), done.excerpt())
    assert {path.name for path in tmp_path.iterdir()} >= {"README.md", "throughput-dark.svg", "curves-light.svg"}
