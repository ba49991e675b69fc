"""Backends that stand in a file of their own, for ``vmcp mount FILE``.

The rule: what is taken over is all that the file says, or nothing: a key that would be left behind is told, and ends it.
"""

from collections.abc import Mapping
from typing import Any, Final

from vmcp.cli import edit, files
from vmcp.cli.edit import Uneditable
from vmcp.config.source import compose
from vmcp.config.tree import flatten

ENDINGS: Final = (".yaml", ".yml", ".json")
_MEMBERS: Final = "backends"
_WANTED: Final = "a file to mount has 'groups' or 'backends' and nothing else"
Groups = dict[str | None, dict[str, Any]]
"""Groups by name, as they stand in a file; None is for backends without one."""


def is_file(name: str) -> bool:
    """Whether this is no name of a backend."""
    return name.endswith(ENDINGS)


def read(path: str) -> Groups:
    """What stands in it. Raises ``Uneditable`` and ``Unreadable``."""
    ((name, text),) = files.read([path])
    root, problems = compose(name, text)
    wrong = next((each for each in problems if each.severity == "error"), None)
    if root is None or wrong is not None:
        raise Uneditable(
            f"{wrong.position.line}:{wrong.position.column}: {wrong.message}" if wrong is not None else _WANTED
        )
    data = flatten(root).data
    if "mcpServers" in data:
        raise Uneditable(f"it is a client's; make a configuration of it with: vmcp init --from {path}")
    found: Groups = {None: {_MEMBERS: data[_MEMBERS]}} if _MEMBERS in data else {}
    groups = data.get("groups", {})
    strange = ", ".join(key for key in data if key not in ("groups", _MEMBERS))
    if strange or not isinstance(groups, dict):
        raise Uneditable(f"{_WANTED}; put the rest into your file by hand: {strange or 'groups'}")
    found.update(groups)
    if not any(map(_names, found.values())) or not all(map(_named, found.values())):
        raise Uneditable(_WANTED)
    return found


def _named(group: Any) -> bool:
    found = group.get(_MEMBERS) if isinstance(group, dict) else None
    return isinstance(found, dict) and all(isinstance(each, dict) for each in found.values())


def _names(group: Any) -> list[str]:
    return [*group[_MEMBERS]] if _named(group) else []


def names(groups: Groups) -> list[str]:
    """Of all its backends."""
    return [name for group in groups.values() for name in _names(group)]


def put(text: str, groups: Groups, into: str | None) -> str:
    """The text with all of them; ``into`` is the group of those without one. Raises ``Uneditable``."""
    for name, group in groups.items():
        if name is not None and name not in edit.groups(text):
            text = edit.put_group(text, name, group)
            continue
        _alone(name, group)
        for backend, said in group[_MEMBERS].items():
            text = edit.put(text, name or into, backend, said)
    return text


def _alone(name: str | None, group: Mapping[str, Any]) -> None:
    more = ", ".join(key for key in group if key != _MEMBERS)
    if more:
        raise Uneditable(f"there is a group '{name}' already; put this into it by hand: {more}")
