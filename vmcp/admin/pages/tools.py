"""The pages of what clients are offered: tools, prompts, resources and templates, and each by itself.

The rule: names, descriptions and schemas are words of strangers; what cannot be seen in them is shown as an escape.
"""

import asyncio
import shlex
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp.admin import offered
from vmcp.admin.desk import Asked, Desk, Wrong
from vmcp.admin.pages import schemas
from vmcp.admin.pages.page import Made, Page
from vmcp.admin.pages.results import readable
from vmcp.admin.trying import WAYS
from vmcp.routing import surface
from vmcp.routing.catalog import Kind
from vmcp.routing.words import visible

Data = dict[str, Any]
MOST: Final = 100
"""Lines of one page."""
_NAME: Final = 160
_WORDS: Final = 400
_WHOLE: Final = 12_000
LABELS: Final = {Kind.TOOL: "Tools", Kind.PROMPT: "Prompts", Kind.RESOURCE: "Resources", Kind.TEMPLATE: "Templates"}
_HINTS: Final = (
    ("readOnlyHint", True, "read-only", "good"),
    ("destructiveHint", True, "destructive", "bad"),
    ("idempotentHint", True, "idempotent", "plain"),
    ("openWorldHint", True, "open world", "plain"),
)


def _most(key: str) -> Callable[[Data], float]:
    """The largest first; what is not known last."""
    return lambda each: -((each.get("usage") or {}).get(key) or 0.0)


_SORTS: Final[Mapping[str, Callable[[Data], Any]]] = {
    **{key: itemgetter(key) for key in ("name", "group", "backend")},
    **{key: _most(name) for key, name in (("calls", "calls"), ("p95", "p95Seconds"), ("errors", "errorPercent"))},
    "tokens": lambda each: -each["tokens"],
    "definition": lambda each: each["locked"] is None and each["changed"] is None,
}


def kind_of(asked: Mapping[str, Any]) -> Kind:
    """The kind that a query or a form names. Raises ``Wrong``."""
    word = asked.get("kind", Kind.TOOL.value)
    found = next((kind for kind in Kind if kind.value == word), None)
    if found is None:
        raise Wrong("'kind' must be tools, prompts, resources or resourceTemplates")
    return found


async def _all(desk: Desk, asked: Asked) -> Made:
    kind = kind_of(asked.query)
    listed = Asked("", {key: asked.query[key] for key in ("path",) if key in asked.query}, {}, asked.now)
    told = await offered.listing(desk, kind, listed)
    if told is None:
        return None
    words, sort = asked.query.get("q", "").lower().split(), asked.query.get("sort", "")
    found = await asyncio.to_thread(_found, told[str(kind)], words, sort)
    first = min(_number(asked.query.get("from", "0")), max(0, len(found) - 1))
    faces = desk.house.table.faces
    kept_out = [each for each in offered.locked(desk)["quarantined"] if each["kind"] == kind]
    return {
        "kind": kind.value,
        "label": LABELS[kind],
        "kinds": [(each.value, LABELS[each], len(desk.views.names(each))) for each in Kind],
        "rows": [row(each) for each in found[first : first + MOST]],
        "first": first,
        "most": MOST,
        "sort": sort,
        "policy": desk.house.config.lock.policy,
        "total": len(told[str(kind)]),
        "found": len(found),
        "tokens": sum(each["tokens"] for each in told[str(kind)]),
        "groups": len({face.group for face in faces.values()}) > 1,
        "paths": list(faces),
        "kept_out": [{**each, "name": visible(each["name"], _NAME)} for each in kept_out[:MOST]],
    }


def _found(things: list[Data], words: Sequence[str], sort: str) -> list[Data]:
    """Those that have all words, in order."""
    found = [each for each in things if _has(each, words)] if words else things
    return sorted(found, key=_SORTS[sort]) if sort in _SORTS else found


def _has(each: Mapping[str, Any], words: Sequence[str]) -> bool:
    texts = (each["name"], said(each.get("title")), said(each.get("description")), each["group"], each["backend"])
    text = " ".join((*texts, *(word for word, _ in _hints(each)))).lower()
    return all(word in text for word in words)


def _hints(each: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a tool says of itself, in words with their tone."""
    told = annotations(each)
    return [(word, tone) for key, value, word, tone in _HINTS if told.get(key) is value]


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0


def row(each: Mapping[str, Any]) -> Data:
    """One thing as a line of the table."""
    return {
        "name": each["name"],
        "shown": visible(each["name"], _NAME),
        "title": visible(said(each.get("title")), _NAME),
        "description": visible(said(each.get("description")), _WORDS),
        "group": each["group"],
        "backend": each["backend"],
        "original": visible(each["original"], _NAME),
        "tokens": each["tokens"],
        "hints": _hints(each),
        "usage": each.get("usage"),
        "locked": each["locked"],
        "changed": each["changed"],
    }


def said(found: Any) -> str:
    """A text of a definition; empty where it is none."""
    value = _read(found) if isinstance(found, Raw) else found
    return value if isinstance(value, str) else ""


def _read(found: Raw | bytes) -> Any:
    """A part of a definition; None where it has what cannot be read, as a number beyond all bounds."""
    try:
        return msgspec.json.decode(found)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _parts(found: Raw | bytes) -> Data:
    value = _read(found)
    return value if isinstance(value, dict) else {}


def annotations(each: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a tool says of what it does."""
    return _parts(each["annotations"]) if "annotations" in each else {}


async def definition(desk: Desk, asked: Asked, kind: Kind, name: str) -> Data | None:
    """One thing with its whole definition, at the endpoint of the query or the first that has it."""
    at = {key: asked.query[key] for key in ("path",) if key in asked.query}
    told = await offered.listing(desk, kind, Asked("", {**at, "name": name}, {}, asked.now))
    found: list[Data] = told[str(kind)] if told is not None else []
    return found[0] if found else None


async def _one(desk: Desk, asked: Asked) -> Made:
    kind = kind_of(asked.query)
    each = await definition(desk, asked, kind, asked.name)
    return None if each is None else await asyncio.to_thread(_detail, desk, asked, kind, each)


def _detail(desk: Desk, asked: Asked, kind: Kind, each: Data) -> Data:
    """One thing as its page shows it. Off the loop: a definition may be long."""
    raw = bytes(each["definition"])
    parts = _parts(raw)
    text = msgspec.json.format(raw, indent=2).decode("utf-8", "replace")
    schema, output = parts.get("inputSchema"), parts.get("outputSchema")
    at = desk.house.current
    faces = {path: surface.seen(at.config, face)[0] for path, face in at.table.faces.items()}
    paths = [path for path, face in faces.items() if each["name"] in face.routes[kind]]
    return {
        "kind": kind.value,
        "label": LABELS[kind],
        "each": row(each),
        "description": readable(said(each.get("description")), _WHOLE),
        "paths": paths,
        "rows": schemas.rows(schema if kind is Kind.TOOL else _arguments(parts)),
        "output": schemas.rows(output),
        "facts": [(key, visible(str(parts[key]), _NAME)) for key in ("mimeType", "size") if key in parts],
        "definition": readable(text, _WHOLE),
        "can_try": kind in WAYS,
        "policy": desk.house.config.lock.policy,
        "approve": readable(shlex.join(["vmcp", "lock", "approve", f"{each['backend']}/{each['original']}"])),
        "at": asked.query.get("path") or next(iter(paths), ""),
    }


def _arguments(parts: Mapping[str, Any]) -> Data:
    """The arguments of a prompt, as a schema."""
    found = parts.get("arguments")
    listed = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    named = {str(each["name"]): each for each in listed if "name" in each}
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": each.get("description", "")} for name, each in named.items()
        },
        "required": [name for name, each in named.items() if each.get("required") is True],
    }


def schema_of(kind: Kind, each: Mapping[str, Any]) -> Any:
    """The schema of the arguments of a tool or prompt."""
    parts = _parts(each["definition"])
    return parts.get("inputSchema") if kind is Kind.TOOL else _arguments(parts)


PAGES: Final = (
    Page("GET", "tools", "read", "tools.html", _all, "Tools"),
    Page("GET", "tools/*", "read", "tool.html", _one, title="Tool"),
)
