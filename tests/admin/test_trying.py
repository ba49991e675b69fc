"""Calls from a page.

Rule: a whole house with its door, layers and log; what a client of this machine may not do, a page may not.
"""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from tests.server.peers import Asked, Notify, Server, echo, house, said, text, tool, until
from vmcp.admin import trying
from vmcp.admin.trying import Tried, Wanted, tried
from vmcp.config.audit import AuditSpec
from vmcp.config.authz import Authz
from vmcp.config.incoming import Incoming, LocalKey
from vmcp.config.limits import Bucket, RateLimits
from vmcp.config.model import ServerSpec
from vmcp.routing.catalog import Kind

KEY = "key-of-bob"
BOB = Incoming("local", keys=(LocalKey("bob", hashlib.sha256(KEY.encode()).hexdigest()),), os_user=False)
Json = dict[str, Any]


def call(name: str = "echo", arguments: bytes = b"{}", **more: Any) -> Wanted:
    return Wanted("/mcp", Kind.TOOL, name, Raw(arguments), **more)


def message(found: Tried) -> Any:
    return json.loads(found.body)


def one(**more: Any) -> dict[str, Server]:
    return {"one": Server(tools=[tool("echo"), tool("drop")], script=echo, **more)}


async def test_a_call_gets_the_answer_that_a_client_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = one()
    async with house(monkeypatch, backends) as running:
        found = await tried(running, call(arguments=b'{"n": 12345678901234567890}'))
        assert found.status == 200
        assert not found.cut
        assert "12345678901234567890" in message(found)["result"]["content"][0]["text"]
        unknown = await tried(running, call("nothing"))
        assert message(unknown)["error"]["code"] == -32602
    (asked,) = backends["one"].calls()
    assert asked.name == "echo"


async def test_prompts_and_resources_can_be_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(asked: Asked, _: Notify) -> bytes:
        return text({"resultType": "complete", "messages": [], "contents": [], "asked": asked.params.get("arguments")})

    server = Server(prompts=[{"name": "greet"}], resources=[{"uri": "a://1", "name": "one"}], script=script)
    async with house(monkeypatch, {"one": server}) as running:
        prompt = await tried(running, Wanted("/mcp", Kind.PROMPT, "greet", Raw(b'{"who":"x"}')))
        assert message(prompt)["result"]["asked"] == {"who": "x"}
        resource = await tried(running, Wanted("/mcp", Kind.RESOURCE, "a://1"))
        assert message(resource)["result"]["asked"] is None


async def test_nobody_comes_in_without_a_key_where_there_are_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, one(), incoming=BOB) as running:
        assert (await tried(running, call())).status == 401
        assert (await tried(running, call(authorization="Bearer wrong"))).status == 401
        assert (await tried(running, call(authorization=f"Bearer {KEY}"))).status == 200


async def test_policies_and_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    only_echo = Authz(('permit(principal == Client::"bob", action, resource == Tool::"echo");',))
    limits = RateLimits(per_user=Bucket(2, 3600.0))
    async with house(monkeypatch, one(), incoming=BOB, authz=only_echo, rate_limits=limits) as running:
        bob = f"Bearer {KEY}"
        assert "result" in message(await tried(running, call(authorization=bob)))
        assert message(await tried(running, call("drop", authorization=bob)))["error"]["code"] == -32602
        late = message(await tried(running, call(authorization=bob)))["error"]
        assert "too often" in late["message"]


async def test_the_audit_log_has_it_with_who_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    async with house(monkeypatch, one(), incoming=BOB, audit=AuditSpec(file=str(path))) as running:
        await tried(running, call(authorization=f"Bearer {KEY}", agent="vmcp page (page:1)"))
        await tried(running, call())
        await until(lambda: path.read_text().count("\n") >= 3)
    events = [
        event for line in path.read_text().splitlines() if not (event := json.loads(line))["type"].startswith("audit")
    ]
    assert [(event["type"], event["outcome"]) for event in events] == [
        ("mcp_tool_call", "success"),
        ("auth_failure", "denied"),
    ]
    assert events[0]["subjects"]["user_id"] == "bob"
    assert events[0]["source"]["extra"]["user_agent"] == "vmcp page (page:1)"
    assert KEY not in path.read_text()


async def test_an_argument_that_a_tool_wants_in_a_header_is_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    server = Server(tools=[{"name": "echo", "inputSchema": schema}], script=echo)
    async with house(monkeypatch, {"one": server}) as running:
        found = await tried(running, call(arguments=b'{"region":"eu"}'))
        assert "result" in message(found), found.body
        assert dict(trying.headers(running, call(arguments=b'{"region":"eu"}')))[b"mcp-param-region"] == b"eu"


@pytest.mark.parametrize(
    "server",
    [
        ServerSpec(host="0.0.0.0", allow_anonymous_network=True),
        ServerSpec(host="0.0.0.0", allow_anonymous_network=True, allowed_hosts=("gw.example.com",)),
        ServerSpec(host="::1"),
        ServerSpec(host="localhost"),
    ],
)
async def test_the_door_knows_the_host_that_is_named(monkeypatch: pytest.MonkeyPatch, server: ServerSpec) -> None:
    async with house(monkeypatch, one(), server=server) as running:
        assert (await tried(running, call())).status == 200


async def test_an_endpoint_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(monkeypatch, one()) as running:
        assert (await tried(running, Wanted("/livez", Kind.TOOL, "echo"))).status == 405
        assert (await tried(running, Wanted("/none/mcp", Kind.TOOL, "echo"))).status == 404


async def test_it_waits_for_an_answer_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: Asked, __: Notify) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(trying, "LONGEST", 0.05)
    server = Server(tools=[tool("echo")], script=never)
    async with house(monkeypatch, {"one": server}) as running:
        found = await tried(running, call())
        assert found.status == 504
        assert "no answer" in message(found)["error"]["message"]
        await until(lambda: server.cancelled == 1)


async def test_of_an_answer_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def long(_: Asked, __: Notify) -> bytes:
        return said("x" * 5000)

    monkeypatch.setattr(trying, "LARGEST", 1000)
    async with house(monkeypatch, {"one": Server(tools=[tool("echo")], script=long)}) as running:
        found = await tried(running, call())
        assert (len(found.body), found.cut) == (1000, True)
