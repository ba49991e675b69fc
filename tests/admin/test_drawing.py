"""How values are written and lines are drawn. Rule: one table for each."""

import pytest

from vmcp.admin.pages import drawing
from vmcp.admin.pages.drawing import clock, curve, duration, link, milliseconds, number, pretty, size, twin


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0"), (3.0, "3"), (3.25, "3.2"), (99.96, "100.0"), (123.4, "123"), (1234567, "1,234,567")],
)
def test_a_number_has_as_many_digits_as_it_is_worth(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.5, "0.5 ms"), (17.4, "17 ms"), (2345.0, "2.3 s")])
def test_a_time_is_in_milliseconds_or_seconds(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (12, "12 B"), (1500, "1.5 kB"), (74e6, "74 MB"), (2.5e9, "2.5 GB")]
)
def test_a_size_is_in_its_unit(value: float | None, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (3, "3 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (864000, "10 d")]
)
def test_a_duration_is_in_words(value: float | None, text: str) -> None:
    assert duration(value) == text


def test_a_moment_is_utc() -> None:
    assert clock(0) == "1970-01-01 00:00:00 UTC"
    assert clock(None) == "–"


def test_data_is_indented_json() -> None:
    assert pretty({"a": [1, "ü"]}) == '{\n  "a": [\n    1,\n    "ü"\n  ]\n}'


def test_a_link_quotes_its_steps_and_leaves_out_what_is_empty() -> None:
    assert link("") == "/ui/"
    assert link("backends", "a/b?c") == "/ui/backends/a%2Fb%3Fc"
    assert twin("backends", "a/b") == "/admin/v1/backends/a%2Fb"
    assert link("tools", q="a b", empty="", none=None, zero=0) == "/ui/tools?q=a+b&zero=0"


def test_a_line_has_gaps_where_numbers_are_missing() -> None:
    drawn = curve([1, 2, None, 4], 30, 40)
    assert drawn.line == "M0.0 32.0L10.0 22.0M30.0 2.0"
    assert drawn.area == "M0.0 42L0.0 32.0L10.0 22.0L10.0 42ZM30.0 42L30.0 2.0L30.0 42Z"
    assert drawn.words == "now 4, at most 4"
    assert curve([None, None], 30, 40).words == "nothing yet"
    assert curve([0, 0], 30, 40).line == "M0.0 42.0L30.0 42.0"
    assert curve([5], 30, 40).line == "M0.0 2.0"


def test_assets_and_templates_come_from_the_package() -> None:
    assert {"style.css", "page.js", "vmcp.svg"} <= set(drawing.assets())
    address = drawing.asset("page.js")
    assert address.startswith("/ui/assets/")
    assert address.endswith("/page.js")
    assert "<h1>" in drawing.environment().from_string("<h1>{{ x }}").render(x="")


def test_what_is_printed_is_escaped_and_what_is_missing_is_an_error() -> None:
    made = drawing.environment()
    assert made.from_string("{{ x }}").render(x="<script>'\"&") == "&lt;script&gt;&#39;&#34;&amp;"
    with pytest.raises(Exception, match="'x' is undefined"):
        made.from_string("{{ x }}").render()
    with pytest.raises(Exception, match=r"nothing\.html"):
        made.get_template("nothing.html")


def test_no_template_says_that_something_is_safe() -> None:
    folder = drawing._HERE / "templates"
    texts = {each.name: each.read_text("utf-8") for each in folder.iterdir()}
    assert len(texts) > 10
    for name, text in texts.items():
        for wrong in ("|safe", "| safe", "autoescape", "style=", "onclick", "<script>", "Markup"):
            assert wrong not in text, (name, wrong)
