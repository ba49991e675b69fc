"""Patterns with ``*`` and ``?``, compiled once.

The rule: a pattern takes time that grows with the text and not with the stars in it, whoever wrote the text.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Globs:
    """Patterns with ``*`` and ``?``; every other character means itself."""

    exact: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]

    def match(self, text: str) -> bool:
        """Whether one of them matches the whole of ``text``."""
        return text in self.exact or any(pattern.match(text) for pattern in self.patterns)


def globs(texts: Iterable[str]) -> Globs:
    """Compile patterns. ``fnmatch`` makes expressions without backtracking over stars (Python ≥ 3.9)."""
    given = frozenset(texts)
    wild = {text for text in given if "*" in text or "?" in text}
    compiled = tuple(re.compile(fnmatch.translate(text.replace("[", "[[]"))) for text in sorted(wild))
    return Globs(given - wild, compiled)
