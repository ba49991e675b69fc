"""What would change for clients, and at the gateway, if one configuration took the place of another.

The rule: pure; nothing is called a change that is only unknown: what a backend that has not answered offers is not compared, and
that it was not is told.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from vmcp.routing import canonical
from vmcp.routing.catalog import Kind
from vmcp.routing.changes import Field, fields
from vmcp.routing.settings import Settings
from vmcp.routing.surface import Item, Sheet, tokens, weight

What = Literal["added", "removed", "renamed", "changed"]
UNCHANGED: Final = Settings()
Items = Mapping[str, Item]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as before. ``was`` is its name before, where it has another now. Tokens before and after."""

    kind: Kind
    what: What
    name: str
    backend: str
    original: str
    tokens: tuple[int, int]
    was: str | None = None
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Weight:
    """How long a list is, and how many tokens it costs."""

    entries: tuple[int, int]
    tokens: tuple[int, int]


@dataclass(frozen=True, slots=True)
class FaceDiff:
    """What is different at endpoints that show the same. ``there`` tells whether they are there before and after."""

    paths: tuple[str, ...]
    persona: str | None
    there: tuple[bool, bool]
    changes: tuple[Change, ...]
    lists: Mapping[Kind, Weight]
    instructions: Field | None
    said: tuple[int, int]

    @property
    def tokens(self) -> tuple[int, int]:
        """Of all lists and the instructions, before and after."""
        before, after = (sum(each.tokens[side] for each in self.lists.values()) for side in (0, 1))
        return before + self.said[0], after + self.said[1]

    @property
    def same(self) -> bool:
        """Whether nobody notices anything here."""
        return not self.changes and self.instructions is None and self.there[0] is self.there[1]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that differs. ``silent`` are backends that did not answer."""

    old: str
    new: str
    faces: tuple[FaceDiff, ...]
    settings: Settings
    silent: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing differs, as far as it is known."""
        return all(face.same for face in self.faces) and self.settings == UNCHANGED


def plan(
    names: tuple[str, str], old: Mapping[str, Sheet], new: Mapping[str, Sheet], settings: Settings = UNCHANGED
) -> Plan:
    """What differs between two sets of sheets, and in the settings."""
    silent = tuple(dict.fromkeys(name for sheet in (*old.values(), *new.values()) for name in sheet.missing))
    faces = [_face(path, old.get(path), new.get(path), silent) for path in dict.fromkeys((*old, *new))]
    return Plan(*names, tuple(_joined(faces)), settings, silent)


def _joined(faces: Iterable[FaceDiff]) -> Iterator[FaceDiff]:
    """Endpoints that differ alike are told together."""
    alike: dict[int, list[FaceDiff]] = {}
    known: list[FaceDiff] = []
    for face in faces:
        for number, other in enumerate(known):
            if _told(face) == _told(other):
                alike[number].append(face)
                break
        else:
            alike[len(known)] = [face]
            known.append(face)
    for group in alike.values():
        first = group[0]
        paths = tuple(path for each in group for path in each.paths)
        yield FaceDiff(paths, first.persona, first.there, first.changes, first.lists, first.instructions, first.said)


def _told(face: FaceDiff) -> tuple[object, ...]:
    return face.persona, face.there, face.changes, face.lists, face.instructions, face.said


def _face(path: str, old: Sheet | None, new: Sheet | None, silent: Sequence[str]) -> FaceDiff:
    there = old is not None, new is not None
    sides = [_known(sheet, silent) for sheet in (old, new)]
    changes = [change for kind in Kind for change in _changes(kind, sides[0][kind], sides[1][kind])]
    lists = {kind: _weight(sides[0][kind], sides[1][kind]) for kind in Kind if sides[0][kind] or sides[1][kind]}
    words = [sheet.instructions if sheet is not None else "" for sheet in (old, new)]
    partly = any(sheet is None or sheet.missing for sheet in (old, new))
    said = None if words[0] == words[1] or partly else Field("instructions", words[0] or None, words[1] or None)
    weights = tokens(len(words[0].encode(errors="replace"))), tokens(len(words[1].encode(errors="replace")))
    persona = (new or old or _NOWHERE).persona
    return FaceDiff((path,), persona, there, tuple(changes), lists, said, weights)


_NOWHERE = Sheet("", None, "", {})


def _known(sheet: Sheet | None, silent: Sequence[str]) -> Mapping[Kind, Items]:
    if sheet is None:
        return {kind: {} for kind in Kind}
    return {
        kind: {name: item for name, item in sheet.items[kind].items() if item.backend not in silent} for kind in Kind
    }


def _weight(old: Items, new: Items) -> Weight:
    return Weight((len(old), len(new)), (weight(old), weight(new)))


def _changes(kind: Kind, old: Items, new: Items) -> list[Change]:
    found = []
    for was, now in _pairs(kind, old, new):
        if was is None or now is None:
            found.append(_one_sided(was, now))
        elif (change := _both(was, now)) is not None:
            found.append(change)
    return sorted(found, key=lambda change: (change.name, change.what))


def _one_sided(was: Item | None, now: Item | None) -> Change:
    item = now or was
    assert item is not None
    size = tokens(len(item.text))
    what: What = "added" if was is None else "removed"
    return Change(item.kind, what, item.name, item.backend, item.original, (0, size) if was is None else (size, 0))


def _both(was: Item, now: Item) -> Change | None:
    renamed = was.name != now.name
    differ = _moved(was, now) + fields(was.text, now.text, now.kind.name_key if renamed else "")
    if not renamed and not differ:
        return None
    sizes = tokens(len(was.text)), tokens(len(now.text))
    before = was.name if renamed else None
    return Change(
        now.kind, "renamed" if renamed else "changed", now.name, now.backend, now.original, sizes, before, differ
    )


def _moved(was: Item, now: Item) -> tuple[Field, ...]:
    """Somebody else has the name now. Where nobody says who has it, nothing is known."""
    if not was.backend or not now.backend:
        return ()
    pairs = (("backend", was.backend, now.backend), ("original name", was.original, now.original))
    return tuple(Field(name, before, after) for name, before, after in pairs if before != after)


def _pairs(kind: Kind, old: Items, new: Items) -> Iterator[tuple[Item | None, Item | None]]:
    """What belongs together: the same name, else the same origin, else (tools and prompts) the same definition, if it is one."""
    yield from ((item, new[name]) for name, item in old.items() if name in new)
    lost = {name: item for name, item in old.items() if name not in new}
    fresh = {name: item for name, item in new.items() if name not in old}
    for was, now in (*_by_origin(lost, fresh), *(_by_content(lost, fresh) if kind in (Kind.TOOL, Kind.PROMPT) else ())):
        if was.name in lost and now.name in fresh:
            yield lost.pop(was.name), fresh.pop(now.name)
    yield from ((item, None) for item in lost.values())
    yield from ((None, item) for item in fresh.values())


def _by_origin(lost: Items, fresh: Items) -> list[tuple[Item, Item]]:
    origins = {(item.backend, item.original): item for item in fresh.values() if item.backend}
    found = ((item, origins.get((item.backend, item.original))) for item in lost.values())
    return [(was, now) for was, now in found if now is not None]


def _by_content(lost: Items, fresh: Items) -> list[tuple[Item, Item]]:
    before, after = _once(lost), _once(fresh)
    return [(before[key], after[key]) for key in before if key in after]


def _once(items: Items) -> dict[str, Item]:
    """By definitions without the name; those that several have tell nothing."""
    found: dict[str, list[Item]] = {}
    for item in items.values():
        parts = canonical.members(item.text)
        parts.pop("name", None)
        found.setdefault(canonical.joined(parts), []).append(item)
    return {key: each[0] for key, each in found.items() if key and len(each) == 1}
