"""What a part of a configuration comes to in the end: with the secrets that it refers to, and what is in the files that it names.

The rule: two parts with the same fingerprint make the same thing. The digests are keyed anew in each process and never leave it,
as they are made of secrets.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final

from vmcp.config.model import Config
from vmcp.config.values import SecretRef

_KEY: Final = secrets.token_bytes(32)
_FILES: Final = frozenset({"ca_bundle", "client_cert", "client_key"})
"""Fields that name a file which is read once, when something comes alive."""
_MOST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Prints:
    """The fingerprints of what several configurations may hold together; backends by name, ``all`` of everything."""

    backends: Mapping[str, str]
    incoming: str
    audit: str
    all: str


def fingerprints(config: Config, environ: Mapping[str, str]) -> Prints:
    """Of all parts of ``config``. Reads files."""
    backends = {spec.name: fingerprint(spec, environ) for spec in config.backends}
    incoming, audit = fingerprint(config.incoming, environ), fingerprint(config.audit, environ)
    whole = fingerprint([config.digest, config.lock.pins.digest, incoming, audit, *backends.values()], environ)
    return Prints(backends, incoming, audit, whole)


def fingerprint(value: object, environ: Mapping[str, str]) -> str:
    """Of one value."""
    digest = blake2b(key=_KEY, digest_size=16)
    for piece in _pieces(value, environ):
        digest.update(b"%d:" % len(piece))
        digest.update(piece)
    return digest.hexdigest()


def files(config: Config) -> frozenset[str]:
    """The files that ``config`` names, whose content is part of what it comes to."""
    lock = frozenset([config.lock.file] if config.lock.policy != "off" else ())
    return frozenset(_named(config)) | lock


def _pieces(value: object, environ: Mapping[str, str]) -> Iterator[bytes]:
    """Everything that a value consists of, in an order and with signs that leave no two values alike."""
    if isinstance(value, SecretRef):
        yield b"secret"
        yield _content(value.file) if value.file is not None else _text(environ.get(value.env or ""))
    elif is_dataclass(value):
        yield type(value).__name__.encode()
        for each in fields(value):
            yield from _field(each.name, getattr(value, each.name), environ)
    elif isinstance(value, Mapping):
        yield b"map %d" % len(value)
        for key in value:
            yield from _pieces([key, value[key]], environ)
    elif isinstance(value, list | tuple | frozenset | set):
        yield b"list %d" % len(value)
        for below in sorted(value) if isinstance(value, frozenset | set) else value:
            yield from _pieces(below, environ)
    else:
        yield b"text" + _text(value) if isinstance(value, str) else repr(value).encode()


def _field(name: str, value: object, environ: Mapping[str, str]) -> Iterator[bytes]:
    yield name.encode()
    yield from _pieces(value, environ)
    if name in _FILES and isinstance(value, str):
        yield _content(value)


def _text(value: str | None) -> bytes:
    return b"" if value is None else b"=" + value.encode("utf-8", "surrogateescape")


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return b"=" + file.read(_MOST)
    except (OSError, ValueError):
        return b""


def _named(value: object) -> Iterator[str]:
    if isinstance(value, SecretRef):
        if value.file is not None:
            yield value.file
    elif is_dataclass(value):
        for each in fields(value):
            below = getattr(value, each.name)
            if each.name in _FILES and isinstance(below, str):
                yield below
            yield from _named(below)
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from _named(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _named(below)
