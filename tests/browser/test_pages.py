"""The web pages in a real browser, before a real gateway: every page of the table, in both themes.

Rule: nothing is asserted of how long something takes; what is planted is looked for in all that the browser was sent.
"""

import os
import re
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Watched, axe, window
from tests.browser.gateways import SECRETS, Gateway, gateway, small
from vmcp.admin.pages.table import PAGES
from vmcp.admin.routes import BEFORE, WAYS

pytestmark = pytest.mark.browser

WEIGHT = 100_000
CHECK = """async (rules) => (await axe.run(document, {resultTypes: ["violations"], ...rules})).violations
  .filter((each) => ["serious", "critical"].includes(each.impact))
  .map((each) => `${each.id}: ${each.nodes.slice(0, 3).map((node) => node.html).join(" | ")}`)"""


def paths(watched: Watched) -> Iterator[str]:
    """Of every page that shows something; where there is one for each thing, that of a hostile thing and of another."""
    for page in PAGES:
        if page.method == "GET" and "*" not in page.path:
            yield page.path
            below = f"/ui/{page.path}/"
            if any(each.path == f"{page.path}/*" for each in PAGES):
                found = watched.page.locator(f'a[href^="{below}"]').evaluate_all("all => all.map(a => a.pathname)")
                assert found, page.path
                chosen = [each for each in found if "hostile" in each][:1] or found[:1]
                yield from (each.removeprefix("/ui/") for each in {*chosen, found[-1]})


def weight(watched: Watched, html: bytes) -> int:
    """Bytes of a page with all that it loads."""
    loaded = set(re.findall(rb'(?:src|href)="(/ui/assets/[^"]+)"', html))
    return len(html) + sum(len(watched.context.request.get(watched.admin + each.decode()).body()) for each in loaded)


class Empty(BaseHTTPRequestHandler):
    """A page of somebody else."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def neighbour() -> Iterator[str]:
    """Another server of this machine, with pages of its own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("watched", "rules"),
    [({"color_scheme": "light"}, {}), ({"color_scheme": "dark"}, {"runOnly": ["color-contrast"]})],
    indirect=["watched"],
)
def test_every_page_is_sound_and_betrays_nothing(watched: Watched, here: Gateway, rules: dict[str, list[str]]) -> None:
    checker, seen = axe(), []
    for path in paths(watched):
        answer = watched.open(path)
        assert (answer.status, path) == (200, path)
        assert weight(watched, answer.body()) < WEIGHT, path
        expect(watched.page.locator("h1")).to_have_count(1)
        expect(watched.page).to_have_title(re.compile(r".+ · test"))
        assert watched.page.evaluate("window.broken") == [], path
        assert not watched.page.evaluate("window.evil"), path
        watched.page.evaluate(checker)
        assert watched.page.evaluate(CHECK, rules) == [], path
        seen.append(path)
    assert len(seen) >= len([page for page in PAGES if page.method == "GET"])
    for way in WAYS:
        if way.method == "GET" and "*" not in way.path:
            address = f"{watched.admin}{BEFORE}{way.path}"
            watched.texts[address] = watched.context.request.get(address).text()
    assert "innocent" in "".join(watched.texts.values())
    assert betrayed(watched.texts, here) == []


@pytest.mark.parametrize("watched", [{"java_script_enabled": False}], indirect=True)
def test_every_page_can_be_read_without_scripts(watched: Watched) -> None:
    for page in PAGES:
        if page.method == "GET" and "*" not in page.path:
            watched.open(page.path)
            expect(watched.page.locator("h1")).to_be_visible()
            for each in watched.page.locator("[data-needs-script]").all():
                expect(each).to_be_hidden()
    watched.open("backends")
    expect(watched.page.get_by_test_id("backend")).to_have_count(6)


def betrayed(texts: dict[str, str], here: Gateway) -> list[tuple[str, str]]:
    """Which secret is in the answer to what."""
    token = (here.folder / "a.token").read_text().strip()
    wanted = {**SECRETS, "token": token, **{f"session {n}": each for n, each in enumerate(here.sessions)}}
    return [
        (what, where)
        for where, text in texts.items()
        for what, secret in wanted.items()
        if secret in text or secret in unquote(text)
    ]


def test_what_a_backend_says_is_text(watched: Watched) -> None:
    watched.open("backends/hostile")
    expect(watched.page.get_by_test_id("stderr")).to_contain_text('<img src=x onerror="window.evil=1">')
    watched.open("tools")
    expect(watched.page.locator("main")).to_contain_text("<script>window.evil=2</script></td>{{7*7}}'")
    assert "\u202e" not in watched.page.inner_text("body"), "what turns text around is taken out or shown as a sign"


def test_the_link_works_once_and_its_cookie_is_for_us_alone(chromium: Browser, here: Gateway) -> None:
    link = here.link()
    first, second = chromium.new_context(), chromium.new_context()
    page = first.new_page()
    page.goto(link)
    assert page.url == f"{here.admin}/ui/", "the code is not in the address any more"
    (cookie,) = first.cookies()
    port = here.admin.rpartition(":")[2]
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (
        f"vmcp-{port}",
        True,
        "Strict",
        "/",
    )
    assert page.evaluate("document.cookie") == ""
    other = second.new_page()
    answer = other.goto(link)
    assert answer is not None
    assert answer.status == 403
    expect(other.get_by_test_id("refused")).to_contain_text("used already")
    assert second.cookies() == []
    first.close()
    second.close()


def test_no_page_of_others_can_ask_and_no_name_can_be_bent_to_us(
    chromium: Browser, here: Gateway, neighbour: str
) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(here.link())
    bent = page.goto(here.admin.replace("127.0.0.1", "evil.example") + "/ui/")
    assert bent is not None
    assert bent.status == 421
    page.goto(f"{neighbour}/")
    tried = """([url, method]) => fetch(url, {method, mode: "no-cors", credentials: "include"})
      .then(() => "read", () => "kept")"""
    with page.expect_response(f"{here.admin}/admin/v1/status") as answered:
        page.evaluate(tried, [f"{here.admin}/admin/v1/status", "GET"])
    assert answered.value.status == 401, "the cookie does not help a neighbour of this machine"
    assert page.evaluate(tried, [f"{here.admin}/ui/", "GET"]) == "kept"
    with page.expect_response(f"{here.admin}/ui/drain") as answered:
        page.evaluate(tried, [f"{here.admin}/ui/drain", "POST"])
    assert answered.value.status == 403
    assert here.ask("GET", "status")["status"] == "degraded"
    with page.expect_navigation():
        page.evaluate("url => { location.href = url; }", f"{here.admin}/ui/")
    expect(page.get_by_test_id("refused")).to_have_attribute("data-status", "401")
    page.get_by_text("To the overview").click()
    expect(page.get_by_test_id("summary")).to_be_visible()
    context.close()


def test_each_place_of_a_backend_is_told_with_its_circuit(watched: Watched) -> None:
    watched.open("backends/remote")
    places = watched.page.get_by_test_id("places")
    expect(places.get_by_role("heading")).to_have_text([re.compile("Place 0"), re.compile("Place 1")])
    expect(places).to_contain_text("Circuit")
    expect(watched.page.get_by_test_id("reset")).to_be_visible()
    watched.open("backends/files")
    expect(places).to_contain_text(re.compile(r"Memory\s*\d+ MB"))
    expect(places).to_contain_text("files: ready")
    expect(watched.page.get_by_test_id("offers")).to_contain_text("files_read_file")
    watched.open("backends/broken")
    expect(places).to_contain_text("does not run")
    expect(places).to_contain_text("FATAL: no such database")


def test_a_list_is_searched_by_words_and_by_keys(watched: Watched) -> None:
    watched.open("backends")
    rows = watched.page.get_by_test_id("backend")
    shown = rows.filter(visible=True)
    watched.page.keyboard.press("/")
    field = watched.page.get_by_role("searchbox")
    expect(field).to_be_focused()
    field.fill("group:home")
    expect(shown).to_have_count(2)
    field.fill("health:down group:office")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("broken")
    watched.page.reload()
    expect(shown).to_have_count(1)
    field.fill("")
    expect(shown).to_have_count(6)
    expect(rows).to_have_count(6)


def test_the_theme_is_chosen_and_kept(watched: Watched) -> None:
    watched.open("")
    button = watched.page.locator("[data-theme-switch]")
    ground = "getComputedStyle(document.body).backgroundColor"
    colours = []
    for theme in ("light", "dark"):
        button.click()
        expect(button).to_have_text(f"Theme: {theme}")
        expect(watched.page.locator("html")).to_have_attribute("data-theme", theme)
        watched.open("about")
        expect(watched.page.locator("html")).to_have_attribute("data-theme", theme)
        colours.append(watched.page.evaluate(ground))
    assert colours[0] != colours[1]
    button.click()
    expect(button).to_have_text("Theme: system")


def test_the_keyboard_comes_to_the_content_first(watched: Watched) -> None:
    watched.open("")
    watched.page.keyboard.press("Tab")
    expect(watched.page.locator(".skip")).to_be_focused()
    watched.page.keyboard.press("Enter")
    expect(watched.page.locator("main")).to_be_focused()


def test_a_tool_is_tried_and_its_error_is_an_error(watched: Watched) -> None:
    watched.open("try?path=/office/mcp&kind=tools&name=files_read_file")
    watched.page.locator('#as-form input[name$="path"]').fill("/nowhere")
    watched.page.get_by_test_id("send").click()
    outcome = watched.page.get_by_test_id("outcome")
    expect(outcome).to_have_attribute("data-state", "tool-error")
    expect(watched.page.get_by_test_id("result")).to_contain_text("no such path")
    watched.open("try?path=/office/mcp&kind=tools&name=hostile_broken")
    watched.page.locator('#as-form input[name$="path"]').fill("/")
    watched.page.get_by_test_id("send").click()
    expect(watched.page.get_by_test_id("result")).to_contain_text("<script>window.evil=2</script>")
    assert not watched.page.evaluate("window.evil")


def test_an_operator_reloads_by_a_button_and_is_told_how_it_ended(watched: Watched) -> None:
    watched.open("about")
    watched.page.get_by_test_id("operate").get_by_test_id("reload").click()
    expect(watched.page.get_by_test_id("notice")).to_have_text("Reload: unchanged")
    watched.page.reload()
    expect(watched.page.get_by_test_id("notice")).to_have_count(0)


def test_a_backend_that_dies_is_seen_without_touching_the_page(chromium: Browser, tmp_path: Path) -> None:
    with gateway(tmp_path, small(tmp_path)) as here:
        here.process.until(r'"msg":"backend up"[^\n]*"backend":"files"')
        context = chromium.new_context()
        watched = window(context, here)
        node = watched.page.locator('a[href="/ui/backends/files"] [data-testid="node"]')
        expect(node).to_have_attribute("data-status", "good")
        (process,) = here.ask("GET", "backends/files")["processes"]
        os.kill(process["pid"], signal.SIGKILL)
        expect(node).to_have_attribute("data-status", "bad", timeout=15_000)
        expect(watched.page.get_by_test_id("attention")).to_contain_text("files is down")
        expect(watched.page.get_by_test_id("summary")).to_contain_text("of 6 backends healthy")
        lost = watched.page.locator("#lost")
        expect(lost).to_be_hidden()
        here.process.signal(signal.SIGKILL)
        expect(lost).to_be_visible(timeout=15_000)
        assert watched.wrong == [] or all("ERR_CONNECTION" in each for each in watched.wrong)
        context.close()
