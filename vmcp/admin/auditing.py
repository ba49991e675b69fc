"""The last records of the audit log, and whether they hang together.

The rule: it is read as it stands in the file, and no further back than a bound; what requests and results were is not shown, and
that this part is whole does not say that the log is: ``vmcp audit verify`` does.
"""

import asyncio
import errno
import os
import stat
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from vmcp.admin import mates
from vmcp.admin.acts import Data
from vmcp.admin.desk import Asked, Desk
from vmcp.admin.figures import number, wanted
from vmcp.admin.filters import Words
from vmcp.config.audit import AuditSpec
from vmcp.errors import Unavailable
from vmcp.state.chain import HEAD_BYTES, Proof, read_head
from vmcp.upstream.secrets import resolve

WORDS: Final[Words] = {
    "type": "type",
    "outcome": "outcome",
    "who": "who",
    "client": "client",
    "from": "address",
    "endpoint": "endpoint",
    "method": "method",
    "target": "target",
    "tool": "target",
    "backend": "backend",
    "decision": "decision",
    "ms": "#ms",
}
"""What records can be filtered by."""
SHOWN: Final = 100
MOST: Final = 1000
BYTES: Final = 512 << 10
"""Of the end of the file."""
FAULTS: Final = 10
_PATIENCE: Final = 5.0


async def audit(desk: Desk, asked: Asked) -> Data:
    """The last records that a filter (``q``) lets through, the newest first, and how the log is."""
    current = desk.house.current
    spec = current.config.audit
    if spec is None:
        return {"enabled": False, "records": [], "last": 0}
    told: Data = {"enabled": True, "file": spec.file, **await mates.together(desk, asked.now, "impaired")}
    if spec.file is None:
        return {**told, "records": [], "last": 0, "unreadable": "it goes to standard output"}
    fits, since = wanted(asked, WORDS), number(asked, "since", 0)
    try:
        async with asyncio.timeout(_PATIENCE):
            found, chain = await asyncio.to_thread(_read, spec, spec.file)
    except (OSError, TimeoutError) as error:
        why = getattr(error, "strerror", None) or "it does not answer"
        return {**told, "records": [], "last": 0, "unreadable": f"the file cannot be read: {why}"}
    records = [each for each in found if each["seq"] > since and fits(each)]
    most = min(number(asked, "limit", SHOWN), MOST)
    last = found[0]["seq"] if found else 0
    return {**told, "records": records[:most], "matching": len(records), "of": len(found), "last": last, "chain": chain}


def _read(spec: AuditSpec, file: str) -> tuple[list[Data], Data]:
    """The end of the file, the newest record first, and whether it hangs together. Raises ``OSError``."""
    key = _key(spec)
    # Before the log is read: what is written meanwhile stands behind this place.
    with open(f"{file}.head", "rb", opener=_at_once) as beside:
        head = read_head(beside.read(HEAD_BYTES), key)
    with open(file, "rb", opener=_at_once) as log:
        begin = max(0, os.fstat(log.fileno()).st_size - BYTES)
        log.seek(begin)
        if begin:
            log.readline()
        lines = log.readlines(BYTES)
    proof = Proof(key, [head] if head is not None and head.seq else [])
    proof.read(file, lines)
    proof.end(file)
    records = [shown for line in reversed(lines[-MOST:]) if (shown := _shown(line)) is not None]
    keyed_away = spec.key is not None and key is None
    return records, _chain(proof, known=head is not None and not keyed_away)


def _at_once(path: str, flags: int) -> int:
    """Opened without waiting for anybody: a thread that waits for the other end of a pipe never comes back."""
    found = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(errno.EINVAL, "it is no plain file")
    return found


def _key(spec: AuditSpec) -> bytes | None:
    """The key of the chain, if it can still be had."""
    try:
        return resolve("audit", {"key": spec.key}, os.environ)["key"].encode() if spec.key is not None else None
    except Unavailable:
        return None


def _chain(proof: Proof, *, known: bool) -> Data:
    state = "broken" if proof.faults else "whole"
    return {
        "state": state if known else "unknown",
        "checked": proof.records,
        "first": proof.first or 0,
        "last": proof.last.seq if proof.last is not None else 0,
        "hash": proof.last.hash.decode() if proof.last is not None else "",
        "faults": [fault.what for fault in proof.faults[:FAULTS]] if known else [],
    }


def _shown(line: bytes) -> Data | None:
    """What is told of a record; None when it is none."""
    try:
        said = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("seq"), int):
        return None
    source, subjects, target = (_map(said.get(key)) for key in ("source", "subjects", "target"))
    extra = _map(_map(said.get("metadata")).get("extra"))
    policies = extra.get("policies")
    return {
        "seq": said["seq"],
        "at": _text(said.get("logged_at")),
        "type": _text(said.get("type")),
        "outcome": _text(said.get("outcome")),
        "who": _text(subjects.get("user_id")),
        "client": " ".join(filter(None, (_text(subjects.get(key)) for key in ("client_name", "client_version")))),
        "address": _text(source.get("value")),
        "endpoint": _text(target.get("endpoint")),
        "method": _text(target.get("method")),
        "target": _text(target.get("name")),
        "backend": _text(extra.get("backend_name")),
        "decision": _text(extra.get("decision")),
        "policies": [*map(_text, policies)] if isinstance(policies, list) else [],
        "code": _number(extra.get("jsonrpc_error_code")),
        "ms": _number(extra.get("duration_ms")),
    }


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None
