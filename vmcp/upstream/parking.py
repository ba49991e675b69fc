"""Calls of 2026-07-28 clients that wait at a backend of an older revision, because it asked something in the middle.

Such a backend must not be called again, or the tool would run twice: so the call goes on in a task of its own, its questions are
handed out as a result, and whoever comes back with the answers takes the call up again. The rule: everything goes from that task
to the client through one queue, read by whoever is at the door now; nobody else's answers, notifications or results are in it.
"""

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.call import Client, Complete
from vmcp.errors import Code, McpError
from vmcp.protocol import envelope, questions
from vmcp.protocol.questions import Question
from vmcp.tasks import Nest
from vmcp.upstream.ask import Asker

Run = Callable[[Client, Asker], Awaitable[Complete]]
"""Calls the backend: notifications go to the client given, questions to the asker. Raises ``McpError``."""

PATIENCE: Final = 55.0
"""Seconds that a call waits for its client: less than the minute after which most servers give up by themselves."""
GATHER: Final = 0.02
"""Seconds that questions are gathered into one round, as a backend that asks two things at once says them one by one."""
FAREWELL: Final = 1.0
"""Seconds for a backend to hear that nobody answered, before its request is cancelled."""
SPACES: Final = 16
"""Calls that wait for one principal."""
BACKLOG: Final = 64
"""Notifications on their way to the client; more are dropped."""
_CUT: Final = "the call ended in the middle; the log has why"


class Round(msgspec.Struct, frozen=True):
    """What a parked call wants to know before it goes on: questions by key, and the ``place`` to bring the answers to."""

    place: str
    asked: Mapping[str, Question]


class _Said(msgspec.Struct):
    method: str
    params: Mapping[str, Any]


class _Asked(msgspec.Struct, eq=False):
    key: str
    question: Question
    answer: "asyncio.Future[Raw]"


class _Ended(msgspec.Struct):
    outcome: Complete | McpError


class Parking:
    """All calls that may be parked. Mutable; used by ``aggregator/rounds`` only. The calls run in ``nest``."""

    def __init__(self, nest: Nest, patience: float = PATIENCE, spaces: int = SPACES, gather: float = GATHER) -> None:
        self.patience = patience
        self.gather = gather
        self._nest = nest
        self._spaces = spaces
        self._calls: dict[str, _Parked] = {}

    def __len__(self) -> int:
        return len(self._calls)

    async def begin(self, principal: str, run: Run, client: Client, token: Raw) -> Complete | Round:
        """Start a call; its result, or what it asks first. ``token`` is the client's progress token. Raises ``McpError``."""
        call = _Parked(self, secrets.token_urlsafe(16), principal)
        call.start(self._nest, run)
        return await self._turn(call, client, token)

    async def resume(
        self, place: str, principal: str, responses: Mapping[str, Raw], client: Client, token: Raw
    ) -> Complete | Round | None:
        """Hand the answers to the call at ``place`` and go on as ``begin``. None when this principal has none there now."""
        call = self._calls.get(place)
        if call is None or call.principal != principal:
            return None
        del self._calls[place]
        call.come(responses)
        return await self._turn(call, client, token)

    async def _turn(self, call: "_Parked", client: Client, token: Raw) -> Complete | Round:
        """Until the call has ended or asks; if its client leaves meanwhile, that cancels it."""
        try:
            outcome = await call.turn(client, token)
            if isinstance(outcome, Round):
                self._park(call)
            return outcome
        finally:
            if call.place not in self._calls:
                call.cancel()

    def _park(self, call: "_Parked") -> None:
        if sum(other.principal == call.principal for other in self._calls.values()) >= self._spaces:
            text = f"{self._spaces} calls already wait for your answers; answer or leave one of them first"
            raise McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.GATEWAY_ERROR)
        self._calls[call.place] = call
        call.wait(self._expire)

    def _expire(self, call: "_Parked") -> None:
        if self._calls.pop(call.place, None) is not None:
            call.give_up()


class _Parked:
    """One call, as its task and the one who is at the door see it. It is also the ``Client`` that the backend's link knows."""

    can_ask = False

    def __init__(self, lot: Parking, place: str, principal: str) -> None:
        self.place = place
        self.principal = principal
        self._lot = lot
        # No more than BACKLOG notifications, MAX_QUESTIONS questions and one end are ever in it.
        self._events: asyncio.Queue[_Said | _Asked | _Ended] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._outcome: Complete | McpError = McpError(Code.INTERNAL_ERROR, _CUT, vmcp_code=Code.GATEWAY_ERROR)
        self._open: dict[str, _Asked] = {}
        self._keys = itertools.count(1)
        self._present = True
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    # --- in its own task, and in those of the link

    def start(self, nest: Nest, run: Run) -> None:
        """Begin. However the task ends, one ``_Ended`` is its last word, so that nobody waits for ever."""
        self._task = nest.start(self._run(run), "parked call")
        self._task.add_done_callback(lambda _: self._events.put_nowait(_Ended(self._outcome)))

    async def _run(self, run: Run) -> None:
        try:
            self._outcome = await run(self, self._ask)
        except McpError as error:
            self._outcome = error

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """See ``Client``; dropped while nobody is at the door, or when he does not keep up."""
        if self._present and self._events.qsize() < BACKLOG:
            self._events.put_nowait(_Said(method, params))

    async def ask(self, question: Question) -> Raw:
        """See ``Client``: it is asked by results only."""
        raise McpError(Code.METHOD_NOT_FOUND, "Method not found")

    async def _ask(self, question: Question) -> Raw:
        if self._over or len(self._open) >= questions.MAX_QUESTIONS:
            raise McpError(Code.INTERNAL_ERROR, "the client cannot be asked any more", vmcp_code=Code.GATEWAY_ERROR)
        answer = asyncio.get_running_loop().create_future()
        asked = _Asked(f"q{next(self._keys)}", question, answer)
        self._open[asked.key] = asked
        self._events.put_nowait(asked)
        try:
            response: Raw = await answer  # ``_expire`` or the end of the request is its deadline
            return response
        finally:
            self._open.pop(asked.key, None)

    # --- for who is at the door

    async def turn(self, client: Client, token: Raw) -> Complete | Round:
        """What comes next. Notifications on the way there are passed on to ``client``."""
        self._present = True
        until = self._soon() if self._open else None
        while True:
            try:
                async with asyncio.timeout_at(until):
                    event = await self._events.get()
            except TimeoutError:
                if self._open:
                    self._present = False
                    return Round(self.place, {key: asked.question for key, asked in self._open.items()})
                until = None  # it has withdrawn what it asked
                continue
            if isinstance(event, _Ended):
                return _settled(event.outcome)
            if isinstance(event, _Said):
                await _pass_on(event, client, token)
            else:
                until = until or self._soon()

    def _soon(self) -> float:
        return asyncio.get_running_loop().time() + self._lot.gather

    def come(self, responses: Mapping[str, Raw]) -> None:
        """Its client is back. Keys that nothing was asked under are ignored; what is not answered is asked again."""
        if self._timer is not None:
            self._timer.cancel()
        for key, response in responses.items():
            asked = self._open.pop(key, None)
            if asked is not None and not asked.answer.done():
                asked.answer.set_result(response)

    def wait(self, expire: "Callable[[_Parked], None]") -> None:
        """Nobody is at the door: ``expire`` it unless somebody comes."""
        self._timer = asyncio.get_running_loop().call_later(self._lot.patience, expire, self)

    def give_up(self) -> None:
        """Nobody came: the backend hears that its user said nothing, and soon after that its request is cancelled."""
        self._over = True
        for asked in list(self._open.values()):
            if not asked.answer.done():
                self._decline(asked)
        asyncio.get_running_loop().call_later(FAREWELL, self.cancel)

    def _decline(self, asked: _Asked) -> None:
        if asked.question.method == questions.ELICIT:
            asked.answer.set_result(Raw(b'{"action":"cancel"}'))
        else:
            text = "the client did not answer in time"
            asked.answer.set_exception(McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.CONNECTION_TIMEOUT))

    def cancel(self) -> None:
        """End the call; its link tells the backend."""
        self._over = True
        if self._task is not None:
            self._task.cancel()


def _settled(outcome: Complete | McpError) -> Complete:
    if isinstance(outcome, McpError):
        raise outcome
    return outcome


async def _pass_on(event: _Said, client: Client, token: Raw) -> None:
    """Progress goes by the token of the request that is open now, which may have none."""
    if event.method != "notifications/progress":
        await client.notify(event.method, event.params)
    elif token:
        await client.notify(event.method, {**event.params, envelope.PROGRESS_TOKEN: token})
