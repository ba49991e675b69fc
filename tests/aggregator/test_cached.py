"""What is given again, to whom, and what is asked anew.

Rule: the backend behind counts; beside every hit stands the question that differs in one thing and is no hit.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from tests.middleware.calls import call as made
from tests.routing.catalogs import entry
from tests.server.peers import until
from tests.state.test_cache import Clock
from vmcp.aggregator.cached import MOST, Cached
from vmcp.aggregator.shelf import LARGE, LARGEST, Shelf
from vmcp.call import Answers, Call, Complete, Identity, InputRequired, Outcome, Peer, refine
from vmcp.config.cache import CacheSpec
from vmcp.config.globs import globs
from vmcp.config.model import BackendSpec
from vmcp.config.outgoing import PassThrough
from vmcp.errors import McpError, Unavailable
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN, Revision
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Route
from vmcp.state.cache import Memory
from vmcp.state.disk import Disk
from vmcp.tasks import Nest
from vmcp.upstream.ask import Outgoing

SPEC = CacheSpec(
    methods={"prompts/get": 60.0},
    tools=((globs(["exact"]), True, 60.0), (globs(["re*"]), False, 30.0), (globs(["never"]), True, 0.0)),
    public=frozenset({"open"}),
)
ALICE, BOB = Identity("i", "alice", token="a1"), Identity("i", "bob", token="b1")


class Asked:
    """A backend that is only looked at."""

    def __init__(self, spec: BackendSpec, revision: Revision) -> None:
        self.spec = spec
        self.revision = revision

    def speaks(self, call: Call) -> Revision | None:
        return self.revision


class Behind:
    """The way to it, which counts; ``gate`` holds answers back."""

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.count = 0
        self.answer: Callable[[], Any] = lambda: {"n": self.count}
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, call: Call, route: Route, outgoing: Outgoing) -> Outcome:
        self.count += 1
        await self.gate.wait()
        told = self.answer()
        if isinstance(told, Exception):
            raise told
        return told if isinstance(told, InputRequired) else Complete(json.dumps(told).encode(), self.revision)


class Cell:
    """A cache before one backend; ``ask`` asks through it and says what it was told."""

    def __init__(self, nest: Nest, disk: Disk | None = None, revision: Revision = MODERN, **spec: Any) -> None:
        self.clock = Clock()
        self.behind = Behind(revision)
        self.name = spec.pop("name", "b")
        self.asked = Asked(BackendSpec(self.name, "g", "streamable-http", **spec), revision)
        self.shelf = Shelf(Memory(100, 10 << 20, self.clock), disk, nest, self.clock)
        self.cached = Cached(self.behind, SPEC, self.shelf, {self.name: (1, self.asked)})

    async def ask(self, name: str = "exact", params: Any = None, hint: bool | None = None, **more: Any) -> Any:
        method = more.pop("method", "tools/call")
        kind = {"tools/call": Kind.TOOL, "prompts/get": Kind.PROMPT}.get(method, Kind.RESOURCE)
        hints = {} if hint is None else {"annotations": {"readOnlyHint": hint}}
        text = entry(kind, name, **hints)
        route = Route(kind, name, self.name, name, text, text)
        given = made(**{"method": method, "name": name, "identity": ALICE, **more})
        outgoing = Outgoing({"name": name, **(params or {})}, name)
        outcome = await self.cached.send(given, route, outgoing)
        return json.loads(bytes(outcome.result)) if isinstance(outcome, Complete) else outcome

    async def twice(
        self, first: dict[str, Any] | None = None, second: dict[str, Any] | None = None, **both: Any
    ) -> int:
        """How often the backend was asked for two questions."""
        before = self.behind.count
        await self.ask(**{**both, **(first or {})})
        await self.ask(**{**both, **(second or {})})
        return self.behind.count - before


@pytest.fixture
async def nest() -> AsyncIterator[Nest]:
    async with Nest("test") as nest:
        yield nest


READ = {"method": "resources/read", "name": "r://1"}
TIMED = {"ttlMs": 9000, "cacheScope": "private"}


async def test_the_same_question_is_answered_again_until_its_time_is_over(nest: Nest) -> None:
    cell = Cell(nest)
    assert [await cell.ask(), await cell.ask()] == [{"n": 1}, {"n": 1}]
    cell.clock.time = 59.9
    assert await cell.ask() == {"n": 1}
    cell.clock.time = 60.0
    assert await cell.ask() == {"n": 2}
    assert cell.shelf.numbers()["vmcp_requests_cached_total"] == 2
    assert cell.shelf.numbers()["vmcp_cache_hit_rate"] == 0.5


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"params": {"arguments": Raw(b'{"a":1}')}}, {"params": {"arguments": Raw(b'{"a":2}')}}),
        ({"name": "exact"}, {"name": "read", "hint": True}),
        ({"identity": ALICE}, {"identity": BOB}),
        ({"identity": ALICE}, {"identity": Identity("other", "alice")}),
        ({"identity": ALICE}, {"identity": None}),
        ({"meta": {}}, {"meta": {"tenant": Raw(b'"x"')}}),
        ({}, {"peer": Peer(MODERN, capabilities=b'{"elicitation":{}}')}),
    ],
)
async def test_what_could_make_a_difference_is_asked_anew(nest: Nest, first: Any, second: Any) -> None:
    assert await Cell(nest).twice(first, second) == 2
    assert await Cell(nest).twice(first, first) == 1
    assert await Cell(nest).twice(second, second) == 1


async def test_what_makes_no_difference_is_not(nest: Nest) -> None:
    trace = {"traceparent": Raw(b'"00-1-1-01"')}
    assert await Cell(nest).twice({}, {"meta": trace, "id": b"2"}) == 1
    assert await Cell(nest).twice({"identity": ALICE}, {"identity": refine(ALICE, token="a2")}) == 1


async def test_a_backend_that_sees_the_token_answers_for_that_token(nest: Nest) -> None:
    cell = Cell(nest, auth=PassThrough(), isolation="identity")
    assert await cell.twice({"identity": ALICE}, {"identity": refine(ALICE, token="a2")}) == 2


async def test_a_session_of_its_own_has_answers_of_its_own(nest: Nest) -> None:
    first, second = ({"peer": Peer(LATEST_HANDSHAKE, session=name)} for name in ("one", "two"))
    assert await Cell(nest, isolation="session").twice(first, second) == 2
    assert await Cell(nest, isolation="shared").twice(first, second) == 1


@pytest.mark.parametrize(
    ("asked", "times"),
    [
        ({"name": "exact"}, 1),
        ({"name": "exact", "hint": False}, 1),
        ({"name": "read", "hint": True}, 1),
        ({"name": "read", "hint": False}, 2),
        ({"name": "read"}, 2),
        ({"name": "never"}, 2),
        ({"name": "other", "hint": True}, 2),
        ({"method": "prompts/get"}, 1),
        ({"method": "completion/complete"}, 2),
        (READ, 2),
        ({"answers": Answers(state="s")}, 2),
        ({"params": {"task": {}}}, 2),
    ],
)
async def test_what_is_kept_is_what_the_file_names_and_only_reads(nest: Nest, asked: Any, times: int) -> None:
    assert await Cell(nest).twice(**asked) == times


@pytest.mark.parametrize(
    "answer",
    [
        {"isError": True, "content": []},
        {"resultType": "input_required"},
        {"resultType": "task", "taskId": "t"},
        {"task": {"taskId": "t"}},
        InputRequired({}),
        {"ttlMs": 0},
        {"ttlMs": "soon"},
        [],
    ],
)
async def test_what_is_no_plain_result_is_not_kept(nest: Nest, answer: Any) -> None:
    cell = Cell(nest)
    cell.behind.answer = lambda: answer
    assert await cell.twice() == 2
    cell.behind.answer = lambda: {"isError": False}
    assert await cell.twice() == 1


async def test_an_error_is_not_kept(nest: Nest) -> None:
    cell = Cell(nest)
    cell.behind.answer = lambda: Unavailable("b", "gone")
    for _ in range(2):
        with pytest.raises(McpError):
            await cell.ask()
    assert cell.behind.count == 2


async def test_a_backend_may_say_itself_how_long_and_who_asks_later_hears_what_is_left(nest: Nest) -> None:
    cell = Cell(nest)
    cell.behind.answer = lambda: {"n": cell.behind.count, **TIMED}
    assert await cell.ask(**READ) == {"n": 1, **TIMED}
    cell.clock.time = 8.0
    assert await cell.ask(**READ) == {"n": 1, "ttlMs": 1000, "cacheScope": "private"}
    cell.clock.time = 9.0
    assert (await cell.ask(**READ))["n"] == 2


async def test_neither_backend_nor_file_is_outdone(nest: Nest) -> None:
    cell = Cell(nest)
    cell.behind.answer = lambda: {"n": cell.behind.count, "ttlMs": 10_000_000}
    await cell.ask(**READ)
    await cell.ask()
    cell.clock.time = 60.0
    assert (await cell.ask())["n"] == 3
    assert (await cell.ask(**READ))["n"] == 1
    cell.clock.time = MOST
    assert (await cell.ask(**READ))["n"] == 4


async def test_what_a_handshake_backend_reads_needs_a_time_in_the_file(nest: Nest) -> None:
    cell = Cell(nest, revision=LATEST_HANDSHAKE)
    assert await cell.twice(**READ) == 2
    cell.cached = Cached(
        cell.behind, replace(SPEC, methods={"resources/read": 5.0}), cell.shelf, {"b": (1, cell.asked)}
    )
    assert await cell.twice(**READ) == 1


@pytest.mark.parametrize(
    ("name", "scope", "spec", "times"),
    [
        ("open", "public", {}, 1),
        ("open", "private", {}, 2),
        ("b", "public", {}, 2),
        ("open", "public", {"auth": PassThrough(), "isolation": "identity"}, 2),
    ],
)
async def test_a_result_is_for_everybody_only_where_that_is_believed(
    nest: Nest, name: str, scope: str, spec: Any, times: int
) -> None:
    backend = {"name": name} if name == "open" else {}
    cell = Cell(nest, **backend, **spec)
    cell.behind.answer = lambda: {**TIMED, "cacheScope": scope}
    assert await cell.twice({"identity": ALICE}, {"identity": BOB}, **READ) == times


async def test_many_who_ask_the_same_at_once_are_one_question(nest: Nest) -> None:
    cell = Cell(nest)
    cell.behind.gate.clear()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(cell.ask()) for _ in range(50)]
        await until(lambda: cell.behind.count)
        cell.behind.gate.set()
    assert {task.result()["n"] for task in tasks} == {1}
    assert (cell.behind.count, cell.shelf.flights) == (1, {})


async def test_who_waited_for_one_that_left_asks_himself(nest: Nest) -> None:
    cell = Cell(nest)
    cell.behind.gate.clear()
    leader = nest.start(cell.ask(), "leader")
    await until(lambda: cell.behind.count)
    async with asyncio.TaskGroup() as group:
        follower = group.create_task(cell.ask())
        await asyncio.sleep(0)
        leader.cancel()
        cell.behind.gate.set()
    assert follower.result() == {"n": 2}


async def test_what_changed_is_asked_anew(nest: Nest) -> None:
    cell = Cell(nest)
    cell.behind.answer = lambda: {"n": cell.behind.count, **TIMED}
    await cell.ask(**READ)
    cell.shelf.updated("b", "r://other")
    cell.shelf.updated("other", "r://1")
    cell.shelf.changed("other")
    assert (await cell.ask(**READ))["n"] == 1
    cell.shelf.updated("b", "r://1/below")
    assert (await cell.ask(**READ))["n"] == 2
    cell.shelf.updated("b", "r://1")
    assert (await cell.ask(**READ))["n"] == 3
    cell.shelf.changed("b")
    assert (await cell.ask(**READ))["n"] == 4


@pytest.mark.parametrize("what", ["changed", "updated", "clear"])
async def test_an_answer_that_was_on_its_way_when_it_changed_is_not_kept(nest: Nest, what: str) -> None:
    cell = Cell(nest)
    cell.behind.answer = lambda: {"n": cell.behind.count, **TIMED}
    cell.behind.gate.clear()
    async with asyncio.TaskGroup() as group:
        late = group.create_task(cell.ask(**READ))
        await until(lambda: cell.behind.count)
        if what == "changed":
            cell.shelf.changed("b")
        elif what == "updated":
            cell.shelf.updated("b", "r://1")
        else:
            await cell.shelf.clear(frozenset({"b"}), "*")
        cell.behind.gate.set()
    assert late.result()["n"] == 1
    assert (await cell.ask(**READ))["n"] == 2


async def test_a_backend_in_place_of_another_is_asked_anew(nest: Nest) -> None:
    cell = Cell(nest)
    await cell.ask()
    cell.cached = Cached(cell.behind, SPEC, cell.shelf, {"b": (2, cell.asked)})
    assert await cell.ask() == {"n": 2}


@pytest.mark.parametrize(("params", "times"), [(b'{"uri":"r://1"}', 2), (b'{"uri":1}', 1), (b"[]", 1), (b"{}", 1)])
async def test_what_a_backend_says_of_its_resources_is_heard(nest: Nest, params: bytes, times: int) -> None:
    cell = Cell(nest)
    cell.behind.answer = lambda: {"n": cell.behind.count, **TIMED}
    await cell.ask(**READ)
    cell.shelf.heard("b", "notifications/message", Raw(b'{"uri":"r://1"}'))
    cell.shelf.heard("b", "notifications/resources/updated", Raw(params))
    assert (await cell.ask(**READ))["n"] == times


async def test_it_is_cleared_by_pattern_and_only_where_one_may(nest: Nest) -> None:
    cell = Cell(nest)
    await cell.ask("exact")
    await cell.ask("read", hint=True)
    assert await cell.shelf.clear(frozenset({"other"}), "*") == 0
    assert await cell.shelf.clear(frozenset({"b"}), "b/re*") == 1
    assert await cell.ask("exact") == {"n": 1}
    assert await cell.ask("read", hint=True) == {"n": 3}


async def test_what_is_large_comes_back_from_the_disk(nest: Nest, tmp_path: Path) -> None:
    disk = Disk(str(tmp_path), 10 * LARGEST, Clock())
    cell = Cell(nest, disk)
    cell.behind.answer = lambda: {"n": cell.behind.count, "text": "x" * cell.behind.count * LARGE}
    await cell.ask()
    await until(lambda: len(disk))
    cell.shelf.memory.forget(lambda kept: True)
    assert (await cell.ask())["n"] == 1
    assert len(cell.shelf.memory) == 1, "it is at hand again"
    assert cell.shelf.numbers()["vmcp_cache_disk_size"] == 1
    assert await cell.shelf.clear(frozenset({"b"}), "*") == 1
    assert (await cell.ask())["n"] == 2
    cell.shelf.close()


async def test_what_is_too_large_for_memory_lies_on_the_disk_alone(nest: Nest, tmp_path: Path) -> None:
    disk = Disk(str(tmp_path), 10 * LARGEST, Clock())
    cell = Cell(nest, disk)
    cell.behind.answer = lambda: {"n": cell.behind.count, "text": "x" * LARGEST}
    await cell.ask()
    await until(lambda: len(disk))
    assert len(cell.shelf.memory) == 0
    assert (await cell.ask())["n"] == 1
    cell.shelf.changed("b")
    await until(lambda: not len(disk))
    assert (await cell.ask())["n"] == 2
    cell.shelf.close()
