"""A document that has passed every check → ``Config``. The rule: no decision about right and wrong is taken here."""

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from vmcp.config import (
    administration,
    audit,
    authz,
    balancing,
    cache,
    health,
    incoming,
    limits,
    lock,
    oauth,
    outgoing,
    overrides,
    personas,
    processes,
    steering,
    telemetry,
    timeouts,
    toolhive,
    usage,
)
from vmcp.config.backends import is_remote, isolation_of, strategies, transport_of
from vmcp.config.model import (
    Aggregation,
    Allow,
    BackendSpec,
    Concealed,
    Config,
    Group,
    Limits,
    Paths,
    PoolSpec,
    SecretRef,
    Selection,
    ServerSpec,
    Text,
    TlsSpec,
)
from vmcp.config.quantities import seconds, size
from vmcp.config.schema import camel
from vmcp.config.toolhive import Entry
from vmcp.config.tree import Document, Path

Data = Mapping[str, Any]
Resolve = Callable[[Path, str], str]


def config(document: Document, resolve: Resolve) -> Config:
    """The configuration of a document; ``resolve`` makes the file path at a place absolute."""
    data = document.data
    groups = _groups(data, resolve)
    operational: Data = data.get("operational", {})
    optional: dict[str, Any] = {}
    if "logLevel" in operational:
        optional["log_level"] = operational["logLevel"]
    for key, name in {"partialFailureMode": "partial_failure", "readiness": "readiness"}.items():
        if key in operational.get("failureHandling", {}):
            optional[name] = operational["failureHandling"][key]
    return Config(
        name=data["name"],
        groups=groups,
        group_ref=data.get("groupRef") or (next(iter(groups)) if len(groups) == 1 else None),
        aggregation=_aggregation(data.get("aggregation", {})),
        server=_server(data.get("server", {})),
        digest=hashlib.sha256(msgspec.json.encode(data)).hexdigest(),
        incoming=incoming.from_data(
            data.get("incomingAuth", {}),
            lambda place, value: resolve(("incomingAuth", *place), value),
            lambda place, value: _text(value, ("incomingAuth", *place), resolve),
        ),
        authz=authz.from_data(data.get("incomingAuth", {}).get("authz", {})),
        audit=audit.from_data(
            data.get("audit"),
            lambda value: resolve(("audit", "logFile"), value),
            lambda value: _text(value, ("audit", "key"), resolve),
        ),
        personas=personas.from_data(data.get("personas", {})),
        rate_limits=limits.rate_limits(data.get("rateLimiting")),
        routing=steering.from_data(data.get("routing", ())),
        cache=cache.from_data(data.get("cache"), lambda value: resolve(("cache", "disk", "path"), value)),
        state=_state(data, resolve),
        lock=lock.from_data(data.get("lock", {}), lambda value: resolve(("lock", "file"), value)),
        admin=administration.from_data(data.get("admin", {}), lambda key, value: resolve(("admin", key), value)),
        telemetry=telemetry.from_data(
            data.get("telemetry"),
            lambda value: resolve(("telemetry", "caCertPath"), value),
            lambda name, value: _text(value, ("telemetry", "headers", name), resolve),
        ),
        usage=usage.from_data(data.get("telemetry", {}).get("usage", {})),
        metadata=MappingProxyType(dict(data.get("metadata", {}))),
        **optional,
    )


def _groups(data: Data, resolve: Resolve) -> Mapping[str, Group]:
    found: dict[str, dict[str, BackendSpec]] = {name: {} for name in toolhive.group_names(data)}
    for entry in toolhive.entries(data):
        if entry.settings.get("enabled", True):
            found[entry.group][entry.name] = _backend(entry, data, resolve)
    bodies: Data = data.get("groups", {})
    return MappingProxyType(
        {
            name: Group(name, MappingProxyType(backends), bodies.get(name, {}).get("description", ""))
            for name, backends in found.items()
        }
    )


def _backend(entry: Entry, data: Data, resolve: Resolve) -> BackendSpec:
    settings, path = entry.settings, entry.path
    remote = is_remote(settings)
    failures: Data = data.get("operational", {}).get("failureHandling", {})
    return BackendSpec(
        name=entry.name,
        group=entry.group,
        transport=transport_of(settings),
        url=settings.get("url"),
        command=tuple(settings.get("command", ())),
        env=_texts(settings.get("env", {}), (*path, "env"), resolve),
        cwd=resolve((*path, "cwd"), settings["cwd"]) if "cwd" in settings else None,
        protocol=settings.get("protocol", "auto"),
        guessed="transport" not in settings,
        isolation=isolation_of(settings),
        allow=_allow(settings.get("allow", {})),
        required=settings.get("required", False),
        headers=_headers(entry, data, resolve) if remote else MappingProxyType({}),
        auth=_auth(entry, data, resolve) if remote else None,
        tls=_tls(entry, resolve),
        timeouts=_timeouts(entry, data),
        retry=settings.get("retry", "reads"),
        pool=PoolSpec(**_values(settings.get("pool", {}))),
        concurrency=limits.concurrency(settings.get("concurrency")),
        process=processes.from_data(settings),
        endpoints=balancing.endpoints(settings.get("endpoints", ())),
        balancing=balancing.balancing(settings.get("loadBalancing", {})),
        health=health.health(failures),
        breaker=health.breaker(failures),
        tags=tuple(settings.get("tags", ())),
        metadata=MappingProxyType(dict(settings.get("metadata", {}))),
    )


def _allow(data: Data) -> Allow:
    """``elicitation: true`` means both of its modes, false neither."""
    asked = data.get("elicitation", {})
    modes = asked if isinstance(asked, dict) else {"form": asked, "url": asked}
    plain = {key: data[key] for key in ("sampling", "roots", "logging") if key in data}
    return Allow(**plain, **modes)


def _texts(values: Data, path: Path, resolve: Resolve) -> Mapping[str, Text]:
    return MappingProxyType({name: _text(value, (*path, name), resolve) for name, value in values.items()})


def _text(value: Any, path: Path, resolve: Resolve) -> Text:
    if isinstance(value, str):
        return Concealed(value)
    if "env" in value:
        return SecretRef(env=value["env"])
    return SecretRef(file=resolve((*path, "file"), value["file"]))


def _strategy(entry: Entry, data: Data) -> tuple[Path, Data]:
    """The strategy that counts for a backend: its own, the one by its name, the default."""
    default: tuple[Path, Data] = ("outgoingAuth", "default"), data.get("outgoingAuth", {}).get("default", {})
    return next(strategies(data, entry), default)


def _headers(entry: Entry, data: Data, resolve: Resolve) -> Mapping[str, Text]:
    """The backend's own headers and, where its strategy is a plain header, that one."""
    headers = dict(_texts(entry.settings.get("headers", {}), (*entry.path, "headers"), resolve))
    path, strategy = _strategy(entry, data)
    found = outgoing.header(strategy, lambda below, value: _text(value, (*path, *below), resolve))
    if found is not None and found[0].lower() not in {name.lower() for name in headers}:
        headers[found[0]] = found[1]
    return MappingProxyType(headers)


def _auth(entry: Entry, data: Data, resolve: Resolve) -> outgoing.Auth | None:
    """Its strategy, if that is more than a header; an Authorization of its own counts more than the default's."""
    path, strategy = _strategy(entry, data)
    if "authorization" in {name.lower() for name in entry.settings.get("headers", {})}:
        return None
    found = outgoing.from_data(strategy, lambda below, value: _text(value, (*path, *below), resolve))
    if not isinstance(found, oauth.OAuth):
        return found
    return oauth.placed(found, data.get("server", {}), _state(data, resolve))


def _state(data: Data, resolve: Resolve) -> oauth.StateSpec:
    state: Data = data.get("state", {})
    places: Mapping[str, tuple[Path, str]] = {
        "directory": (("state", "directory"), state.get("directory", "")),
        "keys": (("state", "keys", "file"), state.get("keys", {}).get("file", "")),
    }
    return oauth.state(state, lambda place: resolve(*places[place]))


def _tls(entry: Entry, resolve: Resolve) -> TlsSpec:
    tls: Data = entry.settings.get("tls", {})
    bundle = toolhive.ca_bundle(entry.settings)

    def file(key: str) -> str | None:
        return resolve((*entry.path, "tls", key), tls[key]) if key in tls else None

    return TlsSpec(
        ca_bundle=resolve((*entry.path, *bundle[0]), bundle[1]) if bundle else None,
        client_cert=file("clientCertPath"),
        client_key=file("clientKeyPath"),
    )


def _timeouts(entry: Entry, data: Data) -> timeouts.Timeouts:
    """The backend's own; what it does not set from operational.timeouts."""
    common: Data = data.get("operational", {}).get("timeouts", {})
    own: Data = entry.settings.get("timeouts", {})
    return timeouts.from_data(entry.name, own, common, transport_of(entry.settings))


def _aggregation(data: Data) -> Aggregation:
    given: dict[str, Any] = {}
    names = {
        "conflictResolution": "strategy",
        "excludeAllTools": "exclude_all_tools",
        "maxNameLength": "max_name_length",
    }
    names["defaultToolVisibility"] = "default_tool_visibility"
    for key, name in names.items():
        if key in data:
            given[name] = data[key]
    config: Data = data.get("conflictResolutionConfig", {})
    if "prefixFormat" in config:
        given["prefix_format"] = config["prefixFormat"]
    return Aggregation(
        priority_order=tuple(config.get("priorityOrder", ())),
        tools=_selections(data.get("tools", ())),
        prompts=_selections(data.get("prompts", ())),
        resources=_selections(data.get("resources", ())),
        **given,
    )


def _selections(entries: Any) -> Mapping[str, Selection]:
    return MappingProxyType({entry["workload"]: _selection(entry) for entry in entries})


def _selection(entry: Data) -> Selection:
    return Selection(
        filter=tuple(entry["filter"]) if "filter" in entry else None,
        exclude=tuple(entry.get("exclude", ())),
        match_on=entry.get("matchOn", "original"),
        exclude_all=entry.get("excludeAll", False),
        read_only_only=entry.get("readOnlyOnly", False),
        overrides=overrides.from_data(entry.get("overrides", {})),
    )


def _server(data: Data) -> ServerSpec:
    given = {name: data[key] for key, name in _SERVER.items() if key in data}
    return ServerSpec(
        port=int(data.get("port", ServerSpec().port)),
        workers=int(data.get("workers", 1)),
        allowed_hosts=tuple(data.get("allowedHosts", ())),
        allowed_origins=tuple(data.get("allowedOrigins", ())),
        trusted_proxies=tuple(data.get("trustedProxies", ())),
        paths=Paths(**{key: path for key, path in data.get("paths", {}).items() if key != "mcp"}),
        limits=Limits(**_values(data.get("limits", {}))),
        **given,
    )


_SERVER = {"host": "host", "publicUrl": "public_url", "allowAnonymousNetwork": "allow_anonymous_network"}
_BYTES = frozenset({"body_bytes", "in_flight_body_bytes", "header_bytes", "response_bytes", "list_bytes"})
_BYTES |= {"uri_bytes", "body_rate", "unread_bytes", "memory_bytes"}
_NAMES = {camel(name): name for kind in (Limits, PoolSpec) for name in kind.__dataclass_fields__}


def _values(data: Data) -> dict[str, Any]:
    """Durations, sizes and counts under the names of the model; what the model has not is refused before or harmless."""
    return {_NAMES[key]: _value(_NAMES[key], value) for key, value in data.items() if key in _NAMES}


def _value(name: str, value: Any) -> float | int:
    if name in _BYTES:
        return size(value)
    return seconds(value) if isinstance(value, str) else int(value)
