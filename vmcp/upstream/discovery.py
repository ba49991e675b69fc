"""What a backend offers: every list, every page, within bounds.

The rule: a backend that lists for ever, or too much, is cut off with a clear error and never fills the memory.
"""

import asyncio
from collections.abc import Mapping

import msgspec
from msgspec import Raw

from vmcp.errors import Code, McpError, Unavailable, WireError
from vmcp.protocol import jsonrpc
from vmcp.routing import catalog
from vmcp.routing.catalog import Catalog, Kind
from vmcp.upstream.ask import Ask
from vmcp.upstream.link import Link

MAX_PAGES = 1000
MAX_ENTRIES = 100_000

_LISTS: Mapping[Kind, tuple[str, str]] = {
    Kind.TOOL: ("tools/list", "tools"),
    Kind.PROMPT: ("prompts/list", "prompts"),
    Kind.RESOURCE: ("resources/list", "resources"),
    Kind.TEMPLATE: ("resources/templates/list", "resources"),
}


async def discover(link: Link, name: str, *, max_bytes: int, seconds: float) -> Catalog:
    """List everything that the backend declared, in ``seconds`` per list. Raises ``McpError`` or ``WireError``."""
    lists = {}
    for kind, (method, capability) in _LISTS.items():
        if capability in link.facts.capabilities:
            deadline = asyncio.get_running_loop().time() + seconds
            lists[kind] = await _Pages(link, name, kind, method).all(deadline, max_bytes)
    facts = link.facts
    return catalog.of(name, facts.revision, facts.capabilities, facts.instructions, lists)


class _Pages:
    """One list of one backend, followed to its end."""

    def __init__(self, link: Link, name: str, kind: Kind, method: str) -> None:
        self._link = link
        self._name = name
        self._kind = kind
        self._method = method

    async def all(self, deadline: float, max_bytes: int) -> list[bytes]:
        found: list[bytes] = []
        size = 0
        cursor: Raw | None = None
        seen: set[bytes] = set()
        for _ in range(MAX_PAGES):
            entries, cursor = await self._page(cursor, deadline)
            found.extend(bytes(entry) for entry in entries)
            size += sum(len(bytes(entry)) for entry in entries)
            if size > max_bytes or len(found) > MAX_ENTRIES:
                raise Unavailable(
                    self._name, f"its {self._method} is larger than {max_bytes} bytes", Code.PROTOCOL_ERROR
                )
            if cursor is None or bytes(cursor) == jsonrpc.NULL:
                return found
            if bytes(cursor) in seen:
                raise Unavailable(self._name, f"its {self._method} repeats a cursor", Code.PROTOCOL_ERROR)
            seen.add(bytes(cursor))
        raise Unavailable(self._name, f"its {self._method} has more than {MAX_PAGES} pages", Code.PROTOCOL_ERROR)

    async def _page(self, cursor: Raw | None, deadline: float) -> tuple[list[Raw], Raw | None]:
        params = {} if cursor is None else {"cursor": cursor}
        ask = Ask(self._method, params, deadline, capabilities=self._link.capabilities)
        try:
            page = jsonrpc.members(await self._link.request(ask))
            return jsonrpc.items(page.get(self._kind.value, Raw(b"[]"))), page.get("nextCursor")
        except msgspec.MsgspecError:
            raise WireError(f"the backend's {self._method} is no list") from None
        except McpError as refused:
            # Some servers declare a capability and then do not implement every list of it.
            if refused.code == Code.METHOD_NOT_FOUND:
                return [], None
            raise
