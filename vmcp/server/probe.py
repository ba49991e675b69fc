"""The table of a configuration without serving it: every backend is asked once what it offers.

The rule: nothing listens, and when it is done no backend is left running.
"""

import asyncio

from msgspec import Raw

from vmcp.config.model import Config
from vmcp.errors import Code, McpError
from vmcp.protocol.questions import Question
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog
from vmcp.routing.table import RoutingTable
from vmcp.tasks import Nest
from vmcp.upstream.backend import Backend
from vmcp.upstream.links import Key


class _Asking:
    """Collects what backends tell (``Owner``). Mutable; ``changed`` is set whenever one of them has."""

    def __init__(self) -> None:
        self.catalogs: dict[str, Catalog] = {}
        self.changed = asyncio.Event()

    def catalogued(self, catalog: Catalog) -> None:
        """See ``Owner``."""
        self.catalogs[catalog.backend] = catalog
        self.changed.set()

    def settled(self) -> None:
        """See ``Owner``."""
        self.changed.set()

    def heard(self, backend: str, method: str, params: Raw, source: Key | None = None) -> None:
        """See ``Owner``. What changes later is of no interest."""

    async def inquire(self, session_id: str, question: Question) -> Raw:
        """See ``Owner``. There is no client to ask."""
        raise McpError(Code.METHOD_NOT_FOUND, "Method not found")


async def probe(config: Config, seconds: float) -> RoutingTable:
    """What the backends offer, as far as they answer within ``seconds``."""
    asking, nest = _Asking(), Nest("probe")
    backends = [Backend(spec, config.server.limits, asking) for spec in config.backends]
    try:
        async with asyncio.timeout(seconds):
            for backend in backends:
                nest.start(backend.run(), backend.spec.name)
            while any(backend.status.state == "starting" for backend in backends):
                await asking.changed.wait()
                asking.changed.clear()
    except TimeoutError:
        pass
    finally:
        await nest.close()
    return build(1, config, asking.catalogs)
