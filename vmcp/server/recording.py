"""The audit log of a configuration: opened before anything is served, closed after everything else.

The rule: a log that cannot be opened keeps the process from starting, whatever ``onFailure`` says, which is about what comes
later.
"""

import os
import secrets
from collections.abc import Mapping

from vmcp import __version__
from vmcp.config.audit import AuditSpec
from vmcp.config.model import Config
from vmcp.errors import Unavailable
from vmcp.middleware.audit import Auditor
from vmcp.state.auditlog import AuditLog, AuditUnavailable, Sink
from vmcp.state.crew import Crew
from vmcp.upstream.secrets import resolve

LEAST_KEY = 16


def opened(
    config: Config, spec: AuditSpec, environ: Mapping[str, str] = os.environ, crew: Crew | None = None
) -> AuditLog:
    """The log that ``spec`` describes, written together with the other workers. Raises ``AuditUnavailable``."""
    return AuditLog(_sink(spec, _key(spec, environ)), _facts(config, spec), crew)


def auditor(
    spec: AuditSpec, log: AuditLog, environ: Mapping[str, str] = os.environ, crew: Crew | None = None
) -> Auditor:
    """Who is told of what happens, and writes to ``log``; the same digests at all workers. Raises ``AuditUnavailable``."""
    return Auditor(spec, log, _key(spec, environ) or (crew.common.key if crew is not None else None))


def _sink(spec: AuditSpec, key: bytes | None) -> Sink:
    return Sink(spec.file, spec.durability == "fsync", spec.rotate_bytes, spec.keep, key)


def _facts(config: Config, spec: AuditSpec) -> dict[str, object]:
    return {
        "component": spec.component,
        "server": config.name,
        "version": __version__,
        "boot": secrets.token_hex(8),
        "pid": os.getpid(),
        "config": config.digest,
    }


def _key(spec: AuditSpec, environ: Mapping[str, str]) -> bytes | None:
    if spec.key is None:
        return None
    try:
        text = resolve("audit", {"key": spec.key}, environ)["key"]
    except Unavailable as error:
        raise AuditUnavailable(f"audit.key: {error.why}") from None
    if len(text.encode()) < LEAST_KEY:
        raise AuditUnavailable(f"audit.key: a key has at least {LEAST_KEY} bytes")
    return text.encode()
