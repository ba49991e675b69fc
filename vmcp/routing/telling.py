"""A plan as text for people, as JSON for scripts, and as Markdown for a comment on a pull request.

The rule: the same in every form; the JSON has everything, the others what is read at a glance.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from vmcp.routing.catalog import Kind
from vmcp.routing.changes import Field
from vmcp.routing.plan import Change, FaceDiff, Plan
from vmcp.routing.settings import BackendChange
from vmcp.routing.surface import ESTIMATE
from vmcp.routing.words import NAME, code, visible

Form = Literal["text", "json", "markdown"]
SIGNS: Final = {"added": "+", "removed": "-", "renamed": ">", "changed": "~", "restarts": "~"}
WORDS: Final = {Kind.TOOL: "tool", Kind.PROMPT: "prompt", Kind.RESOURCE: "resource", Kind.TEMPLATE: "template"}
_LISTS: Final = {Kind.TOOL: "tools", Kind.PROMPT: "prompts", Kind.RESOURCE: "resources", Kind.TEMPLATE: "templates"}
_WORDS_SHOWN = 160
_WORDS_IN_COMMENT = 400
_MOST = 150
"""Changes of one endpoint that a comment has; GitHub takes 65,536 characters."""
_LONGEST = 60_000

Quote = Callable[[str], str]


def render(plan: Plan, form: Form) -> str:
    """A plan in one of the forms, with a line end at the end."""
    return _FORMS[form](plan)


# --- text


def _text(plan: Plan) -> str:
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield f"{_name(plan.old)} -> {_name(plan.new)}: {'no difference' if plan.same else 'differs'}"
    settings = plan.settings
    yield from _section("backends", (_backend(each, _name) for each in settings.backends))
    yield from _section("who may do what", (f"~ {_name(line)}" for line in settings.auth))
    for face in plan.faces:
        if not face.same or face.lists:
            yield ""
            yield _face_title(face, _name)
            yield from (f"  {line}" for line in _weights(face))
            yield from (f"  {line}" for line in _changes(face))
    yield from _section("other settings", (f"~ {_name(line)}" for line in settings.others))
    yield from _section("only after a restart of vmcp", (f"~ {_name(line)}" for line in settings.restart))
    yield from _section("not compared", (f"backend '{_name(name)}' did not answer" for name in plan.silent))
    if any(face.lists for face in plan.faces):
        yield ""
        yield ESTIMATE


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield ""
        yield title
        yield from (f"  {line}" for line in found)


def _name(text: str) -> str:
    return visible(text, NAME)


def _backend(change: BackendChange, quote: Quote) -> str:
    why = f" because of {', '.join(map(quote, change.because))}" if change.because else ""
    return f"{SIGNS[change.change]} {quote(change.name)} {change.change}{why}"


def _face_title(face: FaceDiff, quote: Quote) -> str:
    persona = f" (persona {quote(face.persona)})" if face.persona is not None else ""
    come = "" if face.there == (True, True) else ", added" if face.there[1] else ", removed"
    return f"{', '.join(map(quote, face.paths))}{persona}{come}"


def _weights(face: FaceDiff) -> Iterator[str]:
    for kind, weight in face.lists.items():
        yield f"{_LISTS[kind]}: {_arrow(*weight.entries)}, tokens {_arrow(*weight.tokens)}{_more(*weight.tokens)}"
    if any(face.said):
        yield f"instructions: tokens {_arrow(*face.said)}{_more(*face.said)}"


def _arrow(before: int, after: int) -> str:
    return f"{before}" if before == after else f"{before} -> {after}"


def _more(before: int, after: int) -> str:
    return "" if before == after else f" ({after - before:+d})"


def _changes(face: FaceDiff) -> Iterator[str]:
    for change in face.changes:
        yield f"{_title(change, _name)}{_summary(change, _name)}"
        yield from (f"    {line}" for line in _details(change, _WORDS_SHOWN, _name))
    if face.instructions is not None:
        yield "~ instructions"
        yield from (f"    {line}" for line in _both(face.instructions, lambda text: visible(text, _WORDS_SHOWN)))


def _title(change: Change, quote: Quote) -> str:
    was = f"{quote(change.was)} -> " if change.was is not None else ""
    return f"{SIGNS[change.what]} {WORDS[change.kind]} {was}{quote(change.name)}"


def _summary(change: Change, quote: Quote) -> str:
    if change.what in ("added", "removed"):
        return f" ({max(change.tokens)} tokens)"
    return f": {', '.join(quote(field.name) for field in change.fields)}" if change.fields else ""


def _details(change: Change, most: int, quote: Quote) -> Iterator[str]:
    for field in change.fields:
        if field.notes:
            yield from (f"{quote(field.name)}: {quote(note)}" for note in field.notes)
        else:
            yield from (f"{quote(field.name)} {line}" for line in _both(field, lambda text: _words(text, most, quote)))


def _words(text: str, most: int, quote: Quote) -> str:
    return code(text, most) if quote is code else visible(text, most)


def _both(field: Field, shown: Quote) -> Iterator[str]:
    yield f"was: {'nothing' if field.before is None else shown(field.before)}"
    yield f"now: {'nothing' if field.after is None else shown(field.after)}"


# --- Markdown


def _markdown(plan: Plan) -> str:
    text = "\n".join(_comment(plan)) + "\n"
    if len(text) <= _LONGEST:
        return text
    cut = text[:_LONGEST].rpartition("\n")[0]
    return f"{cut}\n\nThe rest is left out; see the JSON form.\n"


def _comment(plan: Plan) -> Iterator[str]:
    yield f"### vmcp plan: {code(plan.old)} → {code(plan.new)}"
    yield ""
    yield "No difference." if plan.same else _sum(plan)
    settings = plan.settings
    yield from _list("Backends", (_backend(each, code) for each in settings.backends))
    yield from _list("Who may do what", map(code, settings.auth))
    for face in plan.faces:
        if not face.same:
            yield from _endpoint(face)
    yield from _list("Other settings", map(code, settings.others))
    yield from _list("Only after a restart of vmcp", map(code, settings.restart))
    yield from _list("Not compared", (f"backend {code(name)} did not answer" for name in plan.silent))
    yield ""
    yield f"<sub>{ESTIMATE}</sub>"


def _sum(plan: Plan) -> str:
    counts: dict[str, int] = {}
    for face in plan.faces:
        for change in face.changes:
            counts[change.what] = counts.get(change.what, 0) + 1
    found = [f"{counts[what]} {what}" for what in ("added", "removed", "renamed", "changed") if what in counts]
    return f"**{', '.join(found)}**" if found else "**Settings differ; clients see the same.**"


def _list(title: str, lines: Iterable[str]) -> Iterator[str]:
    found = list(lines)
    if found:
        yield ""
        yield f"**{title}**"
        yield ""
        yield from (f"* {line.removeprefix('+ ').removeprefix('- ').removeprefix('~ ')}" for line in found)


def _endpoint(face: FaceDiff) -> Iterator[str]:
    yield ""
    yield f"#### {_face_title(face, code)}"
    yield ""
    if face.lists:
        yield "| list | entries | tokens |"
        yield "|---|---|---|"
        for kind, weight in face.lists.items():
            tokens = f"{_arrow(*weight.tokens)}{_more(*weight.tokens)}"
            yield f"| {_LISTS[kind]} | {_arrow(*weight.entries)} | {tokens} |"
        yield ""
    for change in face.changes[:_MOST]:
        yield f"* {change.what} {_title(change, code)[2:]}{_summary(change, code)}"
        yield from (f"  * {line}" for line in _details(change, _WORDS_IN_COMMENT, code))
    if len(face.changes) > _MOST:
        yield f"* and {len(face.changes) - _MOST} more"
    if face.instructions is not None:
        yield "* changed instructions"
        yield from (f"  * {line}" for line in _both(face.instructions, lambda text: code(text, _WORDS_IN_COMMENT)))


# --- JSON


def _json(plan: Plan) -> str:
    return json.dumps(data(plan), indent=2) + "\n"


def data(plan: Plan) -> dict[str, Any]:
    """Everything, as plain values."""
    settings = plan.settings
    return {
        "old": plan.old,
        "new": plan.new,
        "same": plan.same,
        "estimate": ESTIMATE,
        "backends": [
            {"name": each.name, "change": each.change, "because": list(each.because)} for each in settings.backends
        ],
        "auth": list(settings.auth),
        "settings": list(settings.others),
        "restart": list(settings.restart),
        "unanswered": list(plan.silent),
        "endpoints": [_endpoint_data(face) for face in plan.faces],
    }


def _sides(pair: tuple[int, int]) -> Mapping[str, int]:
    return {"before": pair[0], "after": pair[1]}


def _endpoint_data(face: FaceDiff) -> dict[str, Any]:
    return {
        "paths": list(face.paths),
        "persona": face.persona,
        "change": None if face.there == (True, True) else "added" if face.there[1] else "removed",
        "tokens": _sides(face.tokens),
        "lists": {
            kind.value: {"entries": _sides(weight.entries), "tokens": _sides(weight.tokens)}
            for kind, weight in face.lists.items()
        },
        "instructions": None if face.instructions is None else _field_data(face.instructions),
        "changes": [_change_data(change) for change in face.changes],
    }


def _change_data(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind.value,
        "change": change.what,
        "name": change.name,
        "was": change.was,
        "backend": change.backend or None,
        "original": change.original or None,
        "tokens": _sides(change.tokens),
        "fields": [_field_data(field) for field in change.fields],
    }


def _field_data(field: Field) -> dict[str, Any]:
    return {"name": field.name, "before": field.before, "after": field.after, "notes": list(field.notes)}


_FORMS: Mapping[str, Callable[[Plan], str]] = {"text": _text, "json": _json, "markdown": _markdown}
