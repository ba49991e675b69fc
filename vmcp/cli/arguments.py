"""Arguments as people write them, in the types that a tool's schema asks for; and a tool as a signature.

The rule: what cannot be read as the type that is wanted is a wrong command line, and never sent.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

Json = dict[str, Any]
_WORDS = {"true": True, "false": False}


def given(pairs: Sequence[str], text: str | None, tool: Mapping[str, Any]) -> Json:
    """The arguments of ``k=v`` pairs, over those of a JSON object. Raises ``click.UsageError``."""
    found = _object(text) if text is not None else {}
    schema = tool.get("inputSchema", {})
    known = schema.get("properties", {}) if isinstance(schema, dict) else {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"'{pair}' is not name=value")
        if known and name not in known and schema.get("additionalProperties") is not True:
            raise click.UsageError(f"there is no argument '{name}'{_nearest(name, known)}\n{signature(tool)}")
        found[name] = _value(name, value, known.get(name, {}))
    missing = [name for name in (schema.get("required", []) if isinstance(schema, dict) else []) if name not in found]
    if missing:
        raise click.UsageError(f"missing: {', '.join(missing)}\n{signature(tool)}")
    return found


def _object(text: str) -> Json:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.UsageError("the arguments must be a JSON object")
    return found


def _value(name: str, text: str, schema: Any) -> Any:
    kinds = schema.get("type") if isinstance(schema, dict) else None
    wanted = [kinds] if isinstance(kinds, str) else [each for each in kinds or () if each != "null"]
    if wanted == ["string"]:
        return text
    if wanted == ["boolean"] and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        found = json.loads(text)
    except ValueError:
        if not wanted or "string" in wanted:
            return text
        if wanted == ["array"]:
            return text.split(",")
        raise click.UsageError(f"'{name}' must be {' or '.join(wanted)}") from None
    if wanted and not any(_is(found, each) for each in wanted):
        if "string" in wanted:
            return text
        raise click.UsageError(f"'{name}' must be {' or '.join(wanted)}")
    return found


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    kinds: dict[str, Any] = {
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "string": str,
        "array": list,
        "object": dict,
        "null": type(None),
    }
    return isinstance(value, kinds.get(kind, object))


def named(tools: Iterable[Json], name: str) -> Json:
    """The tool of this name. Raises ``click.UsageError``, which says what is near."""
    by_name = {each["name"]: each for each in tools}
    if name not in by_name:
        raise click.UsageError(f"there is nothing named '{name}'{_nearest(name, by_name)}")
    return by_name[name]


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), 3, 0.5)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def signature(tool: Mapping[str, Any]) -> str:
    """A tool as a function: ``create(title: string, draft?: boolean)``."""
    schema = tool.get("inputSchema", {})
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    required = schema.get("required", []) if isinstance(schema, dict) else []
    words = [f"{name}{'' if name in required else '?'}: {_kind(each)}" for name, each in properties.items()]
    return f"{tool['name']}({', '.join(words)})"


def _kind(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "any"
    if "enum" in schema:
        return " | ".join(json.dumps(each, ensure_ascii=False) for each in schema["enum"][:8])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"{_kind(schema.get('items', {}))}[]"
    return " | ".join(kind) if isinstance(kind, list) else str(kind)
