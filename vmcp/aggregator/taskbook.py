"""The names under which clients know tasks of backends, and for whom each was made.

The rule: a name is sealed: backend and inner id, principal and group stand in it, so it needs no memory, and anybody else's is as
unknown as one that was made up. What is remembered besides, within bounds, is only whose tasks to list and whom to tell of them.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.call import Call
from vmcp.protocol import tasks
from vmcp.state.crew import Crew, unmarked
from vmcp.state.ticket import Seal

REMEMBERED: Final = 10_000
_PURPOSE: Final = b"vmcp taskId 1"


class _Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    backend: str
    inner: str
    principal: str
    group: str


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Sealed).decode


class Whose(msgspec.Struct, frozen=True):
    """Whom a task is for: its session, in the handshake era, and whose that is and where."""

    session: str | None
    principal: str
    group: str


class Taskbook:
    """Mutable; the oldest names are forgotten first, which takes nothing from who has one but its place in a list."""

    def __init__(self, seal: Seal, remembered: int = REMEMBERED, crew: Crew | None = None) -> None:
        self._seal = seal
        self._crew = crew
        self._remembered = remembered
        self._names: dict[tuple[str, str, Whose], str] = {}
        self._known: dict[tuple[str, str], dict[Whose, str]] = {}

    def name(self, call: Call, backend: str, inner: str) -> str:
        """The name that the caller has for a task of ``backend``; always the same one while it is remembered."""
        whose = _whose(call)
        key = (backend, inner, whose)
        found = self._names.get(key)
        if found is None:
            text = _encode(_Sealed(backend, inner, whose.principal, whose.group))
            found = self._names[key] = self._sealed(text)
            self._known.setdefault((backend, inner), {})[whose] = found
            if len(self._names) > self._remembered:
                self._forget(next(iter(self._names)))
        return found

    def _sealed(self, text: bytes) -> str:
        """It says which worker has the connection on which the task was made: a child of another knows nothing of it."""
        name = self._seal.wrap(text, _PURPOSE)
        return self._crew.mark(name) if self._crew is not None else name

    def _forget(self, key: tuple[str, str, Whose]) -> None:
        del self._names[key]
        backend, inner, whose = key
        known = self._known[backend, inner]
        del known[whose]
        if not known:
            del self._known[backend, inner]

    def open(self, call: Call, name: str) -> tuple[str, str] | None:
        """The backend and the inner id of a task; None when the caller has none of this name."""
        text = self._seal.unwrap(unmarked(name), _PURPOSE)
        if text is None:
            return None
        try:
            told = _decode(text)
        except msgspec.MsgspecError:  # another version's, under a key that is shared
            return None
        mine = told.principal == call.principal and told.group == call.face.group
        return (told.backend, told.inner) if mine else None

    def known(self, call: Call, backend: str, inner: str) -> str | None:
        """The name of a task that was made for this very caller; None for everybody else's."""
        return self._known.get((backend, inner), {}).get(_whose(call))

    def told(self, backend: str, params: Mapping[str, Raw], session: str | None) -> list[tuple[str, dict[str, Any]]]:
        """Whom to tell of the state of a task (2025-11-25), by session, and what; on a session's own connection only that one."""
        inner = tasks.id_of(params)
        return [
            (whose.session, tasks.renamed(params, name))
            for whose, name in self._known.get((backend, inner or ""), {}).items()
            if whose.session is not None and session in (None, whose.session)
        ]


def _whose(call: Call) -> Whose:
    return Whose(call.peer.session, call.principal, call.face.group)
