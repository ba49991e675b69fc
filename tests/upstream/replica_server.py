"""A replica for tests, as a process of its own: ``replica_server.py NAME PORT REVISION`` serves MCP over HTTP until it is killed.

Rule: the standard library only, so that it starts quickly. It says its name in every result, and knows only its own sessions.
"""

import asyncio
import contextlib
import itertools
import json
import sys
from typing import Any

NAME, PORT, REVISION = sys.argv[1:]
MODERN = REVISION == "2026-07-28"
CAPABILITIES = {"tools": {}, "resources": {"subscribe": True}, "tasks": {"requests": {"tools": {"call": {}}}}}
sessions = {}
numbers = itertools.count(1)


def answer(method: str, params: dict[str, Any], session: str) -> dict[str, Any]:
    told = {"capabilities": CAPABILITIES, "serverInfo": {"name": "r", "version": "1"}}
    if method == "initialize":
        return {"result": {**told, "protocolVersion": REVISION}}
    if method == "server/discover" and MODERN:
        more = {"supportedVersions": [REVISION], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        return {"result": {**told, **more}}
    if method == "tools/list":
        more = {"ttlMs": 0, "cacheScope": "private", "resultType": "complete"} if MODERN else {}
        return {"result": {"tools": [{"name": "who", "inputSchema": {"type": "object"}}], **more}}
    if method == "resources/list":
        return {"result": {"resources": []}}
    if method == "resources/templates/list":
        return {"result": {"resourceTemplates": []}}
    if method == "tools/call":
        sessions[session] = sessions.get(session, 0) + 1
        said = {"name": NAME, "session": session, "calls": sessions[session]}
        more = {"resultType": "complete"} if MODERN else {}
        return {"result": {"content": [{"type": "text", "text": json.dumps(said)}], **more}}
    if method in ("ping", "resources/subscribe", "resources/unsubscribe"):
        return {"result": {}}
    return {"error": {"code": -32601, "message": "Method not found"}}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            told = json.loads(body) if body else {}
            status, text, more = 202, b"", ""
            session = fields.get("mcp-session-id", "")
            if not head.startswith("post"):
                status = 405
            elif "id" in told:
                method, params = told["method"], told.get("params", {})
                await asyncio.sleep(params.get("arguments", {}).get("seconds", 0))
                if method == "initialize" and not MODERN:
                    session = f"{NAME}-{next(numbers)}"
                    sessions[session] = 0
                    more = f"mcp-session-id: {session}\r\n"
                if not MODERN and session not in sessions and method != "server/discover":
                    status = 404
                else:
                    status = 200
                    text = json.dumps({"jsonrpc": "2.0", "id": told["id"], **answer(method, params, session)}).encode()
            start = (
                f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {len(text)}\r\n\r\n"
            )
            writer.write(start.encode() + text)
            await writer.drain()
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(PORT), backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - whoever started it reads its port there
    await server.serve_forever()


asyncio.run(main())
