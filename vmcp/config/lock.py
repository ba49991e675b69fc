"""``lock``: what backends offered when somebody approved it, and what happens to what is different now.

The rule: the text of a lock file is read here and nowhere else, and nothing is guessed: a file that is not exactly of this form
is refused. One entry is one line, in the order of the names, so that a review of the file shows what has changed.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec

Policy = Literal["off", "warn", "quarantine", "block"]
NAME: Final = "vmcp.lock"
VERSION: Final = 1
MOST: Final = 8 << 20
"""Bytes of a lock file that are read."""

Digest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
Short = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One definition: the digest of all of it, and a short one of each member, which tells what has changed."""

    digest: Digest
    fields: dict[str, Short] = {}


class Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """What one backend may offer, by kind and original name, and the digest of its instructions (None: it has none).

    Resources are not pinned: a list of them is data, which changes because somebody works.
    """

    instructions: Digest | None = None
    tools: dict[str, Pin] = {}
    prompts: dict[str, Pin] = {}
    resource_templates: dict[str, Pin] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    backends: dict[str, Pinned]


class Pins(msgspec.Struct, frozen=True):
    """A lock file: backends by name. ``digest`` names its very content."""

    backends: Mapping[str, Pinned] = {}
    digest: str = ""


@dataclass(frozen=True, slots=True)
class LockSpec:
    """``pins`` is what stood in the file when the configuration was loaded; without it nothing is approved."""

    file: str = NAME
    policy: Policy = "off"
    pins: Pins = field(default_factory=Pins)


def from_data(data: Mapping[str, Any], resolve: Callable[[str], str]) -> LockSpec:
    """``lock`` of a checked document; ``resolve`` makes the path of the file absolute."""
    return LockSpec(resolve(data.get("file", NAME)), data.get("policy", "off"))


def parse(text: bytes) -> Pins:
    """A lock file. Raises ``ValueError`` with what is wrong."""
    try:
        found = msgspec.json.decode(text, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return Pins(found.backends, hashlib.sha256(text).hexdigest())


def text(backends: Mapping[str, Pinned]) -> str:
    """The lock file of these backends."""
    told = ",\n".join(f"  {_json(name)}: {{\n{_backend(backends[name])}\n  }}" for name in sorted(backends))
    body = f"{{\n{told}\n }}" if told else "{}"
    return f'{{\n "version": {VERSION},\n "backends": {body}\n}}\n'


def _backend(pinned: Pinned) -> str:
    return ",\n".join(_parts(pinned))


def _parts(pinned: Pinned) -> Iterator[str]:
    if pinned.instructions is not None:
        yield f'   "instructions": {_json(pinned.instructions)}'
    kinds = {"tools": pinned.tools, "prompts": pinned.prompts, "resourceTemplates": pinned.resource_templates}
    for kind, pins in kinds.items():
        if pins:
            lines = ",\n".join(f"    {_json(name)}: {_json(pins[name])}" for name in sorted(pins))
            yield f'   "{kind}": {{\n{lines}\n   }}'


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
