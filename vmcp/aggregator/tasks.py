"""Tasks of backends, put through to the clients for whom they were made, in the era in which they were made.

The rule: a client knows a task by a name of ours, which is opened on every verb; one that is not its own is as unknown as one
that never was. Nothing of a task is kept here: the backend has its state, and says when it is over.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from vmcp.aggregator import listing
from vmcp.aggregator.taskbook import Taskbook
from vmcp.call import Call, Client, Complete, Outcome, refine
from vmcp.config.model import BackendSpec
from vmcp.errors import Code, McpError, Overdue, Unavailable
from vmcp.protocol import extensions, jsonrpc, tasks
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import Revision
from vmcp.protocol.tasks import FIRST
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Face, Route
from vmcp.upstream.ask import Outgoing

MAX_PAGES: Final = 32
"""Pages of backends that are looked through for one page of a list."""
_WHOLE_WORD: Final = 8  # a shorter id is too likely to be a word of an error that means something else

Answering = Callable[[Call], Awaitable[Outcome]]


class Ways(Protocol):
    """How a call reaches a backend."""

    async def send(self, call: Call, route: Route, outgoing: Outgoing) -> Outcome:
        """Ask the backend of ``route``. Raises ``McpError``."""


class Keeper(Protocol):
    """What is needed of a backend."""

    spec: BackendSpec

    def speaks(self, call: Call) -> Revision | None:
        """The revision in which it will be asked, as far as one knows."""

    def declares(self, capability: str) -> bool:
        """Whether it declared ``capability``."""


class Tasks:
    """The verbs of tasks, and the calls that make them. ``through`` is the way on which a task is made and waited for."""

    def __init__(self, backends: Mapping[str, Keeper], ways: Ways, through: Ways, book: Taskbook) -> None:
        self._backends = backends
        self._ways = ways
        self._through = through
        self._book = book
        self.methods: Mapping[str, Answering] = {
            "tasks/get": self._state,
            "tasks/cancel": self._state,
            "tasks/update": self._state,
            "tasks/result": self._result,
            "tasks/list": self._list,
        }

    # --- the calls that make them

    def passes(self, call: Call, route: Route) -> bool:
        """Whether the ``task`` of a ``tools/call`` may reach the backend: only one of the client's own revision can mean it."""
        revision = call.peer.revision
        return revision is FIRST or self._backends[route.backend].speaks(call) is revision

    def concern(self, call: Call, route: Route) -> bool:
        """Whether this ``tools/call`` is done as a task, or its result may announce one."""
        if route.tasked and call.peer.revision is not FIRST:
            return True
        if call.peer.revision.modern:
            return _has_extension(call.face) and extensions.declares(call.peer.capabilities, extensions.TASKS)
        return call.peer.revision is FIRST and "task" in call.params

    async def call(self, call: Call, route: Route, outgoing: Outgoing) -> Outcome:
        """A ``tools/call`` whose result may announce a task, which then gets the name that its client knows it by."""
        if route.tasked and call.peer.revision is not FIRST:
            # Its client has no such tasks, but it can wait.
            return await self._through.send(call, route, outgoing)
        outcome = await self._ways.send(self._relating(call, route.backend), route, outgoing)
        if not isinstance(outcome, Complete) or outcome.revision is not call.peer.revision:
            return outcome
        inner = tasks.created(outcome.result, outcome.revision)
        if inner is None:
            return outcome
        name = self._book.name(call, route.backend, inner)
        return _reshaped(outcome, lambda raw: tasks.announced(raw, outcome.revision, name))

    def _relating(self, call: Call, backend: str) -> Call:
        """The same call, but what is told and asked in it names tasks as this client knows them."""
        if call.peer.revision.modern:
            return call
        return refine(call, client=_Related(call.client, lambda inner: self._book.name(call, backend, inner)))

    # --- the verbs

    async def _state(self, call: Call) -> Outcome:
        name = _named(call)
        outcome = await self._ask(call, name)
        return _reshaped(outcome, lambda raw: tasks.detailed(raw, name))

    async def _result(self, call: Call) -> Outcome:
        name = _named(call)
        outcome = await self._ask(call, name)
        return _reshaped(outcome, lambda raw: jsonrpc.encode(tasks.related(jsonrpc.members(raw), lambda _: name)))

    async def _ask(self, call: Call, name: str) -> Complete:
        _check(call)
        found = self._book.open(call, name)
        backend = self._backends.get(found[0]) if found is not None else None
        if found is None or backend is None or backend.speaks(call) not in (None, call.peer.revision):
            raise McpError(Code.INVALID_PARAMS, f"Unknown task: {name}", vmcp_code=Code.ROUTING_FAILED)
        inner = found[1]
        params = {key: value for key, value in call.params.items() if key != "_meta"}
        outgoing = Outgoing({**params, "taskId": inner}, inner)
        try:
            return await self._send(call, found[0], inner, outgoing)
        except McpError as error:
            if len(inner) >= _WHOLE_WORD:
                error.message = error.message.replace(inner, name)
            raise

    async def _send(self, call: Call, backend: str, inner: str, outgoing: Outgoing) -> Complete:
        call.trail.backend = backend
        call.trail.original = inner
        route = Route(Kind.TOOL, inner, backend, inner, b"", b"", listed=False)
        outcome = await self._ways.send(self._relating(call, backend), route, outgoing)
        assert isinstance(outcome, Complete), "no verb of tasks may be answered with a question; the way sees to that"
        return outcome

    # --- the list of 2025-11-25, over all backends of a group

    async def _list(self, call: Call) -> Complete:
        _check(call)
        names = [name for name in self._backends if name in call.face.backends]
        at, cursor = _start(call.tree.get("cursor"), names)
        told: list[dict[str, Any]] = []
        for _ in range(MAX_PAGES):
            if told or at == len(names):
                break
            found, cursor = await self._page(call, names[at], cursor)
            told.extend(found)
            at += cursor is None
        result: dict[str, Any] = {"tasks": told}
        if at < len(names):
            result["nextCursor"] = _cursor(names[at], cursor)
        return listing.result(call, result)

    async def _page(self, call: Call, backend: str, cursor: Raw | None) -> tuple[list[dict[str, Any]], Raw | None]:
        """The caller's tasks on one page of one backend. One that has no list, or is away, has no tasks."""
        keeper = self._backends[backend]
        if keeper.speaks(call) is not FIRST or not keeper.declares("tasks"):
            return [], None
        params = {} if cursor is None else {"cursor": cursor}
        try:
            outcome = await self._send(call, backend, "", Outgoing(params))
            entries, following = tasks.listed(outcome.result)
            named = [(task, self._book.known(call, backend, inner)) for inner, task in entries]
            return [tasks.renamed(task, name) for task, name in named if name is not None], following
        except (Unavailable, Overdue, msgspec.MsgspecError, RecursionError):
            return [], None
        except McpError as error:
            if error.code == Code.METHOD_NOT_FOUND:
                return [], None
            raise


class _Related:
    """A client to whom messages name the task that they belong to (2025-11-25). See ``Client``."""

    def __init__(self, client: Client, rename: tasks.Rename) -> None:
        self.can_ask = client.can_ask
        self._client = client
        self._rename = rename

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """See ``Client``."""
        await self._client.notify(method, tasks.related(params, self._rename))

    async def ask(self, question: Question) -> Raw:
        """See ``Client``. What the client relates its answer to is in the backend's words again."""
        renamed: dict[str, str] = {}

        def rename(inner: str) -> str:
            name = self._rename(inner)
            renamed[name] = inner
            return name

        params = question.params
        if params:
            params = Raw(jsonrpc.encode(tasks.related(jsonrpc.members(params), rename)))
        answer = await self._client.ask(Question(question.method, params))
        if not renamed or not bytes(answer).startswith(b"{"):
            return answer
        return Raw(jsonrpc.encode(tasks.related(jsonrpc.members(answer), lambda name: renamed.get(name, name))))


def _reshaped(outcome: Complete, shape: Callable[[Raw | bytes], bytes]) -> Complete:
    try:
        return Complete(shape(outcome.result), outcome.revision)
    except (msgspec.MsgspecError, RecursionError) as error:
        why = "the backend answered with a malformed task"
        raise McpError(Code.INTERNAL_ERROR, why, vmcp_code=Code.BACKEND_ERROR) from error


def _check(call: Call) -> None:
    """Raise ``McpError`` when nobody here has tasks in the caller's era, or when the caller did not say that it knows them."""
    modern = call.peer.revision.modern
    if not (_has_extension(call.face) if modern else "tasks" in call.face.capabilities):
        raise McpError(Code.METHOD_NOT_FOUND, "Method not found")
    if modern:
        extensions.require(call.peer.capabilities, extensions.TASKS)


def _has_extension(face: Face) -> bool:
    return extensions.TASKS in face.capabilities.get("extensions", ())


def _named(call: Call) -> str:
    if call.name is None:
        raise McpError(Code.INVALID_PARAMS, "Invalid params: 'taskId' must be a string")
    return call.name


class _Cursor(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    backend: str
    inner: Raw


_cursor_of = msgspec.json.Decoder(_Cursor).decode


def _cursor(backend: str, inner: Raw | None) -> str:
    return base64.urlsafe_b64encode(jsonrpc.encode([backend, inner])).decode()


def _start(cursor: object, names: Sequence[str]) -> tuple[int, Raw | None]:
    """Where a list goes on: the place among ``names``, and the backend's own cursor. Raises ``McpError``."""
    if cursor is None:
        return 0, None
    try:
        found = _cursor_of(base64.urlsafe_b64decode(cursor if isinstance(cursor, str) else ""))
        inner = found.inner.copy()
        return names.index(found.backend), None if bytes(inner) == jsonrpc.NULL else inner
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise McpError(
            Code.INVALID_PARAMS, "Invalid params: this cursor leads nowhere; list again without one"
        ) from None
