"""One ``subscriptions/listen`` of a client: what it opted in to, and what waits to be told to it.

The rule: nothing is told before the acknowledgement, and nothing that was not asked for. What waits is bounded: of the same thing
only the latest is kept, so a client that reads slowly misses repetitions and no change.
Source: 2026-07-28, basic/utilities/subscriptions.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Raw

from vmcp import __version__
from vmcp.call import Call, Complete
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, extensions
from vmcp.protocol.jsonrpc import encode
from vmcp.protocol.revisions import MODERN
from vmcp.routing.table import Face
from vmcp.upstream.link import SUBSCRIPTION
from vmcp.upstream.watch import ACKNOWLEDGED, TASKS, UPDATED, URIS, Topic

MAX_TOPICS: Final = 256
"""Resources and tasks that one subscription may name."""
MAX_WAITING: Final = 512
LISTS: Final = {
    "tools": ("toolsListChanged", "notifications/tools/list_changed"),
    "prompts": ("promptsListChanged", "notifications/prompts/list_changed"),
    "resources": ("resourcesListChanged", "notifications/resources/list_changed"),
}
"""By capability: the member of the filter, and what is told."""


class Listening:
    """A subscription of a client of 2026-07-28. Mutable; ``run`` is its one owner, anybody may tell it something."""

    def __init__(self, call: Call) -> None:
        asked = call.tree.get("notifications")
        if not isinstance(asked, dict):
            raise _invalid("'notifications' must be an object")
        self.path = call.face.path
        self.lists = _lists(asked, call.face)
        self.topics = [*_names(asked, URIS), *_names(asked, TASKS)]
        if TASKS in asked:
            extensions.require(call.peer.capabilities, extensions.TASKS)
        self._client = call.client
        self._id = Raw(call.id)
        self._waiting: dict[tuple[str, str], tuple[str, Mapping[str, Any]]] = {}
        self._news = asyncio.Event()
        self._ended = False

    def tell(self, method: str, params: Mapping[str, Any]) -> None:
        """A list changed (or what else needs no name); see ``Ear``."""
        if method in self.lists.values():
            self._put((method, ""), method, params)

    def updated(self, topic: Topic, method: str, params: Mapping[str, Any], name: str) -> None:
        """What was subscribed to as ``topic`` changed; ``name`` is what exactly, perhaps something under it."""
        if len(self._waiting) >= MAX_WAITING and method == UPDATED:
            # Too many things under it to remember each: then it is the whole that changed.
            name, params = topic[1], {"uri": topic[1]}
        self._put((method, name), method, params)

    def _put(self, key: tuple[str, str], method: str, params: Mapping[str, Any]) -> None:
        self._waiting[key] = (method, params)
        self._news.set()

    def end(self) -> None:
        """Tell what still waits, and then end."""
        self._ended = True
        self._news.set()

    async def run(self, granted: Sequence[Topic]) -> None:
        """Acknowledge ``granted``, and tell what comes until it is ended."""
        await self._say(ACKNOWLEDGED, {"notifications": self._honoured(granted)})
        while True:
            while self._waiting:
                method, params = self._waiting.pop(next(iter(self._waiting)))
                await self._say(method, params)
            if self._ended:
                return
            await self._news.wait()
            self._news.clear()

    def _honoured(self, granted: Sequence[Topic]) -> dict[str, Any]:
        honoured: dict[str, Any] = dict.fromkeys(self.lists, True)
        for kind, name in granted:
            honoured.setdefault(kind, []).append(name)
        return honoured

    async def _say(self, method: str, params: Mapping[str, Any]) -> None:
        meta = {**params.get("_meta", {}), SUBSCRIPTION: self._id}
        await self._client.notify(method, {**params, "_meta": meta})


def farewell(call: Call) -> Complete:
    """The result with which a subscription ends in order."""
    info = {"name": call.face.name, "version": __version__}
    meta = {envelope.SERVER_INFO: info, SUBSCRIPTION: Raw(call.id)}
    return Complete(encode({"resultType": "complete", "_meta": meta}), MODERN)


def _lists(asked: Mapping[str, Any], face: Face) -> dict[str, str]:
    """What is told, by member of the filter: what was asked for and is promised here."""
    found = {}
    for capability, (member, method) in LISTS.items():
        wanted = asked.get(member, False)
        if not isinstance(wanted, bool):
            raise _invalid(f"'{member}' must be a boolean")
        if wanted and face.capabilities.get(capability, {}).get("listChanged"):
            found[member] = method
    return found


def _names(asked: Mapping[str, Any], kind: str) -> list[Topic]:
    names = asked.get(kind, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid(f"'{kind}' must be a list of strings")
    if len(names) > MAX_TOPICS:
        raise _invalid(f"'{kind}' names more than {MAX_TOPICS}")
    return [(kind, name) for name in dict.fromkeys(names)]


def _invalid(why: str) -> McpError:
    return McpError(Code.INVALID_PARAMS, f"Invalid params: {why}")
