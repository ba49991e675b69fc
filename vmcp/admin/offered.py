"""What clients are offered, with what an operator wants to know of it: how it is used, and whether it is what it was.

The rule: a definition is shown as the backend gave it; whether it has changed is decided by the lock file, and by what this
process has seen of it since it began.
"""

import asyncio
from typing import Any, Final

from vmcp.admin import mates
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.sightings import Thing
from vmcp.routing import lock
from vmcp.routing.catalog import Kind
from vmcp.routing.table import RoutingTable
from vmcp.server.pace import Account

Data = dict[str, Any]
TOOL: Final = "tool"
Used = dict[tuple[str, ...], Data]


async def listing(desk: Desk, kind: Kind, asked: Asked) -> Data | None:
    """Everything of one kind, or what the query names; see ``Views.listing``. Off the loop, as there may be thousands."""
    told = await mates.together(desk, asked.now, "account") if kind is Kind.TOOL else None
    used = _used(told["account"]) if told is not None else {}
    return await asyncio.to_thread(_listed, desk, kind, asked, used)


def _listed(desk: Desk, kind: Kind, asked: Asked, used: Used) -> Data | None:
    told = desk.views.listing(kind, asked.query.get("path"), asked.query.get("name"))
    if told is None:
        return None
    drifts = _drifts(desk.house.table)
    for each in told[str(kind)]:
        thing = each["backend"], str(kind), each["original"]
        each["locked"] = drifts.get(thing)
        each["changed"] = desk.sightings.changed(thing) if desk.sightings is not None else None
        if kind is Kind.TOOL:
            each["usage"] = used.get((each["name"], each["backend"], each["group"]))
    return told


def _drifts(table: RoutingTable) -> dict[Thing, Data]:
    return {(each.backend, each.kind, each.name): drift(each) for each in table.drifts}


def drift(found: lock.Drift) -> Data:
    """One thing that is not as it was locked."""
    return {
        "backend": found.backend,
        "kind": found.kind,
        "name": found.name,
        "change": found.change,
        "fields": list(found.fields),
        "pinned": lock.short(found.pinned),
        "now": lock.short(found.now),
        "why": found.why,
    }


def _used(account: Account) -> Used:
    """By name, backend and group, since the start."""
    found = account.statistics(TOOL, "backend", "group")
    return {
        key: {
            "calls": each.count,
            "errorPercent": round(100 * each.errors / each.count, 1) if each.count else 0.0,
            "p95Seconds": each.p95,
        }
        for key, each in found.items()
    }


def locked(desk: Desk) -> Data:
    """The lock file that counts, and everything that is not as it says."""
    spec, table = desk.house.config.lock, desk.house.table
    kept_out = [each for face in table.faces.values() for each in face.quarantined]
    return {
        "policy": spec.policy,
        "file": spec.file,
        "pinned": sum(len(each.tools) for each in spec.pins.backends.values()),
        "drifts": [drift(each) for each in table.drifts],
        "quarantined": [
            {
                "kind": str(each.kind),
                "name": each.name,
                "backend": each.backend,
                "original": each.original,
                "why": each.why,
            }
            for each in dict.fromkeys(kept_out)
        ],
    }
