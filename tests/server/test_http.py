"""Both eras on one endpoint: negotiation, sessions, batches, bodies and their types.

Rule: a conversation is in, out, in, out; a refusal stands beside what is allowed.
"""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.server.clients import Answer, Door
from tests.server.peers import Asked, Notify, Server, echo, house, tool, until
from vmcp.config.model import Limits
from vmcp.protocol.revisions import HANDSHAKE, MODERN, Revision
from vmcp.server.runtime import Runtime

ALL = list(Revision)


def backends() -> dict[str, Server]:
    return {"a": Server(tools=[tool("t")], script=echo)}


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runtime]:
    async with house(monkeypatch, backends(), limits=Limits(sessions=3, body_bytes=100_000)) as found:
        yield found


@pytest.mark.parametrize(
    ("asked", "answered"),
    [(str(revision), str(revision)) for revision in HANDSHAKE]
    + [(str(MODERN), "2025-11-25"), ("2024-10-07", "2025-11-25"), ("2099-01-01", "2025-11-25"), ("", "2025-11-25")],
)
async def test_initialize_agrees_on_what_was_asked_or_the_latest(running: Runtime, asked: str, answered: str) -> None:
    door = Door(running.app, Revision.V2025_11_25)
    answer = await door.post(
        {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": asked, "capabilities": {}}}
    )
    assert answer.status == 200
    assert answer.result["protocolVersion"] == answered
    assert answer.result["serverInfo"]["name"] == "test"
    assert "tools" in answer.result["capabilities"]
    assert len(answer.headers["mcp-session-id"]) > 40


@pytest.mark.parametrize(
    "params", [{}, {"protocolVersion": 1}, {"protocolVersion": None}, {"protocolVersion": ["2025-11-25"]}]
)
async def test_an_initialize_without_a_revision_opens_nothing(running: Runtime, params: dict[str, object]) -> None:
    answer = await Door(running.app).post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
    assert answer.error["code"] == -32602
    assert "mcp-session-id" not in answer.headers


async def test_a_modern_initialize_is_no_way_in(running: Runtime) -> None:
    answer = await Door(running.app).ask("initialize", {"protocolVersion": "2025-11-25"})
    assert (answer.status, answer.error["code"]) == (404, -32601)
    assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize("revision", ALL)
async def test_every_revision_lists_and_calls(running: Runtime, revision: Revision) -> None:
    door = Door(running.app, revision)
    await door.initialize()
    assert (await door.ask("tools/list")).result["tools"][0]["name"] == "t"
    answer = await door.call("t", {"x": 1})
    assert answer.result["content"] == [{"type": "text", "text": '{"x": 1}'}]
    assert not answer.streamed


async def test_the_era_is_read_from_each_message(running: Runtime) -> None:
    old, new = Door(running.app, Revision.V2025_06_18), Door(running.app)
    await old.initialize()
    assert (await new.ask("tools/list")).result["resultType"] == "complete"
    assert "resultType" not in (await old.ask("tools/list")).result
    # A session header beside a modern envelope changes nothing: there are no sessions in that revision.
    assert (await new.ask("tools/list", mcp_session_id="x")).result["resultType"] == "complete"


async def test_a_session_is_needed_known_and_of_this_path(running: Runtime) -> None:
    door = Door(running.app, Revision.V2025_11_25)
    assert (await door.ask("tools/list")).status == 400
    await door.initialize()
    assert (await door.ask("ping")).result == {}
    assert (await door.ask("tools/list", mcp_session_id="x" * 43)).status == 404
    assert (await door.ask("tools/list", mcp_session_id=None)).status == 400
    door.path = "/g/mcp"
    assert (await door.ask("tools/list")).status == 404
    assert (await door.http("DELETE")).status == 404


async def test_a_session_ends_with_delete(running: Runtime) -> None:
    door = Door(running.app, Revision.V2025_11_25)
    await door.initialize()
    assert (await door.http("DELETE", mcp_session_id=None)).status == 400
    assert (await door.http("DELETE")).status == 204
    assert (await door.http("DELETE")).status == 404
    assert (await door.ask("ping")).status == 404


async def test_a_session_header_of_another_revision_is_seen(running: Runtime) -> None:
    door = Door(running.app, Revision.V2025_06_18)
    await door.initialize()
    assert (await door.ask("ping", mcp_protocol_version=None)).status == 200
    assert (await door.ask("ping", mcp_protocol_version="2025-11-25")).status == 200
    assert (await door.ask("ping", mcp_protocol_version="2023-01-01")).status == 400
    assert (await door.http("DELETE", mcp_protocol_version="2023-01-01")).status == 400
    assert (await door.http("DELETE", mcp_protocol_version=str(MODERN))).status == 405


async def test_there_are_only_so_many_sessions(running: Runtime) -> None:
    doors = [Door(running.app, Revision.V2025_11_25) for _ in range(4)]
    answers = [await door.initialize() for door in doors]
    assert [answer.headers.get("mcp-session-id") is None for answer in answers] == [False, False, False, True]
    assert "limit of 3 sessions" in answers[3].error["message"]
    await doors[0].http("DELETE")
    assert (await doors[3].initialize()).result["protocolVersion"] == "2025-11-25"


async def test_an_idle_session_is_forgotten(running: Runtime) -> None:
    door = Door(running.app, Revision.V2025_11_25)
    await door.initialize()
    seen = running._sessions.get(door.session or "")
    assert seen is not None
    seen.seen -= 1801
    assert (await door.ask("ping")).status == 404


async def test_notifications_and_replies_are_taken_without_an_answer(running: Runtime) -> None:
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    old = Door(running.app, Revision.V2025_11_25)
    assert (await old.post(note)).status == 400, "a handshake client needs its session"
    await old.initialize()
    for message in (note, {"jsonrpc": "2.0", "id": 7, "result": {}}, {"jsonrpc": "2.0", "id": 7, "error": {"code": 1}}):
        answer = await old.post(message)
        assert (answer.status, answer.body) == (202, b"")
    new = Door(running.app)
    assert (await new.post(note, mcp_protocol_version=str(MODERN))).status == 202


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"x", b"[]", b"1", b'"x"', b"null", b"{}", b"\xff", b'{"jsonrpc":"2.0"}'],
        b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":true,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
    ],
)
async def test_what_is_no_message_is_a_400_and_an_error(running: Runtime, body: bytes) -> None:
    answer = await Door(running.app).post(body)
    assert answer.status == 400
    assert answer.error["code"] in (-32700, -32600)
    assert answer.json()["id"] is None


IDS = [b"1", b"0", b"-1", b"9007199254740993", b"123456789012345678901234567890", b'"1"', b'""', b'"\\u00e4 \\"x\\""']
IDS += ['"ünïcode ✓"'.encode(), b'"\\ud83d\\ude00"', b'"' + b"x" * 256 + b'"']


@pytest.mark.parametrize("id_", IDS)
@pytest.mark.parametrize("revision", [MODERN, Revision.V2025_03_26])
async def test_an_id_comes_back_byte_for_byte(running: Runtime, id_: bytes, revision: Revision) -> None:
    door = Door(running.app, revision)
    await door.initialize()
    for params in ({"name": "t", "arguments": {}}, {"name": "unknown"}):
        raw, headers = door.message("tools/call", params, id="ID")
        answer = await door.post(raw.replace(b'"ID"', id_), **headers)
        assert b'"id":' + id_ + b"," in answer.body


async def test_two_hundred_requests_of_one_id_each_get_their_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[asyncio.Event] = []

    async def last_first(asked: Asked, notify: Notify) -> bytes:
        mine = asyncio.Event()
        waiting.append(mine)
        if len(waiting) == 200:
            for event in reversed(waiting):
                event.set()
        await mine.wait()
        return await echo(asked, notify)

    async with house(monkeypatch, {"a": Server(tools=[tool("t")], script=last_first)}) as running:
        door = Door(running.app)
        answers: dict[int, Answer] = {}

        async def one(number: int) -> None:
            answers[number] = await door.call("t", {"n": number})

        async with asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(one(number))
        assert len(answers) == 200
        for number, answer in answers.items():
            assert answer.json()["id"] == 1
            assert json.loads(answer.result["content"][0]["text"]) == {"n": number}


# --- batches


def batch(*methods: str, first: int = 1) -> list[dict[str, object]]:
    return [{"jsonrpc": "2.0", "id": number, "method": method} for number, method in enumerate(methods, first)]


async def test_a_batch_is_answered_as_a_list(running: Runtime) -> None:
    door = Door(running.app, Revision.V2025_03_26)
    await door.initialize()
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    call = {"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": {"name": "t", "arguments": {"a": 1}}}
    answer = await door.post([*batch("ping", "nonsense", "tools/list"), note, call])
    assert answer.status == 200
    replies = {reply["id"]: reply for reply in answer.json()}
    assert list(replies) == [1, 2, 3, "c"]
    assert replies[1]["result"] == {}
    assert replies[2]["error"]["code"] == -32601
    assert replies["c"]["result"]["content"][0]["text"] == '{"a": 1}'


async def test_a_batch_of_notifications_is_taken_without_an_answer(running: Runtime) -> None:
    door = Door(running.app, Revision.V2025_03_26)
    await door.initialize()
    answer = await door.post([{"jsonrpc": "2.0", "method": "notifications/initialized"}] * 2)
    assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize("revision", [Revision.V2025_06_18, Revision.V2025_11_25])
async def test_later_revisions_have_no_batches(running: Runtime, revision: Revision) -> None:
    door = Door(running.app, revision)
    await door.initialize()
    answer = await door.post(batch("ping"))
    assert answer.status == 400
    assert "no batches" in answer.error["message"]


async def test_a_batch_needs_a_session(running: Runtime) -> None:
    assert (await Door(running.app).post(batch("ping"))).status == 400
    raw, headers = Door(running.app).message("tools/list")
    assert (await Door(running.app).post(b"[" + raw + b"]", **headers)).status == 400


@pytest.mark.parametrize(("size", "status"), [(16, 200), (17, 400)])
async def test_a_batch_has_a_limit(running: Runtime, size: int, status: int) -> None:
    door = Door(running.app, Revision.V2025_03_26)
    await door.initialize()
    assert (await door.post(batch(*["ping"] * size))).status == status


async def test_initialize_is_no_part_of_a_batch(running: Runtime) -> None:
    door = Door(running.app, Revision.V2024_11_05)
    await door.initialize()
    first, second = (await door.post(batch("initialize", "ping"))).json()
    assert first["error"]["code"] == -32600
    assert second["result"] == {}


@pytest.mark.parametrize(
    "member", [1, None, [], {}, {"jsonrpc": "2.0", "id": 1}, [{"jsonrpc": "2.0", "id": 1, "method": "ping"}]]
)
async def test_one_bad_member_spoils_a_batch(running: Runtime, member: object) -> None:
    door = Door(running.app, Revision.V2025_03_26)
    await door.initialize()
    assert (await door.post([*batch("ping"), member])).status == 400


# --- types, encodings, sizes


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ("application/json", 200),
        ("APPLICATION/JSON", 200),
        ("application/json; charset=utf-8", 200),
        ('application/json;charset="UTF-8"', 200),
        ("application/json; a=b", 200),
        (None, 415),
        ("", 415),
        ("text/plain", 415),
        ("application/jsonx", 415),
        ("application/json-rpc", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=application/json", 415),
        ("text/plain; application/json", 415),
        ("application/json, text/plain", 415),
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=latin1", 415),
        ("application/json; a=b; charset=utf-7", 415),
        ("application/json; CHARSET=utf-16", 415),
    ],
)
async def test_a_body_says_that_it_is_json_in_utf_8(running: Runtime, given: str | None, status: int) -> None:
    assert (await Door(running.app).ask("tools/list", content_type=given)).status == status


@pytest.mark.parametrize(("given", "status"), [("identity", 200), ("gzip", 415), ("br", 415), ("identity, gzip", 415)])
async def test_a_compressed_body_is_refused(running: Runtime, given: str, status: int) -> None:
    assert (await Door(running.app).ask("tools/list", content_encoding=given)).status == status


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"mcp_method": "tools/list"}, -32020),
        ({"mcp_method": None}, -32020),
        ({"mcp_protocol_version": "2025-11-25"}, -32020),
        ({"mcp_protocol_version": None}, -32020),
        ({"mcp_name": "other"}, -32020),
        ({"mcp_name": None}, -32020),
    ],
)
async def test_a_header_that_does_not_confirm_the_body_is_refused(
    running: Runtime, headers: dict[str, str | None], code: int
) -> None:
    answer = await Door(running.app).ask("tools/call", {"name": "t"}, **headers)
    assert (answer.status, answer.error["code"]) == (400, code)
    assert answer.json()["id"] == 1


async def test_an_unknown_method_has_the_status_of_its_era(running: Runtime) -> None:
    new, old = Door(running.app), Door(running.app, Revision.V2025_11_25)
    await old.initialize()
    for door, status in ((new, 404), (old, 200)):
        answer = await door.ask("no/such")
        assert (answer.status, answer.error["code"]) == (status, -32601)
    assert (await old.ask("server/discover")).error["code"] == -32601
    assert (await new.ask("ping")).error["code"] == -32601
    assert (await new.ask("logging/setLevel", {"level": "info"})).error["code"] == -32601


async def test_discover_says_what_is_spoken(running: Runtime) -> None:
    told = (await Door(running.app).ask("server/discover")).result
    assert told["supportedVersions"] == ["2026-07-28"]
    assert "tools" in told["capabilities"]
    assert told["resultType"] == "complete"


async def test_an_unsupported_version_is_told_which_there_are(running: Runtime) -> None:
    raw, headers = Door(running.app).message("tools/list")
    version = {**headers, "mcp_protocol_version": "2027-01-01"}
    answer = await Door(running.app).post(raw.replace(b"2026-07-28", b"2027-01-01"), **version)
    assert (answer.status, answer.error["code"]) == (400, -32022)
    assert answer.error["data"]["supported"] == ["2026-07-28"]


async def test_the_sessions_of_a_batch_keep_their_log_level(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, backends()) as running:
        door = Door(running.app, Revision.V2025_03_26)
        await door.initialize()
        level = {"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "error"}}
        assert (await door.post([level])).json()[0]["result"] == {}
        session = running._sessions.get(door.session or "")
        assert session is not None
        assert session.level == "error"


@pytest.mark.parametrize("revision", [Revision.V2025_11_25, MODERN])
async def test_a_call_that_a_stop_cuts_off_is_told_so(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    async def hang(asked: Asked, notify: Notify) -> bytes:
        await asyncio.Event().wait()
        return b""

    server = Server(tools=[tool("t")], script=hang)
    async with house(monkeypatch, {"a": server}) as stopping:
        door = Door(stopping.app, revision)
        await door.initialize()
        call = door.calling()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call.run())
            await until(server.calls)
            stopping.drain()
            task.cancel()
        assert call.answer.error["data"]["vmcpCode"] == 2001
        assert "stopping" in call.answer.error["message"]
        assert call.answer.status == (503 if revision.modern else 200)
        assert server.cancelled == 1
