"""Which servers of a client vmcp serves already, so that its own entry can take their place.

The rule: a server counts as served only if a backend reaches the same thing with variables and headers of the same names.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmcp.clients import edit
from vmcp.clients.edit import at
from vmcp.clients.entry import draft
from vmcp.clients.plan import Source, read
from vmcp.clients.secrets import Lift, Unclear, Vault, variable
from vmcp.config.source import compose
from vmcp.config.toolhive import entries
from vmcp.config.tree import flatten

_VARIABLE = re.compile(r"\$\{[^}]*\}")


def backends(name: str, text: str) -> Iterator[Mapping[str, Any]]:
    """The backends that a configuration of ours names, variables not put in."""
    root, _ = compose(name, text)
    if root is not None:
        yield from (entry.settings for entry in entries(flatten(root).data))


def served(source: Source, root: tuple[str, ...], ours: Iterator[Mapping[str, Any]]) -> list[str]:
    """The names of the servers in a client's file that are among our backends."""
    known = {_reach(settings) for settings in ours}
    own = at(edit.read(source.label, source.text, source.form), root)
    names = own if isinstance(own, Mapping) else ()
    return [name for name, settings in _drafts(source) if name in names and _reach(settings) in known]


def _drafts(source: Source) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for entry in read(source).entries:
        lift = Lift(Vault(), variable(entry.name), source.around)
        try:
            yield entry.name, draft(entry.name, entry.raw, "", lift, source.client).settings
        except Unclear:
            continue


def _reach(settings: Mapping[str, Any]) -> str:
    """What a backend is, whatever its secrets are called."""
    same = {key: sorted(settings.get(key, {})) for key in ("env", "headers")}
    where = [settings.get("url"), settings.get("command"), settings.get("cwd"), same]
    return _VARIABLE.sub("$", json.dumps(where, sort_keys=True))
