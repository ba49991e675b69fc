"""The answer to a POST as JSON or as an event stream: notifications, log levels, silence, and clients that go away.

Rule: a stream ends with exactly one reply, and there is none for who cannot read one.
"""

import asyncio
from typing import Any

import pytest

from tests.server.clients import Door, listening
from tests.server.peers import Asked, Json, Notify, Server, config, echo, house, said, tool, until
from vmcp.protocol.envelope import LEVELS, LOG_LEVEL
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.server import pulse

TOKEN = {"progressToken": "p-1"}
LOGGING: Json = {"tools": {}, "logging": {}}
BOTH = [MODERN, Revision.V2025_11_25]


def progress(*steps: int) -> Any:
    async def script(asked: Asked, notify: Notify) -> bytes:
        token = asked.params.get("_meta", {}).get("progressToken")
        for step in steps:
            await notify("notifications/progress", {"progressToken": token, "progress": step, "x-own": {"a": [1.0]}})
        return said("done")

    return script


def logs(*levels: Any) -> Any:
    async def script(asked: Asked, notify: Notify) -> bytes:
        for level in levels:
            await notify("notifications/message", {"level": level, "data": "ä\u2028"})
        return said("done")

    return script


def talker(script: Any, revision: Revision = MODERN) -> dict[str, Server]:
    return {"a": Server(revision, tools=[tool("t")], capabilities=LOGGING, script=script)}


@pytest.mark.parametrize("client", list(Revision))
@pytest.mark.parametrize("backend", BOTH)
async def test_progress_rides_on_the_stream_of_its_call(
    monkeypatch: pytest.MonkeyPatch, client: Revision, backend: Revision
) -> None:
    async with house(monkeypatch, talker(progress(1, 2), backend)) as running:
        door = Door(running.app, client)
        await door.initialize()
        answer = await door.ask("tools/call", {"name": "t", "_meta": TOKEN}, id="call")
        assert answer.streamed
        assert answer.headers["cache-control"] == "no-store"
        first, second, reply = answer.events()
        assert first["params"] == {"progressToken": "p-1", "progress": 1, "x-own": {"a": [1.0]}}
        assert second["params"]["progress"] == 2
        assert reply["id"] == "call"
        assert reply["result"]["content"][0]["text"] == "done"


@pytest.mark.parametrize("token", ["s", 7, 0, "9007199254740993", 123456789012345678901234567890])
async def test_a_progress_token_comes_back_as_it_was(monkeypatch: pytest.MonkeyPatch, token: object) -> None:
    async with house(monkeypatch, talker(progress(1))) as running:
        answer = await Door(running.app).ask("tools/call", {"name": "t", "_meta": {"progressToken": token}})
        assert answer.events()[0]["params"]["progressToken"] == token


async def test_a_backend_never_sees_the_token_of_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = talker(progress(1))
    async with house(monkeypatch, backends) as running:
        await Door(running.app).ask("tools/call", {"name": "t", "_meta": TOKEN})
        (asked,) = backends["a"].calls()
        assert asked.params["_meta"]["progressToken"] != "p-1"


@pytest.mark.parametrize(
    ("accept", "streamed"),
    [
        ("application/json, text/event-stream", True),
        ("text/event-stream", True),
        ("*/*", True),
        ("text/*", True),
        ("application/json", False),
        (None, False),
        ("", False),
    ],
)
async def test_only_who_accepts_a_stream_gets_one(monkeypatch: pytest.MonkeyPatch, accept: str, streamed: bool) -> None:
    async with house(monkeypatch, talker(progress(1))) as running:
        answer = await Door(running.app).ask("tools/call", {"name": "t", "_meta": TOKEN}, accept=accept)
        assert answer.streamed is streamed
        assert answer.result["content"][0]["text"] == "done"


async def test_without_a_token_there_is_no_progress_and_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, talker(progress(1))) as running:
        answer = await Door(running.app).call("t")
        assert not answer.streamed


async def test_an_error_ends_a_stream_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(asked: Asked, notify: Notify) -> bytes:
        await progress(1)(asked, notify)
        return b"{"

    async with house(monkeypatch, talker(failing)) as running:
        answer = await Door(running.app).ask("tools/call", {"name": "t", "_meta": TOKEN}, id=5)
        assert answer.status == 200
        assert [("error" in event, event.get("id")) for event in answer.events()] == [(False, None), (True, 5)]


@pytest.mark.parametrize("minimum", [None, *LEVELS])
async def test_a_modern_client_gets_the_logs_it_asks_for(monkeypatch: pytest.MonkeyPatch, minimum: str | None) -> None:
    async with house(monkeypatch, talker(logs(*LEVELS))) as running:
        meta = {} if minimum is None else {LOG_LEVEL: minimum}
        answer = await Door(running.app).ask("tools/call", {"name": "t", "_meta": meta})
        expected = [] if minimum is None else list(LEVELS[LEVELS.index(minimum) :])
        got = [event["params"]["level"] for event in answer.events()[:-1]] if answer.streamed else []
        assert got == expected


async def test_a_modern_client_may_not_ask_for_a_level_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, talker(logs())) as running:
        answer = await Door(running.app).ask("tools/call", {"name": "t", "_meta": {LOG_LEVEL: "loud"}})
        assert (answer.status, answer.error["code"]) == (400, -32602)


@pytest.mark.parametrize("minimum", LEVELS)
async def test_a_session_sets_its_level(monkeypatch: pytest.MonkeyPatch, minimum: str) -> None:
    async with house(monkeypatch, talker(logs(*LEVELS), Revision.V2025_06_18)) as running:
        door, other = Door(running.app, Revision.V2025_06_18), Door(running.app, Revision.V2025_11_25)
        await door.initialize()
        await other.initialize()
        assert (await door.ask("logging/setLevel", {"level": minimum})).result == {}
        answer = await door.call("t")
        assert [e["params"]["level"] for e in answer.events()[:-1]] == list(LEVELS[LEVELS.index(minimum) :])
        usual = await other.call("t")
        assert [e["params"]["level"] for e in usual.events()[:-1]] == list(LEVELS[1:]), "another session has its own"


@pytest.mark.parametrize("level", ["loud", None, 3, ["info"], "INFO"])
async def test_a_level_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, level: object) -> None:
    async with house(monkeypatch, talker(logs("debug", "info"))) as running:
        door = Door(running.app, Revision.V2025_11_25)
        await door.initialize()
        assert (await door.ask("logging/setLevel", {"level": level})).error["code"] == -32602
        answer = await door.call("t")
        assert [e["params"]["level"] for e in answer.events()[:-1]] == ["info"], "and changes nothing"


@pytest.mark.parametrize("level", ["trace", None, 5, {"a": 1}])
async def test_a_level_that_nobody_knows_passes(monkeypatch: pytest.MonkeyPatch, level: object) -> None:
    async with house(monkeypatch, talker(logs(level))) as running:
        answer = await Door(running.app).ask("tools/call", {"name": "t", "_meta": {LOG_LEVEL: "emergency"}})
        assert answer.events()[0]["params"] == {"level": level, "data": "ä\u2028"}


async def test_a_line_separator_does_not_end_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(asked: Asked, notify: Notify) -> bytes:
        await notify("notifications/progress", {"progressToken": asked.params["_meta"]["progressToken"], "progress": 1})
        return said("a\u2028b\u2029c\u0085d")

    async with house(monkeypatch, talker(script)) as running:
        answer = await Door(running.app).ask("tools/call", {"name": "t", "_meta": TOKEN})
        assert len(answer.body.decode().splitlines()) == len(answer.body.split(b"\n")) - 1
        assert answer.result["content"][0]["text"] == "a\u2028b\u2029c\u0085d"


@pytest.mark.parametrize("revision", BOTH)
async def test_a_silent_call_is_heard_to_live(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    monkeypatch.setattr(pulse, "QUIET", 0.02)
    finish = asyncio.Event()

    async def script(asked: Asked, notify: Notify) -> bytes:
        await finish.wait()
        return said("late")

    async with house(monkeypatch, talker(script)) as running:
        door = Door(running.app, revision)
        await door.initialize()
        raw, headers = door.message("tools/call", {"name": "t"})
        exchanged = door.begin("POST", None, raw, **headers)
        async with asyncio.TaskGroup() as group:
            group.create_task(exchanged.run())
            await until(lambda: len(exchanged.answer.chunks) >= 3)
            finish.set()
        # Since 2025-11-25 a stream begins with the place to come back to.
        assert exchanged.answer.chunks[1 if door.session else 0].startswith(b":")
        assert (b"\nretry: " in exchanged.answer.chunks[0]) is (door.session is not None)
        assert exchanged.answer.events() == [exchanged.answer.message]
        assert exchanged.answer.result["content"][0]["text"] == "late"


async def test_who_takes_no_stream_is_left_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "QUIET", 0.01)
    beats = asyncio.Semaphore(0)

    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.name == "slow":
            for _ in range(3):
                await beats.acquire()
        else:
            await asyncio.Event().wait()
        return said("late")

    tools = {"a": Server(tools=[tool("slow"), tool("never")], script=script)}
    async with house(monkeypatch, tools) as running:
        door = Door(running.app)
        plain = door.begin("POST", None, door.message("tools/call", {"name": "slow"})[0], **headers_of(door, "slow"))
        other = door.begin("POST", None, door.message("tools/call", {"name": "never"})[0], **headers_of(door, "never"))
        plain._scope["headers"] = tuple(h for h in plain._scope["headers"] if h[0] != b"accept")
        async with asyncio.TaskGroup() as group:
            group.create_task(plain.run())
            endless = group.create_task(other.run())
            await until(lambda: len(other.answer.chunks) >= 3)
            assert not plain.answer.chunks
            for _ in range(3):
                beats.release()
            await until(lambda: plain.answer.body)
            endless.cancel()
        assert not plain.answer.streamed


def headers_of(door: Door, name: str) -> dict[str, str | None]:
    return door.message("tools/call", {"name": name})[1]


def wire(door: Door, method: str, params: Json) -> bytes:
    """A request as it goes over a socket."""
    raw, headers = door.message(method, params)
    head = {"host": "localhost", "content-type": "application/json", "accept": door.accept, **headers}
    if door.session is not None:
        head |= {"mcp-session-id": door.session}
    lines = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in head.items() if value is not None)
    return f"POST /mcp HTTP/1.1\r\n{lines}content-length: {len(raw)}\r\n\r\n".encode() + raw


class Parked:
    """A tool that waits until it is told to go on."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.done = 0

    async def __call__(self, asked: Asked, notify: Notify) -> bytes:
        await self.go.wait()
        self.done += 1
        return said("late")


async def test_a_modern_client_that_goes_away_cancels_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    parked = Parked()
    backends = talker(parked)
    async with house(monkeypatch, backends) as running, listening(running.app, config({})) as server:
        raw = await server.say(wire(Door(running.app), "tools/call", {"name": "t"}))
        await until(backends["a"].calls)
        raw.close()
        await until(lambda: backends["a"].cancelled == 1)
        await until(lambda: not server.state.tasks)
        parked.go.set()
        assert (await Door(running.app).call("t")).result["content"][0]["text"] == "late"


async def test_a_stream_that_has_ended_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    parked = Parked()
    async with house(monkeypatch, talker(parked)) as running, listening(running.app, config({})) as server:
        door = Door(running.app)
        raw = await server.say(wire(door, "tools/call", {"name": "t"}))
        await until(lambda: len(running._pulse.streams) == 1)
        raw.close()
        await until(lambda: not running._pulse.streams)
        parked.go.set()
        for name in ("t", "unknown"):
            await door.call(name)
        await door.ask("tools/call", {"name": "t", "_meta": {LOG_LEVEL: "loud"}})
        assert not running._pulse.streams


async def test_a_handshake_client_that_goes_away_cancels_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parked = Parked()
    backends = talker(parked)
    async with house(monkeypatch, backends) as running, listening(running.app, config({})) as server:
        door = Door(running.app, Revision.V2025_11_25)
        await door.initialize()
        raw = await server.say(wire(door, "tools/call", {"name": "t"}))
        await until(backends["a"].calls)
        raw.close()
        await until(lambda: not server.state.connections)
        parked.go.set()
        await until(lambda: parked.done == 1)
        assert backends["a"].cancelled == 0
        await until(lambda: not server.state.tasks)


async def test_a_hundred_clients_that_go_away_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parked = Parked()
    backends = talker(parked)
    async with house(monkeypatch, backends) as running, listening(running.app, config({})) as server:
        raws = [await server.say(wire(Door(running.app), "tools/call", {"name": "t"})) for _ in range(100)]
        await until(lambda: len(backends["a"].calls()) == 100)
        for raw in raws:
            raw.close()
        await until(lambda: backends["a"].cancelled == 100)
        await until(lambda: not server.state.tasks)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_reply_on_the_wire_is_one_whole_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        house(monkeypatch, talker(progress(*range(50)))) as running,
        listening(running.app, config({})) as server,
    ):
        raw = await server.say(wire(Door(running.app), "tools/call", {"name": "t", "_meta": TOKEN}))
        answer = await raw.response()
        assert [event["params"]["progress"] for event in answer.events()[:-1]] == list(range(50))
        raw.send(wire(Door(running.app), "tools/list", {}))
        assert (await raw.response()).result["tools"]


async def test_notifications_that_belong_to_no_call_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(asked: Asked, notify: Notify) -> bytes:
        await notify("notifications/tools/list_changed", {})
        await notify("notifications/progress", {"progressToken": "foreign", "progress": 1})
        return await echo(asked, notify)

    async with house(monkeypatch, talker(script)) as running:
        answer = await Door(running.app).ask("tools/call", {"name": "t", "_meta": TOKEN})
        assert not answer.streamed
