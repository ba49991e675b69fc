"""Looking something up and trying it, in a real browser before a real gateway.

Rule: what is asserted of a call is what the page shows and what the backend did; nothing is asserted of how long it takes.
"""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched
from tests.browser.gateways import Gateway

pytestmark = pytest.mark.browser


def test_a_table_is_searched_by_words_and_by_cells(watched: Watched) -> None:
    watched.open("tools")
    rows = watched.page.locator("#things tbody tr:visible")
    field = watched.page.get_by_role("searchbox")
    expect(rows.nth(1)).to_be_visible()
    field.fill("backend:files search")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("files_search_files")
    field.fill("destructive")
    expect(rows).to_have_count(1)
    field.fill("nothing has this")
    expect(rows).to_have_count(0)
    watched.page.get_by_role("link", name="Tokens").click()
    expect(watched.page.locator("th[aria-sort]")).to_have_text("Tokens")


def test_a_tool_leads_to_its_form_and_the_form_to_an_answer(watched: Watched) -> None:
    watched.open("tools")
    watched.page.get_by_role("link", name="files_read_file").click()
    expect(watched.page.get_by_test_id("description")).to_have_text("Read a file of the workspace.")
    watched.page.get_by_test_id("try-link").click()
    watched.page.locator('[name="a.limit"]').fill("many")
    watched.page.get_by_test_id("send").click()
    expect(watched.page.locator(".field.wrong")).to_contain_text("must be integer")
    watched.page.locator('[name="a.path"]').fill("/etc")
    watched.page.locator('[name="a.limit"]').fill("12345678901234567890")
    address = watched.page.url
    watched.page.get_by_test_id("send").click()
    outcome = watched.page.get_by_test_id("outcome")
    expect(outcome).to_have_attribute("data-state", "ok")
    assert watched.page.url == address, "the page was not left"
    expect(watched.page.get_by_test_id("result")).to_contain_text("read_file: done")
    expect(watched.page.locator("#as-vmcp")).to_contain_text('{"path":"/etc","limit":12345678901234567890}')
    expect(watched.page.locator('[name="a.path"]')).to_have_value("/etc")
    expect(watched.page.locator(".field.wrong")).to_have_count(0)


def test_an_error_of_a_tool_is_marked_and_its_words_are_text(watched: Watched) -> None:
    watched.open("try?path=/office/mcp&name=hostile_broken")
    watched.page.get_by_label("JSON", exact=True).check()
    expect(watched.page.locator('[name="a.path"]')).to_be_hidden()
    watched.page.locator('[name="raw"]').fill('{"path": "x"}')
    watched.page.get_by_test_id("send").click()
    expect(watched.page.get_by_test_id("outcome")).to_have_attribute("data-state", "tool-error")
    expect(watched.page.get_by_test_id("outcome")).to_contain_text("isError")
    expect(watched.page.get_by_test_id("result")).to_contain_text(
        "<script>window.evil=2</script></td>{{7*7}}'\\u202etxt"
    )
    assert not watched.page.evaluate("window.evil")
    assert watched.page.evaluate("window.broken") == []


def test_what_destroys_is_called_only_by_who_means_it(watched: Watched) -> None:
    watched.open("try?path=/office/mcp&name=files_write_file")
    watched.page.locator('[name="a.path"]').fill("/x")
    watched.page.once("dialog", lambda dialog: dialog.dismiss())
    watched.page.get_by_test_id("send").click()
    expect(watched.page.get_by_test_id("outcome")).to_have_count(0)
    watched.page.once("dialog", lambda dialog: dialog.accept())
    watched.page.get_by_test_id("send").click()
    expect(watched.page.get_by_test_id("problem")).to_contain_text("say that you mean it")
    watched.page.once("dialog", lambda dialog: dialog.accept())
    watched.page.get_by_role("checkbox").check()
    watched.page.get_by_test_id("send").click()
    expect(watched.page.get_by_test_id("outcome")).to_have_attribute("data-state", "ok")


@pytest.mark.parametrize("watched", [{"java_script_enabled": False}], indirect=True)
def test_it_works_without_scripts_too(watched: Watched) -> None:
    watched.open("try?path=/office/mcp&name=files_read_file")
    watched.page.locator('[name="a.path"]').fill("/etc")
    watched.page.get_by_test_id("send").click()
    expect(watched.page.get_by_test_id("outcome")).to_have_attribute("data-state", "ok")
    expect(watched.page.locator('[name="a.path"]')).to_have_value("/etc")


def test_a_credential_goes_with_the_call_and_into_no_page(watched: Watched, here: Gateway) -> None:
    watched.page.on("response", watched.take)
    watched.open("try?path=/office/mcp&name=files_read_file")
    watched.page.get_by_text("Who calls").click()
    watched.page.locator('[name="authorization"]').fill("Bearer hush-typed-31d0")
    watched.page.locator('[name="a.path"]').fill("/etc")
    watched.page.get_by_test_id("send").click()
    expect(watched.page.get_by_test_id("outcome")).to_have_attribute("data-state", "ok")
    expect(watched.page.locator("#as-curl")).to_contain_text("Bearer $VMCP_TOKEN")
    assert "hush-typed-31d0" not in "".join(watched.texts.values())
    assert "hush-typed-31d0" not in (here.folder / "audit.log").read_text()


def test_values_servers_and_clients_are_found_by_words(watched: Watched) -> None:
    watched.open("config")
    watched.page.get_by_role("searchbox").fill("key:remote.headers from:vmcp.yaml")
    shown = watched.page.locator("#written tbody tr:visible")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("hidden")
    watched.open("discovery")
    watched.page.get_by_role("searchbox").fill("tickets jira")
    cards = watched.page.locator("#servers > :visible")
    expect(cards).to_have_count(1)
    cards.get_by_text("How to add it").click()
    expect(cards.locator("pre").first).to_contain_text("mcp.atlassian.com")
    watched.open("connect")
    watched.page.get_by_role("navigation", name="Endpoints").get_by_role("link", name="/home/mcp").click()
    expect(watched.page.get_by_test_id("url")).to_have_text(re.compile(r"http://127\.0\.0\.1:\d+/home/mcp"))
    expect(watched.page.get_by_role("link", name="Add to Cursor")).to_have_attribute("href", re.compile("^cursor://"))
