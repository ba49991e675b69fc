"""A client's own file, in any of its formats: read, and one server put in or taken out.

The rule: every change is proved by reading it back: the data is what it was, but for what was asked; else nothing is changed.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vmcp.clients import jsonc, toml, yaml
from vmcp.config.rules import Rule
from vmcp.errors import ConfigError, Position, Problem, VmcpError

Format = Literal["json", "toml", "yaml"]
MAX_CHARACTERS = 1 << 24
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_CODE = {"json": jsonc, "toml": toml, "yaml": yaml}


class NotEditable(VmcpError):
    """A file that is right, and written in a way that cannot be changed without rewriting it."""


def format_of(name: str) -> Format:
    """The format by the ending of a file's name."""
    ending = name.rpartition(".")[2].lower()
    return "toml" if ending == "toml" else "yaml" if ending in ("yaml", "yml") else "json"


def read(name: str, text: str, form: Format) -> dict[str, Any]:
    """The data of a file, which is a map. Raises ``ConfigError``."""
    if len(text) > MAX_CHARACTERS:
        raise _wrong(name, "the file is larger than 16 MiB", Rule.TOO_LARGE)
    if not text.strip("\ufeff \t\r\n"):
        return {}
    if _NOT_UTF8.search(text):
        raise _wrong(name, "the file is not UTF-8 text", Rule.BAD_YAML)
    if form == "toml":
        return toml.parse(name, text)
    if form == "yaml":
        return yaml.parse(name, text)
    found = jsonc.parse(name, text).data
    if not isinstance(found, dict):
        raise _wrong(name, "the file must be a JSON object", Rule.ONE_DOCUMENT)
    return found


def _wrong(name: str, what: str, rule: Rule) -> ConfigError:
    return ConfigError([Problem(Position(name, 1, 1), "", what, "", "error", str(rule))])


def at(data: Any, path: Sequence[str]) -> Any:
    """What stands at a place; None where nothing does."""
    for step in path:
        data = data.get(step) if isinstance(data, dict) else None
    return data


def put(text: str, form: Format, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """The text with a server at ``path``. Raises ``NotEditable``."""
    wanted = copy.deepcopy(read("", text, form))
    place = wanted
    for step in path[:-1]:
        if place.get(step) is None:
            place[step] = {}
        place = place[step]
        if not isinstance(place, dict):
            raise NotEditable(f"'{step}' is not what it should be in this file")
    place[path[-1]] = value
    try:
        return _proved(_CODE[form].put(text, path, value), form, wanted)
    except ValueError as error:
        raise NotEditable(str(error)) from None


def drop(text: str, form: Format, path: Sequence[str]) -> str:
    """The text without the server at ``path``. Raises ``NotEditable``."""
    wanted = copy.deepcopy(read("", text, form))
    holder = at(wanted, path[:-1])
    if not isinstance(holder, dict) or path[-1] not in holder:
        return text
    del holder[path[-1]]
    return _proved(_CODE[form].drop(text, path), form, wanted)


def _proved(text: str, form: Format, wanted: Mapping[str, Any]) -> str:
    try:
        found = read("", text, form)
    except ConfigError:
        found = {}
    if _bare(found) != _bare(wanted):
        raise NotEditable("this file cannot be changed without rewriting it")
    return text


def _bare(data: Any) -> Any:
    """Data without containers that hold nothing: TOML and YAML cannot always keep them."""
    if not isinstance(data, Mapping):
        return data
    kept = {key: _bare(value) for key, value in data.items()}
    return {key: value for key, value in kept.items() if value not in ({}, None)}
