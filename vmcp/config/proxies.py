"""``server.trustedProxies``: networks whose word on where a request came from is taken.

The rule: a network is written as one; an address alone is a network of one address.
"""

import ipaddress
from collections.abc import Iterator

from vmcp.config.rules import Rule
from vmcp.config.tree import Document
from vmcp.errors import Problem


def checks(document: Document) -> Iterator[Problem]:
    """A problem for each entry that is no network, or everybody's."""
    for number, text in enumerate(document.data.get("server", {}).get("trustedProxies", ())):
        path = ("server", "trustedProxies", number)
        wrong = _wrong(text) if text is not None else None
        if wrong is not None:
            yield document.problem(Rule.BAD_VALUE, path, wrong, "write for example 10.0.0.0/8 or 192.0.2.7")


def _wrong(text: str) -> str | None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return "must be a network or an address"
    if network.prefixlen == 0:
        return "is every address there is: then any client could say where it comes from"
    return None
