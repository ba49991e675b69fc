"""A real authorization server (npm ``oidc-provider``) as a process, and the ways to a token of it that real clients go.

The rule: tokens come from its endpoints by the standard's own flows; a test that wants it wrong orders that by name.
"""

import base64
import contextlib
import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from tests.real.processes import PEERS, connects, free_port, node, running, wait_for

Json = dict[str, Any]
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CALLBACK = "http://127.0.0.1:9/callback"
"""Where the browser would be sent back to; nobody listens there and nobody goes."""


class Issuer:
    """One authorization server; its people log in by any name, and its clients are ``agent``, ``robot`` and ``gateway``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://localhost:{self.port}"
        self.secrets = {name: f"{name}-{secrets.token_urlsafe(24)}" for name in ("robot", "gateway")}
        self._stack = contextlib.ExitStack()
        self._log = folder / "issuer.log"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "clients.json").write_text(json.dumps(self._clients()), "utf-8")

    def _clients(self) -> list[Json]:
        person = {"client_id": "agent", "token_endpoint_auth_method": "none", "redirect_uris": [CALLBACK]}
        person |= {"grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"]}
        machine: Json = {"grant_types": ["client_credentials"], "response_types": [], "redirect_uris": []}
        robot = {"client_id": "robot", "client_secret": self.secrets["robot"], **machine}
        gateway = {"client_id": "gateway", "client_secret": self.secrets["gateway"], **machine}
        return [person, robot, gateway | {"grant_types": ["client_credentials", EXCHANGE, JWT_BEARER]}]

    def start(self) -> None:
        """Up, with the keys that it had."""
        child = self._stack.enter_context(
            running([node(), PEERS / "provider.mjs", str(self.port), self.folder], self._log)
        )
        wait_for(lambda: connects(self.port) or child.poll() is not None, 20, self.told)
        assert child.poll() is None, self.told()

    def stop(self) -> None:
        """Down: nobody answers at its port."""
        self._stack.close()

    def told(self) -> str:
        """What it said."""
        return self._log.read_text("utf-8", "replace")

    def order(self, **what: Any) -> Json:
        """Change its ways (``ttl``, ``exchange``, ``delay``, ``rotate``, ``forget``); what it has seen until now."""
        answer = httpx.post(f"{self.url}/control", json=what, trust_env=False)
        return dict(answer.raise_for_status().json())

    def token_of(self, client: str, audience: str, scope: str = "tools") -> str:
        """A token of a client's own, by client credentials."""
        form = {"grant_type": "client_credentials", "resource": audience, "scope": scope}
        return str(self._tokens(form, (client, self.secrets[client]))["access_token"])

    def login(self, name: str, audience: str, scope: str = "tools") -> Json:
        """What the code flow with PKCE ends in for this person: ``access_token``, ``refresh_token``, …"""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        state = secrets.token_urlsafe(8)
        query = {"client_id": "agent", "response_type": "code", "redirect_uri": CALLBACK, "state": state}
        query |= {"scope": f"openid offline_access {scope}", "prompt": "consent", "resource": audience}
        query |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        with httpx.Client(trust_env=False) as browser:
            back = self._consent(browser, f"{self.url}/auth?{urlencode(query)}", name)
        answer = {key: values[0] for key, values in parse_qs(urlsplit(back).query).items()}
        assert (answer.get("state"), answer.get("iss")) == (state, self.url), back
        form = {"grant_type": "authorization_code", "code": answer["code"], "redirect_uri": CALLBACK}
        return self._tokens(form | {"client_id": "agent", "code_verifier": verifier, "resource": audience})

    def refreshed(self, refresh_token: str, audience: str) -> Json:
        """The next tokens of the same person."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": "agent",
            "resource": audience,
        }
        return self._tokens(form)

    def exchanged(self, token: str, audience: str, scope: str = "tools") -> Json:
        """What the token endpoint answers to an exchange by the client ``gateway``."""
        form = {"grant_type": EXCHANGE, "subject_token": token, "audience": audience, "scope": scope}
        form |= {"subject_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        return self._tokens(form, ("gateway", self.secrets["gateway"]))

    def _tokens(self, form: Json, auth: tuple[str, str] | None = None) -> Json:
        answer = httpx.post(f"{self.url}/token", data=form, auth=auth or httpx.USE_CLIENT_DEFAULT, trust_env=False)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}\n{self.told()}"
        return dict(answer.json())

    def _consent(self, browser: httpx.Client, url: str, name: str) -> str:
        """Follow the pages like a person who agrees to everything; where they lead to in the end."""
        for _ in range(12):
            page = browser.get(url)
            while page.is_redirect:
                url = str(page.url.join(page.headers["location"]))
                if url.startswith(CALLBACK):
                    return url
                page = browser.get(url)
            assert page.status_code == 200, page.text
            prompt = re.search(r'name="prompt" value="(\w+)"', page.text)
            action = re.search(r'action="([^"]+)"', page.text)
            if prompt is None or action is None:
                raise AssertionError(page.text)
            form = {"prompt": prompt[1], "login": name, "password": "any"}
            url = browser.post(action[1], data=form).headers["location"]
        raise AssertionError(f"no end at {url}")


@contextlib.contextmanager
def issuer(folder: Path) -> Iterator[Issuer]:
    """One that is up; gone afterwards."""
    made = Issuer(folder)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def claims(token: str) -> Json:
    """What a token says, unchecked: for a test that compares."""
    return dict(json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "==")))
