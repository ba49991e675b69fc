"""Putting a backend into the text of a configuration, and taking one out, with everything else left as it stands.

The rule: only what has to change changes, to the character; where that cannot be, nothing is changed and it is said why.
"""

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from vmcp.cli.output import block_style, flow_style
from vmcp.errors import VmcpError


class Uneditable(VmcpError):
    """A file that has to be edited by hand; the text says what stands in the way."""


def put(text: str, group: str | None, name: str, backend: Mapping[str, Any]) -> str:
    """The text with one backend more, in ``group`` or the only one. Raises ``Uneditable``."""
    backends = _backends(text, group)
    if any(key.value == name for key, _ in backends.value):
        raise Uneditable(f"there is a backend '{name}' already; unmount it first")
    return _with(text, backends, name, backend)


def groups(text: str) -> list[str]:
    """The groups that can be edited. Raises ``Uneditable``."""
    return [name for name, _ in _groups(text)]


def put_group(text: str, name: str, group: Mapping[str, Any]) -> str:
    """The text with one group more. Raises ``Uneditable``."""
    there = _member(_root(text), "groups")
    if not isinstance(there, MappingNode) or _member(there, name) is not None:
        raise Uneditable(f"there is no map of groups, or a group '{name}' that has to be edited by hand")
    return _with(text, there, name, group)


def _with(text: str, there: MappingNode, name: str, value: Mapping[str, Any]) -> str:
    """The text with one entry more in a map."""
    if there.flow_style:
        at = there.start_mark.index + 1
        more = ", " if there.value else ""
        return f"{text[:at]}{flow_style(name)}: {flow_style(dict(value))}{more}{text[at:]}"
    column = there.value[0][0].start_mark.column
    at = _line_end(text, _end(there, text))
    lines = "\n".join(" " * column + line for line in block_style({name: dict(value)}))
    return f"{text[:at]}\n{lines}{text[at:]}"


def take(text: str, name: str) -> str:
    """The text without a backend. Raises ``Uneditable``."""
    for _, backends in _groups(text):
        for number, (key, value) in enumerate(backends.value):
            if key.value == name:
                return _without(text, backends, number, key, value)
    raise Uneditable(f"there is no backend '{name}' in groups of this file")


def _without(text: str, backends: MappingNode, number: int, key: Node, value: Node) -> str:
    start, end = key.start_mark.index, _end(value, text)
    if len(backends.value) == 1:
        raise Uneditable("it is the last backend of its group; remove the group by hand")
    if not backends.flow_style:
        line = text.rfind("\n", 0, start) + 1
        if text[line:start].strip():
            raise Uneditable("it does not begin on a line of its own")
        return text[:line] + text[_line_end(text, end) + 1 :]
    if number + 1 < len(backends.value):
        return text[:start] + text[backends.value[number + 1][0].start_mark.index :]
    return text[: _end(backends.value[number - 1][1], text)] + text[end:]


def _root(text: str) -> MappingNode:
    try:
        root = YAML(typ="rt").compose(text)
    except YAMLError:
        root = None
    if not isinstance(root, MappingNode):
        raise Uneditable("it cannot be read as YAML")
    return root


def _member(node: Node | None, name: str) -> Node | None:
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)


def _groups(text: str) -> list[tuple[str, MappingNode]]:
    groups = _member(_root(text), "groups")
    found = []
    for key, group in groups.value if isinstance(groups, MappingNode) else ():
        backends = _member(group, "backends")
        if isinstance(backends, MappingNode):
            found.append((key.value, backends))
    return found


def _backends(text: str, group: str | None) -> MappingNode:
    found = dict(_groups(text))
    if group is None and len(found) == 1:
        return next(iter(found.values()))
    if group not in found:
        there = ", ".join(found) or "no group with a map of backends"
        raise Uneditable(f"name the group with --group; there is {there}")
    return found[group]


def _end(node: Node, text: str) -> int:
    """Behind the last character of a value. The marks of block collections are beyond the comments that follow."""
    if not isinstance(node, MappingNode | SequenceNode) or node.flow_style or not node.value:
        end: int = node.end_mark.index
        return len(text[:end].rstrip())
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last, text)


def _line_end(text: str, at: int) -> int:
    found = text.find("\n", at)
    return len(text) if found < 0 else found
