"""The reference server asks: sampling, elicitation and roots of server-everything, over its transports, by clients of both eras.

The rule: the server is other people's and knows only the handshake; a client of 2026-07-28 answers it by retrying.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import uvloop

from tests.eras.carriers import Streamable
from tests.eras.cells import Tasks
from tests.eras.clients import Client
from tests.real.processes import backend, free_port, gateway, http_server, script

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

Json = dict[str, Any]
EVERYTHING = script("@modelcontextprotocol/server-everything")
ALLOW = {"sampling": True, "elicitation": {"form": True, "url": True}, "roots": True}
TRANSPORTS = ("http", "sse", "stdio")
REVISIONS = ("2025-06-18", "2025-11-25", "2026-07-28")


class Person(Client):
    """Fills in the form of server-everything."""

    def answer(self, question: Json) -> Json:
        if question["method"] == "elicitation/create":
            self.asked.append(question["method"])
            return {"action": "accept", "content": {"name": f"Ada of {self.name}", "check": True, "integer": 7}}
        return super().answer(question)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vmcp before three of them."""
    folder, common = tmp_path_factory.mktemp("everything"), {"isolation": "session", "allow": ALLOW}
    with ExitStack() as stack:
        backends = {"stdio": backend([*EVERYTHING, "stdio"], **common)}
        for name, how, path in (("http", "streamableHttp", "mcp"), ("sse", "sse", "sse")):
            port = free_port()
            server = http_server([*EVERYTHING, how], port, folder / f"{name}.log", {"PORT": str(port)})
            told = stack.enter_context(server).removesuffix("mcp") + path
            transport = "sse" if name == "sse" else "streamable-http"
            backends[name] = backend(url=told, transport=transport, **common)
        config = {"name": "asking", "groups": {"all": {"backends": backends}}}
        yield stack.enter_context(gateway(config, folder))


async def called(url: str, revision: str, tool: str, arguments: Json) -> tuple[str, list[str]]:
    """The text that a tool answers, and what the client was asked."""
    tasks = Tasks()
    port = int(url.partition("localhost:")[2].partition("/")[0])
    client = Person(f"client-{revision}", revision, Streamable(port, "/mcp", revision, tasks.spawn), tasks.spawn)
    await client.open()
    try:
        result = await client.request("tools/call", {"name": tool, "arguments": arguments})
    finally:
        await client.carrier.close()
        await tasks.close()
    return "\n".join(block.get("text", "") for block in result["content"]), client.asked


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("revision", REVISIONS)
class TestAsking:
    """Each tool that asks, by each transport, for each revision."""

    def test_the_form_is_filled_in(self, url: str, transport: str, revision: str) -> None:
        text, asked = uvloop.run(called(url, revision, f"{transport}_trigger-elicitation-request", {}))
        assert f"Ada of client-{revision}" in text
        assert asked.count("elicitation/create") == 1

    def test_the_model_answers(self, url: str, transport: str, revision: str) -> None:
        given = {"prompt": "how are you", "maxTokens": 5}
        text, asked = uvloop.run(called(url, revision, f"{transport}_trigger-sampling-request", given))
        assert f"client-{revision}:" in text
        assert "how are you" in text
        assert asked.count("sampling/createMessage") == 1

    def test_the_roots_are_told(self, url: str, transport: str, revision: str) -> None:
        text, asked = uvloop.run(called(url, revision, f"{transport}_get-roots-list", {}))
        assert f"file:///client-{revision}" in text, text
        assert "roots/list" in asked
