"""JSON texts for property tests, written by hand so that the oracle shares no code with the decoder under test.

Rule: a drawn document knows its own value, and whether some object in it has a member twice, without anybody parsing it.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

SPACE = st.sampled_from(["", "", "", " ", "\n", "\t\r\n "])
NUMBERS = [
    "0", "-0", "1", "-1", "1.0", "1e2", "1E+2", "-0.0", "0.1", "1e-400", "1.7976931348623157e308",
    "9007199254740993", "9223372036854775808", "-18446744073709551617", "9" * 100,
]  # fmt: skip
KEYS = ["a", "b", "ab", "", ":", "a:b", '"', "\\", "é", "😀", "__proto__", "A"]


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON text, what it means, and whether a member was said twice anywhere in it."""

    text: str
    value: Any
    doubled: bool = False


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)) + '"'


def _spellings(value: str) -> st.SearchStrategy[Document]:
    texts = [json.dumps(value), json.dumps(value, ensure_ascii=False), _escaped(value)]
    return st.sampled_from([Document(text, value) for text in texts])


def strings(values: st.SearchStrategy[str]) -> st.SearchStrategy[Document]:
    """The spellings of strings: escaped as little as can be, ASCII only, and every character as ``\\uXXXX``."""
    return values.flatmap(_spellings)


ATOMS = st.one_of(
    st.sampled_from([Document("null", None), Document("true", True), Document("false", False)]),
    st.sampled_from([Document(text, float(text) if set(text) & set(".eE") else int(text)) for text in NUMBERS]),
    strings(st.text(max_size=6)),
)


@st.composite
def arrays(draw: st.DrawFn, children: st.SearchStrategy[Document]) -> Document:
    """Arrays of ``children`` with spaces wherever JSON allows them."""
    items = draw(st.lists(children, max_size=4))
    text = ",".join(draw(SPACE) + item.text + draw(SPACE) for item in items) or draw(SPACE)
    return Document(f"[{text}]", [item.value for item in items], any(item.doubled for item in items))


@st.composite
def objects(draw: st.DrawFn, children: st.SearchStrategy[Document], *, unique: bool = False) -> Document:
    """Objects of ``children``; unless ``unique``, a member may well be there twice, and be spelt differently."""
    names = draw(st.lists(st.sampled_from(KEYS), max_size=4, unique=unique))
    keys = [draw(_spellings(name)) for name in names]
    items = [draw(children) for _ in keys]
    pairs = zip(keys, items, strict=True)
    text = ",".join(f"{draw(SPACE)}{k.text}{draw(SPACE)}:{draw(SPACE)}{v.text}{draw(SPACE)}" for k, v in pairs)
    value = {key.value: item.value for key, item in zip(keys, items, strict=True)}
    doubled = len(value) != len(keys) or any(item.doubled for item in items)
    return Document("{" + (text or draw(SPACE)) + "}", value, doubled)


def documents(*, unique: bool = False) -> st.SearchStrategy[Document]:
    """Any JSON value; without members said twice when ``unique``."""
    return st.recursive(ATOMS, lambda inner: arrays(inner) | objects(inner, unique=unique), max_leaves=12)


class Refused(Exception):
    """The reference decoder does not take a text."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise Refused
    return dict(pairs)


def _no_constant(_: str) -> object:
    raise Refused


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise Refused
    return value


def reference(body: bytes) -> object:
    """The value of a JSON text by the standard library, made strict: slow, and obviously right. Raises ``Refused``."""
    try:
        decoder = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
        value: object = decoder.decode(body.decode("utf-8"))
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # a lone surrogate has no UTF-8
    except ValueError:
        raise Refused from None
    return value
