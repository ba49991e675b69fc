"""Recent numbers and usage statistics of a house, while somebody may look at them.

The rule: whatever becomes of the file, serving goes on as if nobody counted.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from vmcp.server.runtime import Runtime
from vmcp.state.usage import Usage
from vmcp.tasks import Nest

FILE: Final = "usage.db"
LAST: Final = 2.0
"""Seconds for the last numbers to be written."""


@asynccontextmanager
async def counted(house: Runtime) -> AsyncIterator[Usage | None]:
    """While the block runs, what passes is counted; None where no usage is kept."""
    async with house.recent.kept():
        spec, folder = house.config.usage, house.config.state.directory
        if not spec.enabled:
            yield None
            return
        path = Path(folder) / FILE if folder is not None else None
        usage = Usage(path, spec.days, spec.rows, people=spec.people)
        usage.start()
        house.recent.told = usage.add
        async with Nest("usage") as nest:
            nest.start(usage.run(), "write")
            try:
                yield usage
            finally:
                house.recent.fold()
                house.recent.told = None
                await asyncio.to_thread(usage.close, LAST)
