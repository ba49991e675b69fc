"""A small server on the Python SDK 2.3, both eras: ``python server_sdk2.py NAME stdio``, or a port for HTTP."""

import sys

from mcp.server.mcpserver import MCPServer

name, where = sys.argv[1:]
server = MCPServer(name, instructions="Knows one greeting.")


@server.tool()
def greet(who: str) -> str:
    """Say hello."""
    return f"hello {who}, from SDK 2"


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
    if where == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(where))
