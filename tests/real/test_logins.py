"""Per-user logins, whole: a real authorization server, a server that it protects, ``vmcp serve``, a shell and scripted browsers.

The rule: a call reaches the backend with the subject of the person who logged in for this very caller, or not at all.
"""

import contextlib
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.real.issuer import Issuer, issuer
from tests.real.processes import ROOT, gateway
from tests.real.protected import Protected, protected

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

Json = dict[str, Any]
MODERN, LATEST, OLD = "2026-07-28", "2025-11-25", "2025-06-18"
KEYS = {name: hashlib.sha256(name.encode()).hexdigest()[:40] for name in ("ada", "bob", "eve")}
PAGES = {"elicitation": {"url": {}}}


def walk(browser: httpx.Client, page: httpx.Response, name: str) -> httpx.Response:
    """Follow the pages of the authorization server like a person who agrees to everything, and back to where they end."""
    for _ in range(14):
        if page.is_redirect:
            page = browser.get(urljoin(str(page.url), page.headers["location"]))
            continue
        prompt = re.search(r'name="prompt" value="(\w+)"', page.text)
        action = re.search(r'action="([^"]+)"', page.text)
        if prompt is None or action is None:
            return page
        form = {"prompt": prompt[1], "login": name, "password": "any"}
        page = browser.post(urljoin(str(page.url), action[1]), data=form)
    raise AssertionError(f"no end at {page.url}")


def agree(link: str, name: str) -> httpx.Response:
    """Open vmcp's link in a browser of one's own, press the button, log in as ``name``; the page where that ends."""
    with httpx.Client(trust_env=False) as browser:
        page = browser.get(link)
        fields = dict(re.findall(r"name=(\w+) value='([^']*)'", page.text))
        origin = link.partition("/oauth/")[0]
        return walk(browser, browser.post(f"{origin}/oauth/start", data=fields, headers={"origin": origin}), name)


@dataclass
class Door:
    """A running vmcp, as one person's client."""

    url: str
    key: str
    revision: str = LATEST
    capabilities: Json | None = None
    session: str | None = None

    def _post(self, body: Json) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}", "accept": "application/json, text/event-stream"}
        headers |= {"mcp-protocol-version": self.revision}
        if self.session is not None:
            headers["mcp-session-id"] = self.session
        if self.revision == MODERN:
            headers |= {"mcp-method": body["method"], "mcp-name": body["params"].get("name", "")}
        return httpx.post(self.url, json=body, headers=headers, trust_env=False, timeout=30)

    def call(self, name: str, **more: Any) -> Json:
        params: Json = {"name": f"notes_{name}", "arguments": {}, **more}
        if self.revision == MODERN:
            about = {"protocolVersion": MODERN, "clientCapabilities": self.capabilities or {}}
            about["clientInfo"] = {"name": "t", "version": "1"}
            params["_meta"] = {f"io.modelcontextprotocol/{key}": value for key, value in about.items()}
        elif self.session is None:
            told = {"protocolVersion": self.revision, "capabilities": self.capabilities or {}}
            told["clientInfo"] = {"name": "t", "version": "1"}
            answer = self._post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": told})
            self.session = answer.headers["mcp-session-id"]
            self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        answer = self._post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        if answer.headers["content-type"].startswith("text/event-stream"):
            return dict(json.loads(answer.text.split("data: ")[-1].splitlines()[0]))
        return dict(answer.json())

    def text(self, name: str = "whoami", **more: Any) -> str:
        answer = self.call(name, **more)
        assert "result" in answer, answer
        return str(answer["result"]["content"][0]["text"])


@dataclass
class House:
    issuer: Issuer
    backend: Protected
    config: Path
    folder: Path

    def data(self, mode: str = "user") -> Json:
        keys = [{"subject": name, "sha256": hashlib.sha256(key.encode()).hexdigest()} for name, key in KEYS.items()]
        auth = {"type": "oauth", "oauth": {"mode": mode, "issuer": self.issuer.url}}
        backend = {"url": self.backend.url, "protocol": LATEST, "transport": "streamable-http", "required": True}
        return {
            "name": "x",
            "incomingAuth": {"type": "local", "local": {"keys": keys}},
            "state": {"directory": str(self.folder / mode)},
            "groups": {"g": {"backends": {"notes": {**backend, "auth": auth}}}},
        }

    def file(self, mode: str = "user") -> str:
        self.config.write_text(json.dumps(self.data(mode)), "utf-8")
        return str(self.config)


def shell(*arguments: str, give: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vmcp", "auth", *arguments]
    return subprocess.run(command, cwd=ROOT, input=give, capture_output=True, text=True, timeout=60, check=False)


def log_in(config: str, name: str, *, headless: bool = False) -> str:
    """``vmcp auth login`` with a browser beside it; what it said."""
    command = [sys.executable, "-m", "vmcp", "auth", "login", "notes", "--config", config]
    command += ["--headless"] if headless else []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as child:
        assert child.stdout is not None
        lines = []
        while not (line := child.stdout.readline()).strip().startswith("http"):
            lines.append(line)
            assert line, "".join(lines)
        with httpx.Client(trust_env=False) as browser:
            if headless:
                ended = ends(browser, line.strip(), name)
                out, _ = child.communicate(f"{ended}\n", timeout=60)
            else:
                page = walk(browser, browser.get(line.strip()), name)
                assert "Go back to the shell" in page.text
                out, _ = child.communicate(timeout=60)
    assert child.returncode == 0, out
    return out


def ends(browser: httpx.Client, url: str, name: str) -> str:
    """Where a browser on another machine ends: at an address that it cannot reach."""
    page = browser.get(url)
    for _ in range(14):
        if page.is_redirect:
            url = urljoin(str(page.url), page.headers["location"])
            if "/oauth/callback" in url:
                return url
            page = browser.get(url)
            continue
        prompt, action = re.search(r'name="prompt" value="(\w+)"', page.text), re.search(r'action="([^"]+)"', page.text)
        assert prompt is not None, page.text
        assert action is not None, page.text
        form = {"prompt": prompt[1], "login": name, "password": "any"}
        page = browser.post(urljoin(str(page.url), action[1]), data=form)
    raise AssertionError(url)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("logins")
    with issuer(folder / "issuer") as server, protected(server.url) as backend:
        yield House(server, backend, folder / "login.yaml", folder)


@contextlib.contextmanager
def serving(house: House, mode: str = "user") -> Iterator[str]:
    with gateway(house.data(mode), house.folder) as url:
        yield url.replace("localhost", "127.0.0.1")


def test_everybody_consents_for_himself_and_calls_as_himself(house: House) -> None:
    said = log_in(house.file(), "operator")
    assert "logged in at notes" in said
    assert "renewed by itself" in said
    with serving(house) as url:
        ada, bob, eve = (Door(url, KEYS[name], revision, caps) for name, revision, caps in CLIENTS)
        refused = ada.call("whoami")["error"]
        assert refused["code"] == -32042
        (page,) = refused["data"]["elicitations"]
        assert page["mode"] == "url"
        assert "Connected" in agree(page["url"], "ada").text
        assert ada.text() == "ada"

        asked = bob.call("whoami")["result"]
        assert asked["resultType"] == "input_required"
        (key, question), *_ = asked["inputRequests"].items()
        assert "Connected" in agree(question["params"]["url"], "bob").text
        answers = {"inputResponses": {key: {"action": "accept"}}, "requestState": asked["requestState"]}
        assert bob.text(**answers) == bob.text() == "bob"

        told = eve.call("whoami")["error"]
        link = re.search(r"http://\S+", told["message"])
        assert link is not None
        assert told["data"]["vmcpCode"] == 3000
        assert "operator" not in house.backend.seen, "who lists does not call"
        assert "Connected" in agree(link[0], "eve").text
        assert [eve.text(), ada.text(), bob.text()] == ["eve", "ada", "bob"]

        stepped = ada.call("admin")["error"]
        assert stepped["code"] == -32042
        assert ada.text() == "ada", "other tools go on"
        assert "Connected" in agree(stepped["data"]["elicitations"][0]["url"], "ada").text
        assert ada.text("admin") == "ada"


CLIENTS = (("ada", LATEST, PAGES), ("bob", MODERN, PAGES), ("eve", OLD, {}))


def test_a_login_outlives_the_process_and_is_renewed(house: House) -> None:
    with serving(house) as url:
        ada = Door(url, KEYS["ada"])
        assert ada.text() == "ada"
        assert len(set(house.backend.tokens)) >= 4


def test_a_shell_on_another_machine_is_told_where_the_browser_ended(house: House) -> None:
    assert "logged in at notes" in log_in(house.file("gateway"), "robot", headless=True)
    with serving(house, "gateway") as url:
        assert Door(url, KEYS["ada"]).text() == Door(url, KEYS["bob"]).text() == "robot"


def test_a_shell_tells_how_it_stands_and_ends_it(house: House) -> None:
    config = house.file("gateway")
    before = shell("status", "notes", "--config", config)
    assert (before.returncode, "logged in (at" in before.stdout) == (0, True), before.stdout + before.stderr
    assert shell("logout", "notes", "--config", config).stdout == "logged out of notes\n"
    after = shell("status", "notes", "--config", config)
    assert (after.returncode, "not logged in" in after.stdout) == (77, True)
    assert "no login" in shell("logout", "notes", "--config", config).stdout
    wrong = shell(
        "login", "notes", "--headless", "--config", config, give="http://127.0.0.1/oauth/callback?state=x&code=y\n"
    )
    assert (wrong.returncode, "not the answer" in wrong.stderr) == (69, True), wrong.stderr
    assert shell("status", "nobody", "--config", config).returncode == 69
