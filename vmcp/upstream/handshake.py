"""How a connection begins: probe for 2026-07-28 with ``server/discover``, else ``initialize``; the outcome is ``Facts``.

The rule: the revision is negotiated, never assumed, and a failure on the way is not taken for an answer.
"""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from vmcp.errors import Code, McpError, Overdue, Unavailable, WireError
from vmcp.protocol import envelope, era, jsonrpc
from vmcp.protocol.era import Era
from vmcp.protocol.revisions import LATEST_HANDSHAKE, MODERN, Revision
from vmcp.upstream.ask import NOTHING
from vmcp.upstream.faults import Unsent
from vmcp.upstream.http import HttpRefused
from vmcp.upstream.link import INFO, MODERN_FACTS, Facts, headers_for
from vmcp.upstream.wire import Answer, Outgoing, Wire

PROBE_WAIT = 5.0
"""How long a silent server is given for the probe before it is greeted the old way."""


class Greeter:
    """Negotiates on one wire. ``protocol`` is "auto" or the revision that the config pins.

    ``probe`` off means no ``server/discover`` when it is "auto": for a server that such a question killed, or that is known.
    ``capabilities`` is what is declared that clients can do, as JSON text.
    ``agreed`` hears the facts of a handshake before the server is told that it may begin, as it may ask at once then.
    """

    def __init__(
        self,
        name: str,
        wire: Wire,
        protocol: str,
        ids: "itertools.count[int]",
        *,
        probe: bool = True,
        capabilities: bytes = NOTHING,
        agreed: Callable[[Facts], None] | None = None,
    ) -> None:
        self._name = name
        self._wire = wire
        self._protocol = protocol
        self._ids = ids
        self._probes = probe
        self._capabilities = capabilities
        self._agreed = agreed

    async def greet(self, deadline: float) -> Facts:
        """Agree on a revision before ``deadline`` (loop time). Raises ``McpError`` or ``WireError``."""
        if self._protocol == MODERN:
            return self._modern(await self._discover(deadline))
        if self._protocol != "auto":
            return await self._initialize(Revision(self._protocol), deadline)
        if not self._probes:
            return await self._initialize(LATEST_HANDSHAKE, deadline)
        return await self._probe(deadline)

    async def _probe(self, deadline: float) -> Facts:
        doubt: McpError | None = None
        try:
            answer = await self._discover(min(deadline, asyncio.get_running_loop().time() + PROBE_WAIT))
        except HttpRefused as refused:
            doubt = refused if era.open_status(refused.status) else None
        except Overdue as late:
            doubt = late
        except Unavailable as gone:
            if isinstance(gone, Unsent):
                raise
            doubt = gone
        else:
            verdict = era.judge(answer.status, answer.message)
            if verdict is Era.MODERN:
                return self._modern(answer)
            doubt = jsonrpc.fault(answer.message.error) if verdict is Era.UNCLEAR else None
        return await self._fall_back(doubt, deadline)

    async def _fall_back(self, doubt: McpError | None, deadline: float) -> Facts:
        try:
            return await self._initialize(LATEST_HANDSHAKE, deadline)
        except McpError as refused:
            if doubt is None:
                raise
            if isinstance(doubt, Overdue) and not isinstance(refused, Unavailable | Overdue):
                # It was only slow to start, and knows no initialize: so it is a modern one after all.
                return self._modern(await self._discover(deadline))
            raise doubt from refused

    async def _discover(self, deadline: float) -> Answer:
        params = {"_meta": envelope.modern_meta(INFO, self._capabilities)}
        id_ = next(self._ids)
        body = jsonrpc.request(id_, "server/discover", params)
        headers = [*headers_for(MODERN_FACTS), (b"mcp-method", b"server/discover")]
        return await self._wire.exchange(Outgoing(id_, body, headers, replay=True), None, deadline)

    def _modern(self, answer: Answer) -> Facts:
        told = _object(jsonrpc.result_of(answer.message))
        versions = told.get("supportedVersions")
        if isinstance(versions, list) and str(MODERN) not in versions:
            raise _no_common(self._name, versions)
        return Facts(MODERN, _capabilities(told), _instructions(told))

    async def _initialize(self, asked: Revision, deadline: float) -> Facts:
        params = {
            "protocolVersion": str(asked),
            "capabilities": msgspec.Raw(self._capabilities),
            "clientInfo": msgspec.Raw(INFO),
        }
        id_ = next(self._ids)
        outgoing = Outgoing(id_, jsonrpc.request(id_, "initialize", params), replay=True)
        answer = await self._wire.exchange(outgoing, None, deadline)
        told = _object(jsonrpc.result_of(answer.message))
        revision = era.agreed(told.get("protocolVersion"), asked)
        if revision is None or (self._protocol != "auto" and revision != asked):
            raise _no_common(self._name, told.get("protocolVersion"))
        facts = Facts(revision, _capabilities(told), _instructions(told), answer.session)
        if self._agreed is not None:
            self._agreed(facts)
        await self._wire.tell(jsonrpc.notification("notifications/initialized"), headers_for(facts))
        return facts


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise WireError("the backend's greeting is no object")
    return told


def _capabilities(told: dict[str, Any]) -> dict[str, Any]:
    found = told.get("capabilities")
    return found if isinstance(found, dict) else {}


def _instructions(told: dict[str, Any]) -> str:
    found = told.get("instructions")
    return found if isinstance(found, str) else ""


def _no_common(name: str, offered: object) -> Unavailable:
    shown = jsonrpc.encode(offered)[:80].decode()
    return Unavailable(
        name, f"it speaks revision {shown} only, which the config or vmcp does not", Code.VERSION_NOT_SUPPORTED
    )
