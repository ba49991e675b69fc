"""plot.py: pictures that a browser reads, in which a longer bar is a larger number."""

import re
from collections.abc import Callable
from types import ModuleType
from xml.etree import ElementTree

import pytest

Program = Callable[[str], ModuleType]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def plot(program: Program) -> ModuleType:
    return program("plot")


def drawn(plot: ModuleType, theme: str, *values: float) -> ElementTree.Element:
    rows = [plot.Bar(f"a <{value}> & b", "1.0", value, f"{value:g}/s") for value in values]
    return ElementTree.fromstring(plot.bars("Title", "Below", rows, plot.THEMES[theme]))  # noqa: S314 - our own


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_bar_has_its_name_and_ten_times_as_much_is_always_as_much_longer(plot: ModuleType, theme: str) -> None:
    page = drawn(plot, theme, 10_000, 1000, 100)
    lengths = [float(bar.get("width", "")) for bar in page.iter(f"{SVG}rect") if bar.get("height") == "20"]
    assert lengths[0] - lengths[1] == pytest.approx(lengths[1] - lengths[2], abs=0.2)
    assert lengths[2] > 5
    assert "a <100> & b" in [text.text for text in page.iter(f"{SVG}text")]


def test_light_and_dark_differ_in_colours_alone(plot: ModuleType) -> None:
    colour = re.compile(r"#[0-9a-f]{6}")
    both = [ElementTree.tostring(drawn(plot, theme, 5, 50)).decode() for theme in ("light", "dark")]
    assert both[0] != both[1]
    assert colour.sub("", both[0]) == colour.sub("", both[1])


def test_a_flat_line_is_drawn_flat_and_stays_in_its_panel(plot: ModuleType) -> None:
    flat = plot.Line("flat", [(1, 100.0), (10, 100.0), (1000, 100.0)])
    steep = plot.Line("steep", [(1, 20.0), (1000, 2000.0)])
    panel = plot.Panel("Panel", "across", [flat, steep], (1, 10, 1000), plot.short)
    page = ElementTree.fromstring(plot.panels("Title", "Below", [panel, panel, panel], plot.THEMES["light"]))  # noqa: S314
    first, second = (
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        for line in list(page.iter(f"{SVG}polyline"))[:2]
    )
    assert len({y for _, y in first}) == 1
    assert second[0][1] > first[0][1] > second[1][1]
    assert all(0 < x < 400 for x, _ in (*first, *second))
    assert float(page.get("height", "")) > 2 * 250


@pytest.mark.parametrize(("value", "words"), [(8, "8"), (1000, "1k"), (10_000, "10k"), (2_000_000, "2m"), (0.5, "0.5")])
def test_axes_speak_briefly(plot: ModuleType, value: float, words: str) -> None:
    assert plot.short(value) == words
