"""Listening to a backend of 2026-07-28: ``subscriptions/listen``, whose filter cannot be changed once it is open.

The rule: a new stream is acknowledged before the old one is left, so nothing falls between them; what comes on both comes twice.
Source: basic/utilities/subscriptions.
"""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.errors import Code, McpError, Overdue, Unavailable, VmcpError
from vmcp.protocol.jsonrpc import members
from vmcp.tasks import Nest
from vmcp.upstream import keeper
from vmcp.upstream.ask import NOTHING, Ask, OnEvent
from vmcp.upstream.keeper import TASKS, Keeper, Topic, mcp_error, passing
from vmcp.upstream.link import Link

log = logging.getLogger("vmcp.upstream")

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
LISTEN: Final = "subscriptions/listen"
_CANCELLED = "notifications/cancelled"
_ABLE = b'{"extensions":{"io.modelcontextprotocol/tasks":{}}}'
_LISTS: Final = {"tools": "toolsListChanged", "prompts": "promptsListChanged", "resources": "resourcesListChanged"}


class _Stream:
    """One ``subscriptions/listen`` at the backend. ``opened`` says what it agreed to, or why it did not."""

    def __init__(self, topics: Sequence[Topic]) -> None:
        loop = asyncio.get_running_loop()
        self.topics = topics
        self.began = loop.time()
        self.opened: asyncio.Future[Mapping[str, Any] | McpError] = loop.create_future()
        self.task: asyncio.Task[None] | None = None
        self.over = False

    def close(self) -> None:
        """Leave it."""
        if self.task is not None:
            self.task.cancel()


class Listens(Keeper):
    """Since 2026-07-28: one ``subscriptions/listen`` whose filter cannot be changed, so a new one takes the place of the old."""

    def __init__(self, name: str, link: Link, nest: Nest, wanted: Mapping[Topic, None], on_event: OnEvent) -> None:
        super().__init__(name, link, nest, wanted, on_event)
        capabilities = link.facts.capabilities
        self._lists = {member: True for key, member in _LISTS.items() if _declares(capabilities, key)}
        self._stream: _Stream | None = None
        self._broke = False
        self._barren = False

    def stop(self) -> None:
        super().stop()
        if self._stream is not None:
            self._stream.close()

    async def settle(self, missing: Sequence[Topic]) -> None:
        self.held.intersection_update(self.wanted)
        surplus = self._stream is not None and any(topic not in self.wanted for topic in self._stream.topics)
        if not missing and not surplus and (self._stream is not None or self._barren):
            return
        known = [topic for topic in missing if topic not in self._waiting]
        await self._extend(missing)
        if missing and self._stream is None:
            self.wake()  # then what remains, the lists at least
        self.told([topic for topic in known if topic in self.held], lists=False)

    async def _extend(self, topics: Sequence[Topic]) -> None:
        """Listen to ``topics`` besides what is held. One that the backend does not know must not take the others along."""
        refused = await self._open([*(topic for topic in self.wanted if topic in self.held), *topics])
        if refused is None:
            return
        if len(topics) > 1 and refused.code == Code.INVALID_PARAMS:
            half = len(topics) // 2
            await self._extend(topics[:half])
            await self._extend(topics[half:])
        else:
            self.answer(topics, refused)
            self._failed(topics, refused)

    async def _open(self, topics: Sequence[Topic]) -> McpError | None:
        """Open a stream for ``topics``, and then close the one that was there. What comes meanwhile may come twice."""
        wanted = self._filter(topics)
        if not wanted:
            self._replace(None)
            self.held.clear()
            self._barren = True
            return None
        stream = _Stream(topics)
        stream.task = self.nest.start(self._listen(stream, wanted), "listen")
        try:
            async with asyncio.timeout(keeper.ANSWER):
                agreed = await asyncio.shield(stream.opened)
        except TimeoutError:
            agreed = Overdue(self.name, "the time for a subscription", keeper.ANSWER)
        except asyncio.CancelledError:
            stream.close()
            raise
        if stream.over and not isinstance(agreed, McpError):
            agreed = _ended(self.name)
        if isinstance(agreed, McpError):
            stream.close()
            return agreed
        self._replace(stream)
        self._settled(topics, agreed)
        return None

    def _filter(self, topics: Sequence[Topic]) -> dict[str, Any]:
        wanted: dict[str, Any] = dict(self._lists)
        for kind, name in topics:
            wanted.setdefault(kind, []).append(name)
        return wanted

    def _replace(self, stream: _Stream | None) -> None:
        old, self._stream = self._stream, stream
        if old is not None:
            old.close()

    def _failed(self, topics: Sequence[Topic], why: McpError) -> None:
        if passing(why):
            self.later()
        elif not topics:
            self._barren = True
            log.debug("backend keeps no subscription", extra={"backend": self.name, "why": why.message})

    def _settled(self, topics: Sequence[Topic], agreed: Mapping[str, Any]) -> None:
        self._barren = False
        yes = [(kind, name) for kind, name in topics if name in agreed.get(kind, ())]
        self.held.clear()
        self.answer(yes, None)
        no = McpError(Code.INVALID_PARAMS, "The backend does not tell of changes of this")
        self.answer([topic for topic in topics if topic not in self.held], no)
        if self._broke:
            self._broke = False
            self.told([], lists=True)

    async def _listen(self, stream: _Stream, wanted: Mapping[str, Any]) -> None:
        def heard(method: str, params: Raw) -> None:
            self._heard(stream, method, params)

        able = _ABLE if TASKS in wanted else NOTHING
        ask = Ask(LISTEN, {"notifications": wanted}, math.inf, capabilities=able, lasting=True, on_event=heard)
        try:
            await self.link.request(ask)
            why: McpError = _ended(self.name)
        except VmcpError as error:
            why = mcp_error(self.name, error)
        self._over(stream, why)

    def _heard(self, stream: _Stream, method: str, params: Raw) -> None:
        if method == ACKNOWLEDGED:
            if not stream.opened.done():
                stream.opened.set_result(_agreed(params))
        elif method == _CANCELLED:
            # How a server of 2026-07-28 ends a stream where all of them share one channel.
            self._over(stream, _ended(self.name))
            stream.close()
        else:
            self.on_event(method, params)

    def _over(self, stream: _Stream, why: McpError) -> None:
        stream.over = True
        if not stream.opened.done():
            stream.opened.set_result(why)
        elif stream is self._stream:
            self._stream = None
            self._broke = True
            self.held.clear()
            self.later(asyncio.get_running_loop().time() - stream.began)


def _ended(name: str) -> Unavailable:
    return Unavailable(name, "it ended the subscription", Code.TRANSPORT_CLOSED)


def _declares(capabilities: Mapping[str, Any], key: str) -> bool:
    said = capabilities.get(key)
    return isinstance(said, dict) and said.get("listChanged") is True


def _agreed(params: Raw) -> Mapping[str, Any]:
    """The subset of the filter that a backend says it honours."""
    try:
        said = msgspec.json.decode(members(params)["notifications"])
    except (msgspec.MsgspecError, KeyError, RecursionError):
        return {}
    return {key: value for key, value in said.items() if isinstance(value, list)} if isinstance(said, dict) else {}
