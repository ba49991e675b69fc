"""What a server asks of a client while it works: sampling, elicitation, roots.

The rule: a question has the same shape in every revision, ``{method, params}``; only how it travels differs: as a request of its
own before 2026-07-28, as a member of ``inputRequests`` since (basic/patterns/mrtr). Nobody is asked what he did not declare.
"""

import contextlib
import functools
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.errors import Code, McpError
from vmcp.protocol import envelope
from vmcp.protocol.jsonrpc import LARGE, NONE, encode, ending, items, members
from vmcp.protocol.revisions import Revision
from vmcp.protocol.tasks import FIRST, RELATED

ELICIT: Final = "elicitation/create"
SAMPLE: Final = "sampling/createMessage"
ROOTS: Final = "roots/list"
ASKING: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
"""The methods whose result may be a question (2026-07-28 basic/patterns/mrtr)."""
RESPONSES: Final = "inputResponses"
STATE: Final = "requestState"
REQUESTS: Final = "inputRequests"
URL_REQUIRED: Final = -32042
"""How a server of 2025-11-25 refuses a call until the user has visited a page."""
MAX_QUESTIONS: Final = 16
"""Questions of one round, and of one call at a time."""

_REMEMBERED: Final = 4096
_NOTHING: Final = b"{}"
_PAGES: Final = ("https://", "http://")
_MODES: Final = ("form", "url")


class Question(msgspec.Struct, frozen=True):
    """A question as its server said it. ``params`` is its JSON text, ``NONE`` when it has none."""

    method: str
    params: Raw = NONE


class _Kind(msgspec.Struct):
    resultType: str = ""  # noqa: N815 - the name on the wire


class _Refusal(msgspec.Struct):
    elicitations: list[Raw] = []


_kind = msgspec.json.Decoder(_Kind).decode
_refusal = msgspec.json.Decoder(_Refusal).decode
_tree = msgspec.json.Decoder(dict[str, Any]).decode
_questions = msgspec.json.Decoder(dict[str, Question]).decode


# --- capabilities


def mirrored(declared: bytes, *, sampling: bool, form: bool, url: bool, roots: bool) -> bytes:
    """What a client declared, as far as a backend may know of it: JSON text. ``tasks`` is never in it, other keys stay."""
    if declared == _NOTHING:
        return _NOTHING
    # What a client says may be large, and is not worth remembering then.
    mirror = _mirrored if len(declared) <= _REMEMBERED else _mirrored.__wrapped__
    return mirror(declared, sampling, form, url, roots)


@functools.lru_cache(1024)
def _mirrored(declared: bytes, sampling: bool, form: bool, url: bool, roots: bool) -> bytes:
    told = _object(declared)
    told.pop("tasks", None)
    for key, allowed in (("sampling", sampling), ("roots", roots), ("elicitation", form or url)):
        if key in told and not (allowed and _is_object(told[key])):
            del told[key]
    if "elicitation" in told:
        modes = _object(told["elicitation"])
        # No mode named means forms (2025-11-25 client/elicitation, Capabilities).
        named = {mode for mode in _MODES if _is_object(modes.get(mode, NONE))} or {"form"}
        kept = named & {mode for mode, allowed in (("form", form), ("url", url)) if allowed}
        if not kept:
            del told["elicitation"]
        elif kept != named:
            told["elicitation"] = Raw(
                encode({key: raw for key, raw in modes.items() if key in kept or key not in _MODES})
            )
    return encode(told)


def everything(*, sampling: bool, form: bool, url: bool, roots: bool) -> bytes:
    """The capabilities of a client that can do all that is allowed, as JSON text."""
    told: dict[str, Any] = {}
    if sampling:
        told["sampling"] = {"context": {}, "tools": {}}
    modes: dict[str, Any] = {mode: {} for mode, allowed in (("form", form), ("url", url)) if allowed}
    if modes:
        told["elicitation"] = modes
    if roots:
        told["roots"] = {}
    return encode(told)


def askable(capabilities: bytes) -> bool:
    """Whether a client with these capabilities can be asked anything."""
    return capabilities != _NOTHING and not {"sampling", "elicitation", "roots"}.isdisjoint(_able(capabilities))


def _able(capabilities: bytes) -> Mapping[str, Any]:
    return _known(capabilities) if len(capabilities) <= _REMEMBERED else _known.__wrapped__(capabilities)


@functools.lru_cache(1024)
def _known(capabilities: bytes) -> Mapping[str, Any]:
    try:
        return _tree(capabilities)
    except (msgspec.MsgspecError, RecursionError):
        return {}


def check(question: Question, capabilities: bytes) -> None:
    """Raise ``McpError``, as the client itself would, when a client with these capabilities cannot be asked this."""
    able = _able(capabilities)
    if question.method == ELICIT and isinstance(able.get("elicitation"), dict):
        _check_mode(_params(question), able["elicitation"])
    elif question.method == SAMPLE and isinstance(able.get("sampling"), dict):
        if not isinstance(able["sampling"].get("tools"), dict) and not {"tools", "toolChoice"}.isdisjoint(
            _params(question)
        ):
            raise _invalid("the client did not declare sampling.tools")
    elif question.method != ROOTS or not isinstance(able.get("roots"), dict):
        raise McpError(Code.METHOD_NOT_FOUND, f"Method not found: the client takes no {question.method[:60]}")


def takes_pages(capabilities: bytes) -> bool:
    """Whether a client with these capabilities can be asked to visit a page."""
    modes = _able(capabilities).get("elicitation")
    return isinstance(modes, dict) and "url" in _named(modes)


def _named(modes: Mapping[str, Any]) -> list[str]:
    return [mode for mode in _MODES if isinstance(modes.get(mode), dict)] or ["form"]


def _check_mode(params: Mapping[str, Raw], modes: Mapping[str, Any]) -> None:
    mode = _text(params.get("mode"), "form")
    if mode not in _MODES:
        raise _invalid("no such mode of elicitation")
    if mode not in _named(modes):
        raise _invalid(f"the client did not declare elicitation.{mode}")
    if mode == "url" and not _text(params.get("url"), "").lower().startswith(_PAGES):
        raise _invalid("'url' must be that of a web page")


# --- questions as a result of 2026-07-28


def read(result: Raw | bytes) -> dict[str, Raw] | None:
    """The members of a result that asks (``resultType`` is input_required); None when it is any other."""
    # To decode the one member takes less time than to look for the word and for all ways to spell it.
    try:
        return members(result) if _type_of(result) == "input_required" else None
    except (msgspec.MsgspecError, RecursionError):
        return None


def _type_of(result: Raw | bytes) -> str:
    if memoryview(result).nbytes > LARGE and (end := ending(result, b'"resultType"')) is not None:
        with contextlib.suppress(msgspec.MsgspecError):
            return _kind(end).resultType
    return _kind(result).resultType


def requests(told: Mapping[str, Raw]) -> dict[str, Question]:
    """The questions of a result that asks, by key. Raises ``McpError`` when they cannot be read or are too many."""
    raw = told.get(REQUESTS)
    if raw is None:
        return {}
    try:
        found = _questions(raw)
    except (msgspec.MsgspecError, RecursionError):
        raise _broken("the backend asked something that cannot be read") from None
    if len(found) > MAX_QUESTIONS:
        raise _broken(f"the backend asked more than {MAX_QUESTIONS} questions at once")
    return found


def asking(questions: Mapping[str, Question]) -> dict[str, Raw]:
    """The members of a result of 2026-07-28 that asks ``questions``."""
    told = {key: {"method": asked.method, "params": asked.params or Raw(_NOTHING)} for key, asked in questions.items()}
    return {"resultType": Raw(b'"input_required"'), REQUESTS: Raw(encode(told))}


def pages(failed: McpError) -> dict[str, Question]:
    """The pages that a server of 2025-11-25 wants visited first (-32042), as questions; none when it says none."""
    try:
        listed = _refusal(failed.data if isinstance(failed.data, Raw) else encode(failed.data)).elicitations
        told = [{**members(raw), "mode": Raw(b'"url"')} for raw in listed[:MAX_QUESTIONS]]
    except (msgspec.MsgspecError, RecursionError):
        return {}
    return {f"page-{n}": for_modern(Question(ELICIT, Raw(encode(params)))) for n, params in enumerate(told, 1)}


def consent(url: str, message: str) -> Question:
    """The question whether the user will visit a page of vmcp's own."""
    return Question(ELICIT, Raw(encode({"mode": "url", "message": message, "url": url})))


def accepted(response: Raw) -> bool:
    """Whether the result of an elicitation says yes."""
    return _text(_object(response).get("action"), "") == "accept"


# --- from one era to the other


def for_modern(question: Question) -> Question:
    """A question of a handshake revision in the shape of 2026-07-28."""
    told = _own(question)
    told.pop("elicitationId", None)
    return _said(question, told)


def passed_on(question: Question) -> Question:
    """A question of one handshake revision for a client of another: the server's own words, without what is of the hop."""
    told = dict(_params(question))
    told.pop("task", None)
    meta = _object(told.get("_meta", NONE))
    if meta.pop(envelope.PROGRESS_TOKEN, None) is not None:
        told["_meta"] = Raw(encode(meta))
        if not meta:
            del told["_meta"]
    return _said(question, told)


def for_handshake(question: Question, revision: Revision) -> Question:
    """A question of 2026-07-28 in the words of a handshake revision. Raises ``McpError`` when it has none for it."""
    told = _own(question, RELATED if revision is FIRST else None)
    if question.method == ELICIT:
        _elicitation(told, revision)
    elif question.method == SAMPLE and revision < Revision.V2025_11_25 and "messages" in told:
        try:
            told["messages"] = _messages(told["messages"])
        except (msgspec.MsgspecError, RecursionError):
            raise _invalid("'messages' cannot be read") from None
    return _said(question, told)


def for_asker(response: Raw, revision: Revision) -> Raw:
    """A client's answer in the words of the backend's revision: one block of content stands alone before 2025-11-25."""
    if revision >= Revision.V2025_11_25:
        return response
    told = _object(response)
    content = told.get("content", NONE)
    if not bytes(content).startswith(b"[") or len(items(content)) != 1:
        return response
    return Raw(encode({**told, "content": items(content)[0]}))


def _own(question: Question, meant: str | None = None) -> dict[str, Raw]:
    """The params without what belongs to the hop they came by: progress tokens, tasks, and what the protocol reserves.

    ``meant`` is what of the latter the client is to know all the same: the task that asks.
    """
    told = dict(_params(question))
    told.pop("task", None)
    meta = told.pop("_meta", None)
    said = _object(meta) if meta is not None else {}
    kept = envelope.own_meta(said)
    if meant in said:
        kept[meant] = said[meant]
    if kept:
        told["_meta"] = Raw(encode(kept))
    return told


def _said(question: Question, told: Mapping[str, Raw]) -> Question:
    """``question`` with these params, and itself when they are the same."""
    return question if told == _params(question) else Question(question.method, Raw(encode(told)))


def _elicitation(told: dict[str, Raw], revision: Revision) -> None:
    url = _text(told.get("mode"), "form") == "url"
    if revision < Revision.V2025_06_18 or (url and revision < Revision.V2025_11_25):
        raise _invalid(f"revision {revision} has no elicitation{' of pages' if url else ''}")
    if url and "elicitationId" not in told:
        # It names the page to the client and nothing else, so the same page has the same name.
        told["elicitationId"] = Raw(encode(hashlib.sha256(bytes(encode(told))).hexdigest()[:32]))
    elif revision < Revision.V2025_11_25:
        told.pop("mode", None)
        if "requestedSchema" in told:
            told["requestedSchema"] = _schema(told["requestedSchema"])


def _schema(raw: Raw) -> Raw:
    """A form in the words of 2025-06-18: choices are ``enum`` and ``enumNames``, and one of them only."""
    form = _object(raw)
    fields = {key: _field(key, field) for key, field in _object(form.get("properties", Raw(_NOTHING))).items()}
    return Raw(encode({**form, "properties": fields})) if "properties" in form else raw


def _field(key: str, raw: Raw) -> Raw:
    field = _object(raw)
    if _text(field.get("type"), "") == "array":
        raise _invalid(f"revision {Revision.V2025_06_18} has no field of several choices ('{key[:60]}')")
    if "oneOf" not in field:
        return raw
    try:
        choices = [members(choice) for choice in items(field.pop("oneOf"))]
        consts = [choice["const"] for choice in choices]
    except (msgspec.MsgspecError, KeyError):
        return raw
    names = [choice.get("title", const) for choice, const in zip(choices, consts, strict=True)]
    return Raw(encode({**field, "enum": consts, "enumNames": names}))


def _messages(raw: Raw) -> Raw:
    """Messages of one block of content each, as they were before 2025-11-25."""
    if b"[" not in bytes(raw)[1:]:
        return raw
    told: list[dict[str, Raw]] = []
    for message in map(members, items(raw)):
        content = message.get("content", NONE)
        blocks = items(content) if bytes(content).startswith(b"[") else [content]
        told.extend({**message, "content": block} if block else message for block in blocks)
    return Raw(encode(told))


def _params(question: Question) -> dict[str, Raw]:
    if not question.params:
        return {}
    try:
        return members(question.params)
    except (msgspec.MsgspecError, RecursionError):
        raise _invalid("'params' must be an object") from None


def _object(raw: bytes | Raw) -> dict[str, Raw]:
    """The members of an object; none of anything else."""
    try:
        return members(raw)
    except (msgspec.MsgspecError, RecursionError):
        return {}


def _is_object(raw: bytes | Raw) -> bool:
    return bytes(raw).startswith(b"{")


def _text(raw: Raw | None, absent: str) -> str:
    if raw is None:
        return absent
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.MsgspecError:
        return ""


def _invalid(why: str) -> McpError:
    return McpError(Code.INVALID_PARAMS, f"Invalid params: {why}", vmcp_code=Code.PROTOCOL_ERROR)


def _broken(why: str) -> McpError:
    return McpError(Code.INTERNAL_ERROR, why, vmcp_code=Code.BACKEND_ERROR)
