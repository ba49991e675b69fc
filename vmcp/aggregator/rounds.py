"""The one way a call reaches a backend, whatever eras meet: to and fro until it is answered or its user has to be asked.

The rule: who asks by results and who answers by retries keep doing so, with a ``requestState`` that is sealed here and bound to
principal, request, backend and time; who asks in the middle is either put through to a client that can be asked so, or its call
is parked until the client comes back. A question that this client did not declare reaches nobody.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec
from msgspec import Raw

from vmcp.call import Answers, Call, Client, Complete, InputRequired, Outcome, refine
from vmcp.config.model import BackendSpec
from vmcp.errors import Code, ConsentRequired, McpError
from vmcp.protocol import envelope, jsonrpc, questions
from vmcp.protocol.jsonrpc import NONE
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import LATEST_HANDSHAKE, Revision
from vmcp.routing.table import Route
from vmcp.state.crew import Crew, unmarked
from vmcp.state.ticket import Seal, Ticket, issue, redeem
from vmcp.upstream import sending
from vmcp.upstream.ask import Asker, Outgoing
from vmcp.upstream.parking import Round, Run

VALID: Final = 600.0
"""Seconds within which a client must bring back its answers."""
_OF_THE_HOP: Final = frozenset({"_meta", questions.RESPONSES, questions.STATE})


class Answerer(Protocol):
    """What is needed of a backend."""

    spec: BackendSpec

    def speaks(self, call: Call) -> Revision | None:
        """The revision in which it will be asked, as far as one knows."""

    async def send(self, call: Call, outgoing: Outgoing, asker: Asker | None = None) -> Complete:
        """Ask it. Raises ``McpError``."""


class Lot(Protocol):
    """Where calls are parked; see ``Parking``. Both raise ``McpError``."""

    async def begin(self, principal: str, run: Run, client: Client, token: Raw) -> Complete | Round:
        """Start a call; its result, or what it asks first."""

    async def resume(
        self, place: str, principal: str, responses: Mapping[str, Raw], client: Client, token: Raw
    ) -> Complete | Round | None:
        """Go on with a call; None when this principal has none there."""


class Rounds:
    """Calls over ``backends``. ``now`` is wall-clock time, as the tickets may be another process's under the same key."""

    def __init__(
        self,
        backends: Mapping[str, Answerer],
        seal: Seal,
        parking: Lot,
        now: Callable[[], float],
        crew: Crew | None = None,
    ) -> None:
        self._backends = backends
        self._seal = seal
        self._parking = parking
        self._now = now
        self._crew = crew

    async def send(self, call: Call, route: Route, outgoing: Outgoing) -> Outcome:
        """Ask the backend of ``route``. Its result, or what it wants to know first. Raises ``McpError``."""
        backend = self._backends[route.backend]
        if call.answers is not None:
            ticket = self._redeem(call, backend, call.answers)
            if ticket is not None and ticket.parked:
                return await self._resume(call, backend, ticket, call.answers)
            outgoing = _answered(call, backend, ticket, outgoing, call.answers)
        able = sending.mirrored(backend.spec, call)
        asker = None
        if questions.askable(able):
            if not call.peer.revision.modern:
                asker = _through(call, backend, able) if call.client.can_ask else None
            elif _asks_inline(call, backend):
                return await self._park(call, backend, outgoing, able)
        try:
            complete = await backend.send(call, outgoing, asker)
        except McpError as error:
            return self._refused(call, backend, error)
        return self._judged(call, backend, able, complete)

    # --- a backend of 2026-07-28: its questions are results

    def _judged(self, call: Call, backend: Answerer, able: bytes, complete: Complete) -> Outcome:
        if not complete.revision.modern or (told := questions.read(complete.result)) is None:
            return complete
        if call.method not in questions.ASKING:
            raise _broken(f"the backend answered {call.method} with a question, which is not allowed")
        asked = questions.requests(told)
        _check_all(asked, able)
        inner = _state(told)
        if inner is None and not asked:
            raise _broken("the backend wants to be asked again, and does not say with what")
        ticket = self._ticket(call, backend)
        return self._hand_out(told, refine(ticket, had_state=inner is not None, inner=inner or ""))

    def _ticket(self, call: Call, backend: Answerer) -> Ticket:
        return Ticket(backend.spec.name, False, "", "", call.principal, digest(call), self._now() + VALID)

    def _hand_out(self, told: dict[str, Raw], ticket: Ticket) -> InputRequired:
        text = issue(self._seal, ticket)
        if self._crew is not None and (ticket.parked or ticket.had_state):
            # The others can open it. But the call waits here, or the state is that of a process of the backend's that is ours.
            text = self._crew.mark(text)
        return InputRequired({**told, questions.STATE: Raw(jsonrpc.encode(text))})

    def _redeem(self, call: Call, backend: Answerer, answers: Answers) -> Ticket | None:
        """The ticket that came with the answers; none when none came. Raises the same for all that is wrong with one."""
        if answers.state is None:
            return None
        ticket = redeem(self._seal, unmarked(answers.state), call.principal, digest(call), self._now())
        if ticket is None or ticket.backend != backend.spec.name:
            raise _stale()
        return ticket

    # --- an older one: its questions come in the middle

    async def _park(self, call: Call, backend: Answerer, outgoing: Outgoing, able: bytes) -> Outcome:
        revision = backend.speaks(call) or LATEST_HANDSHAKE

        async def run(client: Client, asker: Asker) -> Complete:
            async def ask(question: Question) -> Raw:
                questions.check(question, able)
                return questions.for_asker(await asker(questions.for_modern(question)), revision)

            return await backend.send(refine(call, client=client), outgoing, ask)

        try:
            turn = await self._parking.begin(call.principal, run, call.client, _token(call))
        except McpError as error:
            return self._refused(call, backend, error)
        return self._turned(call, backend, turn)

    async def _resume(self, call: Call, backend: Answerer, ticket: Ticket, answers: Answers) -> Outcome:
        try:
            turn = await self._parking.resume(
                ticket.parked, call.principal, answers.responses, call.client, _token(call)
            )
        except McpError as error:
            return self._refused(call, backend, error)
        if turn is None:
            raise _stale()
        return self._turned(call, backend, turn)

    def _turned(self, call: Call, backend: Answerer, turn: Complete | Round) -> Outcome:
        if isinstance(turn, Complete):
            return self._judged(call, backend, sending.mirrored(backend.spec, call), turn)
        _check_all(turn.asked, sending.mirrored(backend.spec, call))  # the retry may declare less than the call did
        ticket = refine(self._ticket(call, backend), parked=turn.place)
        return self._hand_out(questions.asking(turn.asked), ticket)

    def _refused(self, call: Call, backend: Answerer, error: McpError) -> InputRequired:
        """The error, but that of 2025-11-25 which means "visit this page first" asks a client of 2026-07-28 to do so."""
        if isinstance(error, ConsentRequired):
            return self._invited(call, backend, error)
        if error.code != questions.URL_REQUIRED or not call.peer.revision.modern:
            raise error
        asked = questions.pages(error)
        if not asked or call.method not in questions.ASKING:
            raise _broken(f"the backend refuses until its user has visited a page: {error.message}") from error
        if not questions.takes_pages(call.peer.capabilities):
            needed: Mapping[str, object] = {"requiredCapabilities": {"elicitation": {"url": {}}}}
            raise McpError(Code.MISSING_CAPABILITY, "the backend wants a page to be visited first", needed) from error
        _check_all(asked, sending.mirrored(backend.spec, call))
        return self._hand_out(questions.asking(asked), refine(self._ticket(call, backend), pages=True))

    def _invited(self, call: Call, backend: Answerer, needed: ConsentRequired) -> InputRequired:
        """vmcp itself wants a page to be visited: asked for as the client can take it, else as an error that says where."""
        modern = call.peer.revision.modern
        takes = call.method in questions.ASKING and questions.takes_pages(call.peer.capabilities)
        if not takes or call.peer.revision < Revision.V2025_11_25:
            raise needed
        asked = questions.consent(needed.url, needed.plain)
        if not modern:
            told = {"elicitations": [questions.for_handshake(asked, call.peer.revision).params]}
            raise McpError(questions.URL_REQUIRED, needed.plain, told, vmcp_code=Code.UNAUTHORIZED) from needed
        told_all = questions.asking({"consent": asked})
        return self._hand_out(told_all, refine(self._ticket(call, backend), pages=True))


def digest(call: Call) -> bytes:
    """What a request is, so that its answers belong to no other: the face, the method and all params but those of the hop."""
    params = {key: value for key, value in call.tree.items() if key not in _OF_THE_HOP}
    return hashlib.sha256(msgspec.json.encode([call.face.path, call.method, params], order="deterministic")).digest()


def _asks_inline(call: Call, backend: Answerer) -> bool:
    """Whether it may ask in the middle of this call. A shared link cannot say whom, so nothing asked there gets through."""
    if call.method not in questions.ASKING or backend.spec.isolation == "shared":
        return False
    revision = backend.speaks(call)
    return revision is None or not revision.modern


def _through(call: Call, backend: Answerer, able: bytes) -> Asker:
    """An asker that puts questions to the client at once."""

    async def ask(question: Question) -> Raw:
        questions.check(question, able)
        answer = await call.client.ask(questions.passed_on(question))
        return questions.for_asker(answer, backend.speaks(call) or LATEST_HANDSHAKE)

    return ask


def _answered(call: Call, backend: Answerer, ticket: Ticket | None, outgoing: Outgoing, answers: Answers) -> Outgoing:
    """The request with what its client brought, in the backend's own words; one that asks inline begins anew."""
    if ticket is not None and ticket.pages:
        if not all(questions.accepted(response) for response in answers.responses.values()):
            text = "the backend wants a page to be visited first, and its user did not agree to that"
            raise McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.BACKEND_ERROR)
        return outgoing
    revision = backend.speaks(call)
    if ticket is None and (revision is None or not revision.modern):
        return outgoing
    params = dict(outgoing.params)
    if answers.responses or questions.RESPONSES in call.tree:
        params[questions.RESPONSES] = answers.responses
    if ticket is not None and ticket.had_state:
        params[questions.STATE] = ticket.inner
    return refine(outgoing, params=params)


def _check_all(asked: Mapping[str, Question], able: bytes) -> None:
    for question in asked.values():
        try:
            questions.check(question, able)
        except McpError as error:
            text = f"the backend asked for what this client did not declare or may not be asked: {error.message}"
            raise McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.BACKEND_ERROR) from error


def _state(told: Mapping[str, Raw]) -> str | None:
    """The backend's own state; an empty one is not the same as none."""
    if questions.STATE not in told:
        return None
    try:
        return msgspec.json.decode(told[questions.STATE], type=str)
    except msgspec.MsgspecError:
        raise _broken("the backend gave a requestState that is no string") from None


def _token(call: Call) -> Raw:
    return call.meta.get(envelope.PROGRESS_TOKEN, NONE)


def _stale() -> McpError:
    text = "Invalid params: 'requestState' is not valid (any more); call again without it"
    return McpError(Code.INVALID_PARAMS, text, vmcp_code=Code.INVALID_MESSAGE)


def _broken(why: str) -> McpError:
    return McpError(Code.INTERNAL_ERROR, why, vmcp_code=Code.BACKEND_ERROR)
