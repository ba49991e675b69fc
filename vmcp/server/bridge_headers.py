"""The headers that a request of 2026-07-28 has over HTTP and not over stdio, made by the bridge from the request itself.

The rule: what they say is what the body says; which arguments are repeated is learnt from the lists of tools that pass by.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from vmcp.errors import McpError
from vmcp.protocol import envelope, jsonrpc
from vmcp.protocol.revisions import MODERN, REQUESTS, knows
from vmcp.routing.headers import mentioned, read


class Known:
    """What is known of the server's tools. Mutable: ``params`` has, by tool, headers and the arguments that they repeat."""

    def __init__(self) -> None:
        self.params: dict[str, list[tuple[str, tuple[str, ...]]]] = {}

    def headers(self, method: str, tree: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
        """Those of a request or notification with these ``params``."""
        version = tree["_meta"][envelope.VERSION]
        headers = [
            (b"mcp-protocol-version", envelope.encode_value(str(version)).encode()),
            (b"mcp-method", envelope.encode_value(method).encode()),
        ]
        key = REQUESTS[method].name_key if knows(MODERN, method) else None
        name = tree.get(key) if key is not None else None
        if isinstance(name, str):
            headers.append((b"mcp-name", envelope.encode_value(name).encode()))
            arguments = tree.get("arguments")
            if name in self.params and isinstance(arguments, dict):
                headers += envelope.params_as_headers(self.params[name], arguments)
        return headers

    def learn(self, body: bytes) -> str | None:
        """Read a reply to ``tools/list``; the cursor of the next page, if there is one."""
        try:
            told = jsonrpc.members(jsonrpc.members(body)["result"])
            for tool in jsonrpc.items(told["tools"]) if mentioned(body) else ():
                self._learn_tool(jsonrpc.members(tool))
            cursor = jsonrpc.strict(bytes(told["nextCursor"])) if "nextCursor" in told else None
        except (msgspec.MsgspecError, KeyError, McpError):
            return None  # an error, or none of our business: it is passed on all the same
        return cursor if isinstance(cursor, str) else None

    def _learn_tool(self, tool: Mapping[str, msgspec.Raw]) -> None:
        found = read(tool["inputSchema"])
        if not isinstance(found, str):
            name = str(jsonrpc.strict(bytes(tool["name"])))
            self.params[name] = [(param.header, param.path) for param in found]
