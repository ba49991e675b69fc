"""What a backend asks us while it works: a ping is answered here, a question by the client of the request that it belongs to.

The rule: every question gets one answer, and only one that names a request with an asker, and is covered by what was declared
on this connection, reaches anybody; all others are refused at once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec import Raw

from vmcp.errors import Code, McpError, VmcpError
from vmcp.protocol import jsonrpc, questions
from vmcp.protocol.jsonrpc import NONE, Message
from vmcp.protocol.questions import Question
from vmcp.tasks import Nest
from vmcp.upstream.ask import Ask, params_of

Tell = Callable[[bytes], Coroutine[Any, Any, None]]
Key = tuple[int, bytes]

MAX_OPEN: Final = 64
"""Questions of one connection that wait for their answers."""
_REFUSED: Final = McpError(Code.METHOD_NOT_FOUND, "Method not found")
_CROWDED: Final = McpError(Code.INTERNAL_ERROR, "Too many questions wait for an answer")
_LEFT: Final = McpError(Code.INTERNAL_ERROR, "The request that this question belonged to has ended")


class Answering:
    """The open questions of one connection. Mutable; its link is the one owner. ``tell`` sends to the backend."""

    def __init__(self, nest: Nest, tell: Tell, capabilities: bytes) -> None:
        self._nest = nest
        self._tell = tell
        self._capabilities = capabilities
        self.open: dict[Key, asyncio.Task[None]] = {}

    def take(self, message: Message, id_: int, ask: Ask | None) -> None:
        """Answer ``message``. ``ask``, whose id is ``id_``, is the request that it belongs to; None: to none."""
        key = (id_, bytes(message.id))
        if message.method == "ping":
            self._nest.start(self._tell(jsonrpc.reply(key[1], b"{}")), "pong")
        elif ask is None or ask.asker is None:
            self._refuse(key, _REFUSED)
        elif len(self.open) >= MAX_OPEN or key in self.open:
            self._refuse(key, _CROWDED)
        else:
            self.open[key] = self._nest.start(self._answer(key, message, ask), "question")

    def _refuse(self, key: Key, why: McpError) -> None:
        self._nest.start(self._tell(jsonrpc.failure(key[1], why)), "refusal")

    async def _answer(self, key: Key, message: Message, ask: Ask) -> None:
        try:
            body = await self._put(key[1], Question(message.method, message.params), ask)
        finally:
            self.open.pop(key, None)
        await self._tell(body)

    async def _put(self, id_: bytes, question: Question, ask: Ask) -> bytes:
        assert ask.asker is not None
        try:
            questions.check(question, self._capabilities)
            async with asyncio.timeout_at(ask.deadline):
                return jsonrpc.reply(id_, await ask.asker(question))
        except McpError as refused:
            return jsonrpc.failure(id_, refused)
        except TimeoutError:
            return jsonrpc.failure(id_, McpError(Code.INTERNAL_ERROR, "The client did not answer in time"))
        except VmcpError:
            return jsonrpc.failure(id_, McpError(Code.INTERNAL_ERROR, "The client's answer did not arrive"))

    def cancelled(self, params: Raw, id_: int | None) -> None:
        """The backend takes a question back; ``id_`` is the request on whose stream it says so, None where no stream tells."""
        named = bytes((params_of(params) or {}).get("requestId", NONE))
        found = [key for key in self.open if key[1] == named and id_ in (None, key[0])]
        if len(found) == 1:
            self.open.pop(found[0]).cancel()

    async def quiet(self) -> None:
        """Wait until all that is open now is answered."""
        if self.open:
            await asyncio.wait(list(self.open.values()))

    def close(self) -> None:
        """The connection is over: nobody waits for an answer any more."""
        for task in self.open.values():
            task.cancel()
        self.open.clear()

    def end(self, id_: int) -> None:
        """The request ``id_`` is over, and with it what was asked during it."""
        for key in [key for key in self.open if key[0] == id_]:
            self.open.pop(key).cancel()
            self._refuse(key, _LEFT)
