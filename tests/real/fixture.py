"""The server that the conformance suites want to meet, on the Python SDK 2.3; both eras, HTTP or stdio.

Everything a scenario looks for has the fixed name that the suite gives it. One rule: nothing here knows of vmcp, so that
what fails through the gateway and passes here is the gateway's doing. ``python fixture.py PORT`` or ``python fixture.py stdio``;
a further argument is what names begin with that are to be offered, and offered without it (a gateway puts it back as a prefix).
"""

import json
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import uvicorn
from mcp import types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError

from tests.real.fixture_data import (
    COLOR_FORM,
    CONTEXT_FORM,
    FORMS,
    IMAGE,
    NAME_FORM,
    OK_FORM,
    PROMPTS,
    RESOURCES,
    STATIC_TOOLS,
    TOOL_SCHEMAS,
    Json,
    embedded,
    fields,
    text,
)

Context = ServerRequestContext[Any, Any]
Call = types.CallToolRequestParams
Handler = Callable[[Context, Call], Awaitable[Json]]

MISSING_CAPABILITY = -32021
BUS = InMemorySubscriptionBus()
TOOLS: dict[str, Handler] = {}
SHORT = sys.argv[2] if len(sys.argv) > 2 else ""


class History(EventStore):
    """What went out on each stream, so that a client that comes back is told the rest (2025-11-25, resumability)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        """Number the event; the number is its id."""
        self.events.append((stream_id, message))
        return str(len(self.events) - 1)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what came later on the same stream."""
        if not last_event_id.isdecimal() or int(last_event_id) >= len(self.events):
            return None
        wanted = self.events[int(last_event_id)][0]
        for number, (stream, message) in enumerate(self.events[int(last_event_id) + 1 :], int(last_event_id) + 1):
            if stream == wanted and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return wanted


def tool(function: Handler) -> Handler:
    """Offer the function under its own name."""
    TOOLS[function.__name__] = function
    return function


def said(*blocks: Json) -> Json:
    """A finished tool call."""
    return {"resultType": "complete", "content": list(blocks)}


def asks(state: str | None = None, **questions: Json) -> Json:
    """A tool call that needs input first (2026-07-28, multi round-trip requests)."""
    result: Json = {"resultType": "input_required", "inputRequests": questions}
    return result if state is None else result | {"requestState": state}


def form(message: str, schema: Json) -> Json:
    """The question that puts a form before the user."""
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def sample(prompt: str) -> Json:
    """The question that goes to the client's model."""
    params = {"messages": [{"role": "user", "content": text(prompt)}], "maxTokens": 100}
    return {"method": "sampling/createMessage", "params": params}


ROOTS: Json = {"method": "roots/list"}
ASK_NAME = form("What is your name?", NAME_FORM)


def answers(call: Call | types.GetPromptRequestParams) -> Json:
    """What the client brought back, as plain data."""
    found = call.input_responses or {}
    return {key: value.model_dump(mode="json", by_alias=True) for key, value in found.items()}


def field(answer: Json | None, name: str) -> str | None:
    """One value of an accepted form, if it is there."""
    content = (answer or {}).get("content")
    value = content.get(name) if isinstance(content, dict) else None
    return value if isinstance(value, str) else None


async def log(ctx: Context, message: str) -> None:
    """A log message on the stream of the request in flight."""
    await ctx.session.send_log_message("info", message, related_request_id=ctx.request_id)


@tool
async def test_tool_with_logging(ctx: Context, call: Call) -> Json:
    for message in ("started", "half done", "done"):
        await log(ctx, message)
    return said(text("Three messages were logged."))


@tool
async def test_logging_tool(ctx: Context, call: Call) -> Json:
    return await test_tool_with_logging(ctx, call)


@tool
async def test_tool_with_progress(ctx: Context, call: Call) -> Json:
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100, f"{done} of 100")
    return said(text("Progress was reported three times."))


@tool
async def test_error_handling(ctx: Context, call: Call) -> Json:
    return said(text("This tool intentionally returns an error for testing")) | {"isError": True}


@tool
async def test_sampling(ctx: Context, call: Call) -> Json:
    content = types.TextContent(text=(call.arguments or {})["prompt"])
    question = [types.SamplingMessage(role="user", content=content)]
    reply = await ctx.session.create_message(question, max_tokens=100, related_request_id=ctx.request_id)
    return said(text(f"The model said: {reply.content.text if reply.content.type == 'text' else reply.content.type}"))


async def put_form(ctx: Context, call: Call) -> Json:
    """The three tools of FORMS: ask inline, then say what the user did."""
    message = (call.arguments or {}).get("message", "Please fill in the form")
    reply = await ctx.session.elicit_form(message, FORMS[call.name], ctx.request_id)
    return said(text(f"The user chose {reply.action}: {json.dumps(reply.content or {})}"))


@tool
async def test_reconnection(ctx: Context, call: Call) -> Json:
    await log(ctx, "before the stream closes")
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await log(ctx, "after the stream closed")
    return said(text("The stream was closed half way."))


@tool
async def test_x_mcp_header(ctx: Context, call: Call) -> Json:
    return said(text(f"region: {(call.arguments or {}).get('region', 'none')}"))


@tool
async def test_missing_capability(ctx: Context, call: Call) -> Json:
    if getattr(ctx.session.client_capabilities, "sampling", None) is None:
        raise MCPError(MISSING_CAPABILITY, "needs sampling", {"requiredCapabilities": {"sampling": {}}})
    return said(text("The client can sample."))


@tool
async def test_trigger_tool_change(ctx: Context, call: Call) -> Json:
    await BUS.publish(ToolsListChanged())
    return said(text("Announced."))


@tool
async def test_trigger_prompt_change(ctx: Context, call: Call) -> Json:
    await BUS.publish(PromptsListChanged())
    return said(text("Announced."))


@tool
async def test_streaming_elicitation(ctx: Context, call: Call) -> Json:
    await ctx.session.report_progress(1, 2, "about to ask")
    return await test_input_required_result_elicitation(ctx, call)


@tool
async def test_input_required_result_elicitation(ctx: Context, call: Call) -> Json:
    name = field(answers(call).get("user_name"), "name")
    return said(text(f"Hello, {name}!")) if name is not None else asks(user_name=ASK_NAME)


@tool
async def test_input_required_result_sampling(ctx: Context, call: Call) -> Json:
    reply = answers(call).get("capital_question")
    return said(text(f"The model said: {reply}")) if reply else asks(capital_question=sample("The capital of France?"))


@tool
async def test_input_required_result_list_roots(ctx: Context, call: Call) -> Json:
    reply = answers(call).get("client_roots")
    return said(text(f"{len(reply['roots'])} roots")) if reply else asks(client_roots=ROOTS)


@tool
async def test_input_required_result_request_state(ctx: Context, call: Call) -> Json:
    if "confirm" in answers(call) and call.request_state == "waiting":
        return said(text("state-ok"))
    return asks("waiting", confirm=form("Go on?", OK_FORM))


@tool
async def test_input_required_result_tampered_state(ctx: Context, call: Call) -> Json:
    return await test_input_required_result_request_state(ctx, call)


@tool
async def test_input_required_result_multiple_inputs(ctx: Context, call: Call) -> Json:
    wanted = {"user_name": ASK_NAME, "greeting": sample("Greet somebody"), "client_roots": ROOTS}
    return said(text("All three came.")) if wanted.keys() <= answers(call).keys() else asks("three", **wanted)


@tool
async def test_input_required_result_multi_round(ctx: Context, call: Call) -> Json:
    state, brought = json.loads(call.request_state or "{}"), answers(call)
    if "name" in state and "step2" in brought:
        return said(text(f"{state['name']} likes {field(brought['step2'], 'color')}."))
    if name := field(brought.get("step1"), "name"):
        return asks(json.dumps({"name": name}), step2=form("Which colour?", COLOR_FORM))
    return asks(json.dumps({}), step1=form("Your name?", NAME_FORM))


@tool
async def test_input_required_result_capabilities(ctx: Context, call: Call) -> Json:
    declared = ctx.session.client_capabilities or types.ClientCapabilities()
    questions = {"ask": ASK_NAME} if declared.elicitation is not None else {}
    return asks("gated", **questions | ({"sample": sample("Say hello")} if declared.sampling is not None else {}))


async def list_tools(ctx: Context, params: types.PaginatedRequestParams | None) -> Json:
    """All tools, in the order in which they stand here."""
    names = [*STATIC_TOOLS, *FORMS, *TOOLS]
    found = [
        {"name": name[len(SHORT) :], "description": f"Fixture: {name}", "inputSchema": TOOL_SCHEMAS.get(name, fields())}
        for name in names
        if name.startswith(SHORT)
    ]
    return {"resultType": "complete", "ttlMs": 0, "cacheScope": "public", "tools": found}


async def call_tool(ctx: Context, params: Call) -> Json:
    """A fixed answer, a form, or one of the functions above."""
    params = params.model_copy(update={"name": SHORT + params.name})
    if params.name in STATIC_TOOLS:
        return said(*STATIC_TOOLS[params.name])
    handler = put_form if params.name in FORMS else TOOLS.get(params.name)
    if handler is None:
        raise MCPError(types.INVALID_PARAMS, f"no such tool: {params.name}")
    return await handler(ctx, params)


def listing(**entries: object) -> Json:
    """A list with the caching hints that 2026-07-28 wants."""
    return {"resultType": "complete", "ttlMs": 0, "cacheScope": "public", **entries}


async def list_resources(ctx: Context, params: types.PaginatedRequestParams | None) -> Json:
    entries = [{"uri": uri, "name": uri[7:], "mimeType": body["mimeType"]} for uri, body in RESOURCES.items()]
    return listing(resources=entries)


async def list_templates(ctx: Context, params: types.PaginatedRequestParams | None) -> Json:
    entry = {"uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json"}
    return listing(resourceTemplates=[entry])


async def read_resource(ctx: Context, params: types.ReadResourceRequestParams) -> Json:
    uri = str(params.uri)
    body = RESOURCES.get(uri)
    if body is None and uri.startswith("test://template/") and uri.endswith("/data"):
        filled = {"id": uri.split("/")[3], "templateTest": True, "data": f"Data for ID: {uri.split('/')[3]}"}
        body = {"mimeType": "application/json", "text": json.dumps(filled)}
    if body is None:
        raise MCPError(types.INVALID_PARAMS, "no such resource", {"uri": uri})
    return listing(contents=[{"uri": uri, **body}])


async def list_prompts(ctx: Context, params: types.PaginatedRequestParams | None) -> Json:
    entries = [
        {
            "name": name[len(SHORT) :],
            "description": f"Fixture: {name}",
            "arguments": [{"name": argument, "required": True} for argument in arguments],
        }
        for name, arguments in PROMPTS.items()
        if name.startswith(SHORT)
    ]
    return listing(prompts=entries)


def prompt_blocks(params: types.GetPromptRequestParams) -> list[Json]:
    """The messages of a prompt; none when its question is still open."""
    given = params.arguments or {}
    match SHORT + params.name:
        case "test_simple_prompt":
            return [text("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            return [text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'")]
        case "test_prompt_with_embedded_resource":
            return [embedded(given["resourceUri"], "text/plain", "Embedded."), text("What does the resource say?")]
        case "test_prompt_with_image":
            return [IMAGE, text("What is in the image?")]
        case "test_input_required_result_prompt":
            context = field(answers(params).get("user_context"), "context")
            return [text(f"Context: {context}")] if context is not None else []
    raise MCPError(types.INVALID_PARAMS, f"no such prompt: {params.name}")


async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> Json:
    blocks = prompt_blocks(params)
    if not blocks:
        return asks(user_context=form("Which context?", CONTEXT_FORM))
    return {"resultType": "complete", "messages": [{"role": "user", "content": block} for block in blocks]}


async def complete(ctx: Context, params: types.CompleteRequestParams) -> Json:
    return {"resultType": "complete", "completion": {"values": [], "total": 0, "hasMore": False}}


async def accept(ctx: Context, params: object) -> Json:
    """Level set, subscribed, unsubscribed: nothing to keep."""
    return {}


def build() -> Server[Any]:
    """The whole server, state of multi round-trip requests sealed."""
    server: Server[Any] = Server(
        "conformance-fixture",
        version="1",
        instructions="Call the tool that the scenario names.",
        on_list_tools=list_tools,  # type: ignore[arg-type]
        on_call_tool=call_tool,  # type: ignore[arg-type]
        on_list_resources=list_resources,  # type: ignore[arg-type]
        on_list_resource_templates=list_templates,  # type: ignore[arg-type]
        on_read_resource=read_resource,  # type: ignore[arg-type]
        on_list_prompts=list_prompts,  # type: ignore[arg-type]
        on_get_prompt=get_prompt,  # type: ignore[arg-type]
        on_completion=complete,  # type: ignore[arg-type]
        on_subscriptions_listen=ListenHandler(BUS),
    )
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, accept)
    server.add_request_handler("resources/subscribe", types.SubscribeRequestParams, accept)
    server.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, accept)
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience="fixture"))
    return server


async def over_stdio() -> None:
    server = build()
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def main() -> None:
    """Serve on the port of the first argument, or on stdin and stdout."""
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    if sys.argv[1] == "stdio":
        anyio.run(over_stdio)
    else:
        app = build().streamable_http_app(event_store=History(), retry_interval=100)
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), http="h11", log_level="warning")


if __name__ == "__main__":
    main()
