"""The running instance that a command is about: which it is, and what it says when asked.

The rule: no command waits long for it, and none loads more for it than a socket: an answer is there in tens of milliseconds.
"""

import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import click

from vmcp.admin import place

REFUSED, UNREACHABLE, TEMPORARY = 3, 4, 75
PATIENCE: Final = 10.0
LONG: Final = 60.0
"""Seconds for what makes the instance work, as a reload does."""
F = TypeVar("F", bound=Callable[..., Any])


CODES: Final = {
    REFUSED: "refused",
    UNREACHABLE: "unreachable",
    5: "tool_failed",
    66: "no_such_file",
    69: "unavailable",
    73: "cannot_be_made",
    TEMPORARY: "not_yet",
    77: "no_permission",
    78: "bad_configuration",
}
"""What scripts are told beside an exit code."""


class Failed(click.ClickException):
    """The instance is not there, or does not do what it was asked for."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.exit_code = code  # type: ignore[misc]  # click asks the error itself
        context = click.get_current_context(silent=True)
        self._json = context is not None and context.params.get("form") == "json"

    def show(self, file: Any = None) -> None:
        """As all of vmcp's own words; as JSON to those who asked for JSON."""
        text, _, more = self.message.partition("\nhelp: ")
        if not self._json:
            click.echo(f"vmcp: {self.message}", err=True)
            return
        told = {"code": CODES.get(self.exit_code, "failed"), "message": text, **({"help": more} if more else {})}
        click.echo(json.dumps({"error": told}, ensure_ascii=False), err=True)


def option(command: F) -> F:
    """The option that says which instance it is."""
    return click.option(
        "--admin",
        "where",
        metavar="PLACE",
        envvar="VMCP_ADMIN",
        help="Its admin socket, its name, or http://host:port.  [default: the only one there is]",
    )(command)


class Instance:
    """One that runs. ``where`` is the path of its socket, or its URL."""

    def __init__(self, where: str) -> None:
        self.where = where

    def get(self, path: str) -> Any:
        """What is there. Raises ``Failed``."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, patience: float = PATIENCE) -> Any:
        """The answer as data. Raises ``Failed``."""
        try:
            with _connected(self.where, patience) as connection:
                status, text = _exchanged(connection, _request(self.where, method, path, body))
        except TimeoutError:
            raise Failed(f"{self.where} does not answer", UNREACHABLE) from None
        except OSError as error:
            raise Failed(f"nobody answers at {self.where}: {error.strerror or error}", UNREACHABLE) from None
        try:
            answer = json.loads(text)
        except ValueError:
            raise Failed(f"{self.where} does not speak as vmcp does", UNREACHABLE) from None
        if status >= 400:
            code = REFUSED if status in (401, 403) else 1
            raise Failed(str(answer.get("error", status)) if isinstance(answer, dict) else str(status), code)
        return answer

    def pid(self) -> int:
        """Its process; where several serve, the one that keeps them. Raises ``Failed`` where that cannot be known."""
        if self.where.startswith("http"):
            raise Failed("a process can be stopped over its socket only", UNREACHABLE)
        try:
            with _connected(self.where, PATIENCE) as connection:
                said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError as error:
            raise Failed(f"nobody answers at {self.where}: {error.strerror or error}", UNREACHABLE) from None
        peer = int(struct.unpack("3i", said)[0])
        told = self.get("status")["pid"]
        return int(told) if told == _parent(peer) else peer


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return None


def find(where: str | None) -> Instance:
    """The instance meant by ``where``: a socket, a URL, a name; without, the only one there is. Raises ``Failed``."""
    if where is not None and ("/" in where or where.startswith("http:")):
        return Instance(where)
    here = running()
    if where is not None:
        here = {path: name for path, name in here.items() if where in (name, Path(path).stem)}
        if not here:
            raise Failed(f"there is no vmcp of the name '{where}' running for this user", UNREACHABLE)
    if not here:
        raise Failed("there is no vmcp running for this user; start one with: vmcp start", UNREACHABLE)
    if len(here) > 1:
        listed = "".join(f"\n  --admin {path}" for path in here)
        raise Failed(f"several are running; name one of them:{listed}", UNREACHABLE)
    return Instance(next(iter(here)))


def running() -> dict[str, str]:
    """The sockets of all that run for this user, with the names of their servers."""
    found: dict[str, str] = {}
    for folder in place.folders(os.environ, os.geteuid()):
        for path in sorted(folder.glob(f"*{place.SUFFIX}")) if folder.is_dir() else ():
            try:
                found[str(path)] = Instance(str(path)).get("status")["name"]
            except Failed:
                continue
    return found


def _connected(where: str, patience: float) -> socket.socket:
    if where.startswith("http"):
        parts = urlsplit(where)
        return socket.create_connection((parts.hostname or "", parts.port or 80), patience)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.settimeout(patience)
    try:
        made.connect(where)
    except OSError:
        made.close()
        raise
    return made


def _request(where: str, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
    host = urlsplit(where).netloc if where.startswith("http") else "localhost"
    token = os.environ.get("VMCP_ADMIN_TOKEN", "") if where.startswith("http") else ""
    text = b"" if body is None else json.dumps(body).encode()
    shown = f"Authorization: Bearer {token}\r\n" if token.isascii() and token.isprintable() and token else ""
    head = (
        f"{method} /admin/v1/{path} HTTP/1.1\r\nHost: {host}\r\n{shown}Connection: close\r\nContent-Length: {len(text)}"
    )
    return f"{head}\r\n\r\n".encode() + text


def _exchanged(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    connection.sendall(request)
    text = b""
    while piece := connection.recv(1 << 16):
        text += piece
    head, _, body = text.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ConnectionError("it does not speak HTTP")
    return int(words[1]), body


def names(path: str, key: str, called: str = "name") -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """For the completion of a word: the names that the only running instance has at ``path``; none if nobody answers."""

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        try:
            found = find(ctx.params.get("where")).get(path)[key]
        except Failed:
            return []
        return [each[called] for each in found if each[called].startswith(incomplete)]

    return complete


def coloured() -> bool:
    """Whether what is printed may be in colour."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
