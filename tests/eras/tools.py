"""What the server of ``world.py`` offers: a tool for each scenario, resources by a template, a prompt, completions.

The rule: every answer carries the nonce of its call or the name of its server, so that an answer which reaches the wrong
caller is seen to be wrong.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from tests.eras.world import HANDSHAKE, LEVELS, RESERVED, Json, Methods, RefusalError, Request, World, said

FORM = {"type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"]}
NONCE = {"type": "object", "properties": {"nonce": {"type": "string"}}}
LARGE = 300_000
STEPS = 3
ERROR = {"why": [1, 2.0, None, {"deep": "ünïcode"}], "big": 12345678901234567890}
DEAR = {"name": "who", "description": "whom to greet", "required": True}

Tool = Callable[[World, Request], Awaitable[Json]]
TOOLS: dict[str, Tool] = {}


def tool(function: Tool) -> Tool:
    TOOLS[function.__name__] = function
    return function


@tool
async def echo(world: World, request: Request) -> Json:
    return said(json.dumps(request.arguments), _meta={"world": world.name})


@tool
async def steps(world: World, request: Request) -> Json:
    """Progress, if it is wanted."""
    token = request.meta.get("progressToken")
    for done in range(1, STEPS + 1) if token is not None else ():
        told = {"progressToken": token, "progress": done, "total": STEPS}
        await request.notify(
            "notifications/progress", told if world.revision == "2024-11-05" else told | {"message": "on"}
        )
    return said(request.arguments["nonce"])


@tool
async def wait(world: World, request: Request) -> Json:
    """Never ends by itself."""
    nonce = request.arguments["nonce"]
    world.note(world.started, nonce)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        world.note(world.cancelled, nonce)
        raise
    return said("never")


@tool
async def elicit(world: World, request: Request) -> Json:
    """Put a form before the user."""
    if world.revision in HANDSHAKE[:2]:
        raise RefusalError(4244, f"{world.revision} has no elicitation")
    params = {"message": request.arguments["nonce"], "requestedSchema": FORM}
    if world.revision != "2025-06-18":
        params["mode"] = "form"
    answer = await world.ask(request, "form", "elicitation/create", params)
    return said(json.dumps(answer))


@tool
async def sample(world: World, request: Request) -> Json:
    """Ask the client's model."""
    content = {"type": "text", "text": request.arguments["nonce"]}
    params = {"messages": [{"role": "user", "content": content}], "maxTokens": 10}
    return said(json.dumps(await world.ask(request, "model", "sampling/createMessage", params)))


@tool
async def roots(world: World, request: Request) -> Json:
    return said(json.dumps(await world.ask(request, "roots", "roots/list", {})))


@tool
async def log(world: World, request: Request) -> Json:
    """One message of three levels each, as far as they are wanted."""
    for level in ("debug", "info", "error"):
        if request.level is not None and LEVELS.index(level) >= LEVELS.index(request.level):
            told = {"level": level, "logger": "world", "data": {"nonce": request.arguments["nonce"], "n": 1.0}}
            await request.notify("notifications/message", told)
    return said(request.arguments["nonce"])


@tool
async def large(world: World, request: Request) -> Json:
    return said(request.arguments["nonce"][-1] * LARGE)


@tool
async def fail(world: World, request: Request) -> Json:
    raise RefusalError(4711, f"not {request.arguments['nonce']}", ERROR)


@tool
async def mishap(world: World, request: Request) -> Json:
    return said(request.arguments["nonce"], isError=True)


@tool
async def grow(world: World, request: Request) -> Json:
    """One tool more, and everybody is told."""
    world.grown.append(request.arguments["nonce"])
    await world.tools_changed()
    return said(request.arguments["nonce"])


@tool
async def touch(world: World, request: Request) -> Json:
    """A resource has changed."""
    await world.updated(request.arguments["uri"])
    return said(request.arguments["uri"])


@tool
async def later(world: World, request: Request) -> Json:
    """Who called, after a while."""
    given = request.arguments
    await asyncio.sleep(given["delay"])
    return said(f"{given['caller']} {given['nonce']}")


@tool
async def drop(world: World, request: Request) -> Json:
    """Over HTTP the stream ends before this answer is on it; counts how often it ran."""
    world.note(
        world.started, f"{request.arguments['nonce']} {sum(request.arguments['nonce'] in one for one in world.started)}"
    )
    return said(request.arguments["nonce"])


@tool
async def slowly(world: World, request: Request) -> Json:
    """Says where it is, and goes on when ``world.started`` has the word for it."""
    nonce = request.arguments["nonce"]
    token = request.meta.get("progressToken")
    await request.notify("notifications/progress", {"progressToken": token, "progress": 1})
    world.note(world.started, nonce)
    try:
        await world.until(lambda: f"{nonce} go on" in world.started, "the test lets it go on")
    except asyncio.CancelledError:
        world.note(world.cancelled, nonce)
        raise
    await request.notify("notifications/progress", {"progressToken": token, "progress": 2})
    return said(nonce)


@tool
async def mirror(world: World, request: Request) -> Json:
    """The answer that the caller wants, or the error, and what arrived."""
    got = {key: value for key, value in request.params.items() if key != "_meta"}
    own = {key: value for key, value in request.meta.items() if not key.startswith(RESERVED)}
    if "error" in request.arguments:
        error = request.arguments["error"]
        raise RefusalError(error["code"], error["message"], error.get("data"))
    return {"content": [], "structuredContent": {"got": got, "meta": own}, **request.arguments.get("reply", {})}


async def list_tools(world: World, request: Request) -> Json:
    names = [*TOOLS, *world.grown]
    return {"tools": [{"name": name, "description": world.name, "inputSchema": NONCE} for name in names]}


async def call_tool(world: World, request: Request) -> Json:
    name = request.params["name"]
    found = TOOLS.get(name)
    if found is None:
        raise RefusalError(-32602, f"no tool {name}")
    return await found(world, request)


async def list_resources(world: World, request: Request) -> Json:
    return {"resources": [{"uri": f"note://{world.name}/first", "name": "first", "size": 5}]}


async def list_templates(world: World, request: Request) -> Json:
    return {"resourceTemplates": [{"uriTemplate": f"note://{world.name}/{{id}}", "name": "any"}]}


async def read_resource(world: World, request: Request) -> Json:
    uri = request.params["uri"]
    if not uri.startswith(f"note://{world.name}/"):
        raise RefusalError(-32602 if world.modern else -32002, "no such resource", {"uri": uri})
    return {"contents": [{"uri": uri, "mimeType": "text/plain", "text": f"{world.name}: {uri}"}]}


async def list_prompts(world: World, request: Request) -> Json:
    return {"prompts": [{"name": "greet", "description": world.name, "arguments": [DEAR]}]}


async def get_prompt(world: World, request: Request) -> Json:
    if request.params["name"] != "greet":
        raise RefusalError(-32602, "no such prompt")
    text = f"{world.name} greets {request.arguments['who']}"
    return {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}


async def complete(world: World, request: Request) -> Json:
    """Values that tell what was asked about."""
    params = request.params
    known = {"ref/prompt": ("name", "greet"), "ref/resource": ("uri", f"note://{world.name}/{{id}}")}
    member, expected = known[params["ref"]["type"]]
    if params["ref"].get(member) != expected:
        raise RefusalError(-32602, "no such reference")
    values: list[Any] = [f"{params['argument']['name']}={params['argument']['value']}", world.name]
    return {"completion": {"values": values, "total": 2, "hasMore": False}}


METHODS: Methods = {
    "tools/list": list_tools,
    "tools/call": call_tool,
    "resources/list": list_resources,
    "resources/templates/list": list_templates,
    "resources/read": read_resource,
    "prompts/list": list_prompts,
    "prompts/get": get_prompt,
    "completion/complete": complete,
}
