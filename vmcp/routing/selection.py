"""Which entries of a backend are advertised.

The rule: a selection only takes away. Order: ``excludeAllTools``, no entry (``defaultToolVisibility``), ``excludeAll``,
``exclude``, ``filter``, ``readOnlyOnly``; each is asked only if the one before let the entry pass.
"""

from dataclasses import dataclass

from msgspec import Raw

from vmcp.config.globs import Globs, globs
from vmcp.config.model import Aggregation, Override, Selection
from vmcp.routing import members
from vmcp.routing.catalog import Kind


@dataclass(frozen=True, slots=True)
class Chooser:
    """The selection of one kind of one backend, compiled. ``wanted`` None means everything that is not left out."""

    open: bool
    wanted: Globs | None
    left_out: Globs
    on_advertised: bool
    read_only: bool

    def admits(self, original: str, advertised: str, annotations: Raw | None, override: Override) -> bool:
        """Whether the entry is advertised."""
        name = advertised if self.on_advertised else original
        return (
            self.open
            and not self.left_out.match(name)
            and (self.wanted is None or self.wanted.match(name))
            and (not self.read_only or _is_read_only(annotations, override))
        )


def chooser(aggregation: Aggregation, kind: Kind, backend: str) -> Chooser:
    """Compile what the configuration says about ``kind`` of ``backend``."""
    entry = selection(aggregation, kind, backend)
    chosen = entry or Selection()
    return Chooser(
        open=not chosen.exclude_all and (kind is not Kind.TOOL or _tools_open(aggregation, entry)),
        wanted=None if chosen.filter is None else globs(chosen.filter),
        left_out=globs(chosen.exclude),
        on_advertised=chosen.match_on == "advertised",
        read_only=chosen.read_only_only,
    )


def selection(aggregation: Aggregation, kind: Kind, backend: str) -> Selection | None:
    """The entry of ``backend`` for ``kind``; resources and their templates share one."""
    if kind is Kind.TOOL:
        return aggregation.tools.get(backend)
    return (aggregation.prompts if kind is Kind.PROMPT else aggregation.resources).get(backend)


def _tools_open(aggregation: Aggregation, entry: Selection | None) -> bool:
    if aggregation.exclude_all_tools:
        return False
    return entry is not None or aggregation.default_tool_visibility == "allow"


def _is_read_only(annotations: Raw | None, override: Override) -> bool:
    """The backend must say so itself, and an override may deny it: what is written for display opens no door."""
    if override.annotations is not None and override.annotations.get("readOnlyHint", True) is not True:
        return False
    hints = members.split(annotations) if annotations is not None else None
    return hints is not None and bytes(hints.get("readOnlyHint", b"")) == b"true"
