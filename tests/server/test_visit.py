"""Who is at the other end, as its first words say.

Rule: what a client says of itself is kept as it said it.
"""

from typing import Any

import msgspec
import pytest

from vmcp.errors import McpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.server import visit
from vmcp.server.journal import Shelf
from vmcp.server.sessions import Session


def request(method: str, params: Any) -> Request:
    incoming = jsonrpc.parse(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    assert isinstance(incoming, Request)
    return incoming


META = {envelope.VERSION: str(MODERN), envelope.CAPABILITIES: {"roots": {}, "x": 1.0}}
HEADERS = {"mcp-protocol-version": str(MODERN), "mcp-method": "tools/list"}


def test_a_request_of_2026_says_who_sends_it() -> None:
    meta = {**META, envelope.CLIENT_INFO: {"name": "c"}, envelope.LOG_LEVEL: "error"}
    peer = visit.modern_peer(request("tools/list", {"_meta": meta}), HEADERS)
    assert peer.revision is MODERN
    assert peer.capabilities == b'{"roots":{},"x":1.0}'
    assert (peer.info, peer.level, peer.session) == (b'{"name":"c"}', "error", None)
    assert peer.headers == HEADERS


def test_a_transport_without_headers_confirms_nothing() -> None:
    asked = request("tools/list", {"_meta": META})
    assert visit.modern_peer(asked, None).headers == {}
    for wrong in ({}, {**HEADERS, "mcp-method": "tools/call"}):
        with pytest.raises(McpError):
            visit.modern_peer(asked, wrong)
    with pytest.raises(McpError):
        visit.modern_peer(request("tools/list", {"_meta": {}}), None)


@pytest.mark.parametrize("said", ["me", 1, [], None])
def test_what_is_no_object_is_no_name(said: object) -> None:
    asked = {"protocolVersion": "2025-06-18", "clientInfo": said}
    assert visit.newcomer(request("initialize", asked)).info is None


def test_a_newcomer_is_who_it_says() -> None:
    asked = {"protocolVersion": "2025-06-18", "capabilities": {"a": 1.0}, "clientInfo": {"name": "c"}}
    peer = visit.newcomer(request("initialize", asked))
    assert peer.revision is Revision.V2025_06_18
    assert (peer.capabilities, peer.info, peer.level) == (b'{"a":1.0}', b'{"name":"c"}', "info")
    assert visit.newcomer(request("initialize", {"protocolVersion": "2025-06-18"})).capabilities == b"{}"


@pytest.mark.parametrize("wrong", [{"capabilities": []}, {"capabilities": None}, {"capabilities": {"x": "y" * 70_000}}])
def test_a_newcomer_who_says_nonsense_or_too_much_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(McpError) as raised:
        visit.newcomer(request("initialize", {"protocolVersion": "2025-06-18", **wrong}))
    assert raised.value.code == -32602


def test_a_session_keeps_its_level() -> None:
    newcomer = visit.newcomer(request("initialize", {"protocolVersion": "2025-06-18"}))
    session = Session(newcomer, "/mcp", "o", 0.0, Shelf())
    before = visit.peer_of(session)
    visit.set_level(session, request("logging/setLevel", {"level": "error"}))
    assert visit.peer_of(session).level == session.level == "error"
    assert before.level == "info"
