"""The door: a decoded request becomes a ``Call``, goes through the chain, and its outcome becomes a message.

The rule: the table is taken once, here, and the call carries it to the end. Whatever goes wrong becomes one JSON-RPC error; what
nobody expected is logged with an id, and the client gets the id and nothing else. Questions to a client of the handshake era are
settled here, so that everything further inside only knows results that ask.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Iterator, Mapping
from time import perf_counter
from typing import Final, Protocol

import msgspec
from msgspec import Raw

from vmcp.call import Answers, Call, Client, Complete, Handler, Identity, InputRequired, Origin, Peer, Trail, refine
from vmcp.errors import Code, McpError
from vmcp.middleware.audit import Auditor
from vmcp.middleware.naming import fresh, name
from vmcp.protocol import bridge, jsonrpc, questions
from vmcp.protocol.jsonrpc import Request
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import REQUESTS
from vmcp.routing.table import RoutingTable
from vmcp.server.recent import Recent

log = logging.getLogger("vmcp.server")

ROUNDS: Final = 10
"""How often a backend may ask in one call."""
SILENT_ROUNDS: Final = 3
"""How often it may want to be called again without asking anything."""
LISTEN: Final = "subscriptions/listen"
THINKING: Final = 600.0
"""Seconds for a user to answer one round."""


class Tables(Protocol):
    """Where the current table is."""

    table: RoutingTable
    settled: asyncio.Event


class Uses:
    """How many calls somebody has in hand. Mutable; ``count`` is changed where a call begins and ends, and nowhere else.

    What stands open for ever (``subscriptions/listen``) is none: nothing could ever end.
    """

    __slots__ = ("_none", "count", "waited")

    def __init__(self) -> None:
        self.count = 0
        self.waited = False
        """Whether ``end`` must be told of the last one."""
        self._none = asyncio.Event()

    def end(self) -> None:
        """One has ended, and somebody waits for the last one."""
        self._none.set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """While the block runs, it is one of them."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
            if self.waited:
                self.end()

    async def none(self) -> None:
        """Wait until there is none."""
        self.waited = True
        while self.count:
            self._none.clear()
            await self._none.wait()


class Doorway(Protocol):
    """Where messages of clients become calls."""

    def result(self, request: Request, peer: Peer, path: str, client: Client) -> Awaitable[bytes]:
        """The result of a request as JSON text in the client's revision. Raises ``McpError``, and nothing else."""

    def turned_away(
        self, method: str, error: McpError, origin: Origin | None, identity: Identity | None = None
    ) -> None:
        """A message was answered with ``error`` before it could become a call."""


class Exchange:
    """Takes requests of any transport and era, in their own revision, and answers in it. See ``Doorway``."""

    def __init__(
        self,
        handler: Handler,
        tables: Tables,
        patience: float,
        auditor: Auditor | None = None,
        uses: Uses | None = None,
        recent: Recent | None = None,
    ) -> None:
        self.auditor = auditor
        """Who is told of what happens; another one takes over when the configuration is another and that was closed."""
        self._handler = handler
        self._tables = tables
        self._patience = patience
        self._uses = uses or Uses()
        self._recent = recent

    def result(self, request: Request, peer: Peer, path: str, client: Client) -> Awaitable[bytes]:
        """See ``Doorway``."""
        return self._result(request, peer, path, client, self.auditor)

    def turned_away(
        self, method: str, error: McpError, origin: Origin | None, identity: Identity | None = None
    ) -> None:
        """See ``Doorway``."""
        request = name(Trail(), error)
        log.debug("message refused", extra={"method": method, "code": error.code, "request_id": request})
        if self.auditor is not None:
            self.auditor.refused(method, error, origin, identity, request)

    async def _result(self, request: Request, peer: Peer, path: str, client: Client, auditor: Auditor | None) -> bytes:
        uses, trail, began = self._uses, Trail(), perf_counter()
        result: bytes | None = None
        why: McpError | None = None
        counted = request.method != LISTEN
        uses.count += counted
        try:
            if auditor is not None and auditor.closed and auditor.strained:
                await auditor.admit(request.method)
            if not self._tables.settled.is_set():
                await self._settle(request.method)
            call = self._call(request, peer, path, client, trail)
            outcome = await self._handler(call)
            result = (
                bridge.result(outcome.result, request.method, outcome.revision, peer.revision)
                if isinstance(outcome, Complete)
                else await self._answered(call, outcome)
            )
            return result
        except McpError as error:
            why = error
            name(trail, error)
            raise
        except Exception as error:
            why = _unexpected(error, request.method, trail)
            raise why from error
        finally:
            uses.count -= counted
            if uses.waited:
                uses.end()
            note, ended = None, perf_counter()
            if auditor is not None:
                auditor = self.auditor or auditor
                if result is not None:
                    note = auditor.served(request, peer, path, trail, ended - began, result)
                else:
                    auditor.failed(request, peer, path, trail, ended - began, why)
            recent = self._recent
            if recent is not None and recent.on and counted and (note is None or not recent.noted(note, ended)):
                recent.add(request, peer, path, trail, began, result, why)
            why = None  # an error that knows this frame, which knows the error, would be garbage

    async def _answered(self, call: Call, outcome: InputRequired) -> bytes:
        """The result where the first one was that something is to be asked."""
        spoken = call.peer.revision
        if spoken.modern:
            return jsonrpc.encode(outcome.members)
        done = await settle(self._handler, call, outcome)
        return bridge.result(done.result, call.method, done.revision, spoken)

    async def _settle(self, method: str) -> None:
        """While backends are still coming up, let those who ask for what they offer wait a moment."""
        if method in ("initialize", "ping"):
            return
        try:
            async with asyncio.timeout(self._patience):
                await self._tables.settled.wait()
        except TimeoutError:
            return

    def _call(self, request: Request, peer: Peer, path: str, client: Client, trail: Trail) -> Call:
        table = self._tables.table
        face = table.faces.get(path)
        if face is None:
            raise McpError(Code.INVALID_REQUEST, "this endpoint is not served any more", vmcp_code=Code.ROUTING_FAILED)
        params = request.params
        answers = None
        if "_meta" in request.tree and type(request.tree["_meta"]) is not dict:
            raise McpError(Code.INVALID_PARAMS, "Invalid params: '_meta' must be an object")
        if request.method in questions.ASKING and (questions.STATE in params or questions.RESPONSES in params):
            answers = _answers(request) if peer.revision.modern else None
            # Whoever is of an older revision has nothing to bring back, and nothing to slip to a backend under these names.
            params = {key: raw for key, raw in params.items() if key not in (questions.STATE, questions.RESPONSES)}
        return Call(
            id=request.id,
            method=request.method,
            name=_name(request),
            params=params,
            meta=request.meta,
            tree=request.tree,
            peer=peer,
            face=face,
            table=table,
            client=client,
            deadline=math.inf,
            trail=trail,
            identity=peer.identity,
            answers=answers,
        )


def _unexpected(error: Exception, method: str, trail: Trail) -> McpError:
    """What the client is told of what nobody has foreseen."""
    trail.request = trail.request or fresh()
    told = {"trace_id": trail.trace} if trail.trace else {}
    facts = {"incident": trail.request, "request_id": trail.request, "method": method, **told}
    log.error("unexpected failure", exc_info=error, extra=facts)
    text = f"Internal error; the log has it under incident {trail.request}"
    data = {"requestId": trail.request, **({"traceId": trail.trace} if trail.trace else {})}
    return McpError(Code.INTERNAL_ERROR, text, data, vmcp_code=Code.GATEWAY_ERROR)


def _name(request: Request) -> str | None:
    known = REQUESTS.get(request.method)
    if known is None or known.name_key is None:
        return None
    name = request.tree.get(known.name_key)
    return name if isinstance(name, str) else None


def _answers(request: Request) -> Answers:
    """What a client of 2026-07-28 brings back with a retry. Raises ``McpError``."""
    responses = request.tree.get(questions.RESPONSES, {})
    state = request.tree.get(questions.STATE)
    if not isinstance(responses, dict) or not all(isinstance(response, dict) for response in responses.values()):
        raise McpError(Code.INVALID_PARAMS, f"Invalid params: '{questions.RESPONSES}' must be an object of objects")
    if questions.STATE in request.tree and not isinstance(state, str):
        raise McpError(Code.INVALID_PARAMS, f"Invalid params: '{questions.STATE}' must be a string")
    return Answers(jsonrpc.members(request.params[questions.RESPONSES]) if responses else {}, state)


async def settle(handler: Handler, call: Call, asked: InputRequired) -> Complete:
    """Ask a client of the handshake era what a result asks, and call again with the answers until it is one.

    Raises ``McpError``: the handler's, or why the client could not be asked.
    """
    silent = 0
    for _ in range(ROUNDS):
        wanted = questions.requests(asked.members)
        silent += not wanted
        if silent > SILENT_ROUNDS:
            break
        state = asked.members.get(questions.STATE)
        answers = Answers(await _ask_all(call, wanted), msgspec.json.decode(state, type=str) if state else None)
        outcome = await handler(refine(call, answers=answers))
        if isinstance(outcome, Complete):
            return outcome
        asked = outcome
    raise _unanswered("it asks too often")


async def _ask_all(call: Call, wanted: Mapping[str, Question]) -> dict[str, Raw]:
    """The client's answers to all questions, which it is asked at once. One that it cannot answer ends the asking."""
    if wanted and not call.client.can_ask:
        raise _unanswered("this client cannot be asked here: it must accept an event stream")
    try:
        told = {key: questions.for_handshake(question, call.peer.revision) for key, question in wanted.items()}
    except McpError as error:
        raise _unanswered(f"this client cannot be asked it: {error.message}") from error
    found: dict[str, Raw] = {}

    async def ask(key: str, question: Question) -> None:
        found[key] = await call.client.ask(question)

    try:
        async with asyncio.timeout(THINKING), asyncio.TaskGroup() as group:
            for key, question in told.items():
                group.create_task(ask(key, question))
    except TimeoutError:
        raise _unanswered(f"this client did not answer within {THINKING:g} s") from None
    except ExceptionGroup as failed:
        first = failed.exceptions[0]
        if not isinstance(first, McpError):
            raise
        raise _unanswered(f"this client answered with an error: {first.message}") from first
    return found


def _unanswered(why: str) -> McpError:
    return McpError(Code.INTERNAL_ERROR, f"the backend has a question, but {why}", vmcp_code=Code.PROTOCOL_ERROR)
