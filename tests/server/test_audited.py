"""Every request that got a status has one event, whatever it was: a call, a refusal, rubbish, a stream, a connection.

Rule: the log is a real one in a file, and the house in front of it is whole.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.server.clients import Door, Listening, listening
from tests.server.peers import Asked, Notify, Server, config, echo, house, said, tool, until
from vmcp.config.audit import AuditSpec
from vmcp.config.model import Limits, SecretRef, ServerSpec
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.server.asgi import Scope
from vmcp.server.recording import opened
from vmcp.server.runtime import Runtime
from vmcp.state.auditlog import AuditUnavailable
from vmcp.state.chain import Proof

Json = dict[str, Any]
OLD = Revision.V2025_11_25


class Guest(Door):
    """A client with an address."""

    def scope(self, method: str, path: str | None = None, **headers: str | None) -> Scope:
        place, _, query = (path or self.path).partition("?")
        more = {"client": ("192.0.2.7", 5000), "query_string": query.encode()}
        return {**super().scope(method, place, **headers), **more}


@dataclass
class House:
    """A running house with its log."""

    running: Runtime
    path: Path

    def door(self, revision: Revision = MODERN) -> Door:
        return Guest(self.running.app, revision)

    async def events(self, count: int) -> list[Json]:
        """So many events, once they are there, and no more than these."""
        await until(lambda: len(self.read()) >= count)
        assert len(self.read()) == count, [event["type"] for event in self.read()]
        return self.read()

    def read(self) -> list[Json]:
        whole = self.path.read_bytes().rpartition(b"\n")[0]  # what is being written may be seen in part
        found = [json.loads(line) for line in whole.splitlines()]
        return [event for event in found if not event["type"].startswith("audit_")]


@contextlib.asynccontextmanager
async def audited(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    backend: Server | None = None,
    spec: Json | None = None,
    **more: Any,
) -> AsyncIterator[House]:
    path = tmp_path / "audit.jsonl"
    backend = backend or Server(tools=[tool("echo")], script=echo)
    section = AuditSpec(**{"file": str(path), **(spec or {})})
    async with house(monkeypatch, {"one": backend}, audit=section, **more) as running:
        yield House(running, path)
    if path.exists():
        proof = Proof(None)
        proof.read("log", path.read_bytes().splitlines(keepends=True))
        proof.end("log")
        assert proof.faults == []


def short(events: list[Json]) -> list[tuple[str, str]]:
    return [(event["type"], event["outcome"]) for event in events]


@pytest.mark.parametrize("revision", [OLD, MODERN])
async def test_a_call_has_one_event(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, revision: Revision) -> None:
    async with audited(monkeypatch, tmp_path) as found:
        door = found.door(revision)
        await door.initialize()
        assert (await door.call("echo", {"password": "hunter2"}, user_agent="sdk/1")).status == 200
        assert (await door.call("nothing")).status in (200, 400)
        events = await found.events(3)
    assert short(events) == [("mcp_initialize", "success"), ("mcp_tool_call", "success"), ("mcp_tool_call", "failure")]
    told = events[1]
    assert told["metadata"]["extra"]["backend_name"] == "one"
    assert told["source"] == {"type": "network", "value": "192.0.2.7", "extra": told["source"]["extra"]}
    assert told["source"]["extra"]["user_agent"] == "sdk/1"
    assert told["subjects"]["user_id"] == "anonymous"
    assert "hunter2" not in found.path.read_text()


async def test_what_is_refused_at_the_door_has_one_event(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with audited(monkeypatch, tmp_path) as found:
        door = found.door(OLD)
        statuses = [
            (await door.http("GET", "/nothing?token=hunter2")).status,
            (await door.post(b"{}", host="evil.example")).status,
            (await door.post(b"{}", origin="https://evil.example")).status,
            (await door.post(b"{broken")).status,
            (await door.post(b"{}", content_type="text/plain")).status,
            (await door.http("PUT")).status,
            (await door.http("DELETE", mcp_session_id="x" * 43)).status,
            (await door.http("GET", "/ws")).status,
        ]
        events = await found.events(len(statuses))
    assert statuses == [404, 421, 403, 400, 415, 405, 404, 426]
    assert [event["metadata"]["extra"]["http_status"] for event in events] == statuses
    assert short(events)[:4] == [
        ("http_request", "failure"),
        ("http_request", "denied"),
        ("auth_failure", "denied"),
        ("http_request", "failure"),
    ]
    assert events[0]["target"] == {"endpoint": "/nothing", "method": "GET"}
    assert "server.allowedHosts" in events[1]["metadata"]["extra"]["reason"]
    assert "hunter2" not in found.path.read_text()


async def test_what_is_asked_all_the_time_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with audited(monkeypatch, tmp_path) as found:
        for path in ("/livez", "/readyz", "/health"):
            assert (await found.door().http("GET", path)).status == 200
        await found.door().ask("ping")
        await found.events(1)


async def test_notifications_the_end_of_a_session_and_an_error_before_the_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with audited(monkeypatch, tmp_path) as found:
        door = found.door(OLD)
        wrong = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": 5}}
        assert (await door.post(wrong)).status == 200
        await door.initialize()
        await door.tell("notifications/initialized")
        await door.tell("notifications/roots/list_changed")
        assert (await door.http("DELETE")).status == 204
        events = await found.events(5)
    assert short(events) == [
        ("mcp_initialize", "failure"),
        ("mcp_initialize", "success"),
        ("mcp_notification", "success"),
        ("mcp_roots_list_changed", "success"),
        ("http_request", "success"),
    ]


async def test_each_request_of_a_batch_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with audited(monkeypatch, tmp_path) as found:
        door = found.door(Revision.V2025_03_26)
        await door.initialize()
        ping = {"jsonrpc": "2.0", "method": "ping"}
        again = {"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": {}}
        assert (await door.post([{**ping, "id": 1}, {**ping, "id": 2}, again])).status == 200
        events = await found.events(4)
    assert short(events)[1:] == [("mcp_ping", "success")] * 2 + [("mcp_initialize", "failure")]


async def test_a_standing_stream_has_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with audited(monkeypatch, tmp_path) as found:
        door = found.door(OLD)
        await door.initialize()
        async with door.listen().running() as stream:
            await until(lambda: stream.answer.status)
            assert short(await found.events(2))[1] == ("sse_connection", "success")
        events = await found.events(3)
    phases = [event["metadata"]["extra"].get("phase") for event in events]
    assert phases == [None, "open", "close"]


async def test_a_call_whose_client_goes_away_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def hang(asked: Asked, notify: Notify) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    server = Server(tools=[tool("t")], script=hang)
    async with audited(monkeypatch, tmp_path, server) as found:
        async with found.door().calling().running():
            await until(lambda: any(asked.method == "tools/call" for asked in server.asked))
        (event,) = await found.events(1)
    assert (event["type"], event["outcome"]) == ("mcp_tool_call", "failure")
    assert event["metadata"]["extra"]["cancelled"] is True


async def test_a_client_that_is_asked_in_between_still_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def asking(asked: Asked, notify: Notify) -> bytes:
        if "inputResponses" in asked.params:
            return said("done")
        wanted = {"a": {"method": "roots/list", "params": {}}}
        return json.dumps({"resultType": "input_required", "inputRequests": wanted}).encode()

    server = Server(tools=[tool("t")], script=asking)
    async with audited(monkeypatch, tmp_path, server) as found:
        door = found.door(OLD)
        await door.initialize()
        await door.call("t")
        events = await found.events(2)
    assert [event["type"] for event in events] == ["mcp_initialize", "mcp_tool_call"]


async def test_while_nothing_can_be_written_calls_are_refused_and_lists_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = Server(tools=[tool("echo")], script=echo)
    async with audited(monkeypatch, tmp_path, server, {"file": "/dev/full"}) as found:
        (log,) = found.running._holdings._logs.all()
        await until(lambda: log.failing)
        answer = await found.door().call("echo")
        assert answer.error["message"].startswith("audit unavailable")
        assert not any(asked.method == "tools/call" for asked in server.asked)
        assert (await found.door().ask("tools/list")).result["tools"]
        ready, facts = found.running.readiness()
        assert (ready, facts["status"]) == (True, "degraded"), (
            "traffic may come: what is refused here would be everywhere"
        )
        assert (await found.door().ask("vmcp/servers/health")).result["status"] == "degraded"
    async with audited(monkeypatch, tmp_path, server, {"file": "/dev/full", "on_failure": "fail_open"}) as found:
        (log,) = found.running._holdings._logs.all()
        await until(lambda: log.failing)
        assert (await found.door().call("echo")).status == 200


async def test_the_address_is_that_of_the_client_behind_a_trusted_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    behind = ServerSpec(trusted_proxies=("192.0.2.0/24",))
    async with audited(monkeypatch, tmp_path, server=behind) as found:
        await found.door().ask("ping", x_forwarded_for="6.6.6.6, 203.0.113.9")
        (event,) = await found.events(1)
    assert (event["source"]["value"], event["source"]["extra"]["via"]) == ("203.0.113.9", "192.0.2.7")
    async with audited(monkeypatch, tmp_path) as found:
        await found.door().ask("ping", x_forwarded_for="6.6.6.6, 203.0.113.9")
        assert (await found.events(2))[1]["source"]["value"] == "192.0.2.7"


# --- on a socket


@contextlib.asynccontextmanager
async def on_a_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **more: Any
) -> AsyncIterator[tuple[House, Listening]]:
    async with (
        audited(monkeypatch, tmp_path, **more) as found,
        listening(found.running.app, found.running.config) as door,
    ):
        yield found, door


@pytest.mark.parametrize(
    ("said_", "status", "path"),
    [
        (b"rubbish\r\n\r\n", 400, ""),
        (b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", 400, "/mcp"),
        (b"GET /mcp HTTP/1.1\r\nX: %b\r\n\r\n" % (b"x" * 40_000), 431, "/mcp"),
        (b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "/mcp"),
        (
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
            408,
            "/mcp",
        ),
    ],
    ids=["rubbish", "twice", "long", "chunks", "late"],
)
async def test_what_the_listener_refuses_has_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said_: bytes, status: int, path: str
) -> None:
    spec = ServerSpec(limits=Limits(body_timeout=0.1))
    async with on_a_socket(monkeypatch, tmp_path, server=spec) as (found, door):
        client = await door.say(said_)
        assert (await client.rest()).startswith(b"HTTP/1.1 %d" % status)
        (event,) = await found.events(1)
    assert (event["type"], event["outcome"]) == ("http_request", "failure")
    assert event["target"]["endpoint"] in (path, "")  # a head that comes in pieces is refused before its path is known
    assert event["metadata"]["extra"]["http_status"] == status
    assert event["source"]["value"] == "127.0.0.1"


async def test_a_websocket_has_two_and_each_of_its_requests_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with on_a_socket(monkeypatch, tmp_path) as (found, door):
        url = f"ws://localhost:{door.port}/ws"
        async with connect(url, host="127.0.0.1", compression=None) as socket:
            asked = {"protocolVersion": "2025-11-25", "capabilities": {}}
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": asked}))
            await socket.recv()
            await socket.send("{broken")
            await socket.recv()
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": asked}))
            await socket.recv()
        events = await found.events(5)
        with pytest.raises(InvalidStatus):
            async with connect(url, host="127.0.0.1", compression=None, origin="https://evil.example"):  # type: ignore[arg-type]
                pass
        refused = (await found.events(6))[-1]
    assert short(events) == [
        ("websocket_connection", "success"),
        ("mcp_initialize", "success"),
        ("mcp_request", "failure"),
        ("mcp_initialize", "failure"),
        ("websocket_connection", "success"),
    ]
    assert {event["metadata"]["extra"]["transport"] for event in events} == {"websocket"}
    assert {event["subjects"]["user_id"] for event in events} == {"anonymous"}
    assert (refused["type"], refused["metadata"]["extra"]["http_status"]) == ("auth_failure", 403)


async def test_calls_over_the_older_sse_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with audited(monkeypatch, tmp_path) as found:
        door = found.door(OLD)
        async with door.begin("GET", "/sse", accept="text/event-stream").running() as stream:
            await until(lambda: b"sessionId" in stream.answer.body)
            place = stream.answer.body.decode().partition("data: ")[2].split()[0]
            ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
            assert (await door.http("POST", place, ping)).status == 202
            events = await found.events(3)
    kinds = {event["type"]: event for event in events}
    assert set(kinds) == {"sse_connection", "http_request", "mcp_ping"}
    assert kinds["mcp_ping"]["metadata"]["extra"]["transport"] == "sse"
    assert place.partition("=")[2] not in found.path.read_text(), "the id of the stream is as good as a key"


# --- opening it


def test_a_log_that_cannot_be_opened_keeps_the_house_from_being_built(tmp_path: Path) -> None:
    spec = AuditSpec(file=str(tmp_path / "none" / "audit.jsonl"), on_failure="fail_open")
    with pytest.raises(AuditUnavailable, match=r"audit\.logFile"):
        opened(config({}), spec)


@pytest.mark.parametrize(
    ("key", "why"),
    [(SecretRef(env="KEY"), "environment variable KEY is not set"), ("too short", "at least 16 bytes")],
)
def test_a_key_that_is_not_there_or_is_none_is_told(tmp_path: Path, key: Any, why: str) -> None:
    with pytest.raises(AuditUnavailable, match=why):
        opened(config({}), AuditSpec(file=str(tmp_path / "a"), key=key), {})


def test_a_key_comes_from_where_the_configuration_says(tmp_path: Path) -> None:
    spec = AuditSpec(file=str(tmp_path / "a"), key=SecretRef(env="KEY"))
    log = opened(config({}), spec, {"KEY": "k" * 16})
    log.start()
    log.close(5.0)
    first = (tmp_path / "a").read_bytes().splitlines(keepends=True)
    assert b'"chain":"hmac-sha256"' in first[0]
    for key, faults in ((b"k" * 16, 0), (b"l" * 16, 2), (None, 2)):
        proof = Proof(key)
        proof.read("a", first)
        assert len(proof.faults) == faults


async def test_what_comes_through_the_listener_and_is_no_call_has_its_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Accept: application/json, text/event-stream\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    statuses: dict[int, int] = {}
    async with on_a_socket(monkeypatch, tmp_path) as (found, door):
        for path, body in ((b"/mcp", b"{"), (b"/nothing", b"{}"), (b"/mcp", b'{"jsonrpc":"2.0","method":"x"}')):
            client = await door.say(head % (path, len(body), body))
            answer = await client.rest()
            statuses[len(statuses)] = int(answer.split()[1])
        events = await found.events(3)
    told = [event["metadata"]["extra"]["http_status"] for event in events]
    assert told == list(statuses.values())
    assert [event["outcome"] for event in events] == ["failure"] * 3
    assert told[:2] == [400, 404]
