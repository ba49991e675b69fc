"""Pictures of the pages for the documentation: ``VMCP_SCREENSHOTS=1 pytest tests/browser/test_pictures.py``.

Rule: they are taken of a gateway at work, after a minute, when its lines have filled; without the variable nothing happens.
"""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import window
from tests.browser.gateways import gateway, stdio, traffic

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not os.environ.get("VMCP_SCREENSHOTS"), reason="pictures are taken with VMCP_SCREENSHOTS=1"),
]
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PAGES = {
    "overview": "",
    "backend": "backends/github",
    "tools": "tools",
    "try": "try?path=/office/mcp&kind=tools&name=github_create_issue",
    "traffic": "traffic",
    "statistics": "statistics",
}
DARK = ("overview", "traffic")
"""Those that are taken in both themes."""
MERGE = {"name": "merge", "description": "Merge a pull request that was approved."}
RULES = {
    "tools": [{"workload": "github", "exclude": ["search_code"], "overrides": {"merge_pull_request": MERGE}}],
}
FATAL = "import sys; sys.exit('FATAL: password authentication failed for user \"vmcp\"')"


def company() -> dict[str, Any]:
    office = {name: stdio(name) for name in ("files", "github", "reports")}
    warehouse = {"command": [sys.executable, "-c", FATAL]}
    return {
        "office": {"backends": {**office, "warehouse": warehouse}},
        "home": {"backends": {"weather": stdio("weather")}},
    }


def test_the_pages_are_worth_a_picture(chromium: Browser, tmp_path: Path) -> None:
    PICTURES.mkdir(exist_ok=True)
    work = ("github_list_issues", "files_read_file", "files_search_files", "files_list_directory")
    who = (
        ("claude-code", "/office/mcp", work, 0.11),
        ("claude-code", "/office/mcp", work[1:], 0.17),
        ("cursor", "/office/mcp", ("reports_monthly", "github_create_issue"), 0.2),
        ("goose", "/home/mcp", ("weather_forecast", "weather_current"), 0.31),
    )
    with gateway(tmp_path, company(), "acme", RULES) as here, traffic(here, *who):
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
        watched = window(context, here)
        watched.page.wait_for_timeout(62_000)
        for name, path in PAGES.items():
            for theme in ("light", "dark") if name in DARK else ("light",):
                watched.page.emulate_media(color_scheme=theme)
                watched.open(path)
                if name == "try":
                    watched.page.locator('#as-form input[name$="path"]').fill("/acme/website")
                    watched.page.get_by_test_id("send").click()
                    expect(watched.page.get_by_test_id("outcome")).to_be_visible()
                watched.page.screenshot(path=PICTURES / f"{name}-{theme}.png")
        context.close()
