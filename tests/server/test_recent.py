"""What has passed lately. Rule: through a whole house where that is quick, else by the hook itself; the clock is the test's."""

from pathlib import Path
from time import time
from typing import Any

import msgspec
import pytest

from tests.server.clients import Door
from tests.server.peers import Asked, Notify, Server, echo, house, said, tool, until
from vmcp.call import Identity, Peer, Trail
from vmcp.config.audit import AuditSpec
from vmcp.errors import Code, McpError, Throttled
from vmcp.middleware.audit import Auditor
from vmcp.protocol.jsonrpc import Request, parse
from vmcp.protocol.revisions import Revision
from vmcp.server import recent as module
from vmcp.server.recent import BATCH, KEPT, MOST, Recent

ANN = Peer(Revision.V2025_11_25, identity=Identity("i", "ann"))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "perf_counter", made)
    monkeypatch.setattr(module, "time", lambda: made.now + 1_800_000_000.0)
    return made


def request(method: str = "tools/call", name: str = "read", **more: Any) -> Request:
    params = {"name": name, "arguments": {"password": "hush"}, **more}
    found = parse(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}), 64, 1000)
    assert isinstance(found, Request)
    return found


def ended(
    recent: Recent,
    clock: Clock,
    seconds: float = 0.01,
    *,
    what: Request | None = None,
    result: bytes | None = b"{}",
    why: McpError | None = None,
    backend: str | None = "a",
) -> None:
    trail = Trail(backend=backend, upstream_seconds=seconds / 2, trace="ab12")
    recent.add(what or request(), ANN, "/mcp", trail, clock.now - seconds, result, why)


def made(busy: int = 0) -> Recent:
    return Recent(lambda: busy, dict)


async def failing(asked: Asked, notify: Notify) -> bytes:
    return said("no").replace(b'"content"', b'"isError":true,"content"')


@pytest.mark.parametrize("audited", [False, True], ids=["alone", "from the notes of the audit log"])
async def test_calls_of_clients_are_counted_with_how_they_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, audited: bool
) -> None:
    servers = {"a": Server(tools=[tool("read")], script=echo), "b": Server(tools=[tool("fail")], script=failing)}
    audit = {"audit": AuditSpec(str(tmp_path / "log"))} if audited else {}
    async with house(monkeypatch, servers, **audit) as running, running.recent.kept():
        client = Door(running.app, Revision.V2025_11_25)
        await client.initialize()
        for name in ("read", "fail", "made-up"):
            await client.ask("tools/call", {"name": name, "arguments": {"password": "hush"}})
        told = [(each.method, each.target, each.backend, each.outcome) for each in running.recent.exchanges()]
        assert told[-3:] == [
            ("tools/call", "read", "a", "ok"),
            ("tools/call", "fail", "b", "tool_error"),
            ("tools/call", "made-up", "", "routing_failed"),
        ]
        last = running.recent.exchanges()[-1]
        assert (last.endpoint, last.who, last.revision) == ("/mcp", "anonymous", "2025-11-25")
        read = next(each for each in running.recent.exchanges() if each.target == "read")
        assert (read.endpoint, read.who, read.revision, read.trace_id) == ("/mcp", "anonymous", "2025-11-25", "")
        assert read.ms > 0 < read.bytes
        assert 0 <= time() - read.at < 60
        assert any(each.method == "initialize" and each.target == "" for each in running.recent.exchanges())
        assert "hush" not in repr(running.recent.exchanges())
        tools = running.recent.statistics("tool", "backend", "group")
        assert {key: (each.count, each.errors) for key, each in tools.items()} == {
            ("read", "a", "g"): (1, 0),
            ("fail", "b", "g"): (1, 1),
            ("other", "", "g"): (1, 1),
        }
        metrics = (await client.ask("vmcp/metrics")).result
        assert metrics["statistics"]["methods"]["tools/call"]["count"] == 3
        assert metrics["statistics"]["servers"]["b"]["successRate"] == 0.0


class Book:
    """An audit log that keeps nothing."""

    failing = None
    crowded = False
    load = 0.0

    def note(self, draft: object) -> None: ...

    def put(self, body: bytes, *, vital: bool) -> None: ...


@pytest.mark.parametrize("who", [ANN, Peer(Revision.V2025_06_18)])
def test_a_note_of_the_audit_log_says_the_same_as_the_call(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, who: Peer
) -> None:
    recent, auditor = made(), Auditor(AuditSpec("log"), Book())
    trail = Trail(backend="a", upstream_seconds=0.2, trace="ab12")
    for what in (request(name="r" * 200), request("prompts/get"), request("ping"), request("made/up")):
        note = auditor.served(what, who, "/mcp", trail, 0.5, b'{"x":1}')
        assert note is not None
        assert recent.noted(note, clock.now)
        recent.add(what, who, "/mcp", trail, clock.now - 0.5, b'{"x":1}', None)
    told = [msgspec.structs.replace(each, number=0) for each in recent.exchanges()]
    assert told[::2] == told[1::2]
    assert recent.statistics()[()].count == 8


async def test_nothing_is_counted_while_nobody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"a": Server(tools=[tool("read")], script=echo)}) as running:
        client = Door(running.app, Revision.V2025_11_25)
        await client.initialize()
        await client.ask("tools/call", {"name": "read"})
        assert running.recent.exchanges() == []
        assert "statistics" not in (await client.ask("vmcp/metrics")).result
        async with running.recent.kept():
            await client.ask("tools/call", {"name": "read"})
        await client.ask("tools/call", {"name": "read"})
        assert len(running.recent.exchanges()) == 1


async def test_what_stands_open_for_ever_is_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"a": Server(tools=[tool("read")], script=echo)}) as running, running.recent.kept():
        client = Door(running.app)
        raw, headers = client.message("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, 7)
        async with client.begin("POST", None, raw, **headers).running() as stream:
            await until(lambda: stream.answer.chunks)
        await client.call("read")
        assert [each.method for each in running.recent.exchanges()] == ["tools/call"]


async def test_they_are_counted_by_the_second_without_anybody_asking(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    recent = made()
    told: list[tuple[Any, str, int]] = []
    recent.told = lambda key, who, calls: told.append((key, who, calls.count))
    async with recent.kept():
        ended(recent, clock)
        await until(lambda: told)
    assert told == [(("tools/call", "read", "a", ""), "ann", 1)]


def test_rates_are_of_the_last_ten_seconds_and_by_both_ends(clock: Clock) -> None:
    recent = made(busy=4)
    for second in range(20):
        clock.now = 1000.5 + second
        ended(recent, clock, 0.02)
        ended(recent, clock, backend=None, result=None, why=Throttled("rule", "too often", 1.0))
    clock.now = 1020.0
    now = recent.pace().now()
    assert (now.requests, now.errors, now.in_flight) == (2.0, 1.0, 4)
    assert now.p95 == pytest.approx(0.02, rel=0.05)
    assert {name: each.requests for name, each in recent.pace().backends().items()} == {"a": 1.0}
    assert recent.pace().endpoints()["/mcp"].requests == 2.0
    assert {edge: each.errors for edge, each in recent.pace().edges().items()} == {
        ("/mcp", "a"): 0.0,
        ("/mcp", ""): 1.0,
    }
    last = recent.pace().seconds()[-1]
    assert (last.requests, last.errors, last.backends, last.at) == (2, 1, {"a": (1, 0)}, 1_800_001_019.0)
    assert recent.pace().minutes()[-1].requests == 40
    assert recent.exchanges()[-1].outcome == "rate_limited"


def test_the_last_exchanges_have_numbers_that_grow(clock: Clock) -> None:
    recent = made()
    for _ in range(KEPT + 10):
        ended(recent, clock)
    found = recent.exchanges()
    assert (len(found), found[0].number, found[-1].number) == (KEPT, 11, KEPT + 10)
    assert [each.number for each in recent.exchanges(KEPT + 8)] == [KEPT + 9, KEPT + 10]
    one = found[-1]
    assert (round(one.ms), round(one.backend_ms), one.bytes, one.trace_id) == (10, 5, 2, "ab12")
    assert one.at == 1_800_001_000.0


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        (request(name="r" * 1000), "r" * 256),
        (request("resources/read", uri="file:///a?token=hush"), "file:///a?…"),
        (request("tasks/get", taskId="sealed-hush"), ""),
        (request("ping"), ""),
        (request(name="ghp_" + "a" * 30), "***"),
    ],
)
def test_of_a_name_no_more_is_shown_than_may_be(clock: Clock, what: Request, shown: str) -> None:
    recent = made()
    ended(recent, clock, what=what)
    (one,) = recent.exchanges()
    assert one.target == shown


def test_a_call_that_nobody_waited_for_is_no_error(clock: Clock) -> None:
    recent = made()
    ended(recent, clock, result=None)
    ended(recent, clock, result=None, why=McpError(Code.INTERNAL_ERROR, "x", vmcp_code=Code.GATEWAY_ERROR))
    assert [each.outcome for each in recent.exchanges()] == ["cancelled", "gateway_error"]
    assert recent.statistics()[()].errors == 1


def test_names_that_clients_make_up_take_no_room(clock: Clock) -> None:
    recent = made()
    for number in range(MOST + 50):
        ended(recent, clock, what=request(f"m{number}"), backend=None)
        ended(recent, clock, what=request(name=f"t{number}"), backend=None)
    assert set(recent.statistics("method")) == {("other",), ("tools/call",)}
    assert set(recent.statistics("tool")) == {("other",)}


def test_there_is_a_bound_to_the_tools_that_are_told_by_name(clock: Clock) -> None:
    recent = made()
    for number in range(MOST + 50):
        ended(recent, clock, what=request(name=f"t{number}"))
    found = recent.statistics("tool")
    assert len(found) <= MOST + 1
    assert sum(each.count for each in found.values()) == MOST + 50


def test_many_are_counted_at_once_and_all_of_them(clock: Clock) -> None:
    recent = made()
    told: list[int] = []
    recent.told = lambda key, who, calls: told.append(calls.count)
    for number in range(BATCH + 1):
        clock.now += 0.001
        ended(recent, clock, 0.01 if number % 2 else 0.02)
    assert told == [BATCH]
    assert recent.statistics()[()].count == BATCH + 1
    assert recent.statistics()[()].mean == pytest.approx(0.015, rel=0.01)


def test_a_batch_that_spans_seconds_is_told_apart(clock: Clock) -> None:
    recent = made()
    for second in (0.9, 1.1, 2.5):
        clock.now = 1000 + second
        ended(recent, clock)
    clock.now = 1003.0
    assert [each.requests for each in recent.pace().seconds()][-3:] == [1, 1, 1]
