"""What the browser tests share: one Chromium, one gateway, and somebody who watches what comes out of both.

Rule: no test leaves the gateway other than it found it, but the one that says so in a gateway of its own.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, sync_playwright

from tests.browser.gateways import Gateway, gateway, small

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --host-resolver-rules=MAP\\ evil.example\\ 127.0.0.1"
)
WATCH = """window.broken = []; addEventListener("securitypolicyviolation", (event) => window.broken.push(
  `${event.violatedDirective} ${event.blockedURI}`));"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    arguments = [each.replace("\\ ", " ") for each in ARGUMENTS.replace("\\ ", "\0").split(" ")]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[each.replace("\0", " ") for each in arguments]
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    with gateway(folder, small(folder)) as made:
        made.process.until(r'"msg":"backend up"[^\n]*"backend":"weather"')
        with contextlib.closing(made.client("desk", "/office/mcp")) as client:
            for tool in ("files_read_file", "hostile_broken", "reports_monthly"):
                client.call(tool)
        yield made


@dataclass
class Watched:
    """A browser's window, and what went wrong in it. ``texts`` is all that it was sent, by address."""

    context: BrowserContext
    page: Page
    admin: str
    wrong: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def take(self, response: Response) -> None:
        if response.status in (200, 400, 403, 404) and "image" not in response.headers.get("content-type", ""):
            self.texts[response.url] = response.text()

    def open(self, path: str) -> Response:
        found = self.page.goto(f"{self.admin}/ui/{path}")
        assert found is not None
        self.take(found)
        return found


@pytest.fixture
def watched(chromium: Browser, here: Gateway, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """Logged in; a test says by ``@pytest.mark.parametrize("watched", [{…}], indirect=True)`` how its window is."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, **getattr(request, "param", {}))
    made = window(context, here)
    yield made
    made.context.close()
    assert made.wrong == []


def window(context: BrowserContext, here: Gateway) -> Watched:
    """Logged in, and watched from the first page on."""
    context.add_init_script(WATCH)
    made = Watched(context, context.new_page(), here.admin)

    def said(message: Any) -> None:
        if message.type in ("error", "warning"):
            made.wrong.append(f"{made.page.url}: {message.type}: {message.text}")

    made.page.on("console", said)
    made.page.on("pageerror", lambda error: made.wrong.append(f"{made.page.url}: {error}"))
    made.page.goto(here.link())
    return made


def axe() -> str:
    """The checker of accessibility, as a script."""
    file = Path(__file__).parent.parent / "real" / "node_modules" / "axe-core" / "axe.min.js"
    return file.read_text("utf-8")
