"""The servers that the examples aggregate: in both eras, by a client that checks every message against the schema."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.exceptions import MCPError

from tests.real.processes import ROOT, free_port, http_server

SERVERS = ROOT / "examples" / "servers"
META = "io.modelcontextprotocol/"


def notes(*arguments: str | Path) -> Client:
    """A client with a notes server of its own."""
    command = [str(SERVERS / "notes.py"), *map(str, arguments)]
    return Client(stdio_client(StdioServerParameters(command=sys.executable, args=command)))


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("units") / "log"
    with http_server([sys.executable, SERVERS / "units.py", str(port)], port, log) as url:
        yield url


async def test_a_note_is_kept_found_read_and_put_into_a_prompt() -> None:
    async with notes() as client:
        await client.call_tool("add", {"title": "a title", "text": "milk and eggs"})
        found = await client.call_tool("search", {"query": "EGGS"})
        assert found.content[0].text == "a title"  # type: ignore[union-attr]
        assert "note:///a%20title" in [str(one.uri) for one in (await client.list_resources()).resources]
        read = await client.read_resource("note:///a%20title")
        assert read.contents[0].text == "milk and eggs"  # type: ignore[union-attr]
        prompt = await client.get_prompt("summarize", {"title": "a title"})
        assert "milk and eggs" in prompt.model_dump_json()


async def test_digest_reports_its_progress() -> None:
    heard: list[tuple[float, float | None]] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, total))

    async with notes() as client:
        await client.call_tool("digest", {}, progress_callback=progress)
    assert heard == [(1, 1)]


async def test_notes_outlive_the_server_when_they_have_a_file(tmp_path: Path) -> None:
    async with notes(tmp_path / "notes.json") as client:
        await client.call_tool("add", {"title": "kept", "text": "x"})
    async with notes(tmp_path / "notes.json") as client:
        assert "kept" in (await client.call_tool("search", {"query": "kept"})).model_dump_json()


@pytest.mark.parametrize(("title", "code"), [("welcome", None), ("nothing", -32002)])
async def test_a_note_that_is_not_there_is_not_read(title: str, code: int | None) -> None:
    async with notes() as client:
        if code is None:
            assert (await client.read_resource(f"note:///{title}")).contents
        else:
            with pytest.raises(MCPError) as refused:
                await client.read_resource(f"note:///{title}")
            assert refused.value.error.code == code


@pytest.mark.parametrize(("mode", "revision"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_units_are_converted_in_both_eras(units: str, mode: Any, revision: str) -> None:
    async with Client(units, mode=mode) as client:
        assert client.protocol_version == revision
        await client.list_tools()
        done = await client.call_tool("convert", {"value": 2, "from": "mile", "to": "metre"})
        assert done.structured_content == {"value": 3218.688, "unit": "metre"}
        refused = await client.call_tool("convert", {"value": 2, "from": "mile", "to": "hour"})
        assert refused.is_error


@pytest.mark.parametrize(
    ("headers", "meta", "status", "code"),
    [
        ({}, {}, 200, None),
        ({"mcp-name": "convert"}, {}, 400, -32020),
        ({"mcp-protocol-version": "2027-01-01"}, {f"{META}protocolVersion": "2027-01-01"}, 400, -32022),
        ({}, {f"{META}clientCapabilities": None}, 400, -32602),
        ({"origin": "http://localhost:8000"}, {}, 200, None),
        ({"origin": "http://evil.example"}, {}, 403, None),
        ({"host": "evil.example"}, {}, 403, None),
    ],
)
def test_units_hold_the_envelope_of_2026(
    units: str, headers: dict[str, str], meta: dict[str, Any], status: int, code: int | None
) -> None:
    envelope = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}} | meta
    params = {"name": "search", "arguments": {"query": "inch"}, "_meta": envelope}
    answer = httpx.post(
        units,
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        headers={"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "search"} | headers,
        trust_env=False,
    )
    assert answer.status_code == status
    if code is not None:
        assert json.loads(answer.content)["error"]["code"] == code


def test_both_servers_have_a_tool_called_search() -> None:
    sources = [(SERVERS / name).read_text("utf-8") for name in ("notes.py", "units.py")]
    assert all('"search"' in source for source in sources)
