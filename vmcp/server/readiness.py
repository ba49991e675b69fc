"""Whether clients should be sent here, as far as that depends on backends.

The rule: it is decided by what backends have shown, never by asking them now, so that the answer is there at once.
"""

from collections.abc import Mapping
from typing import Protocol

from vmcp.config.model import BackendSpec, Config
from vmcp.upstream.owner import Status


class Standing(Protocol):
    """What is needed of a backend."""

    spec: BackendSpec

    @property
    def status(self) -> Status:
        """How it is."""


def awaited(config: Config, backends: Mapping[str, Standing], *, settled: bool) -> list[str]:
    """Who is waited for. ``settled``: every backend has had its chance.

    ``all``: everybody until he is up; ``any``: all until one of them is; ``required``: the required ones until they are up, and
    the others until they have had their chance. Where one missing backend fails everything, everybody is required.
    """
    missing = {name: backend for name, backend in backends.items() if backend.status.state != "up"}
    if config.readiness == "any":
        return list(missing) if len(missing) == len(backends) else []
    if config.readiness == "all" or config.partial_failure == "fail":
        return list(missing)
    return [name for name, each in missing.items() if each.spec.required or (_starting(each) and not settled)]


def _starting(backend: Standing) -> bool:
    return backend.status.state == "starting"
