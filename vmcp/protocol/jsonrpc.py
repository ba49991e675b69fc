"""bytes ⇄ JSON-RPC messages. The one decoder of what clients send, and the reader of what backends answer.

The rule: what a client sent is decoded once, strictly, and what goes on is written anew from what was decoded. Values that
vmcp does not own stay the sender's own bytes (``msgspec.Raw``), so nothing is lost on the way.
Strict means: UTF-8 without BOM, no duplicate member at any depth, no NaN or infinity, no lone surrogate, bounded depth and
size, ``id`` a string or an integer (JSON-RPC 2.0 section 4; RFC 8259 sections 4, 6 and 8).
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.errors import Code, McpError, WireError
from vmcp.protocol import scrub

NONE: Final = Raw(b"")
NULL: Final = b"null"
LARGE: Final = 64 << 10
"""Bytes from which it is worth while to look at the end of an object before all of it is looked through."""
_END: Final = 4 << 10
_BACKSLASH: Final = ord("\\")
_WHITE = bytes.maketrans(b"\r\n", b"  ")
_BOM = b"\xef\xbb\xbf"
MAX_ID: Final = 256
MAX_METHOD: Final = 256
_MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})

encode = msgspec.json.encode
members = msgspec.json.Decoder(dict[str, Raw]).decode
items = msgspec.json.Decoder(list[Raw]).decode


class Request(msgspec.Struct, frozen=True):
    """A request of a client. ``id`` is its JSON text; ``tree`` is ``params`` decoded, to be read and never changed.

    ``meta`` are the members of ``params._meta``; none when it is no object, which the door refuses.
    """

    id: bytes
    method: str
    params: Mapping[str, Raw]
    tree: Mapping[str, Any]
    meta: Mapping[str, Raw] = {}


class Notification(msgspec.Struct, frozen=True):
    """A notification of a client."""

    method: str
    params: Mapping[str, Raw]
    tree: Mapping[str, Any]


class Reply(msgspec.Struct, frozen=True):
    """A client's answer to something a server asked: JSON texts, of which ``result`` or ``error`` is ``NONE``."""

    id: bytes
    result: Raw = NONE
    error: Raw = NONE


Incoming = Request | Notification | Reply


class Message(msgspec.Struct):
    """What a backend sent: a reply (``result`` or ``error``), a notification or a request (``method``)."""

    jsonrpc: str = ""
    id: Raw = NONE
    method: str = ""
    params: Raw = NONE
    result: Raw = NONE
    error: Raw = NONE


class _Envelope(msgspec.Struct):
    id: Raw = NONE
    params: dict[str, Raw] = {}
    result: Raw = NONE
    error: Raw = NONE


class _Fault(msgspec.Struct):
    code: int = int(Code.INTERNAL_ERROR)
    message: str = ""
    data: Raw = NONE


_envelope = msgspec.json.Decoder(_Envelope).decode
_message = msgspec.json.Decoder(Message).decode
_fault = msgspec.json.Decoder(_Fault).decode


def parse(body: bytes, depth: int = 64, nodes: int = 200_000) -> Incoming | list[Incoming]:
    """Decode what a client sent: one message, or a batch as a list. Raises ``McpError`` (-32700 or -32600)."""
    tree = strict(body, depth, nodes)
    if isinstance(tree, dict):
        return _incoming(tree, body)
    if isinstance(tree, list) and tree:
        return [_incoming(item, raw) for item, raw in zip(tree, items(body), strict=True)]
    raise _invalid("a message is a JSON object")


def _incoming(tree: object, body: bytes | Raw) -> Incoming:
    if not isinstance(tree, dict):
        raise _invalid("a message is a JSON object")
    _check_members(tree)
    try:
        envelope = _envelope(body)
    except msgspec.ValidationError:
        raise _invalid("'params' must be an object") from None
    params = tree.get("params", {})
    method = tree.get("method")
    if "id" not in tree:
        return Notification(_method(method), envelope.params, params)
    _check_id(tree["id"])
    if method is None and ("result" in tree) != ("error" in tree):
        return Reply(bytes(envelope.id), envelope.result, envelope.error)
    meta = members(envelope.params["_meta"]) if type(params.get("_meta")) is dict else {}
    return Request(bytes(envelope.id), _method(method), envelope.params, params, meta)


def _check_members(tree: Mapping[str, Any]) -> None:
    if not _MEMBERS.issuperset(tree):
        _check_spelling(tree)
    if tree.get("jsonrpc") != "2.0":
        raise _invalid("'jsonrpc' must be \"2.0\"")


def _check_spelling(tree: Mapping[str, Any]) -> None:
    for key in tree:
        # A member that only differs in case would mean something to a careless parser behind us (MSG-1).
        if key not in _MEMBERS and key.casefold() in _MEMBERS:
            raise _invalid("a member differs only in case from one of JSON-RPC")


def _check_id(given: object) -> None:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise _invalid("'id' must be a string or an integer")
    if isinstance(given, str) and len(given) > MAX_ID:
        raise _invalid(f"'id' is longer than {MAX_ID} characters")


def _method(given: object) -> str:
    if not isinstance(given, str) or not given or len(given) > MAX_METHOD:
        raise _invalid("'method' must be a string")
    return given


def strict(body: bytes, depth: int = 64, nodes: int = 200_000) -> object:
    """Decode JSON refusing all that two parsers could read in two ways. Raises ``McpError`` (-32700)."""
    if len(body) > nodes and _values(body) > nodes and _values(_STRING.sub(b"", body)) > nodes:
        raise _unparsable(f"more than {nodes} values")
    try:
        tree: object = _anything(body)
    except UnicodeDecodeError:
        raise _unparsable("the text is not UTF-8") from None
    except msgspec.DecodeError as refused:
        raise _unparsable(str(refused)[:120]) from None
    except RecursionError:
        raise _unparsable("nested too deeply") from None
    kind = type(tree)
    if (kind is dict or kind is list) and body.count(b":") != _keys(tree, depth):
        _refuse_duplicates(body)
    return tree


def _values(body: bytes) -> int:
    """About how many values a text has; too many when its strings hold such characters."""
    return body.count(b"{") + body.count(b"[") + body.count(b",")


def _keys(tree: Any, depth: int) -> int:
    """How many object members there are. As many as the text has colons: then none was lost to a duplicate."""
    if not depth:
        raise _unparsable("nested too deeply")
    found = 0
    children: Any = tree
    if type(tree) is dict:
        found = len(tree)
        children = tree.values()
    for child in children:
        kind = type(child)
        if kind is dict or kind is list:
            found += _keys(child, depth - 1)
    return found


def _refuse_duplicates(body: bytes) -> None:
    try:
        _paired(body.decode())
    except ValueError as refused:
        raise _unparsable(str(refused)[:120]) from None
    except RecursionError:
        raise _unparsable("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a member appears twice in one object")
    return tree


_VISIT_FIRST = -32042  # 2025-11-25: a page stands between the user and the answer
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_anything = msgspec.json.Decoder().decode
_paired = json.JSONDecoder(object_pairs_hook=_unique).decode


def read(body: bytes | bytearray) -> Message:
    """Read one message of a backend, its values left as they are. Raises ``WireError``."""
    try:
        if not body.isascii():
            body = body.removeprefix(_BOM)
            body.decode("utf-8")
        message = _message(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise WireError("the backend sent something that is no JSON-RPC message") from None
    if bytes(message.error) == NULL:
        message.error = NONE  # servers of JSON-RPC 1.0's habits say "error": null beside a result
    return message


def read_all(body: bytes) -> Sequence[Message]:
    """Every message of what a backend sent: one, or those of a batch. Raises ``WireError``."""
    try:
        return (read(body),)
    except WireError:
        if not body.lstrip().startswith(b"["):
            raise
    try:
        found = [read(bytes(each)) for each in items(body)]
    except (msgspec.MsgspecError, RecursionError):
        found = []
    if not found:
        raise WireError("the backend sent a batch that is none")
    return found


def result_of(message: Message) -> Raw:
    """The result of a reply. Raises the backend's error as ``McpError``, or ``WireError`` when it is neither."""
    if message.error:
        raise fault(message.error)
    if not message.result:
        raise WireError("the backend sent a reply with neither result nor error")
    return message.result


def fault(raw: bytes | Raw) -> McpError:
    """A backend's error object as ``McpError``, its code as it was said, its words without what they must not tell."""
    try:
        told = _fault(raw)
    except (msgspec.MsgspecError, RecursionError):
        return McpError(Code.INTERNAL_ERROR, "the backend sent a malformed error", vmcp_code=Code.BACKEND_ERROR)
    data = told.data if told.code == _VISIT_FIRST else scrub.data(told.data)  # the user needs those pages as they are
    error = McpError(told.code, scrub.text(told.message), data if data else None)
    error.theirs = True
    return error


def ending(text: bytes | Raw, key: bytes) -> bytes | None:
    """An object from its last member ``key`` (with quotes) on, as an object: valid JSON only if that is a member of its own.

    None when none is near its end. To look for a member through a megabyte takes a fifth of a call's time.
    """
    end = bytes(memoryview(text)[-_END:])
    at = end.rfind(key)
    return b"{" + end[at:] if at > 0 and end[at - 1] != _BACKSLASH else None


def request(id_: int, method: str, params: Mapping[str, Any]) -> bytes:
    """A request as bytes. ``params`` may hold ``Raw`` values."""
    return b'{"jsonrpc":"2.0","id":%d,"method":"%s","params":%s}' % (id_, method.encode(), encode(params))


def notification(method: str, params: Mapping[str, Any] | None = None) -> bytes:
    """A notification as bytes, ``params`` left out when there are none."""
    if params is None:
        return b'{"jsonrpc":"2.0","method":"%s"}' % method.encode()
    return b'{"jsonrpc":"2.0","method":"%s","params":%s}' % (method.encode(), encode(params))


def reply(id_: bytes, result: bytes | Raw) -> bytes:
    """A successful reply as bytes. (Joined: to format megabytes into bytes copies them several times.)"""
    return b"".join((b'{"jsonrpc":"2.0","id":', id_, b',"result":', result, b"}"))


def one_line(message: bytes) -> bytes:
    """``message`` without line ends, for where one would end it; in JSON they are white space only.

    What others wrote over several lines must not become several messages: each line of it may be one.
    """
    return message.translate(_WHITE) if b"\n" in message or b"\r" in message else message


def failure(id_: bytes, error: McpError) -> bytes:
    """An error reply as bytes; vmcp's own code goes into ``data.vmcpCode``."""
    told: dict[str, object] = {"code": error.code, "message": error.message}
    data = error.data
    if error.vmcp_code is not None and (data is None or isinstance(data, dict)):
        data = {**(data or {}), "vmcpCode": int(error.vmcp_code)}
    if data is not None:
        told["data"] = data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id_, encode(told))


def _invalid(why: str) -> McpError:
    return McpError(Code.INVALID_REQUEST, f"Invalid request: {why}", vmcp_code=Code.INVALID_MESSAGE)


def _unparsable(why: str) -> McpError:
    return McpError(Code.PARSE_ERROR, f"Parse error: {why}", vmcp_code=Code.INVALID_MESSAGE)
