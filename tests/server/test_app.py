"""Paths, probes, Host, Origin and CORS: what every request passes before it is a message.

Rule: a refusal is proved on every route; MCP answers only at the exact path.
"""

from collections.abc import AsyncIterator

import pytest

from tests.server.clients import Answer, Door, listening
from tests.server.peers import Server, config, echo, house, tool
from vmcp.config.model import ServerSpec

ROUTES = ["/mcp", "/g/mcp", "/livez", "/readyz", "/healthz", "/nothing", "/", "/MCP"]
METHODS = ["GET", "POST", "DELETE", "OPTIONS", "HEAD", "PUT"]


@pytest.fixture
async def door(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    server = ServerSpec(allowed_origins=("https://app.example",))
    async with house(monkeypatch, {"a": Server(tools=[tool("t")], script=echo)}, server=server) as running:
        yield Door(running.app)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", METHODS)
async def test_a_wrong_host_or_origin_is_refused_everywhere(door: Door, path: str, method: str) -> None:
    assert (await door.http(method, path, host="evil.example")).status == 421
    assert (await door.http(method, path, host=None)).status == 421
    assert (await door.http(method, path, origin="http://evil.example")).status == 403
    assert (await door.http(method, path, origin="null")).status == 403


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/health", "/ping", "/readyz"])
async def test_probes_are_read(door: Door, path: str) -> None:
    for method in ("GET", "HEAD"):
        answer = await door.http(method, path)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["status"] in ("ok", "ready")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        refused = await door.http(method, path)
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "post"])
async def test_other_methods_say_which_there_are(door: Door, method: str) -> None:
    answer = await door.http(method, "/mcp")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST, DELETE")


OTHERS = [
    *("/", "", "/mcp/", "//mcp", "/MCP", "/mc", "/mcpx", "/g/mcp/", "/g//mcp", "/./mcp", "/x/../mcp", "/g/../mcp"),
    *(
        "/%6dcp",
        "/mcp%00",
        "/mcp%2f",
        "/mcp;x",
        "/%2e/mcp",
        "/mcp#x",
        "/g%2fmcp",
        "/other/mcp",
        "*",
        "http://localhost/mcp",
    ),
]


@pytest.mark.parametrize("path", OTHERS)
async def test_a_path_is_taken_as_it_was_sent(door: Door, path: str) -> None:
    for method in ("POST", "GET", "DELETE"):
        answer = await door.http(method, path or "\0", b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert answer.status == 404
        assert "/g/mcp, /mcp" in answer.error["message"]


async def test_both_faces_of_a_group_are_there(door: Door) -> None:
    for path in ("/mcp", "/g/mcp"):
        door.path = path
        assert [t["name"] for t in (await door.ask("tools/list")).result["tools"]] == ["t"]


async def test_what_is_no_http_is_left_alone(door: Door) -> None:
    await door.app({"type": "websocket"}, None, None)


def cors(answer: Answer) -> dict[str, str]:
    return {key: value for key, value in answer.headers.items() if key.startswith("access-control") or key == "vary"}


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:6274"])
async def test_a_page_that_may_is_told_how(door: Door, origin: str) -> None:
    asked = {"origin": origin, "access_control_request_method": "POST"}
    answer = await door.http("OPTIONS", "/mcp", access_control_request_headers="mcp-method, mcp-param-region", **asked)
    assert answer.status == 204
    told = cors(answer)
    assert told["access-control-allow-origin"] == origin
    assert told["vary"] == "origin"
    assert told["access-control-allow-methods"] == "GET, POST, DELETE"
    allowed = told["access-control-allow-headers"].lower()
    for header in ("content-type", "mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name", "last-event-id"):
        assert header in allowed
    assert "access-control-allow-credentials" not in told
    assert "*" not in told.values()


async def test_a_page_that_may_reads_the_answer_and_the_session(door: Door) -> None:
    answer = await door.ask("tools/list", origin="https://app.example")
    assert answer.status == 200
    assert cors(answer)["access-control-allow-origin"] == "https://app.example"
    assert "mcp-session-id" in cors(answer)["access-control-expose-headers"].lower()
    refused = await door.http("GET", "/mcp", origin="https://app.example")
    assert cors(refused)["access-control-allow-origin"] == "https://app.example", "a page may read a refusal, too"


async def test_a_page_that_may_not_is_told_nothing(door: Door) -> None:
    answer = await door.http("OPTIONS", "/mcp", origin="https://evil", access_control_request_method="POST")
    assert answer.status == 403
    assert not cors(answer)


async def test_without_an_origin_nothing_is_said_of_origins(door: Door) -> None:
    assert not cors(await door.ask("tools/list"))
    assert (await door.http("OPTIONS", "/mcp", access_control_request_method="POST")).status == 405
    assert (await door.http("OPTIONS", "/mcp", origin="https://app.example")).status == 405


async def test_a_thousand_hosts_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ServerSpec(host="0.0.0.0", allow_anonymous_network=True)
    async with house(monkeypatch, server=server) as running:
        door = Door(running.app)
        for number in range(200):
            assert (await door.http("GET", "/livez", host=f"10.0.0.{number}")).status == 200
            assert (await door.http("GET", "/livez", host=f"h{number}")).status == 421
        assert len(running.current.app._hosts) <= 64


TARGETS = [
    *(b"//mcp", b"/%6dcp", b"/mcp/", b"/mcp%2f", b"/./mcp", b"/x/../mcp", b"http://localhost/mcp", b"http://evil/mcp"),
    *(
        b"localhost/mcp",
        b"/mcp#",
        b"/MCP",
        b"*",
        b"\\mcp",
        b"/\xc3\xa4",
        b"/mcp\xff",
        b"///mcp",
        b"/mcp;x",
        b"/g%2fmcp",
    ),
]


@pytest.mark.parametrize("target", TARGETS)
async def test_no_trick_with_the_path_reaches_mcp(monkeypatch: pytest.MonkeyPatch, target: bytes) -> None:
    backend = Server(tools=[tool("t")], script=echo)
    async with house(monkeypatch, {"a": backend}) as running, listening(running.app, config({})) as server:
        raw, headers = Door(running.app).message("tools/call", {"name": "t", "arguments": {}})
        head = {"host": "localhost", "content-type": "application/json", "content-length": str(len(raw)), **headers}
        lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in head.items()).encode()
        connection = await server.say(b"POST " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + raw)
        assert (await connection.response()).status in (400, 404)
        assert not backend.calls()
        good = await server.say(b"POST /mcp?x=1 HTTP/1.1\r\n" + lines + b"\r\n" + raw)
        assert (await good.response()).status == 200
        assert len(backend.calls()) == 1


@pytest.mark.parametrize(("method", "status"), [(b"GET", 406), (b"HEAD", 405), (b"PUT", 405), (b"PATCH", 405)])
async def test_other_methods_are_refused_on_the_wire(
    monkeypatch: pytest.MonkeyPatch, method: bytes, status: int
) -> None:
    async with house(monkeypatch) as running, listening(running.app, config({})) as server:
        raw = await server.say(method + b" /mcp HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await raw.response(head=method == b"HEAD")
        assert answer.status == status
        raw.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await raw.response()).json() == {"status": "ok"}, "the connection goes on behind it"
