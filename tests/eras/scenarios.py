"""What a client does with a backend, the same for every cell of the matrix.

The rule: a scenario never looks at which cell it is in but through ``Cell.lacks``, the protocol's own gaps, each with its reason;
there a clear error is wanted instead.
"""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.eras.clients import Client, FailedError, Heard
from tests.eras.tools import ERROR, LARGE, STEPS, TOOLS
from tests.eras.world import HANDSHAKE, MODERN, RESERVED, Json, World


@dataclass
class Cell:
    """A client, the server that it works with, and what stands before that server's names."""

    client: Client
    world: World
    prefix: str
    nonce: str

    def name(self, name: str) -> str:
        return self.prefix + name

    async def call(self, tool: str, **arguments: Any) -> Json:
        return await self.client.request("tools/call", {"name": self.name(tool), "arguments": arguments})

    def lacks(self, scenario: str) -> str | None:
        """Why the protocol has no such thing between these two."""
        return lacks(scenario, self.client.revision, self.world.revision)


def lacks(scenario: str, client: str, backend: str) -> str | None:
    """Why a client and a backend of these revisions cannot do this, if they cannot."""
    if scenario == "elicit" and backend in HANDSHAKE[:2]:
        return f"a server of {backend} has no elicitation/create"
    if scenario == "elicit" and client in HANDSHAKE[:2]:
        return f"a client of {client} has no elicitation/create"
    return None


def text(result: Json) -> str:
    return str(result["content"][0]["text"])


def exact(value: Any) -> str:
    """JSON in which 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True)


async def refused(answer: Awaitable[Json]) -> FailedError:
    """The error that a request is answered with."""
    try:
        result = await answer
    except FailedError as failed:
        return failed
    raise AssertionError(f"no error but {json.dumps(result)[:300]}")


Scenario = Callable[[Cell], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


async def everything(cell: Cell, method: str, member: str) -> list[Json]:
    """All pages of a list."""
    found: list[Json] = []
    page: Json = {}
    while True:
        result = await cell.client.request(method, page)
        found += result[member]
        if "nextCursor" not in result:
            return found
        page = {"cursor": result["nextCursor"]}


@scenario
async def lists(cell: Cell) -> None:
    """Every list, and one of each is used."""
    tools = {tool["name"] for tool in await everything(cell, "tools/list", "tools")}
    assert {cell.name(tool) for tool in TOOLS} <= tools, f"tools: {sorted(tools)[:5]}"
    first = f"note://{cell.world.name}/first"
    resources = await everything(cell, "resources/list", "resources")
    assert {"uri": first, "name": "first", "size": 5} in resources, resources
    templates = await everything(cell, "resources/templates/list", "resourceTemplates")
    assert f"note://{cell.world.name}/{{id}}" in [one["uriTemplate"] for one in templates]
    prompts = await everything(cell, "prompts/list", "prompts")
    assert cell.name("greet") in [one["name"] for one in prompts]
    for uri in (first, f"note://{cell.world.name}/{cell.nonce}"):
        read = await cell.client.request("resources/read", {"uri": uri})
        assert read["contents"] == [{"uri": uri, "mimeType": "text/plain", "text": f"{cell.world.name}: {uri}"}], read
    got = await cell.client.request("prompts/get", {"name": cell.name("greet"), "arguments": {"who": cell.nonce}})
    assert got["messages"][0]["content"]["text"] == f"{cell.world.name} greets {cell.nonce}"


@scenario
async def call(cell: Cell) -> None:
    """Arguments arrive as they were given."""
    given = {"nonce": cell.nonce, "n": 12345678901234567890, "f": 1.0, "none": None, "deep": [{"ü": "😀"}]}
    result = await cell.call("echo", **given)
    assert exact(json.loads(text(result))) == exact(given)
    assert result["_meta"]["world"] == cell.world.name


@scenario
async def progress(cell: Cell) -> None:
    """Progress under the client's own token, in order, before the reply."""
    for token in (f"token {cell.nonce}", zlib.crc32(cell.nonce.encode())):
        params = {"name": cell.name("steps"), "arguments": {"nonce": cell.nonce}}
        with cell.client.hearing(
            lambda m, token=token: (
                m["method"] == "notifications/progress"  # type: ignore[misc]
                and m["params"]["progressToken"] == token
            )
        ) as heard:
            result = await cell.client.request("tools/call", params, token=token)
            assert text(result) == cell.nonce
            done = [message["params"]["progress"] for message in heard.messages]
        assert done == list(range(1, STEPS + 1)), done
        assert all(type(message["params"]["progressToken"]) is type(token) for message in heard.messages)


@scenario
async def cancel(cell: Cell) -> None:
    """The backend is told, and the client goes on."""
    nonce = f"{cell.nonce}-cancel"
    async with cell.client.running("tools/call", {"name": cell.name("wait"), "arguments": {"nonce": nonce}}):
        await cell.world.until(lambda: nonce in cell.world.started, "the call arrived")
        assert nonce not in cell.world.cancelled
    await cell.world.until(lambda: nonce in cell.world.cancelled, "the backend was told of the cancellation")
    await cell.call("echo", nonce=nonce)


async def _asked(cell: Cell, tool: str, needs: str) -> Json:
    """Call a tool that asks; what the backend was answered."""
    reason, nonce = cell.lacks(tool), f"{cell.nonce}-{tool}"
    if reason is None:
        return dict(json.loads(text(await cell.call(tool, nonce=nonce))))
    failed = await refused(cell.call(tool, nonce=nonce))
    known = failed.code in (4242, 4244, -32021) or "requiredCapabilities" in (failed.data or {})
    assert known or needs in failed.message, f"no clear error, though {reason}: {failed}"
    return {}


@scenario
async def elicit(cell: Cell) -> None:
    answer = await _asked(cell, "elicit", "elicitation")
    expected = {"action": "accept", "content": {"who": f"{cell.client.name}:{cell.nonce}-elicit"}}
    assert answer == ({} if cell.lacks("elicit") else expected), answer


@scenario
async def sample(cell: Cell) -> None:
    answer = await _asked(cell, "sample", "sampling")
    assert answer["content"]["text"] == f"{cell.client.name}:{cell.nonce}-sample", answer


@scenario
async def roots(cell: Cell) -> None:
    answer = await _asked(cell, "roots", "roots")
    assert answer == {"roots": [{"uri": f"file:///{cell.client.name}"}]}, answer


def _updated(prefix: str) -> Callable[[Json], bool]:
    return lambda m: m["method"] == "notifications/resources/updated" and m["params"]["uri"].startswith(prefix)


def changes(messages: list[Json]) -> dict[int, str]:
    """Which changes were told, and of what. A change may be told twice while one subscription takes the place of another."""
    return {message["params"]["_meta"]["world/change"]: message["params"]["uri"] for message in messages}


def _tagged(messages: list[Json], number: Any) -> None:
    for message in messages:
        tag = message["params"]["_meta"][f"{RESERVED}subscriptionId"]
        assert tag == number, f"{message} for {number}"
        assert type(tag) is type(number)


@scenario
async def subscribe(cell: Cell) -> None:
    """Updates of what is subscribed, and of nothing else any more once it is not."""
    prefix = f"note://{cell.world.name}/{cell.nonce}-"
    one, two = f"{prefix}one", f"{prefix}two"
    await (_listens if cell.client.revision == MODERN else _subscribes)(cell, prefix, one, two)


async def _subscribes(cell: Cell, prefix: str, one: str, two: str) -> None:
    with cell.client.hearing(_updated(prefix)) as heard:
        await cell.client.request("resources/subscribe", {"uri": one})
        await cell.call("touch", uri=one)
        await heard.until(bool, "resources/updated")
        await cell.client.request("resources/subscribe", {"uri": two})
        await cell.client.request("resources/unsubscribe", {"uri": one})
        await cell.call("touch", uri=one)
        await cell.call("touch", uri=two)
        await heard.until(lambda found: two in changes(found).values(), "resources/updated of the second")
    assert set(changes(heard.messages).values()) == {one, two}, heard.messages
    assert len(changes(heard.messages)) == 2, heard.messages
    await cell.client.request("resources/unsubscribe", {"uri": two})


async def _listens(cell: Cell, prefix: str, one: str, two: str) -> None:
    for uri in (one, two):
        wanted = {"resourceSubscriptions": [uri]}
        with cell.client.hearing(_mine(cell, uri, prefix)) as heard:
            async with cell.client.running("subscriptions/listen", {"notifications": wanted}) as task:
                await heard.until(bool, "subscriptions/acknowledged")
                number = cell.client.number(task)
                assert heard.messages[0]["params"]["notifications"] == wanted
                for touched in (one, two):
                    await cell.call("touch", uri=touched)
                await heard.until(lambda found: len(found) > 1, "resources/updated")
        assert list(changes(heard.messages[1:]).values()) == [uri], heard.messages
        _tagged(heard.messages, number)


def _mine(cell: Cell, uri: str, prefix: str) -> Callable[[Json], bool]:
    """What a listen stream for this resource says; a client's streams may share a wire."""
    ours = _updated(prefix)

    def wanted(message: Json) -> bool:
        listed = message.get("params", {}).get("notifications", {}).get("resourceSubscriptions", [])
        return uri in listed or ours(message)

    return wanted


@scenario
async def list_changed(cell: Cell) -> None:
    """A new tool is announced, and is there when the list is read after the announcement."""
    methods = ("notifications/tools/list_changed", "notifications/subscriptions/acknowledged")
    with cell.client.hearing(lambda m: m["method"] in methods) as heard:
        if cell.client.revision != MODERN:
            await _grows(cell, heard, lambda message: message["method"] == methods[0])
            return
        wanted = {"notifications": {"toolsListChanged": True}}
        async with cell.client.running("subscriptions/listen", wanted) as task:
            await asyncio.sleep(0)

            def mine(message: Json) -> bool:
                tag = message["params"]["_meta"][f"{RESERVED}subscriptionId"]
                return tag == cell.client.number(task)

            await heard.until(lambda found: any(map(mine, found)), "subscriptions/acknowledged")
            await _grows(cell, heard, lambda message: message["method"] == methods[0] and mine(message))


async def _grows(cell: Cell, heard: Heard, announces: Callable[[Json], bool]) -> None:
    """Read the list after each announcement until the new tool is in it."""
    grown = f"grown-{cell.nonce}"
    await cell.call("grow", nonce=grown)
    seen = 0
    while True:
        what = f"tools/list_changed number {seen + 1} with the new tool in the list"
        await heard.until(lambda found, seen=seen: len([*filter(announces, found)]) > seen, what)  # type: ignore[misc]
        seen = len([*filter(announces, heard.messages)])
        if cell.name(grown) in [tool["name"] for tool in await everything(cell, "tools/list", "tools")]:
            return


@scenario
async def log(cell: Cell) -> None:
    """Messages of the level that was wanted and above, untouched; level ``info`` was wanted."""
    nonce = f"{cell.nonce}-log"
    wanted = lambda m: m["method"] == "notifications/message" and m["params"]["data"].get("nonce") == nonce  # noqa: E731
    with cell.client.hearing(wanted) as heard:
        await cell.call("log", nonce=nonce)
        await heard.until(lambda found: len(found) >= 2, "notifications/message")
    assert [message["params"]["level"] for message in heard.messages] == ["info", "error"], heard.messages
    assert exact(heard.messages[0]["params"]["data"]) == exact({"nonce": nonce, "n": 1.0})


@scenario
async def complete(cell: Cell) -> None:
    """Completion by prompt and by template."""
    template = f"note://{cell.world.name}/{{id}}"
    for ref in ({"type": "ref/prompt", "name": cell.name("greet")}, {"type": "ref/resource", "uri": template}):
        params = {"ref": ref, "argument": {"name": "who", "value": cell.nonce}}
        result = await cell.client.request("completion/complete", params)
        assert result["completion"]["values"] == [f"who={cell.nonce}", cell.world.name], result


@scenario
async def large(cell: Cell) -> None:
    result = await cell.call("large", nonce=cell.nonce)
    assert text(result) == cell.nonce[-1] * LARGE


@scenario
async def error(cell: Cell) -> None:
    """A backend's error as it said it, a tool's error as a result, and an error of ours for what does not exist."""
    failed = await refused(cell.call("fail", nonce=cell.nonce))
    assert (failed.code, failed.message) == (4711, f"not {cell.nonce}"), failed
    assert exact(failed.data) == exact(ERROR)
    assert (await cell.call("mishap", nonce=cell.nonce))["isError"] is True
    failed = await refused(cell.call("nobody-has-this"))
    assert failed.code == -32602, failed
