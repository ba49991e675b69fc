"""What every method means: found in the table, sent to its backend, answered in the words of the client's revision.

Rule: every pair of revisions is asked, and what must not reach a backend is proved not to have reached it.
"""

import json
from collections.abc import Mapping

import pytest

from tests.aggregator.speaking import ALL, ERAS, speaking
from tests.server.clients import Door, modern_meta, unnamed
from tests.server.peers import Asked, Json, Notify, Server, house, tool, until
from vmcp.config.model import Aggregation, ArgumentOverride, Override, Selection
from vmcp.errors import McpError
from vmcp.middleware.auth import ANONYMOUS
from vmcp.protocol.revisions import MODERN, Revision

REQUESTS: list[tuple[str, Json, str, Json]] = [
    ("tools/call", {"name": "b_t", "arguments": {"a": 1}}, "content", {"name": "t", "arguments": {"a": 1}}),
    ("prompts/get", {"name": "b_p", "arguments": {"a": "1"}}, "messages", {"name": "p", "arguments": {"a": "1"}}),
    ("resources/read", {"uri": "r://one"}, "contents", {"uri": "r://one"}),
    ("resources/read", {"uri": "x://seven"}, "contents", {"uri": "x://seven"}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "b_p"}, "argument": {"name": "a", "value": "v"}},
        "completion",
        {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": "v"}},
    ),
    (
        "completion/complete",
        {"ref": {"type": "ref/resource", "uri": "x://{id}"}, "argument": {"name": "id", "value": "v"}},
        "completion",
        {"ref": {"type": "ref/resource", "uri": "x://{id}"}, "argument": {"name": "id", "value": "v"}},
    ),
]
PREFIXED = Aggregation(strategy="prefix")


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize("client", ALL)
async def test_every_revision_asks_every_revision(
    monkeypatch: pytest.MonkeyPatch, client: Revision, backend: Revision
) -> None:
    server = speaking(backend)
    async with house(monkeypatch, {"b": server}, aggregation=PREFIXED) as running:
        door = Door(running.app, client)
        await door.initialize()
        for method, key, name in (
            ("tools/list", "tools", "b_t"),
            ("prompts/list", "prompts", "b_p"),
            ("resources/list", "resources", "r"),
            ("resources/templates/list", "resourceTemplates", "x"),
        ):
            assert [entry["name"] for entry in (await door.ask(method)).result[key]] == [name]
        for method, params, key, told in REQUESTS:
            result = (await door.ask(method, params)).result
            assert key in result
            assert ("resultType" in result) is client.modern
            assert ("ttlMs" in result) is (client.modern and method == "resources/read")
            asked = server.asked[-1]
            assert asked.method == method
            assert {k: v for k, v in asked.params.items() if k != "_meta"} == told
            assert ("_meta" in asked.params) is backend.modern
        assert result["completion"]["values"] == ["v!"]


async def test_a_resource_goes_to_whom_it_belongs_and_is_named_in_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    server = speaking(MODERN)
    async with house(monkeypatch, {"b": server}, aggregation=PREFIXED) as running:
        await Door(running.app).ask("resources/read", {"uri": "x://sevén"})
        assert server.asked[-1].headers["mcp-name"].startswith("=?base64?")
        await Door(running.app).ask("tools/call", {"name": "b_t"})
        assert server.asked[-1].headers["mcp-name"] == "t"
        assert server.asked[-1].headers["mcp-method"] == "tools/call"


UNKNOWN: list[tuple[str, Json, int, int, str]] = [
    ("tools/call", {"name": "nope"}, -32602, -32602, "Unknown tool: nope"),
    ("prompts/get", {"name": "nope"}, -32602, -32602, "Unknown prompt: nope"),
    ("resources/read", {"uri": "r://nope"}, -32602, -32002, "Resource not found"),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": "nope"}}, -32602, -32602, "'ref' names no prompt"),
    ("completion/complete", {"ref": {"type": "ref/resource", "uri": "nope"}}, -32602, -32602, "'ref' names no prompt"),
    ("completion/complete", {"ref": {"type": "ref/tool", "name": "b_t"}}, -32602, -32602, "'ref' names no prompt"),
    ("completion/complete", {"ref": {"type": "ref/prompt", "name": 7}}, -32602, -32602, "'ref' names no prompt"),
    ("completion/complete", {"ref": "b_p"}, -32602, -32602, "'ref' must be an object"),
    ("completion/complete", {}, -32602, -32602, "'ref' names no prompt"),
    ("tools/call", {"name": "t"}, -32602, -32602, "Unknown tool: t"),
    ("tools/call", {"name": ""}, -32602, -32602, "Unknown tool: "),
    ("tools/call", {"name": "B_T"}, -32602, -32602, "Unknown tool: B_T"),
    ("tools/call", {"name": "b_p"}, -32602, -32602, "Unknown tool: b_p"),
    ("tools/call", {"name": "b_t", "arguments": []}, -32602, -32602, "'arguments' must be an object"),
    ("tools/call", {"name": "b_t", "arguments": "x"}, -32602, -32602, "'arguments' must be an object"),
]


@pytest.mark.parametrize(("method", "params", "modern", "handshake", "words"), UNKNOWN)
async def test_what_is_not_there_is_said_in_the_words_of_the_era(
    monkeypatch: pytest.MonkeyPatch, method: str, params: Json, modern: int, handshake: int, words: str
) -> None:
    server = speaking(MODERN)
    async with house(monkeypatch, {"b": server}, aggregation=PREFIXED) as running:
        for revision, code in ((MODERN, modern), (Revision.V2025_06_18, handshake)):
            door = Door(running.app, revision)
            await door.initialize()
            answer = await door.ask(method, params)
            assert answer.error["code"] == code
            assert words in answer.error["message"]
            if method == "resources/read":
                assert answer.error["data"]["uri"] == "r://nope"
        assert not server.calls()


HIDDEN = Aggregation(
    strategy="manual",
    tools={"b": Selection(filter=("t",))},
    prompts={"b": Selection(exclude=("secret",))},
    resources={"b": Selection(exclude=("r://secret", "x://secret"))},
)


@pytest.mark.parametrize("revision", ERAS)
async def test_what_is_hidden_looks_like_what_is_not_there(monkeypatch: pytest.MonkeyPatch, revision: Revision) -> None:
    server = speaking(revision)
    server.tools = [*server.tools, tool("secret")]
    server.prompts = [*server.prompts, {"name": "secret"}]
    server.resources = [*server.resources, {"name": "s", "uri": "r://secret"}]
    async with house(monkeypatch, {"b": server}, aggregation=HIDDEN) as running:
        door = Door(running.app, revision)
        await door.initialize()
        for method in ("tools/list", "prompts/list", "resources/list"):
            assert b"secret" not in (await door.ask(method)).body
        pairs: list[tuple[str, str, str, str]] = [
            ("tools/call", "name", "secret", "nothin"),
            ("prompts/get", "name", "secret", "nothin"),
            ("resources/read", "uri", "r://secret", "r://nothin"),
            ("resources/read", "uri", "x://secret", "y://nothin"),
        ]
        for method, key, hidden, absent in pairs:
            one = await door.ask(method, {key: hidden})
            other = await door.ask(method, {key: absent})
            assert unnamed(one.body).replace(hidden.encode(), absent.encode()) == unnamed(other.body)
        assert not server.calls()
        assert (await door.call("t")).status == 200


@pytest.mark.parametrize("client", ERAS)
@pytest.mark.parametrize("backend", ERAS)
async def test_an_error_of_a_backend_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, client: Revision, backend: Revision
) -> None:
    async def script(asked: Asked, notify: Notify) -> bytes:
        raise McpError(-32050, "it says no", {"why": [1.5, None], "uri": 7})

    server = Server(backend, tools=[tool("t")], script=script)
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app, client)
        await door.initialize()
        answer = await door.call("t")
        assert answer.error == {"code": -32050, "message": "it says no", "data": {"why": [1.5, None], "uri": 7}}


async def test_a_backend_that_is_down_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    server = speaking(MODERN)
    async with house(monkeypatch, {"b": server}) as running:
        backend = running.backends["b"]
        backend._control.link = None
        answer = await Door(running.app).call("t")
        assert answer.error["code"] == -32603
        assert "backend 'b' is unavailable" in answer.error["message"]
        assert answer.error["data"]["vmcpCode"] == 2001


# --- arguments

TUNED = Aggregation(
    strategy="manual",
    tools={
        "b": Selection(
            overrides={
                "t": Override(
                    arguments={
                        "query": ArgumentOverride(name="q"),
                        "limit": ArgumentOverride(default=b"10"),
                        "tenant": ArgumentOverride(fixed=b'"acme"'),
                        "debug": ArgumentOverride(hide=True),
                    }
                )
            }
        )
    },
)
SCHEMA: Json = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("query", "limit", "tenant", "debug", "free")},
    "required": ["query", "limit", "tenant"],
}


@pytest.mark.parametrize("revision", ERAS)
@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"q": "x"}, {"limit": 10, "query": "x", "tenant": "acme"}),
        ({"q": "x", "limit": 3, "free": [1]}, {"limit": 3, "query": "x", "free": [1], "tenant": "acme"}),
        ({"limit": None}, {"limit": None, "tenant": "acme"}),
        ({}, {"limit": 10, "tenant": "acme"}),
        (None, {"limit": 10, "tenant": "acme"}),
        ({"query": "x"}, None),
        ({"tenant": "evil"}, None),
        ({"debug": True}, None),
        ({"q": 1, "tenant": "acme"}, None),
    ],
)
async def test_arguments_are_brought_into_the_backends_words(
    monkeypatch: pytest.MonkeyPatch, revision: Revision, given: Json | None, sent: Json | None
) -> None:
    server = speaking(revision)
    server.tools = [{"name": "t", "inputSchema": SCHEMA}]
    async with house(monkeypatch, {"b": server}, aggregation=TUNED) as running:
        door = Door(running.app, revision)
        await door.initialize()
        (entry,) = (await door.ask("tools/list")).result["tools"]
        assert list(entry["inputSchema"]["properties"]) == ["q", "limit", "free"]
        assert entry["inputSchema"]["required"] == ["q"]
        answer = await door.ask("tools/call", {"name": "t", "arguments": given})
        if sent is None:
            assert answer.error["code"] == -32602
            assert "unknown argument" in answer.error["message"]
            assert not server.calls()
        else:
            assert server.calls()[-1].params["arguments"] == sent


MARKED: Json = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "n": {"type": "integer", "x-mcp-header": "N"},
    },
}


def marked() -> Server:
    server = speaking(MODERN)
    server.tools = [{"name": "t", "inputSchema": MARKED}]
    return server


async def test_arguments_are_repeated_in_headers_to_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    server = marked()
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app)
        await door.call("t", {"region": "köln", "n": 7}, mcp_param_region="=?base64?a8O2bG4=?=", mcp_param_n="7")
        headers = server.calls()[-1].headers
        assert headers["mcp-param-n"] == "7"
        assert headers["mcp-param-region"] == "=?base64?a8O2bG4=?="
        await door.call("t", {"region": None})
        assert not [key for key in server.calls()[-1].headers if key.startswith("mcp-param")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"mcp_param_region": "us"},
        {"mcp_param_region": "eu", "mcp_param_n": "1"},
        {"mcp_param_region": "=?base64?!?="},
        {"mcp_param_region": "EU"},
    ],
)
async def test_a_header_that_contradicts_its_argument_is_refused(
    monkeypatch: pytest.MonkeyPatch, headers: Mapping[str, str]
) -> None:
    server = marked()
    async with house(monkeypatch, {"b": server}) as running:
        answer = await Door(running.app).call("t", {"region": "eu"}, **headers)
        assert (answer.status, answer.error["code"]) == (400, -32020)
        assert not server.calls()


async def test_a_handshake_client_needs_no_such_header_and_the_backend_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    server = marked()
    async with house(monkeypatch, {"b": server}) as running:
        door = Door(running.app, Revision.V2025_06_18)
        await door.initialize()
        await door.call("t", {"region": "eu"})
        assert server.calls()[-1].headers["mcp-param-region"] == "eu"


async def test_a_renamed_argument_is_confirmed_by_its_advertised_name(monkeypatch: pytest.MonkeyPatch) -> None:
    override = Override(arguments={"region": ArgumentOverride(name="place"), "n": ArgumentOverride(fixed=b"5")})
    aggregation = Aggregation(strategy="manual", tools={"b": Selection(overrides={"t": override})})
    server = marked()
    async with house(monkeypatch, {"b": server}, aggregation=aggregation) as running:
        door = Door(running.app)
        assert (await door.call("t", {"place": "eu"})).error["code"] == -32020
        assert "error" not in (await door.call("t", {"place": "eu"}, mcp_param_region="eu")).json()
        asked = server.calls()[-1]
        assert asked.params["arguments"] == {"region": "eu", "n": 5}
        assert (asked.headers["mcp-param-region"], asked.headers["mcp-param-n"]) == ("eu", "5")


# --- completions


@pytest.mark.parametrize(
    ("revision", "declared", "asks"),
    [
        (Revision.V2024_11_05, False, True),
        (Revision.V2025_03_26, False, False),
        (Revision.V2025_11_25, False, False),
        (Revision.V2025_11_25, True, True),
        (MODERN, False, False),
        (MODERN, True, True),
    ],
)
async def test_only_who_completes_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, revision: Revision, declared: bool, asks: bool
) -> None:
    server = speaking(revision)
    server.capabilities = {"prompts": {}, **({"completions": {}} if declared else {})}
    async with house(monkeypatch, {"b": server}) as running:
        params = {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": "v"}}
        result = (await Door(running.app).ask("completion/complete", params)).result
        assert result["completion"]["values"] == (["v!"] if asks else [])
        assert bool(server.calls()) is asks


async def test_what_a_reference_says_besides_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    server = speaking(MODERN)
    async with house(monkeypatch, {"b": server}, aggregation=PREFIXED) as running:
        params = {
            "ref": {"type": "ref/prompt", "name": "b_p", "title": "T"},
            "argument": {"name": "a", "value": "v"},
            "context": {"arguments": {"x": "y"}},
        }
        await Door(running.app).ask("completion/complete", params)
        told = server.calls()[-1].params
        assert told["ref"] == {"type": "ref/prompt", "name": "p", "title": "T"}
        assert told["context"] == {"arguments": {"x": "y"}}


async def test_where_there_are_no_headers_none_repeat_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    server = speaking(MODERN)
    schema = {"type": "object", "properties": {"a": {"type": "string", "x-mcp-header": "A"}}}
    server.tools = [{"name": "t", "inputSchema": schema}]
    said: list[Json] = []
    async with house(monkeypatch, {"b": server}) as running:

        async def write(text: bytes) -> None:
            said.append(json.loads(text))

        line = running.opens("/mcp", write)
        line.identity = ANONYMOUS
        params = {"name": "t", "arguments": {"a": "x y"}, "_meta": modern_meta()}
        await line.take(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode())
        await until(lambda: said)
        await line.close()
    assert "result" in said[0]
    assert server.asked[-1].headers["mcp-param-a"] == "x y"
