"""The family of errors. Raise the most precise one; ``server/exchange`` turns them into what goes on the wire.

    VmcpError
    ├── ConfigError      every problem of a configuration, with positions
    ├── CannotStart      a configuration that is right, and cannot come alive here
    ├── McpError         a JSON-RPC error, ours or a backend's own
    │   ├── Unavailable  a backend cannot be reached or is not there
    │   │   └── ConsentRequired  its user has to visit a page first
    │   ├── Overdue      a deadline passed, and which
    │   └── Throttled    too many calls, and when to try again
    ├── WireError        a peer broke the framing or the protocol (bytes, SSE, HTTP)
    └── SessionLost      a backend no longer knows our session

vmcp's own codes are 1000–5999, with a page each in docs/errors; where the revision in use prescribes a code, that one
is on the wire and ours is in ``data.vmcpCode``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class Code(IntEnum):
    """JSON-RPC's codes, the ones that MCP 2026-07-28 reserves, and vmcp's own."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    RESOURCE_NOT_FOUND = -32002
    HEADER_MISMATCH = -32020
    MISSING_CAPABILITY = -32021
    UNSUPPORTED_VERSION = -32022
    TRANSPORT_ERROR = 1000
    CONNECTION_FAILED = 1001
    CONNECTION_TIMEOUT = 1002
    TRANSPORT_CLOSED = 1003
    NO_SERVER_FOUND = 2000
    SERVER_UNAVAILABLE = 2001
    ROUTING_FAILED = 2002
    ALL_SERVERS_DOWN = 2003
    UNAUTHORIZED = 3000
    PERSONA_NOT_FOUND = 3001
    SERVER_NOT_ALLOWED = 3002
    INSUFFICIENT_PERMISSIONS = 3003
    PROTOCOL_ERROR = 4000
    VERSION_NOT_SUPPORTED = 4001
    INVALID_MESSAGE = 4002
    GATEWAY_ERROR = 5000
    BACKEND_ERROR = 5001
    CACHE_ERROR = 5002
    CONFIGURATION_ERROR = 5003


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1, ``length`` is how much to underline."""

    file: str
    line: int
    column: int
    length: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration, where, and what to do about it."""

    position: Position
    path: str
    message: str
    hint: str = ""
    severity: Literal["error", "warning"] = "error"
    rule: str = ""


class VmcpError(Exception):
    """Everything that vmcp raises on purpose."""


class ConfigError(VmcpError):
    """A configuration that cannot be used; ``problems`` has all of them in order of position."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{p.position}: {p.path}: {p.message}" for p in problems))
        self.problems = tuple(problems)


class CannotStart(VmcpError):
    """A configuration cannot come alive here; the text says why and what to do. ``code`` is the exit code that fits."""

    code = 78


class McpError(VmcpError):
    """A JSON-RPC error. ``data`` is any JSON value (or ``msgspec.Raw``); None means that there is none.

    ``theirs``: a backend has answered it, so nothing is added to it.
    """

    theirs = False

    def __init__(self, code: int, message: str, data: object = None, *, vmcp_code: int | None = None) -> None:
        super().__init__(message)
        self.code = int(code)
        self.message = message
        self.data = data
        self.vmcp_code = vmcp_code


class Unavailable(McpError):
    """A backend that cannot be reached, has stopped, or has not answered yet."""

    def __init__(self, backend: str, why: str, vmcp_code: int = Code.SERVER_UNAVAILABLE) -> None:
        super().__init__(Code.INTERNAL_ERROR, f"backend '{backend}' is unavailable: {why}", vmcp_code=vmcp_code)
        self.backend = backend
        self.why = why


class ConsentRequired(Unavailable):
    """A backend acts for each user, and this one has to consent first: ``url`` is the page where he does that.

    It is for his eyes only: it stands in the ``message`` that he gets, and not in what is logged (``str``, ``plain``).
    """

    def __init__(self, backend: str, url: str, otherwise: str = "") -> None:
        super().__init__(backend, "its user has to consent first", Code.UNAUTHORIZED)
        self.plain = f"backend '{backend}' needs your consent first"
        self.args = (self.plain,)
        self.message = f"backend '{backend}' needs your consent: open {url} in a browser{otherwise}, then try again"
        self.url = url


class Overdue(McpError):
    """A deadline passed: ``which`` is the config key of the limit, ``seconds`` its value."""

    def __init__(self, backend: str, which: str, seconds: float) -> None:
        text = f"backend '{backend}' did not answer in time: {which} is {seconds:g} s"
        super().__init__(Code.INTERNAL_ERROR, text, vmcp_code=Code.CONNECTION_TIMEOUT)
        self.backend = backend
        self.which = which
        self.seconds = seconds


class Throttled(McpError):
    """Too many calls: ``rule`` is the config key of the limit; ``seconds`` until another try makes sense."""

    def __init__(self, rule: str, why: str, seconds: float) -> None:
        wait = max(1, math.ceil(seconds))
        text = f"{why}; try again in {wait} s"
        super().__init__(Code.INTERNAL_ERROR, text, {"retryAfter": wait}, vmcp_code=Code.GATEWAY_ERROR)
        self.rule = rule


class WireError(VmcpError):
    """A peer broke the framing: bytes that are no HTTP, no SSE, no JSON-RPC, or that are too many."""


class SessionLost(VmcpError):
    """A backend answered that it does not know the session that we sent."""
