"""Versions of packages that must not be in an artefact, and why.

The rule: a floor is only ever raised. It is held against the lock by a test, and against what is installed by every build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

FLOORS: Mapping[str, tuple[str, str]] = {
    "anyio": ("4.14.2", "CVE-2026-63349"),
    "cryptography": ("44.0.1", "CVE-2024-12797: raw public keys in its OpenSSL"),
    "h11": ("0.16", "CVE-2025-43859: requests hidden in chunked bodies"),
    "idna": ("3.15", "CVE-2026-45409"),
    "jinja2": ("3.1.6", "CVE-2025-27516: out of the sandbox through attr"),
    "pyinstaller": ("6.22.1", "GHSA-9fxf-4qw3-ghmr: an environment that claims to be unpacked already"),
    "python-jose": ("3.5.0", "CVE-2024-33663, CVE-2024-33664: algorithm confusion, bombs"),
    "requests": ("2.32.4", "CVE-2024-47081: credentials of .netrc for another host"),
    "starlette": ("1.10", "CVE-2026-48710: paths checked are not paths served; CVE-2026-48818"),
    "urllib3": ("2.6.3", "CVE-2025-66418, CVE-2025-66471, CVE-2026-21441: decompression without end"),
}


def bad(versions: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with a set of packages, by name and version."""
    for name, (floor, why) in FLOORS.items():
        if name in versions and order(versions[name]) < order(floor):
            yield f"{name} {versions[name]} is known to be bad, at least {floor} is needed ({why})"


def order(version: str) -> tuple[int, ...]:
    """A version to compare by; what comes after its numbers does not count."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    found = [int(part) for part in numbers[0].split(".")] if numbers else []
    while found and not found[-1]:
        found.pop()
    return tuple(found)
