"""Characters that a person does not see and a model reads: orders written between the lines.

The rule: what scripts and emoji need is no finding (a joiner after a letter of another script or a picture, the flag of a
nation), so that a finding is worth a look. It is no proof of innocence either: words that can be seen may be orders too.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f")
_SORTS: Final = (
    ("bidirectional controls", re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")),
    ("tag characters", re.compile("[\U000e0000-\U000e007f]")),
    (
        "zero-width characters",
        re.compile("[\u00ad\u180e\u200b\u2060-\u2064\ufeff]|(?<![\u0300-\U0010ffff])[\u200c\u200d]"),
    ),
    (
        "variation selectors",
        re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}|(?<=[\x00-\xff])[\U000e0100-\U000e01ef]"),
    ),
    ("control characters", re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")),
)
DEEPEST: Final = 64


def sorts(text: str) -> tuple[str, ...]:
    """The sorts of hidden characters in ``text``."""
    if text.isascii() and text.isprintable():
        return ()
    plain = _FLAG.sub("", text)
    return tuple(name for name, pattern in _SORTS if pattern.search(plain))


def found(raw: bytes) -> Iterator[tuple[str, str]]:
    """Where in a JSON text hidden characters are, and of which sort; each place and sort once."""
    try:
        tree = json.loads(raw)
    except (ValueError, RecursionError):
        return
    told = set()
    for place, text in _texts(tree, (), DEEPEST):
        for sort in sorts(text):
            if (place, sort) not in told:
                told.add((place, sort))
                yield ".".join(place), sort


def _texts(value: Any, place: tuple[str, ...], depth: int) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list) and depth:
        for each in value:
            yield from _texts(each, place, depth - 1)
    elif isinstance(value, dict) and depth:
        for key, each in value.items():
            yield place, key
            yield from _texts(each, (*place, key), depth - 1)
