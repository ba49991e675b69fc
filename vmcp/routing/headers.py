"""Arguments that HTTP clients repeat in a header: ``x-mcp-header`` in the ``inputSchema`` of a tool.

The rule (2026-07-28, streamable HTTP, custom headers from tool parameters): one annotation at a wrong place or with a wrong
value makes the tool unfit for every HTTP client of that revision, so the tool is kept out, and only that tool.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from vmcp.routing.arguments import AS_IT_IS, Overrides, gone
from vmcp.routing.table import HeaderParam

KEY = "x-mcp-header"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_TYPES = ("string", "integer", "boolean")

# Where JSON Schema 2020-12 (and the drafts before it) has further schemas, besides ``properties``.
_ONE = (
    *("items", "additionalItems", "contains", "additionalProperties", "propertyNames", "unevaluatedItems"),
    *("unevaluatedProperties", "not", "if", "then", "else", "contentSchema"),
)
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_NAMED = ("patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")

Path = tuple[str, ...]


def mentioned(text: bytes) -> bool:
    """Whether the key may be in ``text`` at all: in clear, or spelt with escapes."""
    return b"x-mcp-header" in text or b"\\u" in text


def read(schema: Raw) -> tuple[HeaderParam, ...] | str:
    """The annotated arguments of an ``inputSchema``, or what is wrong with them."""
    try:
        decoded = msgspec.json.decode(schema)
    except (msgspec.MsgspecError, RecursionError):
        return "its inputSchema cannot be read"
    found: dict[str, HeaderParam] = {}
    for path, part in _schemas(decoded):
        if KEY in part:
            wrong = _wrong(path, part) or _take(path, part, found)
            if wrong:
                return f"{KEY} {wrong}"
    return tuple(found.values())


def shown(params: tuple[HeaderParam, ...], overrides: Overrides) -> tuple[HeaderParam, ...]:
    """The same under the advertised argument names, without the arguments that clients do not see."""
    if not overrides:
        return params
    kept: list[HeaderParam] = []
    for param in params:
        first, *rest = param.path
        override = overrides.get(first, AS_IT_IS)
        if not gone(override):
            kept.append(HeaderParam(param.header, (override.name or first, *rest)))
    return tuple(kept)


def _wrong(path: Path | None, part: Mapping[str, Any]) -> str:
    if not path:
        return "stands where no chain of properties leads"
    where = ".".join(path)
    header, kind = part[KEY], part.get("type")
    if not isinstance(header, str) or not _TOKEN.fullmatch(header):
        return f"of '{where}' is no header name"
    if not isinstance(kind, str) or kind not in _TYPES:
        return f"of '{where}' is on an argument that is no string, integer or boolean"
    return ""


def _take(path: Path | None, part: Mapping[str, Any], found: dict[str, HeaderParam]) -> str:
    header = part[KEY]
    if header.lower() in found:
        return f"'{header}' is there twice"
    found[header.lower()] = HeaderParam(header, path or ())
    return ""


def _schemas(root: object) -> Iterator[tuple[Path | None, Mapping[str, Any]]]:
    """Every schema within ``root``, and its path if a pure chain of ``properties`` leads there. No recursion: depth is theirs."""
    waiting: list[tuple[Path | None, object]] = [((), root)]
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, dict):
            yield path, part
            waiting.extend(reversed(list(_children(path, part))))


def _children(path: Path | None, part: Mapping[str, Any]) -> Iterator[tuple[Path | None, object]]:
    properties = part.get("properties")
    if isinstance(properties, dict):
        yield from ((None if path is None else (*path, name), child) for name, child in properties.items())
    yield from ((None, part[key]) for key in _ONE if key in part)
    for key in _MANY:
        if isinstance(part.get(key), list):
            yield from ((None, child) for child in part[key])
    for key in _NAMED:
        if isinstance(part.get(key), dict):
            yield from ((None, child) for child in part[key].values())
