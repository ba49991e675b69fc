"""Strangers with long names, small windows, addresses that somebody else made up.

Rule: no page is wider than its window, whatever stands in it, and no address breaks what a page does by itself.
"""

import contextlib

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched
from tests.browser.gateways import Gateway
from vmcp.admin.pages.table import PAGES

pytestmark = pytest.mark.browser

LONG = '<img src=x onerror="window.evil=1">' * 3


def test_no_page_is_wider_than_a_small_window(watched: Watched, here: Gateway) -> None:
    watched.page.set_viewport_size({"width": 360, "height": 740})
    with contextlib.closing(here.client(LONG, "/office/mcp")):
        for page in (*PAGES, *(each for each in PAGES if each.path == "sessions")):
            if page.method == "GET" and "*" not in page.path:
                watched.open(page.path)
                width, room = watched.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                assert (page.path, width <= room) == (page.path, True)
        expect(watched.page.get_by_text(LONG[:60]).first).to_be_visible()
        assert not watched.page.evaluate("window.evil")


def test_an_address_that_is_no_filter_is_no_error(watched: Watched) -> None:
    watched.open("backends#q=%")
    expect(watched.page.get_by_test_id("backend").first).to_be_visible()
    field = watched.page.locator("[data-filter]")
    expect(field).to_be_visible()
    field.fill("weather")
    expect(watched.page.get_by_test_id("backend").filter(visible=True)).to_have_count(1)
