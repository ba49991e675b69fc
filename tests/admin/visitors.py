"""Somebody before the web pages of an office, without a browser.

Rule: real sockets, and what was sent is kept as it came.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.admin.offices import Office, office
from vmcp.config.administration import Ui

ALL = Ui(enabled=True, try_it=True, operate=True)


@dataclass
class Visitor:
    """Logged in. ``csrf`` is learnt from the first page."""

    here: Office
    cookie: str = ""
    csrf: str = ""

    async def login(self) -> None:
        url = (await self.here.post("login"))["url"]
        _, head, _ = await self.raw("GET", url.partition(f":{self.here.port}")[2])
        self.cookie = re.search(r"set-cookie: ([^;]+)", head, re.I)[1]  # type: ignore[index]
        _, text = await self.see("")
        self.csrf = re.search(r'name="csrf" value="([^"]+)"', text)[1]  # type: ignore[index]

    async def raw(self, method: str, path: str, body: bytes = b"") -> tuple[int, str, str]:
        """Status, head and text of an answer."""
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.here.port}\r\nConnection: close\r\nCookie: {self.cookie}\r\n"
        if body:
            head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.here.port)
            writer.write(head.encode() + b"\r\n" + body)
            whole = await reader.read()
            writer.close()
        first, _, text = whole.partition(b"\r\n\r\n")
        return int(first.split()[1]), first.decode(), text.decode()

    async def see(self, page: str) -> tuple[int, str]:
        """Status and text of a page."""
        status, _, text = await self.raw("GET", f"/ui/{page}")
        return status, text

    async def send(self, page: str, form: Mapping[str, str], csrf: str | None = None) -> tuple[int, str]:
        """The answer to a form."""
        fields = {**form, "csrf": self.csrf if csrf is None else csrf}
        status, _, text = await self.raw("POST", f"/ui/{page}", urlencode(fields).encode())
        return status, text


@contextlib.asynccontextmanager
async def visitor(
    monkeypatch: pytest.MonkeyPatch, folder: Path, backends: Any, *, ui: Ui = ALL, **more: Any
) -> AsyncIterator[Visitor]:
    """Somebody who came by a link of ``vmcp ui``."""
    async with office(monkeypatch, folder, backends, listen=True, ui=ui, **more) as here:
        made = Visitor(here)
        await made.login()
        yield made
