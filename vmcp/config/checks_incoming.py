"""What a schema cannot say about who may come in.

The rule: a setting that would let in more people than it seems to is an error, and so is one that would have no effect.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from vmcp.config.quantities import seconds
from vmcp.config.rules import Rule
from vmcp.config.tree import Document, Path
from vmcp.config.urls import is_loopback, scheme, url_wrong
from vmcp.errors import Problem

Data = Mapping[str, Any]

_BLOCKS = {"oidc": "oidc", "issuers": "oidc", "local": "local"}
_URLS = ("issuer", "jwksUrl", "introspectionUrl")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_OURS = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat"})
LEEWAY = 60.0


def checks(document: Document) -> Iterator[Problem]:
    """Every problem of ``incomingAuth`` but those of authorization."""
    incoming = document.data.get("incomingAuth", {})
    kind = incoming.get("type", "anonymous")
    for block, needed in _BLOCKS.items():
        if block in incoming and kind != needed and ("incomingAuth", "type") not in document.broken:
            what = f"has no effect with type '{kind}'"
            hint = f"write type: {needed}, or remove it"
            yield document.problem(Rule.MISPLACED_KEY, ("incomingAuth", block), what, hint, key=True)
    yield from _issuers(document, incoming)
    yield from _local(document, incoming, kind)


def issuers(incoming: Data) -> Iterator[tuple[Path, Data]]:
    """Every issuer of the file, and its place."""
    if incoming.get("oidc") is not None:
        yield ("incomingAuth", "oidc"), incoming["oidc"]
    for number, each in enumerate(incoming.get("issuers", ())):
        if each is not None:
            yield ("incomingAuth", "issuers", number), each


def _issuers(document: Document, incoming: Data) -> Iterator[Problem]:
    names: set[str] = set()
    asking = False
    for path, data in issuers(incoming):
        name = data.get("issuer")
        if name in names:
            what, hint = "is the name of another issuer of this file too", "remove one of them"
            yield document.problem(Rule.DUPLICATE_NAME, (*path, "issuer"), what, hint)
        names |= {name} if name is not None else set()
        if "introspectionUrl" in data and asking:
            what = "only one issuer can be asked about opaque tokens: they do not tell whose they are"
            yield document.problem(Rule.CONTRADICTION, (*path, "introspectionUrl"), what, "remove one", key=True)
        asking = asking or "introspectionUrl" in data
        yield from _urls(document, path, data)
        yield from _client(document, path, data)
        if isinstance(data.get("leeway"), str) and seconds(data["leeway"]) > LEEWAY:
            yield document.problem(Rule.BAD_VALUE, (*path, "leeway"), "must be at most a minute", "set the clocks")


def _urls(document: Document, path: Path, data: Data) -> Iterator[Problem]:
    for key in _URLS:
        url = data.get(key)
        if url is None:
            continue
        wrong = url_wrong(url, query=key != "issuer")
        if wrong is not None:
            yield document.problem(Rule.BAD_URL, (*path, key), wrong, "write for example https://idp.example.com")
        elif scheme(url) == "http" and not data.get("insecureAllowHttp"):
            what = "has no TLS: anybody on the way could make up keys and tokens"
            yield document.problem(
                Rule.PLAIN_HTTP, (*path, key), what, "use https://, or write insecureAllowHttp: true"
            )


def _client(document: Document, path: Path, data: Data) -> Iterator[Problem]:
    given = [key for key in ("clientSecret", "clientSecretEnv") if key in data]
    if len(given) == 2:
        what = "clientSecret and clientSecretEnv exclude each other"
        yield document.problem(Rule.CONTRADICTION, (*path, given[1]), what, "remove one of them", key=True)
    if given and "clientId" not in data and (*path, "clientId") not in document.broken:
        yield document.problem(
            Rule.MISSING_KEY, (*path, given[0]), "needs clientId beside it", "add clientId", key=True
        )


def _local(document: Document, incoming: Data, kind: str) -> Iterator[Problem]:
    local = incoming.get("local")
    at: Path = ("incomingAuth", "local")
    if kind != "local" or at in document.broken:
        return
    unread = document.broken & {(*at, "keys"), (*at, "osUser")}
    if local is not None and not local.get("keys") and not local.get("osUser") and not unread:
        yield document.problem(Rule.MISSING_KEY, at, "nobody could come in", "add keys, or osUser: true", key=True)
    if local is None or local.get("osUser"):
        path: Path = (*at, "osUser") if local is not None else ("incomingAuth", "type")
        yield from _os_user(document, path)
    seen: set[str] = set()
    for number, key in enumerate((local or {}).get("keys", ())):
        if key is not None:
            yield from _key(document, (*at, "keys", number), key, seen)


def _os_user(document: Document, path: Path) -> Iterator[Problem]:
    """On loopback there must be nobody who speaks for others."""
    server = document.data.get("server", {})
    why = None
    if not is_loopback(server.get("host", "127.0.0.1")):
        why = "server.host is reachable from the network"
    elif server.get("publicUrl") or server.get("trustedProxies"):
        why = "a proxy stands before it (server.publicUrl, server.trustedProxies)"
    if why is not None:
        what = f"everybody would be the user that runs vmcp: {why}"
        hint = "use local.keys without osUser, or oidc"
        yield document.problem(Rule.CONTRADICTION, path, what, hint, key=True)


def _key(document: Document, path: Path, key: Data, seen: set[str]) -> Iterator[Problem]:
    said = key.get("sha256")
    if isinstance(said, str):
        if not _HASH.fullmatch(said):
            what, hint = "must be 64 hexadecimal digits", 'take those of: printf %s "$KEY" | sha256sum'
            yield document.problem(Rule.BAD_VALUE, (*path, "sha256"), what, hint)
        elif said.lower() in seen:
            yield document.problem(
                Rule.DUPLICATE_NAME, (*path, "sha256"), "is another client's key too", "make one each"
            )
        seen.add(said.lower())
    for claim in key.get("claims", {}):
        if claim in _OURS:
            what = "is set by vmcp"
            yield document.problem(Rule.RESERVED_NAME, (*path, "claims", claim), what, "choose another name", key=True)
