"""Pages that are given out again: only to who sees the same, of the same table, and within a bound."""

import pytest

from vmcp.aggregator.pages import Excerpt, Pages, chosen
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route

ROUTES = tuple(Route(Kind.TOOL, f"t{n}", "b", f"t{n}", b"m", b"h") for n in range(5))
WHOLE = Excerpt(ROUTES, None, 0, 10, modern=True)


def test_what_was_kept_is_found_again_and_it_is_the_same_object() -> None:
    pages, text = Pages(), b"text"
    assert pages.find(1, WHOLE, b"f") is None
    pages.keep(1, WHOLE, b"f", text)
    assert pages.find(1, WHOLE, b"f") is text


@pytest.mark.parametrize(
    "other",
    [
        WHOLE._replace(routes=tuple(ROUTES[:4])),
        WHOLE._replace(mask=b"\1\1\1\1\1"),
        WHOLE._replace(start=1),
        WHOLE._replace(size=3),
        WHOLE._replace(modern=False),
    ],
)
def test_whoever_sees_anything_else_does_not_get_it(other: Excerpt) -> None:
    pages = Pages()
    pages.find(1, WHOLE, b"f")
    pages.keep(1, WHOLE, b"f", b"text")
    assert pages.find(1, other, b"f") is None
    assert pages.find(1, WHOLE, b"another frame") is None
    assert pages.find(1, WHOLE, b"f") == b"text"


def test_another_table_forgets_it_all() -> None:
    pages = Pages()
    pages.find(1, WHOLE, b"")
    pages.keep(1, WHOLE, b"", b"text")
    assert pages.find(2, WHOLE, b"") is None
    pages.keep(1, WHOLE, b"", b"late")
    assert pages.held == 0
    assert pages.find(1, WHOLE, b"") is None


def test_there_is_a_bound_and_what_was_used_longest_ago_goes_first() -> None:
    pages = Pages(most=10)
    pages.find(1, WHOLE, b"")
    for name in (b"a", b"b"):
        pages.keep(1, WHOLE, name, name * 5)
    pages.find(1, WHOLE, b"a")
    pages.keep(1, WHOLE, b"c", b"ccc")
    assert pages.held == 8
    assert [pages.find(1, WHOLE, name) is not None for name in (b"a", b"b", b"c")] == [True, False, True]
    pages.keep(1, WHOLE, b"d", b"dddddd")
    assert pages.find(1, WHOLE, b"d") is None, "more than half of the room"


def test_a_mask_chooses_and_one_more_than_a_page_says_that_there_is_another() -> None:
    assert [route.name for route in chosen(WHOLE._replace(start=1, size=2))] == ["t1", "t2", "t3"]
    masked = Excerpt(ROUTES, b"\1\0\1\0\1", 1, 5, modern=True)
    assert [route.name for route in chosen(masked)] == ["t2", "t4"]
