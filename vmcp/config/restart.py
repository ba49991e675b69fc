"""What of a new configuration can only be had by starting anew: where the listener is, and what it was made with.

The rule: it is said, with its place in the file, and everything else takes effect; nothing of it takes effect by halves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from vmcp.config.administration import AdminSpec
from vmcp.config.audit import AuditSpec
from vmcp.config.model import BackendSpec, Config, Group, Limits, ServerSpec
from vmcp.config.oauth import CALLBACK, OAuth, StateSpec, base_of
from vmcp.config.schema import camel
from vmcp.config.telemetry import TelemetrySpec
from vmcp.config.tree import Path

_LOG: Mapping[str, Path] = {
    "durability": ("audit", "durability"),
    "rotate_bytes": ("audit", "rotation", "maxBytes"),
    "keep": ("audit", "rotation", "keep"),
    "key": ("audit", "key"),
}

_WHOLE: Mapping[str, Path] = {"state": ("state",), "admin": ("admin",), "usage": ("telemetry", "usage")}


def kept(running: Config, wanted: Config) -> tuple[Config, tuple[Path, ...]]:
    """``wanted`` with what cannot be changed while it runs as it is, and the paths where that is something else."""
    changed = tuple(_changed(running, wanted))
    if not changed:
        return wanted, ()
    was = running.server
    server = replace(wanted.server, host=was.host, port=was.port, paths=was.paths, limits=was.limits)
    server = replace(server, workers=was.workers)
    groups = _groups(wanted, _base(wanted.server), _base(server), running.state)
    audit = _audit(running.audit, wanted.audit)
    state, admin = running.state, _admin(running.admin, wanted.admin)
    sent = _sent(running.telemetry, wanted.telemetry)
    fresh = replace(wanted, server=server, state=state, admin=admin, groups=groups, audit=audit, telemetry=sent)
    return replace(fresh, usage=running.usage), changed


def _admin(was: AdminSpec, now: AdminSpec) -> AdminSpec:
    """Where it is stays; what its pages may do is as it is said now, so that it can be taken away at once."""
    return replace(was, ui=replace(now.ui, enabled=was.ui.enabled))


def _sent(was: TelemetrySpec | None, now: TelemetrySpec | None) -> TelemetrySpec | None:
    """What is sent is connected once; what is served of it may come and go."""
    spec = replace(was or TelemetrySpec(), scrape=now is not None and now.scrape)
    return spec if spec.scrape or spec.exports else None


def _base(server: ServerSpec) -> str:
    public = {} if server.public_url is None else {"publicUrl": server.public_url}
    return base_of({"host": server.host, "port": server.port, **public})


def _groups(wanted: Config, base: str, was: str, state: StateSpec) -> Mapping[str, Group]:
    """Clients of authorization servers have their pages where the listener still is, and their tokens where those still are."""

    def placed(spec: BackendSpec) -> BackendSpec:
        auth = spec.auth
        if not isinstance(auth, OAuth):
            return spec
        redirect = was + CALLBACK if auth.redirect == base + CALLBACK else auth.redirect
        return replace(spec, auth=replace(auth, base=was, redirect=redirect, state=state))

    return {
        name: replace(group, backends={each: placed(spec) for each, spec in group.backends.items()})
        for name, group in wanted.groups.items()
    }


def _changed(running: Config, wanted: Config) -> Iterator[Path]:
    was, now = running.server, wanted.server
    yield from _different(was, now, {key: ("server", key) for key in ("host", "port", "workers")})
    yield from _different(was.paths, now.paths, {key: ("server", "paths", key) for key in ("sse", "message", "ws")})
    limits: Mapping[str, Path] = {each.name: ("server", "limits", camel(each.name)) for each in fields(Limits)}
    yield from _different(was.limits, now.limits, limits)
    yield from _different(replace(running, admin=_admin(running.admin, wanted.admin)), wanted, _WHOLE)
    if _sent(running.telemetry, wanted.telemetry) != wanted.telemetry:
        yield ("telemetry",)
    if _same_file(running.audit, wanted.audit):
        yield from _different(running.audit, wanted.audit, _LOG)


def _different(was: object, now: object, paths: Mapping[str, Path]) -> Iterator[Path]:
    return (path for name, path in paths.items() if getattr(was, name) != getattr(now, name))


def _same_file(was: AuditSpec | None, now: AuditSpec | None) -> bool:
    """A log has one writer, who was opened with what the file said then."""
    return was is not None and now is not None and was.file == now.file


def _audit(was: AuditSpec | None, now: AuditSpec | None) -> AuditSpec | None:
    if was is None or now is None or was.file != now.file:
        return now
    return replace(now, **{name: getattr(was, name) for name in _LOG})
