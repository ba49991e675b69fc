"""The difference of two texts of a client's file, as a person may see it.

The rule: what is ours is shown; of all else the keys alone, since the values of others may be secrets.
"""

import difflib
import re

from vmcp.config.tree import printable

_KEY = re.compile(r'\s*(?:[-{,]\s*)?(?:"[^"]{1,80}"\s*:|[\w.-]{1,80}\s*(?:=|:(?=\s|$))|\[[^\]"]{1,120}\]\s*$)')
_MOST = 200


def difference(name: str, old: str, new: str, ours: str) -> str:
    """Unified, two lines around each change; ``ours`` is our entry as text."""
    lines = list(
        difflib.unified_diff(
            old.expandtabs(2).splitlines(), new.expandtabs(2).splitlines(), f"{name} (before)", name, "", "", 2, ""
        )
    )
    own = {line.strip().rstrip(",") for line in ours.splitlines()}
    shown = [*lines[:2], *(_shown(line, own) for line in lines[2 : _MOST + 2])]
    more = f"… {len(lines) - _MOST} more\n" if len(lines) > _MOST + 2 else ""
    return "".join(f"{printable(line, 160)}\n" for line in shown) + more


def _shown(line: str, own: set[str]) -> str:
    if line.startswith("@@") or line[1:].strip().rstrip(",") in own:
        return line
    found = _KEY.match(line, 1)
    end = found.end() if found else 1
    return line[:end] + re.sub(r"\w", "*", line[end:])
