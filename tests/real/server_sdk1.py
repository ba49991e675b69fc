"""A small server on the Python SDK 1.x, handshake era, for the Python of ``.venv-mcp1``; arguments as in server_sdk2.py."""

import sys

from mcp.server.fastmcp import FastMCP

name, where = sys.argv[1:]
port = 0 if where == "stdio" else int(where)
server = FastMCP(name, instructions="Knows one greeting.", port=port)


@server.tool()
def greet(who: str) -> str:
    """Say hello."""
    return f"hello {who}, from SDK 1"


@server.resource(f"{name}://motd")
def motd() -> str:
    """The message of the day."""
    return "nothing new"


@server.resource(f"{name}://square/{{number}}")
def square(number: str) -> str:
    """A number times itself."""
    return str(int(number) ** 2)


@server.prompt()
def poem(subject: str) -> str:
    """Ask for a poem."""
    return f"Write a poem about {subject}."


if __name__ == "__main__":
    server.run("streamable-http" if port else "stdio")
