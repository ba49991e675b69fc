"""What a server wants of the person at the terminal: answers, and to be watched while it works.

The rule: everything of it is on stderr, as stdout is for results; where there is no terminal, nobody is asked, and the server
hears so. What a server says is printed without control characters.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from vmcp.cli.output import plain
from vmcp.errors import Code, McpError

T = TypeVar("T")
Json = dict[str, Any]
CAPABILITIES: Final[Json] = {"elicitation": {"form": {}, "url": {}}}
BAR: Final = 24
CANCEL: Final[Json] = {"action": "cancel"}
_TYPES: Final[Mapping[str, Any]] = {"integer": int, "number": float, "boolean": bool}


async def answer(method: str, params: Json) -> Json:
    """What a person says to a question of a server. Raises ``McpError``."""
    if method != "elicitation/create":
        raise McpError(Code.METHOD_NOT_FOUND, "Method not found")
    if not sys.stdin.isatty():
        click.echo(f"the server asks, and there is no terminal: {plain(params.get('message'))}", err=True)
        return CANCEL
    return await _aside(lambda: _elicited(params))


async def _aside(work: Callable[[], T]) -> T:
    """In a thread that nobody waits for: a person may leave without an answer."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T) -> None:
        if not done.done():
            done.set_result(value)

    def run() -> None:
        value = work()
        loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=run, daemon=True).start()
    return await done


def _elicited(params: Json) -> Json:
    click.echo(f"\n{plain(params.get('message'))}", err=True)
    try:
        if params.get("mode") == "url":
            click.echo(f"\n  {plain(params.get('url'))}\n", err=True)
            return {"action": "accept" if click.confirm("Have you been there?", err=True) else "decline"}
        return _form(params.get("requestedSchema", {}))
    except click.Abort:
        return CANCEL


def _form(schema: Any) -> Json:
    properties = schema.get("properties", {}) if isinstance(schema, dict) else {}
    required = schema.get("required", []) if isinstance(schema, dict) else []
    content: Json = {}
    for name, each in properties.items():
        value = _field(name, each if isinstance(each, dict) else {}, needed=name in required)
        if value is not None:
            content[name] = value
    return (
        {"action": "accept", "content": content}
        if click.confirm("Send?", default=True, err=True)
        else {"action": "decline"}
    )


def _field(name: str, schema: Json, *, needed: bool) -> Any:
    choices = schema.get("enum") or [each["const"] for each in schema.get("oneOf", []) if "const" in each]
    kind: Any = click.Choice([str(each) for each in choices]) if choices else _TYPES.get(str(schema.get("type")), str)
    label = plain(schema.get("title") or name)
    about = plain(schema.get("description"))
    default = schema.get("default", None if needed else "")
    text = f"{label} ({about})" if about else label
    if kind is not str and default == "":
        wanted = click.confirm(f"{text}: give it?", default=False, err=True)
        return click.prompt(label, type=kind, err=True) if wanted else None
    value = click.prompt(text, default=default, type=kind, show_default=default not in (None, ""), err=True)
    return None if value == "" and not needed else value


def told(method: str, params: Json) -> None:
    """Show progress and log messages."""
    if method == "notifications/progress":
        _progress(params)
    elif method == "notifications/message":
        click.echo(f"{plain(params.get('level'))}: {plain(params.get('data'))}", err=True)


def _progress(params: Json) -> None:
    at, message = params.get("progress"), plain(params.get("message"))
    if not isinstance(at, int | float):
        return
    given = params.get("total")
    total = given if isinstance(given, int | float) and given > 0 else None
    if not sys.stderr.isatty():
        of = f"/{total:g}" if total is not None else ""
        click.echo(f"progress {at:g}{of} {message}".rstrip(), err=True)
    elif total is not None:
        share = min(1.0, max(0.0, at / total))
        done = round(share * BAR)
        bar = f"[{'#' * done}{'.' * (BAR - done)}] {share:4.0%}"
        click.echo(f"\r\x1b[K{bar} {message[:60]}", err=True, nl=at >= total)
    else:
        click.echo(f"\r\x1b[K{at:g} {message[:60]}", err=True, nl=False)
