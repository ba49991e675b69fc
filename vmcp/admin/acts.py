"""What an operator may do to a running vmcp.

The rule: nothing here makes or changes a backend, a command or a credential: those come from the configuration's files alone.
Whoever does something says who he is, and the audit log has both.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vmcp.admin.views import nickname
from vmcp.call import Identity, Origin
from vmcp.config.load import Loaded
from vmcp.config.shown import origins, shown
from vmcp.errors import ConfigError, VmcpError
from vmcp.middleware.event import cut
from vmcp.server.reloading import Reloads
from vmcp.server.runtime import Runtime

log = logging.getLogger("vmcp.admin")

LEVELS: Final = ("debug", "info", "warning", "error")
KIND: Final = "admin_act"
"""The type of these events."""
Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """The configuration that counts (``known``, while its files can still be told) beside what the files say now.

    ``disk`` is same, differs, invalid or unreadable, with how; ``problems`` are those of the files.
    """

    disk: str
    known: Loaded | None
    on_disk: Loaded | None
    problems: tuple[str, ...] = ()


class Acts:
    """Upon one house. ``who`` acts is said as in ``Asked``."""

    def __init__(self, house: Runtime, reloads: Reloads) -> None:
        self._house = house
        self._reloads = reloads
        self._known: Loaded | None = None

    async def reload(self, who: str) -> Data:
        """Read the configuration anew; how that has ended, and why it was refused."""
        result = await self._reloads.now("admin")
        self.recorded(who, "reload", "failure" if result == "rejected" else "success", result=result)
        return {"result": result, "problems": list(self._reloads.problems)}

    def drain(self, who: str) -> Data:
        """Let no more traffic come, until the process is stopped."""
        log.warning("draining", extra={"who": who})
        self.recorded(who, "drain")
        self._house.drain()
        return {"status": "stopping"}

    def reset(self, who: str, name: str) -> Data | None:
        """Let calls to a backend through again; None when there is none of this name."""
        backend = self._house.backends.get(name)
        if backend is None:
            return None
        log.info("breaker reset", extra={"backend": name, "who": who})
        self.recorded(who, "reset", backend=name)
        backend.reset()
        return {"reset": name}

    async def clear(self, who: str, pattern: str) -> Data:
        """Forget results that ``pattern`` fits, a glob of ``<backend>/<name or URI>``."""
        shelf = self._house.current.shelf
        backends = frozenset(self._house.backends)
        cleared = await shelf.clear(backends, pattern) if shelf is not None else 0
        log.info("cache cleared", extra={"pattern": pattern, "cleared": cleared, "who": who})
        self.recorded(who, "clear", pattern=pattern, cleared=str(cleared))
        return {"cleared": cleared}

    def end(self, who: str, name: str) -> Data | None:
        """End a session by the name that the list gives it; None when there is none."""
        session = next((each for each in self._house.sessions if nickname(each.id) == name), None)
        if session is None:
            return None
        log.info("session ended", extra={"session": name, "who": who})
        self.recorded(who, "end", session=name)
        self._house.sessions.end(session)
        return {"ended": name}

    def level(self, who: str, wanted: str) -> Data | None:
        """Log at this level from now on, until a reload that changes something; None when it is no level."""
        root = logging.getLogger()
        before = logging.getLevelName(root.level).lower()
        if wanted not in LEVELS:
            return None
        root.setLevel(wanted.upper())
        log.warning("log level changed", extra={"before": before, "now": wanted, "who": who})
        self.recorded(who, "level", before=before, now=wanted)
        return {"level": wanted, "before": before}

    def recorded(self, who: str, act: str, outcome: str = "success", /, **facts: str) -> None:
        """Put it into the audit log, if there is one. Nobody: another worker was told, which has done so."""
        auditor = self._house.current.auditor
        if auditor is not None and who:
            said = {key: cut(value) for key, value in facts.items()}
            origin = Origin("unix" if who.startswith("uid:") else "http")
            target = {"type": "admin", "method": act}
            auditor.happened(KIND, outcome, origin, Identity("vmcp admin", who), target, said)

    @property
    def problems(self) -> list[str]:
        """Why the last reload was rejected."""
        return list(self._reloads.problems)

    async def config(self) -> Data:
        """The configuration that counts, without its secrets, and whether the files say something else by now."""
        found = await self.standing()
        told: Data = {
            "digest": self._house.config.digest[:12],
            "files": self.files(),
            "disk": found.disk,
        }
        if found.known is not None:
            told |= {"config": shown(found.known.document), "origins": origins(found.known.document)}
        return told

    async def acquaint(self) -> None:
        """Learn the places of what counts, before the files change."""
        await self.standing()

    async def standing(self) -> Standing:
        """What counts and what the files say, with the places of everything in them."""
        running = self._house.config.digest
        on_disk: Loaded | None = None
        problems: tuple[str, ...] = ()
        try:
            on_disk = await asyncio.to_thread(self._reloads.load)
        except ConfigError as error:
            disk = f"invalid: {len(error.problems)} problems"
            problems = tuple(f"{each.position}: {each.path}: {each.message}" for each in error.problems)
        except VmcpError as error:
            disk = f"unreadable: {error}"
        else:
            disk = "same" if on_disk.config.digest == running else "differs"
        for each in (on_disk, self._reloads.applied):
            if each is not None and each.config.digest == running:
                self._known = each
        known = self._known if self._known is not None and self._known.config.digest == running else None
        return Standing(disk, known, on_disk, problems)

    def files(self) -> list[str]:
        """The files of the configuration."""
        return _absolute(self._reloads.files)

    def history(self) -> Data:
        """How reloads have ended, the last one first."""
        return {"reloads": [dict(each) for each in reversed(self._reloads.history)]}


def _absolute(paths: Sequence[str]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]
