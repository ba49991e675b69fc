"""What stands for variables that are not set, where a configuration is only looked at.

The rule: a variable with a default keeps it, and one that is set keeps its value.
"""

import re
from collections.abc import Container

_USED = re.compile(r"(url[\"']?: *[\"']?)?(?<!\$)\$\{([A-Za-z_]\w*)(?::\?[^}]{0,500})?\}")


def stand_ins(text: str, known: Container[str] = ()) -> dict[str, str]:
    """Name → something that fits, for each variable of a YAML or JSON text without which it could not be loaded."""
    found: dict[str, str] = {}
    for place, name in _USED.findall(text):
        if name not in known and (place or name not in found):
            found[name] = "https://not-set.invalid" if place else "x"
    return found
