"""What is asked of a backend: one request, and where everything goes that belongs to it.

The rule: an ``Ask`` holds the client's own words and nothing of the connection; ids, tokens and headers are the link's.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from vmcp.config.timeouts import Timeouts
from vmcp.protocol import jsonrpc
from vmcp.protocol.jsonrpc import NONE
from vmcp.protocol.questions import Question
from vmcp.upstream.wire import Credential

Notify = Callable[[str, Mapping[str, Any]], Awaitable[None]]
Asker = Callable[[Question], Awaitable[Raw]]
"""Puts a backend's question to the client of a request and gives its result; raises ``McpError``, the client's own included."""
OnEvent = Callable[[str, Raw], None]
"""Told of a notification that belongs to no request: its method and its params as JSON text (``NONE``: it has none)."""
NOTHING = b"{}"
"""No capabilities."""


class Ask(msgspec.Struct, frozen=True):
    """A request for a backend. ``params`` are without ``_meta``; ``own_meta``, ``token`` and ``level`` are the client's.

    ``capabilities`` is what a backend of 2026-07-28 is told that the client can do, as JSON text. ``asker`` answers what an
    older one asks meanwhile. ``lasting``: the reply is far away on purpose (``subscriptions/listen``), so only ``deadline``
    counts; then ``on_event`` gets the notifications that come for it, instead of the link's owner. ``credential``: the caller's,
    where the backend is asked with that of each caller. ``limits``: of the tool or backend that is called; None where it is no
    call. ``again``: it may be asked once more when its answer was lost, as lists and reads may anyway. ``principal`` is told only
    where a child process may have to be started for him.
    """

    method: str
    params: Mapping[str, Any]
    deadline: float
    name: str | None = None
    own_meta: Mapping[str, Raw] = {}
    token: Raw = NONE
    level: str | None = None
    param_headers: Sequence[tuple[bytes, bytes]] = ()
    notify: Notify | None = None
    capabilities: bytes = NOTHING
    asker: Asker | None = None
    lasting: bool = False
    on_event: OnEvent | None = None
    credential: Credential | None = None
    limits: Timeouts | None = None
    again: bool = False
    principal: str = ""
    trace: Sequence[tuple[bytes, bytes]] = ()
    """The trace that it is part of, as headers."""


class Outgoing(msgspec.Struct, frozen=True):
    """What of a call goes to the backend: its params without ``_meta``, the original name, headers made of arguments.

    ``idempotent``: its tool says that calling it twice does what calling it once does. ``tool``: for what is no call of a tool,
    and takes as long as one.
    """

    params: Mapping[str, Any]
    name: str | None = None
    param_headers: Sequence[tuple[bytes, bytes]] = ()
    idempotent: bool = False
    tool: str | None = None
    trace: Sequence[tuple[bytes, bytes]] = ()


def without_logs(notify: Notify) -> Notify:
    """``notify`` for a backend whose log messages concern nobody."""
    return functools.partial(_but_logs, notify)


async def _but_logs(notify: Notify, method: str, params: Mapping[str, Any]) -> None:
    if method != "notifications/message":
        await notify(method, params)


def params_of(text: Raw) -> Mapping[str, Raw] | None:
    """The members of a notification's params; none when it has none, None when they are no object."""
    try:
        return jsonrpc.members(text) if text else {}
    except msgspec.MsgspecError:
        return None
