"""A call for the tests of layers. Rule: it has a face and a table, as a real one has."""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from tests.routing.catalogs import config
from vmcp.call import Call, Peer, Trail
from vmcp.protocol.questions import Question
from vmcp.protocol.revisions import MODERN
from vmcp.routing.build import build


class Silent:
    """A client that takes no notifications and no questions."""

    can_ask = False

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        raise AssertionError("nobody asked for notifications")

    async def ask(self, question: Question) -> Raw:
        raise AssertionError("nobody can be asked here")


def call(**more: Any) -> Call:
    """A tool call of a modern client, or what ``more`` makes of it."""
    table = build(1, config(["a"]), {})
    told: dict[str, Any] = {
        "id": b"1",
        "method": "tools/call",
        "name": "secret_free_name",
        "params": {"arguments": Raw(b'{"password":"hunter2"}')},
        "meta": {},
        "tree": {"arguments": {"password": "hunter2"}},
        "peer": Peer(MODERN),
        "face": table.faces["/mcp"],
        "table": table,
        "client": Silent(),
        "deadline": float("inf"),
        "trail": Trail(),
    }
    return Call(**{**told, **more})
