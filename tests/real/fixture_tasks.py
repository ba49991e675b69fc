"""A server of 2026-07-28 with the tasks extension, for the scenarios of the conformance suite that want one.

The rule: as in fixture.py, the names are the suite's and nothing here knows of vmcp. ``python -m tests.real.fixture_tasks PORT``.
"""

import asyncio
import datetime
import itertools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from tests.eras.backends_http import HttpBackends
from tests.eras.cells import Tasks
from tests.eras.world import MODERN, InputNeededError, Json, Methods, RefusalError, Request, World, said

TASKS = "io.modelcontextprotocol/tasks"
FORM = {"type": "object", "properties": {"name": {"type": "string"}}}
NAME = {
    "method": "elicitation/create",
    "params": {"mode": "form", "message": "?", "requestedSchema": FORM},
}
REQUIRED = ("failing_job", "test_tool_with_task")


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat()


class Task:
    """A piece of work; ``more`` is what its status brings with it."""

    numbers = itertools.count(1)

    def __init__(self, world: World, work: Callable[["Task"], Awaitable[Json]]) -> None:
        self.id = f"task-{next(self.numbers)}"
        self.world, self.status, self.more = world, "working", Json()
        self.created = self.updated = now()
        self.answers: Json = {}
        self.news = asyncio.Event()
        self.running = world.spawn(self._run(work))

    async def _run(self, work: Callable[["Task"], Awaitable[Json]]) -> None:
        try:
            await self.becomes("completed", result=await work(self))
        except RefusalError as refusal:
            await self.becomes("failed", error=refusal.error)
        except asyncio.CancelledError:
            await self.becomes("cancelled")

    async def becomes(self, status: str, **more: Any) -> None:
        self.status, self.more, self.updated = status, more, now()
        for wanted, request in list(self.world.listeners.values()):
            if self.id in wanted.get("taskIds", ()):
                tag = {"_meta": {"io.modelcontextprotocol/subscriptionId": request.id}}
                await request.notify("notifications/tasks", self.told() | self.more | tag)

    async def ask(self, *keys: str) -> None:
        """Wait for an answer to each."""
        while left := [key for key in keys if key not in self.answers]:
            await self.becomes("input_required", inputRequests=dict.fromkeys(left, NAME))
            self.news.clear()
            await self.news.wait()
        await self.becomes("working")

    def told(self) -> Json:
        stamps = {"createdAt": self.created, "lastUpdatedAt": self.updated}
        return {"taskId": self.id, "status": self.status, **stamps, "ttlMs": 60_000, "pollIntervalMs": 100}


KEPT: dict[str, Task] = {}


class TaskWorld(World):
    """A server that says it has tasks."""

    def offers(self) -> Json:
        return {"tools": {}, "extensions": {TASKS: {}}}


def declares(request: Request) -> bool:
    return TASKS in request.capabilities.get("extensions", {})


def needed() -> RefusalError:
    return RefusalError(-32021, "needs tasks", {"requiredCapabilities": {"extensions": {TASKS: {}}}})


def work_of(request: Request) -> Callable[[Task], Awaitable[Json]]:
    """What a tool does as a task."""

    async def work(task: Task) -> Json:
        match request.params["name"]:
            case "slow_compute":
                await asyncio.sleep(request.arguments.get("seconds", 0))
            case "failing_job":
                return said("it failed", isError=True)
            case "protocol_error_job":
                raise RefusalError(-32603, "it broke")
            case "confirm_delete":
                await task.ask("confirm")
            case "multi_input":
                await task.ask("first", "second")
        return said(f"done {request.params.get('inputResponses', task.answers)}")

    return work


async def list_tools(world: World, request: Request) -> Json:
    names = ("greet", "slow_compute", "failing_job", "protocol_error_job", "confirm_delete", "multi_input", REQUIRED[1])
    return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names]}


async def call_tool(world: World, request: Request) -> Json:
    name = request.params["name"]
    if name == "greet":
        return said(f"Hello, {request.arguments.get('name')}!")
    if not declares(request):
        if name in REQUIRED:
            raise needed()
        await asyncio.sleep(request.arguments.get("seconds", 0))
        return said("done at once")
    if name == REQUIRED[1] and "user_name" not in request.params.get("inputResponses", {}):
        raise InputNeededError({"user_name": NAME}, "first round")
    task = Task(world, work_of(request))
    KEPT[task.id] = task
    return {"resultType": "task", **task.told()}


def found(request: Request) -> Task:
    if not declares(request):
        raise needed()
    if request.params["taskId"] not in KEPT:
        raise RefusalError(-32602, "no such task")
    return KEPT[request.params["taskId"]]


async def get(world: World, request: Request) -> Json:
    task = found(request)
    return task.told() | task.more


async def update(world: World, request: Request) -> Json:
    task = found(request)
    task.answers |= request.params["inputResponses"]
    task.more["inputRequests"] = {
        key: one for key, one in task.more.get("inputRequests", {}).items() if key not in task.answers
    }
    task.news.set()
    return {}


async def cancel(world: World, request: Request) -> Json:
    found(request).running.cancel()
    return {}


METHODS: Methods = {
    "tools/list": list_tools,
    "tools/call": call_tool,
    "tasks/get": get,
    "tasks/update": update,
    "tasks/cancel": cancel,
}


async def main() -> None:
    tasks = Tasks()
    world = TaskWorld("tasks", MODERN, METHODS, tasks.spawn)
    async with HttpBackends({"tasks": world}).serving(int(sys.argv[1])):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
