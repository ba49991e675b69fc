"""Texts of strangers, fit to be shown: in one line of a terminal, or in a comment on a pull request.

The rule: what cannot be seen is shown as an escape, for it is there to be overlooked; and nothing that a backend says becomes
markup, a link or a mention.
"""

import re
from typing import Final

NAME: Final = 160
_TICKS = re.compile("`+")
_ELLIPSIS: Final = "…"


def visible(text: str, most: int) -> str:
    """``text`` in one line of at most ``most`` characters; white space is a blank, what has no glyph an escape."""
    flat = " ".join(text[: most * 4].split())
    shown = "".join(char if char.isprintable() else _escape(char) for char in flat[: most + 1])
    cut = len(shown) > most or len(text) > most * 4
    return shown[:most] + _ELLIPSIS if cut else shown


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def code(text: str, most: int = NAME) -> str:
    """``text`` as code in Markdown, whatever is in it."""
    shown = visible(text, most)
    fence = "`" * (1 + max((len(run) for run in _TICKS.findall(shown)), default=0))
    edge = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{fence}{edge}{shown}{edge}{fence}"
