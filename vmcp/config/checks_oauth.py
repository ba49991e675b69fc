"""What a schema cannot say about ``type: oauth``: who the client is, where browsers come back to, and where tokens are kept.

The rule: what could not work for anybody is told before anybody is sent to a login page in vain.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vmcp.config.oauth import CALLBACK, base_of, is_per_user
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.config.urls import is_loopback, scheme, split, url_wrong
from vmcp.errors import Problem

Data = Mapping[str, Any]


def checks(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    """What is wrong with a strategy of this type."""
    data: Data = strategy.get("oauth", {})
    yield from _client(document, path, data)
    yield from _urls(document, path, data)
    if document.broken & {("server",), ("server", "publicUrl"), ("server", "host")}:
        return
    if is_per_user(strategy):
        yield from _pages(document, path, data)
    else:
        yield from _gateway(document, path, strategy)


def _client(document: Document, path: Path, data: Data) -> Iterator[Problem]:
    registration = data.get("registration", "auto")
    at: Path = (*path, "oauth")
    if registration == "fixed" and "clientId" not in data and (*at, "clientId") not in document.broken:
        what = "fixed needs the clientId that the authorization server gave"
        yield document.problem(Rule.MISSING_KEY, (*at, "registration"), what, "add clientId: …")
    if registration in ("dynamic", "metadataDocument") and "clientId" in data:
        what = f"has no effect with registration '{registration}'"
        yield document.problem(Rule.MISPLACED_KEY, (*at, "clientId"), what, "write registration: fixed", key=True)
    if registration == "metadataDocument" and scheme(base_of(document.data.get("server", {}))) != "https":
        what = "the authorization server would have to read the document at a server.publicUrl with https"
        yield document.problem(Rule.CONTRADICTION, (*at, "registration"), what, "add server.publicUrl: https://…")


def _urls(document: Document, path: Path, data: Data) -> Iterator[Problem]:
    for key in ("issuer", "redirectUrl"):
        url = data.get(key)
        if url is None:
            continue
        at: Path = (*path, "oauth", key)
        wrong = url_wrong(url, query=False)
        if wrong is None and scheme(url) == "http" and not _local(url):
            wrong = "has no TLS, and codes and tokens would go over it"
        if wrong is None and key == "redirectUrl" and not url.endswith(CALLBACK):
            wrong = f"must end with {CALLBACK}, where vmcp takes browsers back"
        if wrong is not None:
            yield document.problem(Rule.BAD_URL, at, wrong, f"write for example {_EXAMPLES[key]}")


_EXAMPLES = {"issuer": "https://idp.example.com", "redirectUrl": f"https://gw.example.com{CALLBACK}"}


def _pages(document: Document, path: Path, data: Data) -> Iterator[Problem]:
    base = base_of(document.data.get("server", {}))
    at: Path = (*path, "type")
    if not base:
        what = "users could not come back from the login: nobody knows where vmcp is reached"
        yield document.problem(Rule.MISSING_KEY, at, what, "add server.publicUrl: https://…")
    elif scheme(base) == "http" and not _local(base) and "redirectUrl" not in data:
        what = "users would come back from the login without TLS: server.publicUrl is http"
        yield document.problem(Rule.PLAIN_HTTP, at, what, "use https:// there")
    if document.data.get("server", {}).get("workers", 1) != 1 and _in_memory(document):
        what = "of several workers only one would know a login: tokens are kept in memory"
        yield document.problem(Rule.MISSING_KEY, at, what, "add state: {directory: …}")


def _in_memory(document: Document) -> bool:
    state: Data = document.data.get("state", {})
    return "directory" not in state and not document.broken & {("state",), ("state", "directory")}


def _gateway(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    at: Path = (*path, "oauth", "mode")
    if "listingToken" in strategy:
        what, hint = "has no effect with mode 'gateway'", "vmcp lists the backend with the credential that it has"
        yield document.problem(Rule.MISPLACED_KEY, (*path, "listingToken"), what, hint, key=True)
    if _in_memory(document):
        what = "gateway needs a folder where the token of 'vmcp auth login' is kept"
        yield document.problem(Rule.MISSING_KEY, at, what, "add state: {directory: …}")


def _local(url: str) -> bool:
    parts = split(url)
    return parts is not None and is_loopback(parts.hostname or "")
