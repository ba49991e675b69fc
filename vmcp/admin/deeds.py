"""What an operator may do, done by all workers.

The rule: it is recorded once, by the worker that was told; what it has come to is told of the one with which it went worst.
"""

import asyncio

from vmcp.admin import merging
from vmcp.admin.acts import Data
from vmcp.admin.desk import Desk
from vmcp.admin.mates import LONG, everywhere


async def reload(desk: Desk, who: str) -> Data:
    """See ``Acts.reload``."""
    async with asyncio.TaskGroup() as group:
        others = group.create_task(everywhere(desk, "reload", patience=LONG))
        own = await desk.acts.reload(who)
    return merging.reload({-1: own, **others.result()})


async def drain(desk: Desk, who: str) -> Data:
    """See ``Acts.drain``."""
    told = desk.acts.drain(who)
    await everywhere(desk, "drain")
    return told


async def reset(desk: Desk, who: str, name: str) -> Data | None:
    """See ``Acts.reset``."""
    told = desk.acts.reset(who, name)
    if told is not None:
        await everywhere(desk, "reset", name)
    return told


async def clear(desk: Desk, who: str, pattern: str) -> Data:
    """See ``Acts.clear``; how many were forgotten by all of them."""
    told = await desk.acts.clear(who, pattern)
    others = await everywhere(desk, "clear", pattern)
    return {"cleared": sum((each["cleared"] for each in others.values()), told["cleared"])}


async def end(desk: Desk, who: str, name: str) -> Data | None:
    """See ``Acts.end``; whoever has the session ends it."""
    told = desk.acts.end(who, name)
    if told is None and await everywhere(desk, "end", name):
        desk.acts.recorded(who, "end", session=name)
        return {"ended": name}
    return told


async def level(desk: Desk, who: str, wanted: str) -> Data | None:
    """See ``Acts.level``."""
    told = desk.acts.level(who, wanted)
    if told is not None:
        await everywhere(desk, "level", wanted)
    return told
