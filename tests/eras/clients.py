"""MCP clients of every revision over every transport, as bare as can be: what is sent is what a test sees.

The rule: a client knows what it sent and what came back, nothing of who is at the other end; it answers a question with its own
name, so that an answer which reaches the wrong server is seen to be wrong.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tests.eras.carriers import Carrier
from tests.eras.world import MODERN, RESERVED, SECONDS, Json

CAPABILITIES: Json = {"elicitation": {}, "sampling": {}, "roots": {"listChanged": True}}


class FailedError(Exception):
    """The error that a request was answered with."""

    def __init__(self, error: Json) -> None:
        super().__init__(json.dumps(error))
        self.code, self.message, self.data = error["code"], error["message"], error.get("data")


class Heard:
    """The notifications that a test waits for, in the order in which they came."""

    def __init__(self, wanted: Callable[[Json], bool]) -> None:
        self.wanted = wanted
        self.messages: list[Json] = []
        self._news = asyncio.Event()

    def take(self, message: Json) -> None:
        if self.wanted(message):
            self.messages.append(message)
            self._news.set()

    async def until(self, enough: Callable[[list[Json]], bool], what: str) -> None:
        """Wait until what came is ``enough``."""
        try:
            async with asyncio.timeout(SECONDS):
                while not enough(self.messages):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{what}: not heard; heard {json.dumps(self.messages)[:400]}") from None


class Client:
    """One client. ``name`` is what it answers questions with."""

    def __init__(self, name: str, revision: str, carrier: Carrier, spawn: Callable[[Any], Any]) -> None:
        self.name, self.revision, self.carrier = name, revision, carrier
        self.modern = revision == MODERN
        self.greeting: Json = {}
        self.asked: list[str] = []
        self.rounds = 0
        self._spawn = spawn
        self._ids = itertools.count(1)
        self._ears: list[Heard] = []
        self._numbers: dict[asyncio.Task[Any] | None, int] = {}
        carrier.heard = self._heard

    async def open(self, level: str = "info") -> None:
        """Say hello."""
        await self.carrier.open()
        if self.modern:
            self.greeting = await self.request("server/discover")
            return
        info = {"name": self.name, "version": "1"}
        hello = {"protocolVersion": self.revision, "capabilities": self._capabilities(), "clientInfo": info}
        self.greeting = await self.request("initialize", hello)
        assert self.greeting["protocolVersion"] == self.revision, self.greeting
        self.carrier.ready(self.revision)
        await self.tell("notifications/initialized")
        await self.request("logging/setLevel", {"level": level})

    def _capabilities(self) -> Json:
        """What a client of this revision can do: elicitation is younger than the first two."""
        none = {"elicitation"} if self.revision in ("2024-11-05", "2025-03-26") else set()
        return {key: value for key, value in CAPABILITIES.items() if key not in none}

    def meta(self) -> Json:
        if not self.modern:
            return {}
        meta = {"protocolVersion": MODERN, "clientCapabilities": self._capabilities(), "logLevel": "info"}
        return {RESERVED + key: value for key, value in meta.items()} | {
            f"{RESERVED}clientInfo": {"name": self.name, "version": "1"}
        }

    async def request(self, method: str, params: Json | None = None, token: Any = None) -> Json:
        """A request to its result, questions answered on the way. Raises ``FailedError``."""
        given = dict(params or {})
        for _ in range(10):
            result = await self._once(method, given, token)
            if result.get("resultType") != "input_required":
                if self.modern:
                    assert result.get("resultType") == "complete", result
                return result
            self.rounds += 1
            given = dict(params or {}) | self._brought(result)
        raise AssertionError("ten rounds and no end")

    def _brought(self, result: Json) -> Json:
        """What a retry carries more than the first try."""
        brought: Json = {}
        if "inputRequests" in result:
            brought["inputResponses"] = {key: self.answer(one) for key, one in result["inputRequests"].items()}
        if "requestState" in result:
            brought["requestState"] = result["requestState"]
        return brought

    async def _once(self, method: str, params: Json, token: Any) -> Json:
        meta = self.meta() | ({} if token is None else {"progressToken": token}) | dict(params.get("_meta", {}))
        number = next(self._ids)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        if meta:
            message["params"] = params | {"_meta": meta}
        self._numbers[asyncio.current_task()] = number
        try:
            async with asyncio.timeout(None if method == "subscriptions/listen" else SECONDS):
                reply = await self.carrier.exchange(message)
        except TimeoutError:
            raise AssertionError(f"{method}: no reply") from None
        finally:
            self._numbers.pop(asyncio.current_task(), None)
        assert reply["id"] == number, reply
        if "error" in reply:
            raise FailedError(reply["error"])
        return dict(reply["result"])

    async def tell(self, method: str, params: Json | None = None) -> None:
        await self.carrier.tell({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})})

    def answer(self, question: Json) -> Json:
        """The result for a question, with our name and the nonce of the question in it."""
        self.asked.append(question["method"])
        params = question.get("params", {})
        if question["method"] == "elicitation/create":
            return {"action": "accept", "content": {"who": f"{self.name}:{params['message']}"}}
        if question["method"] == "sampling/createMessage":
            text = {"type": "text", "text": f"{self.name}:{params['messages'][0]['content']['text']}"}
            return {"role": "assistant", "content": text, "model": "none"}
        assert question["method"] == "roots/list", question
        return {"roots": [{"uri": f"file:///{self.name}"}]}

    def _heard(self, message: Json) -> None:
        """A notification or a request of the server."""
        if "id" in message:
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": {}}
            if message["method"] != "ping":
                answer["result"] = self.answer(message)
            self._spawn(self.carrier.tell(answer))
        for ear in self._ears:
            ear.take(message)

    def number(self, task: asyncio.Task[Json]) -> int:
        """The id of the request that a task is waiting for."""
        return self._numbers[task]

    @contextlib.contextmanager
    def hearing(self, wanted: Callable[[Json], bool]) -> Iterator[Heard]:
        """Listen for some notifications."""
        ear = Heard(wanted)
        self._ears.append(ear)
        try:
            yield ear
        finally:
            self._ears.remove(ear)

    @contextlib.asynccontextmanager
    async def running(self, method: str, params: Json) -> AsyncIterator[asyncio.Task[Json]]:
        """A request that goes on meanwhile; left, it is cancelled as this client's revision and transport have it."""
        task: asyncio.Task[Json] = self._spawn(self.request(method, params))
        try:
            yield task
        finally:
            if task in self._numbers and not task.done() and not (self.modern and self.carrier.aborts):
                await self.tell("notifications/cancelled", {"requestId": self._numbers[task], "reason": "enough"})
            task.cancel()
            await asyncio.wait([task])
