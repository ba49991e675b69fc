"""The configuration as an operator asks about it: every value with its origin, and what a reload would change.

The rule: nobody is asked for it, neither a backend nor a client: of what a file says anew only what is known is compared, and the
rest is said to be unknown.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from vmcp.admin.acts import Standing
from vmcp.admin.desk import Asked, Desk
from vmcp.config.effective import Value, effective
from vmcp.config.model import Config
from vmcp.routing import surface, telling
from vmcp.routing.build import build
from vmcp.routing.catalog import Catalog
from vmcp.routing.plan import plan
from vmcp.routing.settings import settings
from vmcp.routing.table import RoutingTable

Data = dict[str, Any]
NAMES: Final = ("running", "on disk")


async def values(desk: Desk, _: Asked) -> Data:
    """Every value that counts; and how the files stand to it."""
    found = await desk.acts.standing()
    return _stand(found) | {"values": await told(found)}


async def difference(desk: Desk, _: Asked) -> Data:
    """What would change for clients and at the gateway, if the files were read now."""
    found = await desk.acts.standing()
    return _stand(found) | await planned(desk, found)


async def whole(desk: Desk) -> Data:
    """All of it at once, so that the files are read once."""
    found = await desk.acts.standing()
    return _stand(found) | {"values": await told(found)} | await planned(desk, found) | desk.acts.history()


def _stand(found: Standing) -> Data:
    return {"disk": found.disk, "problems": list(found.problems)}


async def told(found: Standing) -> list[Data] | None:
    """The values; None while the files cannot say any more what counts."""
    if found.known is None:
        return None
    return [_value(each) for each in await asyncio.to_thread(lambda known: [*effective(known)], found.known.document)]


def _value(value: Value) -> Data:
    return {
        "path": value.path,
        "value": value.value,
        "source": value.source,
        "at": value.at,
        "hidden": value.hidden,
    }


async def planned(desk: Desk, found: Standing) -> Data:
    """The difference, as data and as text; None where there is none, or the files are wrong."""
    if found.on_disk is None or found.disk == "same":
        return {"plan": None, "text": ""}
    house = desk.house
    catalogs = {name: held.catalog for name, held in house.current.held.items() if held.catalog is not None}
    return await asyncio.to_thread(_planned, house.config, found.on_disk.config, house.table, catalogs)


def _planned(old: Config, new: Config, table: RoutingTable, catalogs: Mapping[str, Catalog]) -> Data:
    before = {spec.name: spec for spec in old.backends}
    alike = {
        spec.name: catalogs[spec.name]
        for spec in new.backends
        if before.get(spec.name) == spec and spec.name in catalogs
    }
    sheets = surface.surface(old, table), surface.surface(new, build(table.number, new, alike))
    made = plan(NAMES, *sheets, settings(old, new))
    return {"plan": telling.data(made), "text": telling.render(made, "text")}
