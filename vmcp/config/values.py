"""Values that every part of the configuration may have: texts that are secrets, or stand for one.

The rule: it imports nothing of the model, so that each section can be a file of its own which the model imports.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret will come from: an environment variable or a file, resolved late. Its value is never held here."""

    env: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        return f"{{env: {self.env}}}" if self.env else f"{{file: {self.file}}}"


class Concealed(str):
    """Text that may be a secret: it is a string like any other, but its ``repr`` does not tell it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


Text = str | SecretRef
