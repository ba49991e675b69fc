"""What a request that failed is called. Rule: one name in the error, the log and the audit log; none where nothing failed."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import Door
from tests.server.peers import Asked, Notify, Server, echo, house, tool
from vmcp.call import Trail
from vmcp.config.audit import AuditSpec
from vmcp.config.incoming import Incoming
from vmcp.errors import Code, McpError
from vmcp.middleware.naming import fresh, name
from vmcp.protocol import jsonrpc
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN

NAME = re.compile(r"[0-9a-f]{16}")


def test_a_name_is_new_each_time_and_says_nothing() -> None:
    assert len({fresh() for _ in range(1000)}) == 1000
    assert NAME.fullmatch(fresh())


def test_who_shares_an_error_shares_its_name() -> None:
    error = McpError(-32603, "no", {"retryAfter": 1}, vmcp_code=Code.GATEWAY_ERROR)
    one, two = Trail(), Trail()
    assert name(one, error) == name(two, error) == one.request == two.request
    assert error.data == {"retryAfter": 1, "requestId": one.request}


@pytest.mark.parametrize("data", [None, {"a": 1}, [1], {"requestId": 7}])
def test_what_a_backend_answered_stays_as_it_is(data: Any) -> None:
    error = jsonrpc.fault(jsonrpc.encode({"code": -32603, "message": "no", "data": data}))
    trail = Trail(trace="t")
    before = error.data
    assert NAME.fullmatch(name(trail, error))
    assert error.data is before
    ours = McpError(-32603, "no", data)
    assert name(trail, ours) == trail.request
    assert ours.data == ([1] if data == [1] else {**(data or {}), "requestId": trail.request, "traceId": "t"})


async def failing(asked: Asked, notify: Notify) -> bytes:
    raise McpError(-32099, "broken")


@pytest.mark.parametrize("revision", [LATEST_HANDSHAKE, MODERN])
async def test_it_leads_from_the_error_to_the_log_and_the_audit_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, revision: Any
) -> None:
    log = tmp_path / "audit.log"
    backends = {"a": Server(tools=[tool("t")], script=echo), "b": Server(tools=[tool("u")], script=failing)}
    with caplog.at_level("DEBUG", "vmcp"):
        async with house(monkeypatch, backends, audit=AuditSpec(str(log))) as running:
            door = Door(running.app, revision)
            await door.initialize()
            assert "error" not in (await door.call("t")).message
            unknown = (await door.call("none")).error["data"]["requestId"]
            assert (await door.call("u")).error.get("data") is None
            wrong = (await door.ask("completion/complete", {"ref": 7})).error["data"]["requestId"]
            nowhere = (await door.http("GET", "/nowhere")).error["data"]["requestId"]
            elsewhere = (await door.http("POST", "/mcp", b"[", host="evil.example")).error["data"]["requestId"]
            broken = (await door.http("POST", "/mcp", b"{")).error["data"]["requestId"]
    told = [unknown, wrong, nowhere, elsewhere, broken]
    assert len({*told}) == 5
    logged = {each.__dict__["request_id"] for each in caplog.records if "request_id" in each.__dict__}
    audited = [json.loads(line).get("metadata", {}).get("extra", {}) for line in log.read_text().splitlines()]
    recorded = {each["request_id"] for each in audited if "request_id" in each}
    assert {*told} <= logged
    assert {*told} <= recorded
    assert len(recorded) == 6, "the backend's too, and no other"


async def test_who_is_not_let_in_gets_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {}, incoming=Incoming("local", keys=(), os_user=False)) as running:
        answer = await Door(running.app).http("POST", "/mcp", b"{}")
        assert answer.status == 401
        assert NAME.fullmatch(answer.error["data"]["requestId"])
