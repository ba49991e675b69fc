"""A token endpoint and a protected MCP server, both real HTTP, for tests of credentials.

The rule: the endpoint makes a token that says whom it is for, and the server tells with which one each request came.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from tests.egress.web import Asked, Said
from vmcp.call import Identity


def user(name: str, token: str = "", expires: float | None = None) -> Identity:
    """A caller whose token is ``subject-NAME``."""
    return Identity("https://idp.example", name, token=token or f"subject-{name}", expires=expires)


def said(body: object, status: int = 200) -> Said:
    return Said(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def jwt(claims: dict[str, Any]) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none', 'typ': 'oauth-id-jag+jwt'})}.{part(claims)}.sig"


@dataclass
class Endpoint:
    """A token endpoint: client credentials, token exchange, ID-JAG and what is had for it. ``change`` spoils its answers."""

    change: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda answer: answer)
    forms: list[dict[str, str]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)

    async def __call__(self, asked: Asked) -> Said:
        form = asked.form
        self.forms.append(form)
        self.clients.append(_client(asked))
        grant = form["grant_type"].rpartition(":")[2]
        answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": 600}
        if grant == "client_credentials":
            answer["access_token"] = self._token("gateway")
        elif grant == "jwt-bearer":
            payload = form["assertion"].split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            answer["access_token"] = self._token("crossed-" + claims["sub"])
        elif form["requested_token_type"].endswith("id-jag"):
            claims = {"sub": form["subject_token"], "aud": form["audience"], "resource": form.get("resource")}
            answer |= {
                "access_token": jwt(claims),
                "token_type": "N_A",
                "issued_token_type": form["requested_token_type"],
            }
        else:
            answer["issued_token_type"] = "urn:ietf:params:oauth:token-type:access_token"
            answer["access_token"] = self._token("for-" + form["subject_token"])
        return said(self.change(answer), 200 if "error" not in self.change(answer) else 400)

    def _token(self, name: str) -> str:
        self.count[name] += 1
        return f"{name}.{self.count[name]}"


def _client(asked: Asked) -> str:
    given = asked.headers.get("authorization", "")
    if not given.startswith("Basic "):
        return ""
    return ":".join(map(unquote_plus, base64.b64decode(given[6:]).decode().split(":")))


@dataclass
class Protected:
    """An MCP server that gives back, as the text of a call's result, the ``Authorization`` it came with."""

    revision: str = "2025-11-25"
    refuses: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    sessions: int = 0

    async def __call__(self, asked: Asked) -> Said:
        shown = asked.headers.get("authorization", "")
        if asked.method != "POST":
            return Said(405)
        message = json.loads(asked.body)
        self.calls.append((message["method"], shown))
        if shown in self.refuses:
            return Said(401, b"go away", {"WWW-Authenticate": 'Bearer resource_metadata="https://evil.example/"'})
        if "id" not in message:
            return Said(202)
        answer = said({"jsonrpc": "2.0", "id": message["id"], "result": self._result(message["method"], shown)})
        if message["method"] != "initialize":
            return answer
        self.sessions += 1
        return Said(200, answer.body, {**answer.headers, "Mcp-Session-Id": f"s{self.sessions}"})

    def _result(self, method: str, shown: str) -> dict[str, Any]:
        info = {"name": "p", "version": "1"}
        common = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if method == "initialize":
            return {"protocolVersion": self.revision, "capabilities": {"tools": {}}, "serverInfo": info}
        if method == "server/discover":
            return {**common, "supportedVersions": [self.revision], "capabilities": {"tools": {}}, "serverInfo": info}
        if method == "tools/list":
            return {**common, "tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
        return {"resultType": "complete", "content": [{"type": "text", "text": shown}]}

    def of(self, method: str) -> list[str]:
        """The credentials that a method came with."""
        return [shown for name, shown in self.calls if name == method]
