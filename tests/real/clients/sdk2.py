"""The Python SDK 2.3 as a client: ``python sdk2.py URL ERRAND MODE``, MODE being auto or legacy; prints what it found as JSON.

The errand, the same for all clients: ``{"calls": {tool: arguments}, "prompts": {name: arguments}, "reads": [uri]}``.
"""

import asyncio
import json
import sys
from typing import Any

from mcp import Client


async def main(url: str, errand: dict[str, Any], mode: str) -> None:
    """List everything, do the errand, print."""
    async with Client(url, mode=mode) as client:
        found = {
            "revision": client.protocol_version,
            "server": client.server_info.name,
            "instructions": client.instructions,
            "tools": [tool.name for tool in (await client.list_tools()).tools],
            "resources": [str(one.uri) for one in (await client.list_resources()).resources],
            "templates": [one.uri_template for one in (await client.list_resource_templates()).resource_templates],
            "prompts": [prompt.name for prompt in (await client.list_prompts()).prompts],
            "calls": {
                name: (await client.call_tool(name, given)).model_dump(mode="json")
                for name, given in errand["calls"].items()
            },
            "gets": {
                name: (await client.get_prompt(name, given)).model_dump(mode="json")
                for name, given in errand["prompts"].items()
            },
            "reads": {uri: (await client.read_resource(uri)).model_dump(mode="json") for uri in errand["reads"]},
        }
    print(json.dumps(found))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]))
