"""The configuration as values. What is not here is not configurable.

Durations are seconds, sizes bytes, mappings keep the order of the file. A ``SecretRef`` is resolved when a backend comes
alive, never here, so that ``validate`` needs no secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from vmcp.config.administration import AdminSpec
from vmcp.config.audit import AuditSpec
from vmcp.config.authz import Authz
from vmcp.config.balancing import Balancing, EndpointSpec
from vmcp.config.cache import CacheSpec
from vmcp.config.health import BreakerSpec, HealthSpec, Readiness
from vmcp.config.incoming import Incoming
from vmcp.config.limits import Concurrency, RateLimits
from vmcp.config.lock import LockSpec
from vmcp.config.oauth import StateSpec
from vmcp.config.outgoing import Auth
from vmcp.config.overrides import ArgumentOverride, Override
from vmcp.config.personas import Persona
from vmcp.config.processes import ProcessSpec
from vmcp.config.steering import RoutingRule
from vmcp.config.telemetry import TelemetrySpec
from vmcp.config.timeouts import Timeouts
from vmcp.config.usage import UsageSpec
from vmcp.config.values import Concealed, SecretRef, Text

__all__ = ["ArgumentOverride", "Concealed", "Override", "SecretRef", "Text", "Timeouts"]  # besides what is defined here

Strategy = Literal["prefix", "priority", "manual"]
Transport = Literal["stdio", "streamable-http", "sse", "websocket"]
Isolation = Literal["shared", "session", "identity", "request"]
MatchOn = Literal["original", "advertised"]
Retry = Literal["reads", "idempotent"]
"""What may be sent again after it was lost: lists and reads alone, or tools too that are annotated as idempotent."""

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Connections kept to one HTTP backend; times in seconds.

    ``retry_attempts``: so often a connection that did not come about, or what may run twice, is tried again, after
    ``retry_delay`` and twice as long each time.
    """

    max_size: int = 64
    idle_timeout: float = 300.0
    acquire_timeout: float = 5.0
    min_size: int = 0
    validation_interval: float = 60.0
    retry_attempts: int = 3
    retry_delay: float = 0.1


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """Files for TLS towards a backend."""

    ca_bundle: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


@dataclass(frozen=True, slots=True)
class Allow:
    """What a backend may ask of clients, and whether its log messages go to them."""

    sampling: bool = False
    form: bool = True
    url: bool = False
    roots: bool = False
    logging: bool = True


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One MCP server. ``protocol`` is "auto" or a revision. ``isolation`` says who shares a session with it.

    ``guessed``: the file names no transport, so the server behind a ``url`` may turn out to speak the older HTTP+SSE.
    ``endpoints``: the replicas, in place of a ``url``.
    """

    name: str
    group: str
    transport: Transport
    url: str | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, Text] = field(default_factory=lambda: MappingProxyType({}))
    cwd: str | None = None
    protocol: str = "auto"
    guessed: bool = False
    isolation: Isolation = "shared"
    allow: Allow = Allow()
    required: bool = False
    headers: Mapping[str, Text] = field(default_factory=lambda: MappingProxyType({}))
    auth: Auth | None = None
    tls: TlsSpec = TlsSpec()
    timeouts: Timeouts = field(default_factory=Timeouts)
    pool: PoolSpec = PoolSpec()
    retry: Retry = "reads"
    concurrency: Concurrency | None = None
    process: ProcessSpec = field(default_factory=ProcessSpec)
    endpoints: tuple[EndpointSpec, ...] = ()
    balancing: Balancing = field(default_factory=Balancing)
    health: HealthSpec = field(default_factory=HealthSpec)
    breaker: BreakerSpec | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Selection:
    """What of one backend is advertised. ``filter`` None means everything; globs know ``*`` and ``?``."""

    filter: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    match_on: MatchOn = "original"
    exclude_all: bool = False
    read_only_only: bool = False
    overrides: Mapping[str, Override] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Aggregation:
    """How many catalogs become one. The three mappings are by backend name; absent means no entry for that backend."""

    strategy: Strategy = "prefix"
    prefix_format: str = "{workload}_"
    priority_order: tuple[str, ...] = ()
    tools: Mapping[str, Selection] = field(default_factory=lambda: MappingProxyType({}))
    prompts: Mapping[str, Selection] = field(default_factory=lambda: MappingProxyType({}))
    resources: Mapping[str, Selection] = field(default_factory=lambda: MappingProxyType({}))
    exclude_all_tools: bool = False
    default_tool_visibility: Literal["allow", "deny"] = "allow"
    max_name_length: int = 64


@dataclass(frozen=True, slots=True)
class Group:
    """Backends served together at ``/<name>/mcp``."""

    name: str
    backends: Mapping[str, BackendSpec]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may send; sizes in bytes, times in seconds. Names of the keys are the same in camelCase."""

    body_bytes: int = 1 << 20
    header_bytes: int = 32 << 10
    header_count: int = 100
    uri_bytes: int = 16 << 10
    header_timeout: float = 10.0
    body_timeout: float = 30.0
    body_rate: int = 64 << 10
    write_stall: float = 30.0
    keep_alive: float = 60.0
    connections: int = 10_000
    connections_per_address: int = 500
    requests: int = 2048
    unread_bytes: int = 128 << 20
    memory_bytes: int = 2 << 30
    in_flight_body_bytes: int = 64 << 20
    json_depth: int = 64
    json_nodes: int = 200_000
    response_bytes: int = 16 << 20
    list_bytes: int = 32 << 20
    sessions: int = 10_000
    sessions_per_principal: int = 1_000
    session_idle: float = 1800.0
    session_max: float = 86_400.0
    page_size: int = 1000
    shutdown_grace: float = 30.0
    processes: int = 64
    processes_per_principal: int = 8
    process_starts: int = 4


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the other transports are, at the root and under each group (``/<group>/sse``)."""

    sse: str = "/sse"
    message: str = "/message"
    ws: str = "/ws"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """The listener."""

    host: str = "127.0.0.1"
    port: int = 4483
    allow_anonymous_network: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    workers: int = 1
    paths: Paths = Paths()
    limits: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Config:
    """Everything. ``group_ref`` is the group at ``/mcp`` (None: there is none); ``digest`` names this very content."""

    name: str
    groups: Mapping[str, Group]
    group_ref: str | None
    aggregation: Aggregation
    server: ServerSpec
    digest: str
    partial_failure: Literal["fail", "best_effort"] = "best_effort"
    readiness: Readiness = "required"
    start_deadline: float = 5.0
    log_level: str = "info"
    incoming: Incoming = field(default_factory=Incoming)
    authz: Authz | None = None
    audit: AuditSpec | None = None
    rate_limits: RateLimits | None = None
    routing: tuple[RoutingRule, ...] = ()
    cache: CacheSpec | None = None
    personas: Mapping[str, Persona] = field(default_factory=lambda: MappingProxyType({}))
    state: StateSpec = field(default_factory=StateSpec)
    lock: LockSpec = field(default_factory=LockSpec)
    admin: AdminSpec = field(default_factory=AdminSpec)
    telemetry: TelemetrySpec | None = None
    usage: UsageSpec = field(default_factory=UsageSpec)
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def backends(self) -> tuple[BackendSpec, ...]:
        """Every enabled backend, in the order of the file."""
        return tuple(spec for group in self.groups.values() for spec in group.backends.values())
