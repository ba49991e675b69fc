"""``telemetry.usage``: how long it is remembered who used what.

The rule: it is on unless it is switched off, and outlives the process only where ``state.directory`` says that something may.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class UsageSpec:
    """``days`` and ``rows`` are bounds, whichever is reached first. ``people``: whose calls they were is kept too."""

    enabled: bool = True
    days: int = 90
    rows: int = 50_000
    people: bool = True


def from_data(data: Mapping[str, Any]) -> UsageSpec:
    """The section as values."""
    names = {"enabled": "enabled", "retentionDays": "days", "maxRows": "rows", "people": "people"}
    return UsageSpec(**{name: data[key] for key, name in names.items() if key in data})
