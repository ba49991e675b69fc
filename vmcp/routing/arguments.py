"""Arguments of a tool as a client sees them, and as its backend does.

The rule: the advertised names are the only ones a client may use. The original name of a renamed argument, and both names of
a hidden or fixed one, are unknown to it; otherwise a pinned value could be talked around.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
from msgspec import Raw

from vmcp.config.model import ArgumentOverride
from vmcp.errors import Code, McpError
from vmcp.routing import members

Overrides = Mapping[str, ArgumentOverride]

AS_IT_IS = ArgumentOverride()
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class ArgumentMap:
    """From advertised arguments to the backend's. ``names`` has the renamed ones only; values are JSON texts.

    ``inner`` is what comes after: where a persona sees other arguments, this is from its to everybody's.
    """

    names: Mapping[str, str]
    unknown: frozenset[str]
    defaults: Mapping[str, Raw]
    fixed: Mapping[str, Raw]
    inner: "ArgumentMap | None" = None

    def apply(self, arguments: Mapping[str, Raw]) -> dict[str, Raw]:
        """What the backend gets. A ``null`` is a value: it does not call for the default."""
        settled = dict(self.defaults)
        for name, value in arguments.items():
            if name in self.unknown:
                raise McpError(Code.INVALID_PARAMS, f"unknown argument '{name[:_SHOWN]}'")
            settled[self.names.get(name, name)] = value
        settled.update(self.fixed)
        return settled if self.inner is None else self.inner.apply(settled)


def gone(override: ArgumentOverride) -> bool:
    """Whether clients do not see the argument at all."""
    return override.hide or override.fixed is not None


def mapping(overrides: Overrides) -> ArgumentMap | None:
    """What to do with the arguments of a call; None when nothing but descriptions is overridden."""
    if not overrides:
        return None
    shown = {o.name or original: original for original, o in overrides.items() if not gone(o)}
    named = {name for original, o in overrides.items() for name in (original, o.name) if name}
    found = ArgumentMap(
        names=MappingProxyType({name: original for name, original in shown.items() if name != original}),
        unknown=frozenset(named - shown.keys()),
        defaults=MappingProxyType({n: Raw(o.default) for n, o in overrides.items() if o.default is not None}),
        fixed=MappingProxyType({n: Raw(o.fixed) for n, o in overrides.items() if o.fixed is not None}),
    )
    return found if found.names or found.unknown or found.defaults else None


def shown_schema(schema: Raw, overrides: Overrides) -> Raw | str:
    """The ``inputSchema`` to list, or the reason why there is none.

    Only ``properties`` and ``required`` of its first level are edited. An argument with a default is no longer required.
    """
    parts = members.split(schema)
    properties = None if parts is None else members.split(parts.get("properties", members.EMPTY))
    if parts is None or properties is None:
        return "its arguments are overridden, but its inputSchema is not understood"
    shown = _shown_properties(properties, overrides)
    if isinstance(shown, str):
        return shown
    if properties:
        parts["properties"] = Raw(members.join(shown))
    return _require(parts, overrides)


def _shown_properties(properties: Mapping[str, Raw], overrides: Overrides) -> dict[str, Raw] | str:
    shown: dict[str, Raw] = {}
    for original, schema in properties.items():
        override = overrides.get(original, AS_IT_IS)
        if gone(override):
            continue
        name = override.name or original
        if name in shown:
            return f"two of its arguments would be called '{name[:_SHOWN]}'"
        shown[name] = _shown_property(schema, override)
    return shown


def _shown_property(schema: Raw, override: ArgumentOverride) -> Raw:
    if override.description is None and override.default is None:
        return schema
    parts = members.split(schema) or {}
    if override.description is not None:
        parts["description"] = members.raw(override.description)
    if override.default is not None:
        parts["default"] = Raw(override.default)
    return Raw(members.join(parts))


def _require(parts: dict[str, Raw], overrides: Overrides) -> Raw | str:
    if "required" in parts:
        try:
            required = msgspec.json.decode(parts["required"], type=list[str])
        except msgspec.MsgspecError:
            return "its arguments are overridden, but 'required' of its inputSchema is no list of names"
        kept = [shown for name in required if (shown := _required_name(name, overrides))]
        parts["required"] = members.raw(kept)
        if not kept:
            del parts["required"]
    return Raw(members.join(parts))


def _required_name(name: str, overrides: Overrides) -> str | None:
    override = overrides.get(name, AS_IT_IS)
    return None if gone(override) or override.default is not None else override.name or name
