"""Durations and sizes as the file writes them. The rule: seconds are floats and sizes whole bytes everywhere inside."""

import re

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|μs|ms|s|m|h)")
_SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(r"([0-9]+)(B|KiB|MiB|GiB)?")


def seconds(text: str) -> float:
    """A Go duration (``1m30s``, ``250ms``) in seconds; the schema has checked its form."""
    return float(sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text)))


def size(value: int | str) -> int:
    """``64KiB``, ``1MiB`` or a plain number, in bytes; the schema has checked its form."""
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value)
    return int(match[1]) * _SIZES[match[2] or ""] if match else 0
