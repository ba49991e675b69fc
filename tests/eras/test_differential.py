"""Generated requests straight at a server and through vmcp: the answers are the same JSON.

The rule: what may differ is written in ``leave_out``, nothing else may; ``1`` and ``1.0`` are not the same. ``VMCP_FUZZ_CASES``
sets how many cases each test tries.
"""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.eras.cells import Peers, Tasks, carrier, parts
from tests.eras.clients import Client, FailedError
from tests.eras.house import one_group_each, serving
from tests.eras.scenarios import exact
from tests.eras.world import MODERN, RESERVED, Json

pytestmark = pytest.mark.timeout(600)

CASES = int(os.environ.get("VMCP_FUZZ_CASES", "500"))
BACKENDS = {
    "2025-11-25": ("http-2025-11-25", "sse-2025-11-25", "ws-2025-11-25", "stdio-2025-11-25"),
    MODERN: (f"http-{MODERN}", f"ws-{MODERN}", f"stdio-{MODERN}"),
}
CLIENTS = {"2025-11-25": ("http", "sse", "ws"), MODERN: ("http", "ws")}
SIDES = [side for sides in BACKENDS.values() for side in sides]
SAME = [(f"{way}-{era}", side) for era, sides in BACKENDS.items() for side in sides for way in CLIENTS[era]]
CROSS = [(f"{w}-{era}", side) for era, ways in CLIENTS.items() for w in ways for side in SIDES if parts(side)[1] != era]
OURS = {"resultType", "ttlMs", "cacheScope"}

NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.just(1.0) | st.just(-0.0)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
KEYS = TEXTS.filter(lambda key: not key.startswith(RESERVED))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)
EXTENSIONS = st.dictionaries(TEXTS.map(lambda key: f"com.example/{key}"), VALUES, max_size=3)
BLOCKS = st.one_of(
    st.builds(lambda text, more: {**more, "type": "text", "text": text}, TEXTS, OBJECTS),
    st.builds(lambda more: {**more, "type": "something/new"}, OBJECTS),
    st.builds(lambda uri: {"type": "resource_link", "uri": f"urn:{uri}", "name": "link"}, TEXTS),
    st.builds(lambda text: {"type": "resource", "resource": {"uri": "note://a b/ü", "text": text}}, TEXTS),
)
RESERVED_MEMBERS = {
    "content",
    "structuredContent",
    "isError",
    "_meta",
    "resultType",
    "task",
    "inputRequests",
    "requestState",
}
UNKNOWN = OBJECTS.map(lambda found: {key: value for key, value in found.items() if key not in RESERVED_MEMBERS | OURS})
REPLIES = st.builds(
    lambda more, known: {**more, **known},
    UNKNOWN,
    st.fixed_dictionaries(
        {},
        optional={
            "content": st.lists(BLOCKS, max_size=3),
            "structuredContent": OBJECTS,
            "isError": st.booleans(),
            "_meta": EXTENSIONS,
        },
    ),
)
ERRORS = st.fixed_dictionaries(
    {"code": st.integers(-999, 999).filter(bool) | st.just(-32603), "message": TEXTS}, optional={"data": VALUES}
)
ARGUMENTS = st.one_of(
    st.builds(lambda reply, more: {**more, "reply": reply}, REPLIES, UNKNOWN),
    st.builds(lambda error: {"error": error}, ERRORS),
    UNKNOWN,
)
CALLS = st.builds(
    lambda arguments, meta, more: {
        **more,
        "name": "mirror",
        "arguments": arguments,
        **({"_meta": meta} if meta else {}),
    },
    ARGUMENTS,
    EXTENSIONS,
    st.just({}),
)
OTHERS = st.sampled_from(
    [
        ("tools/call", {"name": "mirror"}),
        ("tools/call", {"name": "echo", "arguments": {}}),
        ("prompts/get", {"name": "greet", "arguments": {"who": "ü😀"}}),
        ("resources/read", {"uri": "note://{side}/first"}),
        ("resources/read", {"uri": "note://{side}/a b?c=%20#ü"}),
        ("resources/templates/list", {}),
        ("resources/list", {}),
        ("prompts/list", {}),
        ("tools/list", {}),
    ]
)


def leave_out(answer: Json) -> Json:
    """An answer without what may differ: the members that vmcp owns, and the reserved part of ``_meta``."""
    kept = {key: value for key, value in answer.items() if key not in OURS}
    meta = {key: value for key, value in kept.pop("_meta", {}).items() if not key.startswith(RESERVED)}
    return kept | ({"_meta": meta} if meta else {})


class Both:
    """A client of each era straight at its server, and clients of both eras at both servers through vmcp."""

    def __init__(self, folder: Path) -> None:
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.tasks = Tasks()
        self.clients: dict[tuple[str, str, str], Client] = {}
        self._stages = [Peers(self.tasks, SIDES).running()]
        self._folder = folder

    async def open(self) -> None:
        peers = await self._stages[0].__aenter__()
        config = one_group_each(peers) | {"aggregation": {"conflictResolution": "priority"}}
        orders = {"conflictResolutionConfig": {"priorityOrder": list(SIDES)}}
        config["aggregation"] |= orders
        self._stages.append(serving(config, self._folder))  # type: ignore[arg-type]
        port: Any = await self._stages[1].__aenter__()
        for side in SIDES:
            await self._add(
                "direct", side, side, Client("direct", parts(side)[1], peers.direct(side), self.tasks.spawn)
            )
        for client, side in SAME + CROSS:
            transport, revision = parts(client)
            way = carrier(transport, port, f"/{side}", revision, self.tasks)
            await self._add("through", client, side, Client("direct", revision, way, self.tasks.spawn))

    async def _add(self, way: str, client: str, side: str, made: Client) -> None:
        await made.open()
        self.clients[way, client, side] = made

    async def close(self) -> None:
        for client in self.clients.values():
            await client.carrier.close()
        for stage in reversed(self._stages):
            await stage.__aexit__(None, None, None)
        await self.tasks.close()

    async def ask(self, way: str, client: str, side: str, method: str, params: Json) -> Json:
        """The result or the error."""
        if "uri" in params:
            params = params | {"uri": params["uri"].replace("{side}", side)}
        try:
            return {"result": leave_out(await self.clients[way, client, side].request(method, params))}
        except FailedError as failed:
            return {"error": [failed.code, failed.message, failed.data]}

    async def all(self, *asked: tuple[str, str, str, str, Json]) -> list[Json]:
        """Several requests side by side."""
        tasks = [self.tasks.spawn(self.ask(*one)) for one in asked]
        return [await task for task in tasks]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = Both(tmp_path_factory.mktemp("differential"))
    with made.runner:
        made.runner.run(made.open())
        yield made
        made.runner.run(made.close())


@settings(max_examples=CASES)
@given(pair=st.sampled_from(SAME), asked=CALLS.map(lambda params: ("tools/call", params)) | OTHERS)
def test_direct_and_through_vmcp_are_the_same(both: Both, pair: tuple[str, str], asked: tuple[str, Json]) -> None:
    client, side = pair
    direct, through = both.runner.run(both.all(("direct", side, side, *asked), ("through", client, side, *asked)))
    assert exact(through) == exact(direct)


@settings(max_examples=CASES // 5)
@given(pair=st.sampled_from(CROSS), params=CALLS)
def test_an_answer_of_the_other_era_is_the_same(both: Both, pair: tuple[str, str], params: Json) -> None:
    client, side = pair
    asked = ("tools/call", params)
    direct, through = both.runner.run(both.all(("direct", side, side, *asked), ("through", client, side, *asked)))
    assert exact(through) == exact(direct)


@settings(max_examples=CASES // 5)
@given(pair=st.sampled_from(SAME), params=CALLS, others=st.lists(CALLS, min_size=1, max_size=4), data=st.data())
def test_the_traffic_of_others_changes_nothing(
    both: Both, pair: tuple[str, str], params: Json, others: list[Json], data: st.DataObject
) -> None:
    first = ("through", *pair, "tools/call", params)
    neighbours = [client for client, side in SAME + CROSS if side == pair[1]]
    crowd = [("through", data.draw(st.sampled_from(neighbours)), pair[1], "tools/call", each) for each in others]
    again = both.runner.run(both.all(first, *crowd, first))
    assert exact(again[0]) == exact(again[-1])
