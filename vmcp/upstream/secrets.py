"""Secrets become text here, and only here, when a backend comes alive.

The rule: a value is read at the last moment, is never logged, and a missing one says which and where it was expected.
"""

from collections.abc import Mapping
from pathlib import Path

from vmcp.config.model import SecretRef, Text
from vmcp.errors import Code, Unavailable


def resolve(backend: str, values: Mapping[str, Text], environ: Mapping[str, str]) -> dict[str, str]:
    """Every value as text. Raises ``Unavailable`` naming all that are missing."""
    missing: list[str] = []
    resolved = {key: _text(value, environ, missing) for key, value in values.items()}
    if missing:
        raise Unavailable(backend, "missing secret: " + ", ".join(missing), Code.CONFIGURATION_ERROR)
    return resolved


def _text(value: Text, environ: Mapping[str, str], missing: list[str]) -> str:
    if isinstance(value, str):
        return value
    found = _read(value, environ)
    if found is None:
        missing.append(_where(value))
    return found or ""


def _read(ref: SecretRef, environ: Mapping[str, str]) -> str | None:
    if ref.env is not None:
        return environ.get(ref.env)
    try:
        return Path(ref.file or "").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _where(ref: SecretRef) -> str:
    return f"environment variable {ref.env} is not set" if ref.env is not None else f"file {ref.file} cannot be read"
