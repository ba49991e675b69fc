"""Questions to a client of the handshake era, and its answers, over whatever transport it came.

The rule: an answer is found by an id that vmcp made, within the session that was asked; nothing is asked that the client did
not declare, and what is asked is said as it is. A question that nobody waits for any more is withdrawn.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable

from msgspec import Raw

from vmcp.errors import Code, McpError
from vmcp.protocol import jsonrpc, questions
from vmcp.protocol.jsonrpc import NONE, Reply
from vmcp.protocol.questions import Question

Say = Callable[[bytes], Awaitable[None]]

OPEN = 64
"""Questions that a client may have before it."""
PATIENCE = 600.0
"""Seconds that a person may think about a question, when nobody else limits it."""
_FAREWELL = 2.0


class Voice:
    """What one session was asked and has not answered. Mutable; used by its transport only."""

    __slots__ = ("_capabilities", "_closed", "_last", "_pending", "can_ask")

    def __init__(self, capabilities: bytes) -> None:
        self._capabilities = capabilities
        self._pending: dict[bytes, asyncio.Future[Reply]] = {}
        self._last = 0
        self._closed = False
        self.can_ask = questions.askable(capabilities)
        """Whether the client has declared anything that it could be asked."""

    def __len__(self) -> int:
        return len(self._pending)

    async def ask(self, say: Say, question: Question, deadline: float | None = None) -> Raw:
        """The client's result, asked by ``say`` until ``deadline`` (loop time). Raises its error, or why there is none."""
        questions.check(question, self._capabilities)
        loop = asyncio.get_running_loop()
        id_, answer = self._begin(loop)
        try:
            async with asyncio.timeout_at(loop.time() + PATIENCE if deadline is None else deadline):
                await say(_text(id_, question))
                reply = await answer
        except TimeoutError:
            await _withdraw(say, id_, "there was no answer in time")
            raise _failed("the client did not answer in time") from None
        except asyncio.CancelledError:
            await _withdraw(say, id_, "the answer is no longer needed")
            raise
        finally:
            self._pending.pop(id_, None)
        if reply.error:
            raise jsonrpc.fault(reply.error)
        return reply.result

    def take(self, reply: Reply) -> bool:
        """Hand an answer to whoever waits for it; whether anybody does."""
        answer = self._pending.pop(reply.id, None)
        if answer is None or answer.done():
            return False
        answer.set_result(reply)
        return True

    def close(self) -> None:
        """Nobody will answer any more."""
        self._closed = True
        self.can_ask = False
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(_failed("the client has ended its session"))
        self._pending.clear()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> "tuple[bytes, asyncio.Future[Reply]]":
        if self._closed:
            raise _failed("the client has ended its session")
        if len(self._pending) >= OPEN:
            raise _failed(f"the client has {OPEN} questions before it already")
        # Begun at random, so that an answer to a question of an earlier life is not taken for one of this.
        self._last = self._last + 1 if self._last else secrets.randbelow(1 << 30) + 1
        id_ = b"%d" % self._last
        self._pending[id_] = answer = loop.create_future()
        return id_, answer


def _failed(why: str) -> McpError:
    return McpError(Code.INTERNAL_ERROR, why, vmcp_code=Code.TRANSPORT_ERROR)


def _text(id_: bytes, question: Question) -> bytes:
    method = jsonrpc.encode(question.method)
    if question.params == NONE:
        return b'{"jsonrpc":"2.0","id":%b,"method":%b}' % (id_, method)
    return b'{"jsonrpc":"2.0","id":%b,"method":%b,"params":%b}' % (id_, method, bytes(question.params))


async def _withdraw(say: Say, id_: bytes, why: str) -> None:
    """Tell the client that its answer is no longer wanted; briefly, as whoever asked is on its way out."""
    with contextlib.suppress(TimeoutError, McpError):
        async with asyncio.timeout(_FAREWELL):
            await say(jsonrpc.notification("notifications/cancelled", {"requestId": Raw(id_), "reason": why}))
