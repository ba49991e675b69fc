"""An admin listener over a house in memory, and a plain client for it.

Rule: real sockets; who is at the other end is decided by a function that a test gives, as tests have one user only.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.server.peers import Server, house
from vmcp.admin import peer
from vmcp.admin.listening import Admin, Allowed
from vmcp.admin.tail import Tail
from vmcp.config.administration import AdminSpec, Ui
from vmcp.server.mates import Mates
from vmcp.server.reloading import Reloads, Source, Unread
from vmcp.server.runtime import Runtime
from vmcp.tasks import Nest


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Office:
    """One that is open. ``port`` is 0 where there is none."""

    running: Runtime
    socket: Path
    port: int
    token: Path

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        port: bool = False,
    ) -> Answer:
        """One request, over the socket or the port."""
        given = {"Host": f"127.0.0.1:{self.port}" if port else "localhost", "Connection": "close", **(headers or {})}
        text = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(text)}", *(f"{k}: {v}" for k, v in given.items())]
        async with asyncio.timeout(5):
            if port:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            else:
                reader, writer = await asyncio.open_unix_connection(str(self.socket))
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + text)
            whole = await reader.read()
            writer.close()
        head, _, told = whole.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in rest)
        return Answer(int(first.split()[1]), fields, json.loads(told) if told else None)

    async def get(self, path: str) -> Any:
        answer = await self.ask("GET", f"/admin/v1/{path}")
        assert answer.status == 200, answer
        return answer.body

    async def post(self, path: str, body: object = None) -> Any:
        answer = await self.ask("POST", f"/admin/v1/{path}", body)
        assert answer.status == 200, answer
        return answer.body


@contextlib.asynccontextmanager
async def office(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    backends: Mapping[str, Server] | None = None,
    *,
    allowed: Allowed = peer.allowed,
    listen: bool = False,
    text: str = "",
    ui: Ui | None = None,
    mates: Mates | None = None,
    **more: Any,
) -> AsyncIterator[Office]:
    """A house with its admin listener; ``text`` is what its configuration file says. With ``mates`` it is one worker."""
    file = folder / "vmcp.yaml"
    file.write_text(text)

    def read() -> list[tuple[str, str]]:
        try:
            return [(str(file), file.read_text())]
        except OSError:
            raise Unread("no such file") from None

    spec = AdminSpec(str(folder / "a.sock"), ("127.0.0.1", 0) if listen else None, str(folder / "token"), ui or Ui())
    tail = Tail(logging.Formatter("%(message)s"))
    logging.getLogger().addHandler(tail)
    caught: list[logging.LogRecord] = []
    watching = logging.getLogger("vmcp.admin")
    monkeypatch.setattr(watching, "level", logging.INFO)
    seen = logging.Handler()
    seen.emit = caught.append  # type: ignore[method-assign]
    watching.addHandler(seen)
    try:
        async with house(monkeypatch, backends, admin=spec, **more) as running, Nest("reload") as nest:
            reloads = Reloads(running, Source([str(file)], read), nest)
            running.mates = mates
            async with Admin(spec, tail, allowed)(running, reloads, "http://127.0.0.1:4483"):
                facts: Any = next(each for each in caught if each.getMessage() == "admin")
                port = int(facts.url.rpartition(":")[2]) if listen else 0
                yield Office(running, folder / "a.sock", port, folder / "token")
    finally:
        watching.removeHandler(seen)
        logging.getLogger().removeHandler(tail)
