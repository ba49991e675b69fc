"""The members of a JSON object as raw texts.

The rule: a text is taken apart one level at a time and put together again around the members that were not touched, so what
nobody edits keeps its bytes (big integers, ``1.0``, unknown keywords).
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw

EMPTY = Raw(b"{}")
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_ENCODER = msgspec.json.Encoder()


def split(text: Raw | bytes) -> dict[str, Raw] | None:
    """The members of ``text`` in their order, or None when it is not a JSON object."""
    try:
        return _OBJECT.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


def join(members: Mapping[str, Raw]) -> bytes:
    """One JSON object of these members."""
    return _ENCODER.encode(members)


def raw(value: object) -> Raw:
    """The JSON text of a plain value."""
    return Raw(_ENCODER.encode(value))
