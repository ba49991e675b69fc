"""The raw-socket table of HTTP oddities, held against the pinned uvicorn and httptools.

Rule: the table changes only on purpose: ``REGOLD=1`` in the environment writes it anew, and the diff is reviewed. Whatever the
pieces in which it comes, a case has one outcome.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import Listening, listening
from tests.server.oddities import CASES, splits
from tests.server.peers import config, until
from vmcp.server.asgi import Receive, Scope, Send

GOLDEN = Path(__file__).parent.parent / "golden" / "http-oddities.txt"
AFTER = b"GET /after HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
HEAD = f"# uvicorn {version('uvicorn')}, httptools {version('httptools')}: case | statuses | what reached the application\n"


@dataclass
class Echo:
    """Says what reached it."""

    reached: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            size += len(message["body"])
            more = message.get("more_body", False)
        path = scope["raw_path"].decode("latin-1")
        self.reached.append(f"{scope['method']} {path if len(path) < 20 else f'({len(path)})'} +{size}")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Wire(asyncio.Protocol):
    """A client that keeps every byte, even of a connection that is reset."""

    def __init__(self) -> None:
        self.got = b""
        self.over = False

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True


async def outcome(server: Listening, app: Echo, pieces: Sequence[bytes]) -> str:
    """What is answered and what reaches the application, when ``pieces`` are sent and then a good request."""
    app.reached.clear()
    transport, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", server.port)
    for piece in [*pieces, AFTER]:
        if not wire.over:
            transport.write(piece)
            await asyncio.sleep(0)
    await until(lambda: wire.over)
    assert wire.got.count(b"HTTP/1.1 ") == wire.got.count(b"\r\n\r\n"), "nothing stands between the answers"
    statuses = [line.split(b" ")[0].decode() for line in wire.got.split(b"HTTP/1.1 ")[1:]]
    many = len(app.reached) > 9
    reached = f"{len(app.reached)} requests" if many else ", ".join(app.reached) or "nothing"
    return f"{f'{len(statuses)} x 200' if set(statuses) == {'200'} and many else ' '.join(statuses)} | {reached}"


def golden() -> dict[str, str]:
    lines = GOLDEN.read_text("utf-8").splitlines()[1:]
    return dict(line.split(" | ", 1) for line in lines)


def test_the_table_is_of_the_versions_that_are_installed_and_has_every_case() -> None:
    assert GOLDEN.read_text("utf-8").startswith(HEAD)
    assert list(golden()) == list(CASES)


@pytest.fixture(scope="module", autouse=True)
def table() -> Any:
    """Where the outcomes are gathered to be written, if they shall be."""
    found: dict[str, str] = {}
    yield found
    if os.environ.get("REGOLD"):
        GOLDEN.write_text(HEAD + "".join(f"{name} | {said}\n" for name, said in found.items()), "utf-8")


@pytest.mark.parametrize("name", CASES)
async def test_an_oddity_has_one_outcome(name: str, table: dict[str, str]) -> None:
    app = Echo()
    async with listening(app, config({})) as server:
        found = [await outcome(server, app, pieces) for pieces in splits(CASES[name])]
    assert len(set(found)) == 1, "it does not matter how it is cut"
    table[name] = found[0]
    if not os.environ.get("REGOLD"):
        assert found[0] == golden()[name]


def test_nobody_is_served_beyond_what_it_asked_for() -> None:
    for name, said in golden().items():
        statuses, reached = said.split(" | ")
        assert "smuggled" not in reached, name
        if "400" in statuses or "431" in statuses or "414" in statuses:
            assert "after" not in reached, f"{name}: after a refusal the connection is closed"
