"""Between the revisions: everything inside is in the shape of 2026-07-28, and is translated at the two edges.

The rule: a result is translated only when the revision it was said in differs from the one that is wanted; else the bytes pass
as they are. Down translation loses nothing that the older revision could say, and puts into words what it could not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from vmcp.errors import Code, McpError
from vmcp.protocol.envelope import SERVER_INFO
from vmcp.protocol.jsonrpc import LARGE, encode, items, members
from vmcp.protocol.revisions import Revision

_BRACE = ord("{")
_COMPLETE = b'{"resultType":"complete"'
_UNCACHED = b',"ttlMs":0,"cacheScope":"private"'
_HOUSE_ONLY = ("resultType", "ttlMs", "cacheScope")
_SPEC_ONLY = frozenset({Code.HEADER_MISMATCH, Code.MISSING_CAPABILITY, Code.UNSUPPORTED_VERSION})


def result(raw: Raw | bytes, method: str, spoken: Revision, wanted: Revision) -> bytes:
    """``raw``, said in revision ``spoken``, in the shape of ``wanted``. Raises ``McpError`` when it cannot be said."""
    if spoken == wanted:
        return bytes(raw)
    try:
        text = bytes(raw) if spoken.modern else to_house(raw, method)
        return text if wanted.modern else from_house(text, method, wanted)
    except (msgspec.MsgspecError, RecursionError) as error:
        why = "the backend answered with a malformed result"
        raise McpError(Code.INTERNAL_ERROR, why, vmcp_code=Code.BACKEND_ERROR) from error


def to_house(raw: Raw | bytes, method: str) -> bytes:
    """A result of a handshake revision as one of 2026-07-28: it is complete, and nobody may keep what is read."""
    added = _HOUSE_ONLY if method == "resources/read" else _HOUSE_ONLY[:1]
    head = _COMPLETE + (_UNCACHED if method == "resources/read" else b"")
    if memoryview(raw).nbytes > LARGE:
        return _large_to_house(raw, added, head)
    text = bytes(raw)
    # A name of the house may be spelt with escapes; and what is no object, ``members`` refuses.
    if (
        not text.lstrip().startswith(b"{")
        or text.find(b"\\u") >= 0
        or any(text.find(key.encode()) >= 0 for key in added)
    ):
        kept = members(text)
        for key in added:
            kept.pop(key, None)
        text = encode(kept)
    rest = text.lstrip()[1:]
    return head + (rest if rest.lstrip().startswith(b"}") else b"," + rest)


def _large_to_house(raw: Raw | bytes, added: Sequence[str], head: bytes) -> bytes:
    """The same of a large one: to look for words through a megabyte takes longer than to read it. It is copied but once."""
    told = members(raw)
    if memoryview(raw)[0] != _BRACE or not told.keys().isdisjoint(added):
        for key in added:
            told.pop(key, None)
        raw = encode(told)
    return b"".join((head, b",", memoryview(raw)[1:])) if told else head + b"}"


def from_house(text: bytes, method: str, wanted: Revision) -> bytes:
    """A result of 2026-07-28 in the shape of a handshake revision."""
    told = members(text)
    if told.get("resultType", Raw(b'"complete"')) != Raw(b'"complete"'):
        raise _unsayable(told["resultType"])
    for key in _HOUSE_ONLY:
        told.pop(key, None)
    _drop_server_info(told)
    if method == "tools/call":
        _structured(told, wanted)
        _contents(told, "content", wanted)
    elif method == "prompts/get":
        _messages(told, wanted)
    return encode(told)


def _unsayable(kind: Raw) -> McpError:
    said = bytes(kind)[:40].decode(errors="replace")
    text = f"the backend answered with a result of type {said}, which this client's revision cannot express"
    return McpError(Code.INTERNAL_ERROR, text, vmcp_code=Code.PROTOCOL_ERROR)


def _drop_server_info(told: dict[str, Raw]) -> None:
    meta = told.get("_meta")
    if meta is None or SERVER_INFO.encode() not in bytes(meta):
        return
    kept = members(meta)
    kept.pop(SERVER_INFO, None)
    if kept:
        told["_meta"] = Raw(encode(kept))
    else:
        del told["_meta"]


def _structured(told: dict[str, Raw], wanted: Revision) -> None:
    """Only objects may be structured before 2026-07-28, and nothing before 2025-06-18; the text then carries the value."""
    value = told.get("structuredContent")
    if value is None or (bytes(value).startswith(b"{") and wanted >= Revision.V2025_06_18):
        return
    del told["structuredContent"]
    content = items(told["content"]) if "content" in told else []
    if not any(_type_of(item) == "text" for item in content):
        content.append(_text(bytes(value).decode()))
        told["content"] = Raw(encode(content))


def _messages(told: dict[str, Raw], wanted: Revision) -> None:
    if "messages" not in told:
        return
    changed = []
    for raw in items(told["messages"]):
        message = members(raw)
        if "content" in message:
            message["content"] = _content(message["content"], wanted)
        changed.append(message)
    told["messages"] = Raw(encode(changed))


def _contents(told: dict[str, Raw], key: str, wanted: Revision) -> None:
    if key in told and wanted < Revision.V2025_06_18:
        told[key] = Raw(encode([_content(item, wanted) for item in items(told[key])]))


def _content(raw: Raw, wanted: Revision) -> Raw:
    kind = _type_of(raw)
    if kind == "resource_link" and wanted < Revision.V2025_06_18:
        link = msgspec.json.decode(raw)
        return _text(f"{link.get('title') or link.get('name') or 'resource'}: {link.get('uri', '')}")
    if kind == "audio" and wanted < Revision.V2025_03_26:
        return _text(
            f"[audio of type {msgspec.json.decode(raw).get('mimeType', 'unknown')}, which revision {wanted} cannot carry]"
        )
    return raw


class _Typed(msgspec.Struct):
    type: str = ""


_typed = msgspec.json.Decoder(_Typed).decode


def _type_of(raw: Raw) -> str:
    try:
        return _typed(raw).type
    except msgspec.MsgspecError:
        return ""


def _text(text: str) -> Raw:
    return Raw(encode({"type": "text", "text": text}))


def error(failed: McpError, method: str, name: str | None, spoken: Revision, wanted: Revision) -> McpError:
    """A backend's error in the words of the client's revision; the only codes that differ are these."""
    if spoken.modern == wanted.modern:
        return failed
    if wanted.modern:
        return _not_found(failed, name) if failed.code == Code.RESOURCE_NOT_FOUND else failed
    if failed.code in _SPEC_ONLY:
        return McpError(Code.INTERNAL_ERROR, f"the backend refused: {failed.message}", vmcp_code=Code.PROTOCOL_ERROR)
    if method == "resources/read" and failed.code == Code.INVALID_PARAMS and _uri(failed.data) == name is not None:
        return McpError(Code.RESOURCE_NOT_FOUND, failed.message, failed.data)
    return failed


def _not_found(failed: McpError, name: str | None) -> McpError:
    data = failed.data if _uri(failed.data) is not None else {"uri": name}
    return McpError(Code.INVALID_PARAMS, failed.message, data)


def _uri(data: object) -> str | None:
    told: Any = data
    if isinstance(data, Raw):
        try:
            told = msgspec.json.decode(data)
        except (msgspec.MsgspecError, RecursionError):
            return None
    uri = told.get("uri") if isinstance(told, Mapping) else None
    return uri if isinstance(uri, str) else None
