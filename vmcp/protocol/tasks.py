"""Tasks as messages: where in each of them the id of a task stands, in 2025-11-25 and in the extension of 2026-07-28 (SEP-2663).

The rule: of a message only the id is changed, where it stands; all else stays the backend's own bytes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.protocol import scrub
from vmcp.protocol.jsonrpc import LARGE, encode, items, members
from vmcp.protocol.revisions import Revision

RELATED: Final = "io.modelcontextprotocol/related-task"
STATUS: Final = "notifications/tasks/status"
FIRST: Final = Revision.V2025_11_25
"""The revision with tasks in its core."""

Rename = Callable[[str], str]


class _Task(msgspec.Struct):
    taskId: str | None = None  # noqa: N815 - the name on the wire


class _Flat(_Task):
    resultType: str = ""  # noqa: N815 - the name on the wire


class _Nested(msgspec.Struct):
    task: _Task | None = None


class _Execution(msgspec.Struct):
    taskSupport: str = ""  # noqa: N815 - the name on the wire


_execution = msgspec.json.Decoder(_Execution).decode
_flat = msgspec.json.Decoder(_Flat).decode
_nested = msgspec.json.Decoder(_Nested).decode


def created(result: Raw | bytes, revision: Revision) -> str | None:
    """The id of the task that a result of ``revision`` announces instead of an answer; None when it is an answer."""
    # (To look for words through a megabyte takes longer than to read it.)
    if memoryview(result).nbytes <= LARGE and b"askId" not in bytes(result) and b"\\u" not in bytes(result):
        return None
    try:
        if not revision.modern:
            task = _nested(result).task
            return task.taskId if task is not None else None
        told = _flat(result)
        return told.taskId if told.resultType == "task" else None
    except (msgspec.MsgspecError, RecursionError):
        return None


def required(execution: Raw | None) -> bool:
    """Whether a tool of 2025-11-25, by what it says of its execution, runs as a task only."""
    if execution is None:
        return False
    try:
        return _execution(execution).taskSupport == "required"
    except (msgspec.MsgspecError, RecursionError):
        return False


def id_of(task: Mapping[str, Raw]) -> str | None:
    """The id in one task (its members), as lists and notifications have it."""
    try:
        return msgspec.json.decode(task.get("taskId", b""), type=str)
    except msgspec.MsgspecError:
        return None


def announced(result: Raw | bytes, revision: Revision, name: str) -> bytes:
    """A result that announces a task, under ``name``."""
    told = members(result)
    if revision.modern:
        return encode({**told, "taskId": name})
    return encode({**related(told, lambda _: name), "task": Raw(detailed(told["task"], name))})


def detailed(result: Raw | bytes, name: str) -> bytes:
    """The state of a task, under ``name``. How it failed is a backend's error like any other."""
    return encode(renamed(members(result), name))


def renamed(task: Mapping[str, Raw], name: str) -> dict[str, Any]:
    """The same with a task's members before and after."""
    told: dict[str, Any] = dict(task)
    if "taskId" in told:
        told["taskId"] = name
    if "error" in told:
        told["error"] = scrub.data(told["error"])
    return related(told, lambda _: name)


def listed(result: Raw | bytes) -> tuple[list[tuple[str, dict[str, Raw]]], Raw | None]:
    """The tasks of a page, by id, and where the next page begins, if there is one."""
    told = members(result)
    tasks = [members(task) for task in items(told.get("tasks", b"[]"))]
    cursor = told.get("nextCursor")
    found = [(id_, task) for task in tasks if (id_ := id_of(task)) is not None]
    return found, cursor if cursor is not None and bytes(cursor) != b"null" else None


def related(told: Mapping[str, Any], rename: Rename) -> dict[str, Any]:
    """A message (its members) whose ``_meta`` may say which task it belongs to; that id is renamed."""
    meta = told.get("_meta")
    if not isinstance(meta, Raw) or RELATED.encode() not in bytes(meta).replace(b"\\/", b"/"):
        return dict(told)
    try:
        inner = members(meta)
        task = members(inner[RELATED])
        id_ = msgspec.json.decode(task["taskId"], type=str)
    except (msgspec.MsgspecError, RecursionError, KeyError):
        return dict(told)
    return {**told, "_meta": Raw(encode({**inner, RELATED: {**task, "taskId": rename(id_)}}))}


def unrelated(result: Raw | bytes) -> bytes:
    """The result of a task, as the result of a call that was none."""
    told: dict[str, Any] = members(result)
    meta = members(told["_meta"]) if "_meta" in told else {}
    if RELATED not in meta:
        return bytes(result)
    del meta[RELATED], told["_meta"]
    return encode({**told, "_meta": meta} if meta else told)
