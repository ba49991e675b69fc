"""What has changed at backends since it was locked, as it is told in the log.

The rule: each drift is told once, when a table has it that the one before had not.
"""

import logging
from collections.abc import Mapping

from vmcp.config.lock import Policy
from vmcp.routing.lock import Drift
from vmcp.routing.table import RoutingTable

log = logging.getLogger("vmcp.lock")

SHOWN = 100
"""Drifts of one table that are told one by one."""
_DONE: Mapping[Policy, str] = {"warn": "served", "quarantine": "kept out", "block": "backend kept out"}


def tell(policy: Policy, before: RoutingTable, now: RoutingTable) -> None:
    """Log what is in ``now`` and was not in ``before``."""
    known = set(before.drifts)
    fresh = [drift for drift in now.drifts if drift not in known]
    for drift in fresh[:SHOWN]:
        log.warning("definition is not as it was locked", extra={**_facts(drift), "done": _DONE[policy]})
    if len(fresh) > SHOWN:
        log.warning("definitions are not as they were locked", extra={"more": len(fresh) - SHOWN})


def _facts(drift: Drift) -> Mapping[str, object]:
    facts = {"backend": drift.backend, "kind": drift.kind, "target": drift.name, "change": drift.change}
    return {**facts, "fields": drift.fields, "pinned": drift.pinned, "now": drift.now}
