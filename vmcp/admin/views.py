"""What an operator is shown of a running vmcp, as plain data.

The rule: reading changes nothing and asks no backend. No secret, no argument of a call and no id with which somebody is
recognised is in it; what backends say of themselves is shown as ``scrub`` leaves it.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from msgspec import Raw

from vmcp import __version__
from vmcp.admin import process
from vmcp.config.model import Config, Override
from vmcp.protocol import scrub
from vmcp.routing import members, names, selection, surface
from vmcp.routing.catalog import Kind
from vmcp.routing.table import Face, Quarantined, Route
from vmcp.server.runtime import Runtime
from vmcp.server.sessions import Session
from vmcp.upstream.balancer import Placed

Data = dict[str, Any]
BYTES_PER_TOKEN: Final = 4
"""A rough measure of what a definition costs in a model's context."""


class Views:
    """Of one house. ``url`` is where its listener is; ``now`` the clock of the loop."""

    def __init__(self, house: Runtime, url: str) -> None:
        self._house = house
        self.url = url
        self._began = time.time()

    # --- the whole

    def status(self) -> Data:
        """How everything is, in one screen."""
        house = self._house
        ready, facts = house.readiness()
        backends = [backend.status for backend in house.backends.values()]
        return {
            "name": house.config.name,
            "version": __version__,
            "pid": os.getpid(),
            "status": "degraded" if ready and facts["up"] != facts["backends"] else facts["status"],
            "ready": ready,
            "waitingFor": facts["waiting_for"],
            "startedAt": round(self._began, 3),
            "uptimeSeconds": round(time.time() - self._began, 1),
            "config": {"digest": house.config.digest[:12], "reloads": dict(house.reloads)},
            "url": self.url,
            "endpoints": [self._endpoint(path, face) for path, face in house.table.faces.items()],
            "backends": {
                "total": len(backends),
                "up": sum(each.state == "up" for each in backends),
                "healthy": sum(each.health == "healthy" for each in backends),
            },
            "sessions": len(house.sessions),
            "requestsInFlight": house.current.uses.count,
            "workers": [],
        }

    def _endpoint(self, path: str, face: Face) -> Data:
        counts = {str(kind): len(routes) for kind, routes in face.listing.items()}
        return {
            "path": path,
            "url": f"{self.url}{path}",
            "group": face.group,
            **counts,
            "tokens": sum(map(_tokens, face.listing[Kind.TOOL])),
            "missing": list(face.missing),
            "quarantined": [_kept_out(each) for each in face.quarantined],
        }

    def metrics(self) -> Data:
        """Everything that is counted."""
        states = [backend.status.state for backend in self._house.backends.values()]
        servers = {"vmcp_servers_total": len(states), "vmcp_servers_healthy": states.count("up")}
        return {"metrics": {**self._house.numbers(), **servers}}

    # --- backends

    def backends(self) -> Data:
        """All of them, a line each."""
        return {"backends": [self._line(each) for each in self._house.backends.values()]}

    def _line(self, backend: Placed) -> Data:
        spec, status = backend.spec, backend.status
        catalog = self._house.current.held[spec.name].catalog
        offered = {} if catalog is None else {str(kind): len(there) for kind, there in catalog.entries.items()}
        return {
            "name": spec.name,
            "group": spec.group,
            "transport": spec.transport,
            "protocolVersion": None if backend.revision is None else str(backend.revision),
            "state": status.state,
            "health": status.health,
            "why": scrub.text(status.why),
            "breakers": list(_breakers(backend.facts())),
            **offered,
        }

    def backend(self, name: str, now: float) -> Data | None:
        """All that is known of one; None when there is none of this name."""
        backend = self._house.backends.get(name)
        if backend is None:
            return None
        spec = backend.spec
        return {
            **self._line(backend),
            "required": spec.required,
            "isolation": spec.isolation,
            "tags": list(spec.tags),
            "metadata": dict(spec.metadata),
            "sinceSeconds": round(max(0.0, now - backend.status.since), 1),
            "endpoints": [path for path, face in self._house.table.faces.items() if name in face.backends],
            "facts": dict(backend.facts()),
            "processes": _processes(backend.facts()),
        }

    def offers(self, name: str) -> Iterator[Data]:
        """What becomes of each thing that a backend offers, one by one: there may be thousands."""
        face = self._home(name) if name in self._house.backends else None
        return iter(()) if face is None else _offered(face, name, self._house.config)

    def _home(self, name: str) -> Face | None:
        """The endpoint of its group, or any at which it is."""
        served = [face for face in self._house.table.faces.values() if name in face.backends]
        group = self._house.backends[name].spec.group
        return next((face for face in served if face.path == f"/{group}/mcp"), served[0] if served else None)

    # --- what is offered

    def listing(self, kind: Kind, path: str | None = None, name: str | None = None) -> Data | None:
        """What is listed at ``path`` (all endpoints without); with ``name``, that thing alone, and its whole definition."""
        current = self._house.current
        faces = current.table.faces
        if path is not None and path not in faces:
            return None
        shown = [faces[path]] if path is not None else _distinct(faces)
        found = [(face, *pair) for face in shown for pair in _listed(current.config, face, kind)]
        wanted = [each for each in found if name in (None, each[1])]
        return {
            str(kind): [
                {**_described(face, route, whole=name is not None), "name": known} for face, known, route in wanted
            ]
        }

    def names(self, kind: Kind, path: str | None = None) -> list[str]:
        """Of all that ``listing`` has."""
        current = self._house.current
        shown = [current.table.faces[path]] if path is not None else _distinct(current.table.faces)
        return [name for face in shown for name, _ in _listed(current.config, face, kind)]

    # --- sessions

    def sessions(self, now: float) -> Data:
        """Of clients of the handshake era; later ones have none."""
        return {"sessions": [_session(each, now) for each in self._house.sessions]}


def nickname(session_id: str) -> str:
    """What a session is called here, as its id is a secret of its client."""
    return blake2b(session_id.encode(), digest_size=6).hexdigest()


def _session(session: Session, now: float) -> Data:
    peer = session.peer
    identity = peer.identity
    return {
        "id": nickname(session.id),
        "path": session.path,
        "protocolVersion": str(session.revision),
        "client": _client(peer.info),
        "subject": "" if identity is None else identity.subject,
        "ageSeconds": round(now - session.born, 1),
        "idleSeconds": 0.0 if session.held or session.calls else round(now - session.seen, 1),
        "calls": len(session.calls),
        "streams": session.held,
    }


def _client(info: bytes | None) -> str:
    """The name and version that a client gave itself."""
    found = members.split(info or b"{}") or {}
    words = [msgspec.json.decode(found[key]) for key in ("name", "version") if key in found]
    text = " ".join(word for word in words if isinstance(word, str))[:80]
    return "".join(char for char in text if char.isprintable())


def _breakers(facts: Mapping[str, Any]) -> Iterator[str]:
    for each in facts.get("replicas", (facts,)):
        if "breaker" in each:
            yield each["breaker"]["state"]


def _processes(facts: Mapping[str, Any]) -> list[Data]:
    """Of those that run."""
    pids = [each.get("pid") for each in facts.get("replicas", (facts,))]
    return [{"pid": pid, **process.vitals(pid)} for pid in pids if pid is not None]


def _listed(config: Config, face: Face, kind: Kind) -> Sequence[tuple[str, Route]]:
    """What is listed at a face by the names there; at a persona's own, as that persona sees it."""
    shown, view = surface.seen(config, face)
    if view is None:
        return [(route.name, route) for route in shown.listing[kind]]
    names = {id(route): name for name, route in shown.routes[kind].items()}
    return [(names.get(id(route), route.name), route) for route in shown.listing[kind] if view.admits(route)]


def _distinct(faces: Mapping[str, Face]) -> list[Face]:
    """One face for each group, as that of a group may be served at several paths."""
    found: dict[str, Face] = {}
    for face in faces.values():
        found.setdefault(face.group, face)
    return list(found.values())


def _tokens(route: Route) -> int:
    return -(-len(route.modern) // BYTES_PER_TOKEN)


def _described(face: Face, route: Route, *, whole: bool) -> Data:
    parts = members.split(route.modern) or {}
    told: Data = {key: parts[key] for key in ("title", "description", "annotations") if key in parts}
    return {
        "name": route.name,
        "group": face.group,
        "backend": route.backend,
        "original": route.original,
        "tokens": _tokens(route),
        **told,
        **({"definition": Raw(route.modern)} if whole else {}),
    }


def _offered(face: Face, backend: str, config: Config) -> Iterator[Data]:
    """What becomes of each thing that a backend offers, and on which way: its own name, changes, prefix, name."""
    for each in _outcomes(face, backend):
        kind = Kind(each["kind"])
        chosen = selection.selection(config.aggregation, kind, backend)
        override = chosen.overrides.get(each["original"]) if chosen is not None else None
        yield {**each, "group": face.group, "overrides": _changed(override), "prefix": _prefix(each, config, override)}


def _changed(override: Override | None) -> list[str]:
    """What of it the configuration replaces."""
    names = ("name", "title", "description", "annotations", "arguments")
    return [name for name in names if override is not None and getattr(override, name)]


def _prefix(found: Data, config: Config, override: Override | None) -> str:
    """What the strategy puts before its name; a name that had to be shortened has none."""
    own = (override.name if override is not None else None) or found["original"]
    prefix = names.prefix(config.aggregation, found["backend"])
    return prefix if prefix and found["name"] == prefix + own else ""


def _outcomes(face: Face, backend: str) -> Iterator[Data]:
    for kind, routes in face.routes.items():
        for route in routes.values():
            if route.backend == backend:
                yield _outcome(kind, backend, route.original, route.name, "listed")
    for kind, hidden in face.hidden.items():
        for owner, original in hidden:
            if owner == backend:
                yield _outcome(kind, backend, original, "", "hidden")
    yield from (_kept_out(each) for each in face.quarantined if each.backend == backend)


def _outcome(kind: Kind, backend: str, original: str, name: str, state: str) -> Data:
    return {"kind": str(kind), "original": original, "name": name, "state": state, "backend": backend, "why": ""}


def _kept_out(found: Quarantined) -> Data:
    return {
        "kind": str(found.kind),
        "original": found.original,
        "name": found.name,
        "state": "quarantined",
        "backend": found.backend,
        "why": found.why,
    }
