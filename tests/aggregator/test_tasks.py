"""Tasks of both eras, from a backend that makes them to the client that they are for.

Rule: the backend's own id is looked for in everything that a client gets, and a name of ours in all that a backend gets.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.aggregator.speaking import complete
from tests.aggregator.tasked import DECLARED, INNER, OFFERS, STATE
from tests.server.clients import Answer, Door, plain
from tests.server.peers import Asked, Json, Notify, Server, config, house, in_memory, said, text, tool, until
from vmcp.config.model import Group
from vmcp.errors import McpError
from vmcp.protocol import envelope
from vmcp.protocol.extensions import TASKS
from vmcp.protocol.revisions import MODERN, Revision
from vmcp.protocol.tasks import RELATED
from vmcp.server import runtime
from vmcp.server.runtime import Runtime

OLD = Revision.V2025_11_25


def maker(revision: Revision, inner: str = INNER, **more: Any) -> Server:
    """A server whose one tool makes a task when its client may have one."""
    state = {**STATE, "taskId": inner}

    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.method == "tools/call":
            if revision.modern:
                able = asked.params["_meta"][envelope.CAPABILITIES].get("extensions", {})
                return text({"resultType": "task", **state, "n": 1.0}) if TASKS in able else said("at once", revision)
            if "task" not in asked.params:
                return said("at once", revision)
            await notify("notifications/message", {"level": "info", "data": 1, "_meta": {RELATED: {"taskId": inner}}})
            return text({"task": state, "_meta": {RELATED: {"taskId": inner}, "x": 1}})
        if asked.method == "tasks/list":
            return text({"tasks": [state, {**state, "taskId": "somebody else's"}]})
        if asked.params["taskId"] != inner:
            raise McpError(-32602, f"no task {asked.params['taskId']}")
        if asked.method == "tasks/result":
            told = {"content": [], "_meta": {RELATED: {"taskId": inner, "y": 2}, "x": 1}, "taskId": inner}
            return text(told)
        if revision.modern and asked.method != "tasks/get":
            return text(complete(revision))
        return text({**complete(revision), **state})

    return Server(revision, tools=[tool("t")], capabilities=OFFERS[revision.modern], script=script, **more)


async def visitor(running: Runtime, revision: Revision, path: str = "/mcp") -> "Visitor":
    door = Door(running.app, revision, path)
    await door.initialize()
    return Visitor(door)


class Visitor:
    """A client that knows tasks."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def ask(self, method: str, **params: Any) -> Answer:
        given = {"_meta": DECLARED, **params} if self.door.revision.modern else params
        return await self.door.ask(method, given)

    async def make(self) -> Json:
        """Call the tool, and say that it may be a task."""
        how: Json = {} if self.door.revision.modern else {"task": {"ttl": 1000}}
        return (await self.ask("tools/call", name="t", **how)).result

    async def begin(self) -> str:
        """The name of a new task."""
        made = await self.make()
        name = made["taskId"] if self.door.revision.modern else made["task"]["taskId"]
        assert isinstance(name, str)
        assert name != INNER
        return name


async def test_a_task_of_2026_lives_its_life_under_a_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    server = maker(MODERN)
    async with house(monkeypatch, {"b": server}) as running:
        visitor_ = await visitor(running, MODERN)
        made = await visitor_.make()
        assert (made["resultType"], made["status"], made["n"]) == ("task", "working", 1.0)
        name = made["taskId"]
        verbs: dict[str, Json] = {"tasks/get": {}, "tasks/update": {"inputResponses": {"k": {}}}, "tasks/cancel": {}}
        for method, more in verbs.items():
            answer = await visitor_.ask(method, taskId=name, **more)
            assert answer.result.get("taskId", name) == name
            assert answer.result["resultType"] == "complete"
            assert INNER not in answer.body.decode()
            asked = server.asked[-1]
            assert (asked.method, asked.params["taskId"], asked.headers["mcp-name"]) == (method, INNER, INNER)
            assert {k: v for k, v in asked.params.items() if k not in ("_meta", "taskId")} == more


async def test_a_task_of_2025_lives_its_life_under_a_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    server = maker(OLD)
    async with house(monkeypatch, {"b": server}) as running:
        visitor_ = await visitor(running, OLD)
        answer = await visitor_.ask("tools/call", name="t", task={"ttl": 1000})
        assert INNER not in answer.body.decode()
        name = answer.result["task"]["taskId"]
        assert answer.result["_meta"] == {RELATED: {"taskId": name}, "x": 1}
        (log, _) = answer.events()
        assert log["params"]["_meta"][RELATED]["taskId"] == name
        assert server.asked[-1].params["task"] == {"ttl": 1000}
        for method in ("tasks/get", "tasks/cancel"):
            assert (await visitor_.ask(method, taskId=name)).result == {**STATE, "taskId": name}
        result = (await visitor_.ask("tasks/result", taskId=name)).result
        assert result["_meta"] == {RELATED: {"taskId": name, "y": 2}, "x": 1}
        assert result["taskId"] == INNER, "what a tool says is its own"
        listed = (await visitor_.ask("tasks/list")).result
        assert listed == {"tasks": [{**STATE, "taskId": name}]}


@pytest.mark.parametrize("revision", [MODERN, OLD])
async def test_a_task_of_nobody_or_of_somebody_else_is_unknown(
    monkeypatch: pytest.MonkeyPatch, revision: Revision
) -> None:
    server, other = maker(revision), maker(revision)
    first = config({"b": server})
    second = config({"c": other})
    groups = {**first.groups, "h": Group("h", {"c": _in_group(second.groups["g"].backends["c"], "h")})}
    monkeypatch.setattr(runtime, "Backend", in_memory({"b": server, "c": other}))
    async with Runtime(_with_groups(first, groups)) as running:
        await running.settled.wait()
        mine, theirs = await visitor(running, revision), await visitor(running, revision, "/h/mcp")
        name = await mine.begin()
        for stranger, wrong in ((mine, INNER), (mine, name[:-2] + "AA"), (mine, ""), (theirs, name), (mine, "a" * 40)):
            answer = await stranger.ask("tasks/get", taskId=wrong)
            assert answer.error["code"] == -32602
            assert answer.error["message"] == f"Unknown task: {wrong}"
        assert (await mine.ask("tasks/get")).error["code"] == -32602
        assert (await mine.ask("tasks/get", taskId=7)).error["code"] == -32602
        assert not [asked for asked in (*server.asked, *other.asked) if asked.method == "tasks/get"]
        assert (await mine.ask("tasks/get", taskId=name)).result["taskId"] == name


def _in_group(spec: Any, group: str) -> Any:
    return type(spec)(spec.name, group, spec.transport, url=spec.url)


def _with_groups(given: Any, groups: Mapping[str, Group]) -> Any:
    return type(given)(given.name, groups, "g", given.aggregation, given.server, given.digest)


@pytest.mark.parametrize("revision", [MODERN, OLD])
async def test_what_a_backend_says_of_a_task_that_it_does_not_know_names_it_as_its_client_does(
    monkeypatch: pytest.MonkeyPatch, revision: Revision
) -> None:
    server = maker(revision)
    async with house(monkeypatch, {"b": server}) as running:
        visitor_ = await visitor(running, revision)
        name = await visitor_.begin()
        fresh = maker(revision, inner="another-inner-id")
        server.script = fresh.script
        answer = await visitor_.ask("tasks/get", taskId=name)
        assert (answer.error["code"], answer.error["message"]) == (-32602, f"no task {name}")


async def test_who_did_not_declare_tasks_gets_none_and_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, {"b": maker(MODERN)}) as running:
        door = Door(running.app)
        assert (await door.call("t")).result["content"][0]["text"] == "at once"
        for method in ("tasks/get", "tasks/update", "tasks/cancel"):
            answer = await door.ask(method, {"taskId": "x"})
            assert (answer.status, answer.error["code"]) == (400, -32021)
            assert plain(answer.error)["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        for method in ("tasks/list", "tasks/result"):
            answer = await door.ask(method, {"taskId": "x", "_meta": DECLARED}, mcp_name=None)
            assert (answer.status, answer.error["code"]) == (404, -32601)


@pytest.mark.parametrize("client", [MODERN, OLD, Revision.V2025_06_18])
@pytest.mark.parametrize("backend", [MODERN, OLD, Revision.V2025_06_18])
async def test_tasks_are_promised_and_made_within_one_era_only(
    monkeypatch: pytest.MonkeyPatch, client: Revision, backend: Revision
) -> None:
    server = maker(backend) if backend in (MODERN, OLD) else Server(backend, tools=[tool("t")], script=_echo)
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app, client)
        greeted = (await door.initialize(capabilities={"extensions": {TASKS: {}}})).result["capabilities"]
        same = client is backend and client in (MODERN, OLD)
        assert ("tasks" in greeted) is (same and not client.modern)
        assert (TASKS in greeted.get("extensions", {})) is (same and client.modern)
        visitor_ = Visitor(door)
        if same:
            return
        assert (await visitor_.ask("tasks/get", taskId="x")).error["code"] == -32601
        result = (await visitor_.ask("tools/call", name="t", task={"ttl": 1})).result
        assert result["content"][0]["text"] == "at once"


async def _echo(asked: Asked, notify: Notify) -> bytes:
    return said("at once", Revision.V2025_06_18)


async def test_a_list_goes_over_all_backends_and_shows_everybody_his_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, plain = maker(OLD), maker(OLD, inner="inner-2"), Server(OLD, tools=[tool("u")], script=_echo)
    first.tools, second.tools = [tool("t")], [tool("t2")]
    async with house(monkeypatch, {"a": first, "b": second, "c": plain}) as running:
        mine, theirs = await visitor(running, OLD), await visitor(running, OLD)
        name = await mine.begin()
        await mine.ask("tools/call", name="t2", task={})
        pages = [(await mine.ask("tasks/list")).result]
        while "nextCursor" in pages[-1]:
            pages.append((await mine.ask("tasks/list", cursor=pages[-1]["nextCursor"])).result)
        listed = [task["taskId"] for page in pages for task in page["tasks"]]
        assert len(listed) == 2
        assert listed[0] == name
        assert (await theirs.ask("tasks/list")).result == {"tasks": []}
        assert not [asked for asked in plain.asked if asked.method == "tasks/list"]
        for cursor in ("nonsense", 7, "", pages[0]["nextCursor"][:-8]):
            assert (await mine.ask("tasks/list", cursor=cursor)).error["code"] == -32602


async def test_a_backend_without_a_list_or_an_end_of_it_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: dict[str, Any] = {}

    async def script(asked: Asked, notify: Notify) -> bytes:
        given = answers["now"]
        if isinstance(given, Exception):
            raise given
        return text(given)

    server = Server(OLD, tools=[tool("t")], capabilities=OFFERS[False], script=script)
    async with house(monkeypatch, {"b": server}) as running:
        visitor_ = await visitor(running, OLD)
        nothings: list[Any] = [
            McpError(-32601, "Method not found"),
            {"tasks": 7},
            [],
            {"tasks": [{}]},
            {"nextCursor": None},
        ]
        for nothing in nothings:
            answers["now"] = nothing
            assert (await visitor_.ask("tasks/list")).result == {"tasks": []}
        answers["now"] = McpError(-32603, "broken")
        assert (await visitor_.ask("tasks/list")).error["message"] == "broken"
        answers["now"] = {"tasks": [], "nextCursor": "again"}
        page = (await visitor_.ask("tasks/list")).result
        assert page["tasks"] == []
        assert "nextCursor" in page
        assert (await visitor_.ask("tasks/list", cursor=page["nextCursor"])).result["tasks"] == []
        assert server.asked[-1].params["cursor"] == "again"


@pytest.mark.parametrize("revision", [MODERN, OLD])
async def test_a_malformed_task_is_the_backends_fault(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    server = maker(revision)
    async with house(monkeypatch, {"b": server}) as running:
        visitor_ = await visitor(running, revision)
        name = await visitor_.begin()

        async def broken(asked: Asked, notify: Notify) -> bytes:
            return b"[1]"

        server.script = broken
        answer = await visitor_.ask("tasks/get", taskId=name)
        assert answer.error["code"] == -32603


async def test_how_a_task_failed_is_told_without_the_backends_house(monkeypatch: pytest.MonkeyPatch) -> None:
    server = maker(MODERN)
    async with house(monkeypatch, {"b": server}) as running:
        visitor_ = await visitor(running, MODERN)
        name = await visitor_.begin()

        async def failed(asked: Asked, notify: Notify) -> bytes:
            error = {"code": -32603, "message": "no db.internal", "data": {"n": 1.0}}
            return text({"resultType": "complete", **STATE, "status": "failed", "error": error})

        server.script = failed
        told = (await visitor_.ask("tasks/get", taskId=name)).result
        assert told["error"] == {"code": -32603, "message": "no [host]", "data": {"n": 1.0}}


async def test_a_change_of_state_is_told_to_the_session_that_it_concerns(monkeypatch: pytest.MonkeyPatch) -> None:
    server = maker(OLD)
    async with house(monkeypatch, {"b": server}) as running:
        mine, theirs = await visitor(running, OLD), await visitor(running, OLD)
        name = await mine.begin()
        async with mine.door.listen().running() as heard, theirs.door.listen().running() as nothing:
            server.say("notifications/tasks/status", {**STATE, "status": "completed", "z": 1.0})
            server.say("notifications/tasks/status", {**STATE, "taskId": "unknown"})
            server.say("notifications/tasks/status", {"taskId": 7})
            server.say("notifications/tools/list_changed")
            await until(heard.heard)
            assert heard.heard()[0]["params"] == {**STATE, "taskId": name, "status": "completed", "z": 1.0}
            assert not [message for message in nothing.heard() if "tasks" in message["method"]]


async def test_what_a_task_asks_names_it_to_client_and_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    server = maker(OLD)
    answers: list[Json] = []

    async def asking(asked: Asked, notify: Notify) -> bytes:
        meta = {RELATED: {"taskId": INNER}}
        answers.append(await asked.ask("elicitation/create", {"message": "?", "requestedSchema": {}, "_meta": meta}))
        answers.append(await asked.ask("elicitation/create", {"message": "!", "requestedSchema": {}}))
        return text({"content": []})

    async with house(monkeypatch, {"b": server}, isolation="session") as running:
        door = Door(running.app, OLD)
        await door.initialize(capabilities={"elicitation": {}})
        visitor_ = Visitor(door)
        name = await visitor_.begin()
        server.script = asking
        raw, own = door.message("tasks/result", {"taskId": name})
        async with asyncio.timeout(5), door.begin("POST", None, raw, **own).running() as exchanged:
            for count, meta in ((1, {RELATED: {"taskId": name}, "k": 1}), (2, {})):
                await until(lambda count=count: len(_questions(exchanged)) == count)  # type: ignore[misc]
                question = _questions(exchanged)[-1]
                assert INNER not in json.dumps(question)
                await door.reply(question["id"], {"action": "accept", "content": {}, "_meta": meta})
            await until(lambda: len(answers) == 2)
        assert answers[0]["_meta"] == {RELATED: {"taskId": INNER}, "k": 1}
        assert answers[1]["_meta"] == {}


def _questions(exchanged: Any) -> list[Json]:
    return [message for message in exchanged.heard() if "method" in message and "id" in message]


async def test_listening_for_a_task_works_by_the_clients_name(monkeypatch: pytest.MonkeyPatch) -> None:
    server = maker(MODERN)
    async with house(monkeypatch, {"b": server}) as running:
        visitor_ = await visitor(running, MODERN)
        name = await visitor_.begin()
        make = server.script
        assert make is not None
        changed = asyncio.Event()

        async def script(asked: Asked, notify: Notify) -> bytes:
            if asked.method != "subscriptions/listen":
                return await make(asked, notify)
            await notify("notifications/subscriptions/acknowledged", {"notifications": asked.params["notifications"]})
            await changed.wait()
            await notify("notifications/tasks", {**STATE, "status": "completed"})
            await asyncio.Event().wait()
            return b"{}"

        server.script = script
        asked = {"notifications": {"taskIds": [name, "nobody's"]}, "_meta": DECLARED}
        raw, own = visitor_.door.message("subscriptions/listen", asked)
        async with visitor_.door.begin("POST", None, raw, **own).running() as exchanged:
            await until(exchanged.heard)
            acknowledged = exchanged.heard()[0]["params"]["notifications"]
            assert acknowledged == {"taskIds": [name]}
            changed.set()
            await until(lambda: len(exchanged.heard()) > 1)
            told = exchanged.heard()[1]["params"]
            assert (told["taskId"], told["status"]) == (name, "completed")
            assert server.calls()[-1].params["notifications"] == {"taskIds": [INNER]}


async def test_a_tool_may_ask_first_and_make_its_task_then(monkeypatch: pytest.MonkeyPatch) -> None:
    server = maker(MODERN)
    make = server.script
    assert make is not None

    async def script(asked: Asked, notify: Notify) -> bytes:
        if asked.method == "tools/call" and "inputResponses" not in asked.params:
            asking = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}}
            return text({"resultType": "input_required", "inputRequests": {"k": asking}})
        return await make(asked, notify)

    server.script = script
    both: Json = {envelope.CAPABILITIES: {"elicitation": {}, "extensions": {TASKS: {}}}}
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app)
        first = (await door.ask("tools/call", {"name": "t", "_meta": both})).result
        assert first["resultType"] == "input_required"
        answers = {"inputResponses": {"k": {"action": "decline"}}, "requestState": first["requestState"]}
        made = (await door.ask("tools/call", {"name": "t", "_meta": both, **answers})).result
        assert made["resultType"] == "task"
        assert "requestState" not in made
        assert (await Visitor(door).ask("tasks/get", taskId=made["taskId"])).result["status"] == "working"
