"""An MCP server behind a real authorization server: it takes tokens for itself only, and says where they come from.

The rule: a token is verified by the issuer's published keys; what it lacks is answered as RFC 6750 and RFC 9728 have it.
"""

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
from jose import JOSEError, jwt

Json = dict[str, Any]
PLACE = "/.well-known/oauth-protected-resource/mcp"


class Protected(ThreadingHTTPServer):
    """Mutable: ``seen`` has the subjects of all calls."""

    daemon_threads = True

    def __init__(self, issuer: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.issuer = issuer
        self.origin = f"http://127.0.0.1:{self.server_port}"
        self.url = f"{self.origin}/mcp"
        self.seen: list[str] = []
        self.tokens: list[str] = []

    def claims(self, token: str) -> Json | None:
        """What a good token says; None for any other."""
        keys = httpx.get(f"{self.issuer}/jwks", trust_env=False).json()
        try:
            return dict(jwt.decode(token, keys, ["RS256", "ES256"], audience=self.url, issuer=self.issuer))
        except JOSEError:
            return None


class _Handler(BaseHTTPRequestHandler):
    server: Protected
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        if self.path == PLACE:
            there = self.server
            self._say(
                200, {"resource": there.url, "authorization_servers": [there.issuer], "scopes_supported": ["tools"]}
            )
        else:
            self._say(405, {})

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        shown = self.headers.get("authorization", "").removeprefix("Bearer ")
        claims = self.server.claims(shown) if shown else None
        if claims is None:
            self._say(401, {}, f'Bearer resource_metadata="{self.server.origin}{PLACE}"')
        elif message.get("params", {}).get("name") == "admin" and "admin" not in claims["scope"].split():
            self._say(403, {}, 'Bearer error="insufficient_scope", scope="admin"')
        elif "id" not in message:
            self._say(202, {})
        else:
            result = self._result(message["method"], claims)
            self._say(200, {"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _result(self, method: str, claims: Json) -> Json:
        if method == "initialize":
            info = {"capabilities": {"tools": {}}, "serverInfo": {"name": "protected", "version": "1"}}
            return {"protocolVersion": "2025-11-25", **info}
        if method == "tools/list":
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("whoami", "admin")]}
        if method == "tools/call":
            self.server.seen.append(claims["sub"])
            self.server.tokens.append(claims["jti"])
            return {"content": [{"type": "text", "text": claims["sub"]}]}
        return {}

    def _say(self, status: int, body: Json, challenge: str = "") -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        if challenge:
            self.send_header("www-authenticate", challenge)
        self.end_headers()
        self.wfile.write(text)


@contextlib.contextmanager
def protected(issuer: str) -> Iterator[Protected]:
    """One that is up; gone afterwards."""
    server = Protected(issuer)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
