"""The Python SDK 1.x as a client, run by the Python of ``.venv-mcp1``: ``python sdk1.py URL ERRAND``; see sdk2.py."""

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from pydantic import AnyUrl


async def main(url: str, errand: dict[str, Any]) -> None:
    """List everything, do the errand, print."""
    async with streamablehttp_client(url) as (incoming, outgoing, _), ClientSession(incoming, outgoing) as client:
        hello = await client.initialize()
        found = {
            "revision": hello.protocolVersion,
            "server": hello.serverInfo.name,
            "instructions": hello.instructions,
            "tools": [tool.name for tool in (await client.list_tools()).tools],
            "resources": [str(one.uri) for one in (await client.list_resources()).resources],
            "templates": [one.uriTemplate for one in (await client.list_resource_templates()).resourceTemplates],
            "prompts": [prompt.name for prompt in (await client.list_prompts()).prompts],
            "calls": {
                name: (await client.call_tool(name, given)).model_dump(mode="json")
                for name, given in errand["calls"].items()
            },
            "gets": {
                name: (await client.get_prompt(name, given)).model_dump(mode="json")
                for name, given in errand["prompts"].items()
            },
            "reads": {
                uri: (await client.read_resource(AnyUrl(uri))).model_dump(mode="json") for uri in errand["reads"]
            },
        }
    print(json.dumps(found))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
