"""What a schema cannot say about outgoing strategies: blocks without effect, token endpoints, and what acts for each user.

The rule: a credential that would go to nobody, to everybody, or over the network in the clear is told before anything starts;
what acts for each user needs to know who that is, and a way to the backend that users do not share.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vmcp.config import backends, checks_aws, checks_oauth, oauth
from vmcp.config.outgoing import BLOCKS, PER_USER_TYPES
from vmcp.config.rules import Rule
from vmcp.config.toolhive import Entry
from vmcp.config.tree import Document, Path
from vmcp.config.urls import is_loopback, scheme, split, url_wrong
from vmcp.errors import Problem

Data = Mapping[str, Any]

_ENDPOINTS = (
    ("tokenExchange", "tokenUrl"),
    ("serviceAccount", "tokenUrl"),
    ("xaa", "idpTokenUrl"),
    ("xaa", "targetTokenUrl"),
    ("obo", "tokenUrl"),
    ("awsSts", "stsUrl"),
)
_CLIENTS = (
    ("tokenExchange", "client"),
    ("serviceAccount", "client"),
    ("xaa", "idpClient"),
    ("xaa", "targetClient"),
    ("oauth", "client"),
    ("obo", "client"),
)
_SECRETS = (
    ("basic", "password"),
    ("bearer", "token"),
    ("apiKey", "key"),
    *((block, f"{prefix}Secret") for block, prefix in _CLIENTS),
)


def places(data: Data, entries: tuple[Entry, ...]) -> Iterator[tuple[Path, Data]]:
    """Every strategy of the file."""
    outgoing = data.get("outgoingAuth", {})
    if "default" in outgoing:
        yield ("outgoingAuth", "default"), outgoing["default"]
    for name, strategy in outgoing.get("backends", {}).items():
        yield ("outgoingAuth", "backends", name), strategy
    for entry in entries:
        if "auth" in entry.settings:
            yield (*entry.path, "auth"), entry.settings["auth"]


def strategy_checks(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    """What is wrong with a strategy of itself, wherever it stands."""
    yield from backends.injection(document, path, strategy)
    yield from _blocks(document, path, strategy)
    yield from _endpoints(document, path, strategy)
    yield from _clients(document, path, strategy)
    yield from _values(document, path, strategy)
    if strategy.get("type") == "aws_sts":
        yield from checks_aws.checks(document, path, strategy)
    if strategy.get("type") == "obo":
        yield from _on_behalf(document, (*path, "obo"), strategy.get("obo", {}))
    if strategy.get("type") == "oauth":
        yield from checks_oauth.checks(document, path, strategy)
    if strategy.get("type") in PER_USER_TYPES:
        yield from _caller(document, path, strategy)
    elif oauth.is_per_user(strategy):
        yield from _anybody(document, path)


def _blocks(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    kind = strategy.get("type")
    for type_, block in BLOCKS.items():
        if block in strategy and kind is not None and type_ != kind and block != "headerInjection":
            what = f"has no effect with type '{kind}'"
            yield document.problem(
                Rule.MISPLACED_KEY, (*path, block), what, f"write type: {type_}, or remove it", key=True
            )
    if "listingToken" in strategy and kind is not None and kind not in {*PER_USER_TYPES, "oauth"}:
        what = f"has no effect with type '{kind}'"
        hint = "vmcp lists the backend with the credential that it has"
        yield document.problem(Rule.MISPLACED_KEY, (*path, "listingToken"), what, hint, key=True)


def _endpoints(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    for block, key in _ENDPOINTS:
        url = strategy.get(block, {}).get(key)
        if url is None:
            continue
        at: Path = (*path, block, key)
        parts = split(url)
        wrong = url_wrong(url)
        if wrong is not None:
            yield document.problem(Rule.BAD_URL, at, wrong, "write for example https://idp.example.com/token")
        elif parts is not None and scheme(url) == "http" and not is_loopback(parts.hostname or ""):
            target = key == "targetTokenUrl"
            if target and strategy[block].get("insecureTargetTokenUrl"):
                continue
            what, hint = "tokens and secrets would go over the network without TLS", "use https://"
            hint += ", or write insecureTargetTokenUrl: true" if target else ""
            yield document.problem(Rule.PLAIN_HTTP, at, what, hint, severity="error" if target else "warning")


def _clients(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    for block, prefix in _CLIENTS:
        data = strategy.get(block, {})
        given = [key for key in (f"{prefix}Secret", f"{prefix}SecretEnv") if key in data]
        if len(given) == 2:
            what = f"{given[0]} and {given[1]} exclude each other"
            yield document.problem(Rule.CONTRADICTION, (*path, block, given[1]), what, "remove one of them", key=True)
        named = f"{prefix}Id" in data or (*path, block, f"{prefix}Id") in document.broken
        if given and not named and block != "serviceAccount":  # the schema wants the id there
            what = f"needs {prefix}Id beside it"
            yield document.problem(Rule.MISSING_KEY, (*path, block, given[0]), what, f"add {prefix}Id", key=True)
        if block == "serviceAccount" and data and not given and not _broken(document, (*path, block), prefix):
            what = "missing key 'clientSecret' or 'clientSecretEnv'"
            yield document.problem(Rule.MISSING_KEY, (*path, block), what, "add clientSecretEnv: NAME", key=True)


def _broken(document: Document, path: Path, prefix: str) -> bool:
    return any((*path, f"{prefix}{key}") in document.broken for key in ("Secret", "SecretEnv"))


def _values(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    for block, key in (*_SECRETS, ("", "listingToken")):
        data, at = (strategy.get(block, {}), (*path, block, key)) if block else (strategy, (*path, key))
        if key in data:
            yield from backends.literal(document, at, "token", data[key])
    if ":" in (strategy.get("basic", {}).get("username") or ""):
        what = "must not contain a colon (RFC 7617)"
        yield document.problem(Rule.BAD_VALUE, (*path, "basic", "username"), what)
    name = strategy.get("apiKey", {}).get("headerName")
    wrong = backends.header_wrong(name) if name is not None else None
    if wrong is not None:
        yield document.problem(Rule.BAD_HEADER, (*path, "apiKey", "headerName"), wrong, "use another header")


def _on_behalf(document: Document, path: Path, block: Data) -> Iterator[Problem]:
    """Entra lets only a known client act for somebody, and only where it is told for what."""
    unread = document.broken & {(*path, "audience"), (*path, "scopes")}
    if block and not ({"audience", "scopes"} & block.keys() or unread):
        hint = "add audience: api://BACKEND, or scopes: [api://BACKEND/.default]"
        yield document.problem(Rule.MISSING_KEY, path, "missing key 'audience' or 'scopes'", hint, key=True)
    if block and not ({"clientSecret", "clientSecretEnv"} & block.keys() or _broken(document, path, "client")):
        hint = "add clientId: ID and clientSecretEnv: NAME"
        what = "missing key 'clientSecret' or 'clientSecretEnv'"
        yield document.problem(Rule.MISSING_KEY, path, what, hint, key=True)


def _caller(document: Document, path: Path, strategy: Data) -> Iterator[Problem]:
    """What acts for each user needs the user's token."""
    kind, at = strategy["type"], (*path, "type")
    if kind == "pass_through" and path == ("outgoingAuth", "default"):
        what = "cannot be the default: it shows the callers' own tokens to whatever backend comes"
        yield document.problem(Rule.CONTRADICTION, at, what, "write it at the backends that may see them")
    if document.broken & {("incomingAuth",), ("incomingAuth", "type")}:
        return
    incoming = document.data.get("incomingAuth", {}).get("type", "anonymous")
    if incoming != "oidc":  # a local key is vmcp's own and goes nowhere
        what = f"needs the callers' tokens, and incomingAuth is {incoming}"
        yield document.problem(Rule.CONTRADICTION, at, what, "use incomingAuth.type: oidc, or another strategy")


def _anybody(document: Document, path: Path) -> Iterator[Problem]:
    """What has a token for each user needs to know who that is."""
    if document.broken & {("incomingAuth",), ("incomingAuth", "type")}:
        return
    if document.data.get("incomingAuth", {}).get("type", "anonymous") == "anonymous":
        what = "keeps a token for each user, and incomingAuth is anonymous"
        hint = "use incomingAuth: {type: local} or oidc, or oauth: {mode: gateway}"
        yield document.problem(Rule.CONTRADICTION, (*path, "type"), what, hint)


# --- one backend and the strategy that counts for it


def entry_checks(document: Document, entry: Entry) -> Iterator[Problem]:
    """What a strategy cannot be for this very backend."""
    named = list(backends.strategies(document.data, entry))
    remote = backends.is_remote(entry.settings)
    for path, strategy in named:
        kind = strategy.get("type", "unauthenticated")
        if not remote and kind not in ("unauthenticated", "header_injection"):
            what = "a child process takes no headers"
            yield document.problem(Rule.MISPLACED_KEY, (*path, "type"), what, "give it the secret in env")
        elif remote:
            yield from _same_header(document, entry, path, strategy)
    default = document.data.get("outgoingAuth", {}).get("default", {})
    counting = named[0][1] if named else default
    kind = str(counting.get("type"))
    if remote and (kind in PER_USER_TYPES or oauth.is_per_user(counting)):
        yield from _per_user(document, entry, kind)


def _same_header(document: Document, entry: Entry, path: Path, strategy: Data) -> Iterator[Problem]:
    kind = strategy.get("type", "unauthenticated")
    if kind in ("unauthenticated", "header_injection"):
        return
    name = strategy.get("apiKey", {}).get("headerName", "x-api-key") if kind == "api_key" else "authorization"
    if name.lower() in _header_names(entry):
        what = f"sets {name}, which is in headers of this backend too"
        yield document.problem(Rule.CONTRADICTION, (*path, "type"), what, "keep one of them")


def _per_user(document: Document, entry: Entry, kind: str) -> Iterator[Problem]:
    settings, path = entry.settings, entry.path
    if settings.get("isolation") == "shared":
        what = f"would let users act in each other's session: {kind} acts for each user"
        yield document.problem(Rule.CONTRADICTION, (*path, "isolation"), what, "write isolation: session, or identity")
    if backends.transport_of(settings) != "streamable-http":
        key = "transport" if "transport" in settings else "url"
        what = f"cannot carry a credential for each request, and {kind} acts for each user"
        yield document.problem(Rule.CONTRADICTION, (*path, key), what, "use streamable-http")
    default_counts = not list(backends.strategies(document.data, entry))
    if default_counts and "authorization" in _header_names(entry):
        what = f"sets authorization, which outgoingAuth.default ({kind}) sets too"
        at: Path = (*path, "headers")
        yield document.problem(Rule.CONTRADICTION, at, what, "give this backend an auth of its own", key=True)


def _header_names(entry: Entry) -> set[str]:
    return {name.lower() for name in entry.settings.get("headers", {})}
