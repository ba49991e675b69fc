"""The table of a configuration without serving it: every backend is asked once what it offers.

The rule: nothing listens, and when it is done no backend is left running.
"""

import asyncio
from collections.abc import Sequence

from msgspec import Raw

from vmcp.config.model import BackendSpec, Config, Limits
from vmcp.errors import Code, McpError
from vmcp.protocol.questions import Question
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog
from vmcp.routing.table import RoutingTable
from vmcp.tasks import Nest
from vmcp.upstream.balancer import Placed, placed
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

    def awaits(self, backend: Placed) -> bool:
        """Whether it has neither failed nor said all."""
        state = backend.status.state
        return state == "starting" or (state == "up" and backend.spec.name not in self.catalogs)

    def settled(self) -> None:
        """See ``Owner``."""
        self.changed.set()

    def heard(self, backend: str, method: str, params: Raw, source: Key | None = None) -> None:
        """See ``Owner``. What changes later is of no interest."""

    async def inquire(self, session_id: str, question: Question) -> Raw:
        """See ``Owner``. There is no client to ask."""
        raise McpError(Code.METHOD_NOT_FOUND, "Method not found")


async def probe(config: Config, seconds: float) -> RoutingTable:
    """The table of what the backends offer, as far as they answer within ``seconds``."""
    return build(1, config, await catalogs(config.backends, config.server.limits, seconds))


async def catalogs(specs: Sequence[BackendSpec], limits: Limits, seconds: float) -> dict[str, Catalog]:
    """What these backends offer, as far as they answer within ``seconds``."""
    asking, nest = _Asking(), Nest("probe")
    backends = [placed(spec, limits, asking) for spec in specs]
    try:
        async with asyncio.timeout(seconds):
            for backend in backends:
                nest.start(backend.run(), backend.spec.name)
            while any(asking.awaits(backend) for backend in backends):
                await asking.changed.wait()
                asking.changed.clear()
    except TimeoutError:
        pass
    finally:
        await nest.close()
    return asking.catalogs
