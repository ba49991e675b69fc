"""One entry of one backend → a route, or the reason why there is none.

The rule: decided from the configuration and the entry alone; other backends come in later, when names are claimed (``build``).
Order for tools and prompts: override by original name → strategy → fit for clients → selection → texts for the two eras.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec import Raw

from vmcp.config.model import Aggregation, Override, Selection
from vmcp.protocol import tasks
from vmcp.routing import arguments, fragments, headers, members, names, selection, templates
from vmcp.routing.catalog import Catalog, Entry, Kind
from vmcp.routing.table import Quarantined, Route

_UNCHANGED = Override()


@dataclass(frozen=True, slots=True)
class Desk:
    """What is the same for all entries of one kind of one backend. ``named``: the name is ours to give, not a URI.

    ``tasks``: it speaks the revision that has tasks in its core.
    """

    kind: Kind
    backend: str
    prefix: str
    limit: int
    overrides: Mapping[str, Override]
    chooser: selection.Chooser
    modern: bool
    named: bool
    tasks: bool


def desk(aggregation: Aggregation, kind: Kind, catalog: Catalog) -> Desk:
    """Compile the configuration for ``kind`` of the backend of ``catalog``."""
    backend = catalog.backend
    return Desk(
        kind=kind,
        backend=backend,
        prefix=names.prefix(aggregation, backend),
        limit=aggregation.max_name_length,
        overrides=(selection.selection(aggregation, kind, backend) or Selection()).overrides,
        chooser=selection.chooser(aggregation, kind, backend),
        modern=catalog.revision.modern,
        named=kind in (Kind.TOOL, Kind.PROMPT),
        tasks=catalog.revision is tasks.FIRST,
    )


def offers(aggregation: Aggregation, kind: Kind, catalog: Catalog) -> Iterator[Route | Quarantined]:
    """What becomes of every entry of ``kind``, in the backend's order."""
    at = desk(aggregation, kind, catalog)
    return (_offer(at, entry) for entry in catalog.entries[kind])


@dataclass(slots=True)
class _Draft:
    """An entry on its way through ``_offer``, which alone fills it in: its members are edited in place."""

    at: Desk
    entry: Entry
    name: str
    override: Override
    parts: dict[str, Raw]
    listed: bool = False
    edited: bool = False

    def edit(self, changed: Mapping[str, Raw]) -> None:
        if changed:
            self.parts.update(changed)
            self.edited = True

    def text(self) -> bytes:
        return members.join(self.parts) if self.edited else self.entry.raw

    def refused(self, why: str) -> Quarantined:
        return Quarantined(self.at.kind, self.name, self.at.backend, self.entry.name, why)


def _offer(at: Desk, entry: Entry) -> Route | Quarantined:
    override = at.overrides.get(entry.name, _UNCHANGED)
    name = names.fit(at.prefix + (override.name or entry.name), at.limit) if at.named else entry.name
    draft = _Draft(at, entry, name, override, members.split(entry.raw) or {})
    draft.listed = at.chooser.admits(entry.name, name, draft.parts.get("annotations"), override)
    if draft.listed and at.named and names.reserved(name):
        return draft.refused(f"names that begin with '{names.RESERVED}' are for vmcp itself")
    if at.kind is Kind.TEMPLATE and templates.compiled(entry.name) is None:
        return draft.refused("it is not a URI template (RFC 6570)")
    if override is not _UNCHANGED:
        draft.edit(fragments.edits(draft.parts, override))
    label = name if at.named else override.name or entry.name
    if label != entry.name:
        draft.edit({"name": members.raw(label)})
    return _tool(draft) if at.kind is Kind.TOOL else _other(draft)


def _other(draft: _Draft) -> Route:
    text = draft.text()
    return Route(draft.at.kind, draft.name, draft.at.backend, draft.entry.name, text, text, draft.listed)


def _tool(draft: _Draft) -> Route | Quarantined:
    schema, overrides = draft.parts.get("inputSchema", members.EMPTY), draft.override.arguments
    params = headers.read(schema) if headers.mentioned(draft.entry.raw) else ()
    if isinstance(params, str):
        return draft.refused(params)
    if overrides:
        shown = arguments.shown_schema(schema, overrides)
        if isinstance(shown, str):
            return draft.refused(shown)
        draft.edit({"inputSchema": shown})
    text = draft.text()
    return Route(
        kind=draft.at.kind,
        name=draft.name,
        backend=draft.at.backend,
        original=draft.entry.name,
        modern=text,
        handshake=fragments.for_handshake(draft.parts, text) if draft.at.modern else text,
        listed=draft.listed,
        header_params=params,
        shown_header_params=headers.shown(params, overrides),
        arguments=arguments.mapping(overrides),
        tasked=draft.at.tasks and tasks.required(draft.parts.get("execution")),
        idempotent=_idempotent(draft.parts.get("annotations", members.EMPTY)),
    )


def _idempotent(annotations: Raw) -> bool:
    if b"idempotentHint" not in bytes(annotations):
        return False
    hints = members.split(annotations)
    return hints is not None and bytes(hints.get("idempotentHint", b"")) == b"true"
