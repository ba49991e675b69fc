"""A backend over HTTP that keeps every byte it was sent and tells each caller whom its token names.

The rule: it checks nothing and refuses nothing (but what a test orders), so that whatever reaches it is seen.
"""

import contextlib
import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from tests.real.issuer import claims

Json = dict[str, Any]
REVISION = "2025-11-25"
TOOLS = [
    {
        "name": name,
        "description": f"{name} of a backend that records",
        "inputSchema": {"type": "object", "properties": {"word": {"type": "string"}}},
        "annotations": {"readOnlyHint": name != "erase"},
    }
    for name in ("whoami", "say", "erase")
]


class Recorder:
    """What was received, by path, and what is to be answered instead of the truth."""

    def __init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.calls: list[Json] = []
        self.refuse: int | None = None
        """HTTP status that every tools/call gets instead of a result."""
        self.port = 0

    def url(self, name: str = "notes") -> str:
        """The endpoint of one of as many servers as a test wants."""
        return f"http://localhost:{self.port}/{name}/mcp"

    def bytes_of(self, name: str = "") -> bytes:
        """All that came for one server, or for all of them."""
        return b"\n".join(raw for path, raw in list(self.received) if not name or path.startswith(f"/{name}/"))

    def answer(self, path: str, message: Json, bearer: str) -> Json:
        """The result of one request."""
        method, params = message["method"], message.get("params", {})
        if method == "initialize":
            told = {"name": path.split("/")[1], "version": "1"}
            return {"protocolVersion": REVISION, "capabilities": {"tools": {}}, "serverInfo": told}
        if method == "tools/list":
            return {"tools": TOOLS}
        if method != "tools/call":
            return {}
        said = claims(bearer) if bearer.count(".") == 2 else {}
        told = {key: said.get(key) for key in ("sub", "aud", "act", "iss", "scope")}
        told |= {"word": params.get("arguments", {}).get("word"), "tool": params["name"]}
        self.calls.append(told)
        return {"content": [{"type": "text", "text": json.dumps(told)}], "structuredContent": told}


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.1, one JSON answer a request."""

    protocol_version = "HTTP/1.1"
    recorder: ClassVar[Recorder]

    def _note(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        head = self.raw_requestline + str(self.headers).encode("utf-8", "surrogateescape")
        self.recorder.received.append((self.path, head + body))
        return body

    def _send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self._note())
        bearer = self.headers.get("authorization", "").partition(" ")[2]
        if "id" not in body:
            return self._send(202)
        if body["method"] == "server/discover":
            told: Json = {"error": {"code": -32601, "message": "Method not found"}}
        elif body["method"] == "tools/call" and self.recorder.refuse:
            return self._send(self.recorder.refuse, b"", WWW_Authenticate='Bearer realm="the backend\'s own"')
        else:
            told = {"result": self.recorder.answer(self.path, body, bearer)}
        text = json.dumps({"jsonrpc": "2.0", "id": body["id"], **told}).encode()
        session = {"Mcp_Session_Id": uuid.uuid4().hex} if body["method"] == "initialize" else {}
        return self._send(200, text, Content_Type="application/json", **session)

    def do_GET(self) -> None:
        self._note()
        self._send(405)

    def do_DELETE(self) -> None:
        self._note()
        self._send(200)

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


class Server(ThreadingHTTPServer):
    """As many connections as vmcp likes."""

    request_queue_size = 512
    daemon_threads = True


@contextlib.contextmanager
def recording() -> Iterator[Recorder]:
    """One that listens."""
    recorder = Recorder()
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"recorder": recorder}))
    recorder.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
