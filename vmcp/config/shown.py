"""A configuration as it may be shown to people: what counts, with where it stands, and without its secrets.

The rule: a value is shown only where it can be none: not in a secret's place, not from the environment, not what looks like one.
"""

from collections.abc import Iterator
from typing import Any, Final

from vmcp.config.tree import Document, Path
from vmcp.config.veil import starred

HIDDEN: Final = "***"


def shown(document: Document) -> dict[str, Any]:
    """The data of a document."""
    found: dict[str, Any] = _shown(document, (), document.data)
    return found


def origins(document: Document) -> dict[str, str]:
    """Where each single value stands, by its path in words."""
    return {document.label(path): str(document.at_value(path)) for path in _leaves(document, (), document.data)}


def _shown(document: Document, path: Path, value: Any) -> Any:
    if isinstance(value, dict):
        return {
            "…" if (*path, key) in document.veiled else key: _shown(document, (*path, key), below)
            for key, below in value.items()
        }
    if path in document.hidden:
        return HIDDEN
    if isinstance(value, list):
        return [_shown(document, (*path, number), below) for number, below in enumerate(value)]
    return starred(value) if isinstance(value, str) else value


def _leaves(document: Document, path: Path, value: Any) -> Iterator[Path]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _leaves(document, (*path, key), below)
    elif isinstance(value, list) and value:
        for number, below in enumerate(value):
            yield from _leaves(document, (*path, number), below)
    else:
        yield path
