"""What a call has answered, as a page can show it: texts, pictures, data, and what went wrong.

The rule: whatever is in a result, it is shown as text or, where it is a picture of a known kind, as that picture; what cannot be
seen is an escape, and nothing is shown endlessly.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

State = Literal["ok", "tool-error", "error", "asks"]
LONGEST: Final = 20_000
WHOLE: Final = 40_000
LARGEST: Final = 256 << 10
MOST: Final = 50
_PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_SHORT: Final = 200


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a result. ``picture`` is a ``data:`` URL."""

    kind: str
    about: str
    text: str = ""
    picture: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A whole answer. ``code`` is vmcp's own code of an error."""

    state: State
    title: str
    pieces: tuple[Piece, ...] = ()
    structured: str = ""
    whole: str = ""
    code: str = ""


def shown(body: bytes, status: int) -> Shown:
    """The answer of the endpoint, a JSON-RPC message."""
    try:
        message = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        message = None
    if not isinstance(message, dict):
        return Shown("error", f"HTTP {status}: the answer is no JSON-RPC message", whole=readable(_text(body), WHOLE))
    whole = _formatted(body)
    error = message.get("error")
    if isinstance(error, dict):
        data = error.get("data")
        code = data.get("vmcpCode") if isinstance(data, dict) else None
        title = f"error {error.get('code')}: {readable(str(error.get('message', '')), LONGEST)}"
        return Shown("error", title, whole=whole, code="" if code is None else str(code))
    result = message.get("result")
    return _result(result, whole) if isinstance(result, dict) else Shown("error", "there is no result", whole=whole)


def _result(result: Mapping[str, Any], whole: str) -> Shown:
    if result.get("resultType") == "input_required":
        asked = result.get("inputRequests")
        pieces = [Piece("question", str(key), _json(each)) for key, each in list(_map(asked).items())[:MOST]]
        return Shown("asks", "the server asks something that this page cannot answer", tuple(pieces), whole=whole)
    structured = _json(result["structuredContent"]) if "structuredContent" in result else ""
    pieces = [*_pieces(result)][:MOST]
    if result.get("isError") is True:
        return Shown("tool-error", "the tool says that it failed", tuple(pieces), structured, whole)
    return Shown("ok", "", tuple(pieces), structured, whole)


def _pieces(result: Mapping[str, Any]) -> Iterator[Piece]:
    for each in _list(result.get("content")):
        yield _piece(each)
    for each in _list(result.get("contents")):
        yield _resource(_map(each))
    for each in _list(result.get("messages")):
        found = _piece(_map(each).get("content"))
        yield Piece(found.kind, f"{_word(_map(each).get('role'))}: {found.about}", found.text, found.picture)


def _piece(each: Any) -> Piece:
    content = _map(each)
    kind = content.get("type")
    if kind == "text":
        return Piece("text", "text", readable(str(content.get("text", "")), LONGEST))
    if kind == "image":
        return _picture(_word(content.get("mimeType")), content.get("data"))
    if kind == "audio":
        return Piece("data", f"audio, {_word(content.get('mimeType'))}, {_size(content.get('data'))}")
    if kind == "resource":
        return _resource(_map(content.get("resource")))
    if kind == "resource_link":
        return Piece("link", f"link to a resource, {_word(content.get('name'))}", _word(content.get("uri")))
    return Piece("data", _word(kind) or "content", _json(each))


def _resource(content: Mapping[str, Any]) -> Piece:
    about = " ".join(filter(None, (_word(content.get("uri")), _word(content.get("mimeType")))))
    if "text" in content:
        return Piece("text", about, readable(str(content["text"]), LONGEST))
    found = _picture(_word(content.get("mimeType")), content.get("blob"))
    return Piece(found.kind, f"{_word(content.get('uri'))} {found.about}", found.text, found.picture)


def _picture(mime: str, data: Any) -> Piece:
    about = f"{mime or 'data'}, {_size(data)}"
    if mime not in _PICTURES or not isinstance(data, str) or len(data) > LARGEST:
        return Piece("data", about)
    try:
        clean = base64.b64encode(base64.b64decode(data, validate=True)).decode()
    except (binascii.Error, ValueError):
        return Piece("data", f"{about}, not base64")
    return Piece("image", about, picture=f"data:{mime};base64,{clean}")


def _size(data: Any) -> str:
    return f"{len(data) * 3 // 4:,} bytes" if isinstance(data, str) else "no bytes"


def _map(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _word(found: Any) -> str:
    return readable(found, _SHORT) if isinstance(found, str) else ""


def _json(found: Any) -> str:
    return readable(msgspec.json.format(msgspec.json.encode(found), indent=2).decode(), LONGEST)


def _formatted(body: bytes) -> str:
    """As it came, in lines: numbers keep their digits."""
    return readable(_text(msgspec.json.format(body, indent=2)), WHOLE)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def readable(text: str, most: int = LONGEST) -> str:
    """Text with its lines; what has no glyph is an escape."""
    flat = text[:most].replace("\r\n", "\n").replace("\t", "    ")
    made = "".join(char if char == "\n" or char.isprintable() else f"\\u{ord(char):04x}" for char in flat)
    return f"{made}… ({len(text):,} characters)" if len(text) > most else made
