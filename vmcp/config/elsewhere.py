"""What ToolHive's embedded authorization server does, which vmcp is not: it keeps tokens of upstream providers for its users.

The rule: whoever brings such a configuration is told what takes its place here, and nothing of it is ignored.
"""

from collections.abc import Iterator
from typing import Final

from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.config.unbuilt import STRATEGIES, places
from vmcp.errors import Problem

_WHAT: Final = "needs ToolHive's embedded authorization server, and vmcp is none"
_OWN: Final = "remove it: the token that is exchanged is the caller's own, of the provider in incomingAuth"
_KEPT: Final = "use type: oauth, with which vmcp asks each user for his consent and keeps his token of that provider"
_CLAIMS: Final = (
    "remove it: policies read the claims of the caller's token; make the provider the issuer in incomingAuth"
)

TABLE: Final = (
    ("incomingAuth.authz.primaryUpstreamProvider", _CLAIMS),
    *(
        (f"{at}{key}", hint)
        for at in STRATEGIES
        for key, hint in (
            ("upstreamInject", _KEPT),
            ("tokenExchange.subjectProviderName", _OWN),
            ("xaa.subjectProviderName", _OWN),
            ("awsSts.subjectProviderName", _OWN),
            ("obo.subjectTokenProviderName", _OWN),
        )
    ),
)
"""Places, and what to do instead."""


def elsewhere(document: Document) -> Iterator[Problem]:
    """A problem for each place that counts on that server."""
    for place, hint in TABLE:
        for path, _ in places(document.data, tuple(place.split("."))):
            yield _problem(document, path, hint, key=True)
    for at in STRATEGIES:
        for path, kind in places(document.data, (*at.split(".")[:-1], "type")):
            if kind == "upstream_inject":
                yield _problem(document, path, _KEPT, key=False)


def _problem(document: Document, path: Path, hint: str, *, key: bool) -> Problem:
    return document.problem(Rule.NOT_OURS, path, _WHAT, hint, key=key)
