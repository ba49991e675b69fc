"""``incomingAuth.authz``: what callers may do, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GROUP_TYPE = "THVGroup"


@dataclass(frozen=True, slots=True)
class Authz:
    """Cedar policies and their entities as texts. ``group_claim`` None: the first there is of groups, roles, cognito:groups."""

    policies: tuple[str, ...]
    entities: str = "[]"
    group_claim: str | None = None
    role_claim: str | None = None
    group_type: str = GROUP_TYPE


def from_data(data: Mapping[str, Any]) -> Authz | None:
    """Of a checked document; None when everybody may do everything."""
    if data.get("type", "none") == "none":
        return None
    return Authz(
        policies=tuple(data["policies"]),
        entities=data.get("entitiesJson", "[]"),
        group_claim=data.get("groupClaimName"),
        role_claim=data.get("roleClaimName"),
        group_type=data.get("groupEntityType", GROUP_TYPE),
    )
