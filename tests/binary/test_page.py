"""The frozen vmcp shows its pages in a real browser, and goes on when a backend dies.

Rule: what a page needs (templates, style, script) is inside what is shipped; nothing is taken from this tree.
"""

import os
import signal
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.binary.conftest import NOTES, Client, Place, Served, below, until
from tests.browser.conftest import chromium  # noqa: F401 - a fixture

pytestmark = [pytest.mark.binary, pytest.mark.browser, pytest.mark.timeout(300)]

TEXT = f"""\
name: frozen
groups:
  desk: {{backends: {{notes: {{command: [{sys.executable}, {NOTES}], required: true}}}}}}
admin: {{listen: "127.0.0.1:0", ui: {{enabled: true, tryIt: true}}}}
"""


def notes_of(served: Served) -> list[int]:
    """The processes of the backend."""
    return [
        pid for pid in below(served.process.pid) if str(NOTES).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_its_pages_are_drawn_and_a_tool_can_be_tried(place: Place, chromium: Browser) -> None:  # noqa: F811
    with place.serving(TEXT) as served:
        served.ready()
        page = chromium.new_page()
        wrong: list[str] = []
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(place.run("ui", "--print").strip())
        assert page.inner_text("h1").startswith("frozen")
        for label in ("Backends", "Tools", "Traffic", "Statistics", "Config", "Discovery", "About"):
            page.click(f"nav >> text={label}")
            page.wait_for_url(f"**/ui/{label.lower()}*")
            assert page.inner_text("h1") == label
        page.click("nav >> text=Tools")
        page.click("text=notes_search")
        assert "query" in page.inner_text("main")
        assert wrong == []
        page.close()
        assert served.end() == 0


def test_a_backend_that_is_killed_costs_its_calls_and_comes_back(place: Place) -> None:
    with place.serving(TEXT) as served:
        client = Client(f"{served.ready()}/mcp", "2026-07-28")
        (before,) = notes_of(served)
        os.kill(before, signal.SIGKILL)
        served.said(r'"msg":"backend down","backend":"notes"')
        assert until(lambda: notes_of(served) not in ([], [before]))
        assert until(lambda: "notes_search" in str(client.ask("tools/list")))
        found = client.ask("tools/call", name="notes_search", arguments={"query": "endpoint"})
        assert found["content"][0]["text"] == "welcome"
        assert served.end() == 0
