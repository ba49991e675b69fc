"""AWS as a strategy: which role a caller gets by his token, and how requests are signed then.

The rule: pure. The first mapping that fits, in the order of priority and then of the file, else the fallback, else none: nobody
gets a role because something about him could not be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vmcp.config.conditions import Condition, compiled
from vmcp.config.quantities import seconds
from vmcp.config.values import Text

Data = Mapping[str, Any]

SERVICE: Final = "aws-mcp"
ROOTS: Final = ("claims",)
"""What a ``matcher`` may speak of."""


@dataclass(frozen=True, slots=True)
class RoleMapping:
    """A role for those whose role claim has the value ``claim``, or of whom ``matcher`` is true."""

    role: str
    claim: str | None = None
    matcher: Condition | None = None
    priority: int = 0

    def fits(self, claims: Mapping[str, Any], role_claim: str) -> bool:
        """Whether it is for a caller with ``claims``."""
        if self.matcher is not None:
            return self.matcher.holds({"claims": claims})
        value = claims.get(role_claim)
        return value == self.claim or (isinstance(value, list | tuple | dict) and self.claim in value)


@dataclass(frozen=True, slots=True)
class AwsSts:
    """Temporary credentials of a role for the caller's token, and requests signed with them (Signature Version 4).

    ``listing`` is a web identity token of vmcp's own (a cluster puts one into a file): with it, it takes the role ``fallback``.
    """

    region: str
    service: str = SERVICE
    fallback: str | None = None
    mappings: tuple[RoleMapping, ...] = ()
    role_claim: str = "groups"
    duration: int = 3600
    session_claim: str = "sub"
    sts_url: str = ""
    listing: Text | None = None

    def role(self, claims: Mapping[str, Any]) -> str | None:
        """The role of a caller with ``claims``; None: there is none for him."""
        fitting = (each.role for each in self.mappings if each.fits(claims, self.role_claim))
        return next(fitting, self.fallback)


def from_data(block: Data, listing: Text | None) -> AwsSts:
    """The strategy of an ``awsSts`` block that passed the checks."""
    region, duration = block["region"], block.get("sessionDuration", 3600)
    mappings = sorted(map(_mapping, block.get("roleMappings", ())), key=lambda each: each.priority)
    return AwsSts(
        region=region,
        service=block.get("service", SERVICE),
        fallback=block.get("fallbackRoleArn"),
        mappings=tuple(mappings),
        role_claim=block.get("roleClaim", "groups"),
        duration=int(seconds(duration) if isinstance(duration, str) else duration),
        session_claim=block.get("sessionNameClaim", "sub"),
        sts_url=block.get("stsUrl") or sts_url(region),
        listing=listing,
    )


def _mapping(data: Data) -> RoleMapping:
    matcher = compiled(data["matcher"], ROOTS) if "matcher" in data else None
    return RoleMapping(data["roleArn"], data.get("claim"), matcher, data.get("priority", 0))


def sts_url(region: str) -> str:
    """The regional endpoint of the token service."""
    return f"https://sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}/"
