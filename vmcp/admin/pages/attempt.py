"""The page on which somebody tries what is offered: a form for the arguments, and what has come of the call.

The rule: the call is that of a client on this machine, with the credentials that he writes into the form and no others; these are
never put into a page again, nor is anything of the call kept.
"""

import asyncio
import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from vmcp.admin import connecting, trying, workbench
from vmcp.admin.desk import Asked, Desk, Wrong
from vmcp.admin.pages import forms, results, tools
from vmcp.admin.pages.page import Made, Page
from vmcp.admin.trying import Wanted
from vmcp.routing.catalog import Kind

Data = dict[str, Any]
MOST: Final = 200
"""Things that are offered for a choice."""
DESTROYS: Final = "this tool says that it may destroy something: say that you mean it"
_TOKEN: Final = '"Authorization: Bearer $VMCP_TOKEN"'
_LEFT: Final = frozenset({b"host", b"user-agent", b"authorization"})


async def _empty(desk: Desk, asked: Asked) -> Made:
    """The form before anything was called."""
    path, kind, name = _meant(desk, asked.query)
    found = await _page(desk, asked, path, kind, name, {})
    if found is not None:
        return found
    return await _page(desk, asked, path, kind, "", {}, {"": f"nothing here is called {name}"})


async def _called(desk: Desk, asked: Asked) -> Made:
    """The form with what has come of it."""
    path, kind, name = _meant(desk, asked.body)
    given = {key: value if isinstance(value, str) else "\n".join(value) for key, value in asked.body.items()}
    found = await _page(desk, asked, path, kind, name, given)
    if found is None or found["each"] is None:
        return None
    filled = _filled(found["schema"], kind, given)
    if filled.wrong:
        return await _page(desk, asked, path, kind, name, given, filled.wrong)
    if found["destructive"] and given.get("confirmed") != "yes":
        return await _page(desk, asked, path, kind, name, given, {"": DESTROYS})
    header = _authorization(given.get("authorization", ""))
    wanted = Wanted(path, kind, name, filled.arguments, header, f"vmcp page ({asked.who})")
    done = await workbench.attempt(desk, wanted)
    shown = await asyncio.to_thread(results.shown, done.tried.body, done.tried.status)
    return {**found, "result": shown, "facts": done.facts, **_again(desk, wanted)}


def _meant(desk: Desk, said: Mapping[str, Any]) -> tuple[str, Kind, str]:
    faces = desk.house.table.faces
    path, name = said.get("path") or next(iter(faces), ""), said.get("name") or ""
    if path not in faces:
        raise Wrong("there is no such endpoint")
    kind = tools.kind_of(said)
    return str(path), kind if kind in trying.WAYS else Kind.TOOL, str(name)


async def _page(
    desk: Desk,
    asked: Asked,
    path: str,
    kind: Kind,
    name: str,
    given: Mapping[str, str],
    wrong: Mapping[str, str] | None = None,
) -> Data | None:
    """What the template wants; None where there is nothing of this name."""
    each = await tools.definition(desk, Asked("", {"path": path}, {}, asked.now), kind, name) if name else None
    if name and each is None:
        return None
    schema = tools.schema_of(kind, each) if each is not None else None
    hints = tools.annotations(each) if each is not None else {}
    return {
        "path_": path,
        "paths": list(desk.house.table.faces),
        "kind": kind.value,
        "kinds": [(one.value, tools.LABELS[one]) for one in trying.WAYS],
        "name": name,
        "names": desk.views.names(kind, path)[:MOST],
        "each": tools.row(each) if each is not None else None,
        "schema": schema,
        "fields": forms.fields(schema, given, wrong),
        "raw": given.get("raw") or forms.sample(schema),
        "mode": "json" if given.get("mode") == "json" else "form",
        "wrong": (wrong or {}).get("", "") or ("look at the arguments" if wrong else ""),
        "destructive": hints.get("destructiveHint") is True and hints.get("readOnlyHint") is not True,
        "login": desk.house.config.incoming.type,
        "result": None,
    }


def _filled(schema: Any, kind: Kind, given: Mapping[str, str]) -> forms.Filled:
    if kind is Kind.RESOURCE:
        return forms.Filled(trying.NOTHING, {})
    return forms.whole(given.get("raw", "")) if given.get("mode") == "json" else forms.filled(schema, given)


def _authorization(typed: str) -> str:
    """A whole header; a bare token is a bearer token."""
    said = typed.strip()
    return said if not said or " " in said else f"Bearer {said}"


def _again(desk: Desk, wanted: Wanted) -> Data:
    """The same call from a shell."""
    url = connecting.address(desk.house.config, desk.views.url) + wanted.path
    return {
        "request": results.readable(msgspec.json.format(trying.message(wanted), indent=2).decode()),
        "command": _command(wanted, url),
        "curl": _curl(desk, wanted, url),
    }


def _command(wanted: Wanted, url: str) -> str:
    text = bytes(wanted.arguments).decode()
    more = ["--json", text] if wanted.kind is Kind.TOOL and text != "{}" else []
    if wanted.kind is Kind.PROMPT:
        given: Mapping[str, Any] = msgspec.json.decode(wanted.arguments)
        more = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]
    verb = {Kind.TOOL: "call", Kind.PROMPT: "prompt"}.get(wanted.kind, "read")
    last = ["--", wanted.name] if wanted.name.startswith("-") else []
    return shlex.join(["vmcp", verb, *([] if last else [wanted.name]), *more, "--url", url, *last])


def _curl(desk: Desk, wanted: Wanted, url: str) -> str:
    sent = [each for each in trying.headers(desk.house, wanted) if each[0] not in _LEFT]
    words = ["curl", "-sS", shlex.quote(url)]
    words += [f"-H {shlex.quote(f'{name.decode()}: {value.decode()}')}" for name, value in sent]
    if wanted.authorization:
        words.append(f"-H {_TOKEN}")
    words.append(f"--data {shlex.quote(trying.message(wanted).decode())}")
    return " \\\n  ".join([" ".join(words[:3]), *words[3:]])


PAGES: Final = (
    Page("GET", "try", "tryIt", "try.html", _empty, "Try it"),
    Page("POST", "try", "tryIt", "try.html", _called, title="Try it"),
)
