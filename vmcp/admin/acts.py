"""What an operator may do to a running vmcp.

The rule: nothing here makes or changes a backend, a command or a credential: those come from the configuration's files alone.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vmcp.admin.views import nickname
from vmcp.config.load import Loaded
from vmcp.config.shown import origins, shown
from vmcp.errors import ConfigError, VmcpError
from vmcp.server.reloading import Reloads
from vmcp.server.runtime import Runtime

log = logging.getLogger("vmcp.admin")

LEVELS: Final = ("debug", "info", "warning", "error")
Data = dict[str, Any]


class Acts:
    """Upon one house."""

    def __init__(self, house: Runtime, reloads: Reloads) -> None:
        self._house = house
        self._reloads = reloads
        self._known: Loaded | None = None

    async def reload(self) -> Data:
        """Read the configuration anew; how that has ended, and why it was refused."""
        result = await self._reloads.now("admin")
        return {"result": result, "problems": list(self._reloads.problems)}

    def drain(self) -> Data:
        """Let no more traffic come, until the process is stopped."""
        log.warning("draining")
        self._house.drain()
        return {"status": "stopping"}

    def reset(self, name: str) -> Data | None:
        """Let calls to a backend through again; None when there is none of this name."""
        backend = self._house.backends.get(name)
        if backend is None:
            return None
        log.info("breaker reset", extra={"backend": name})
        backend.reset()
        return {"reset": name}

    async def clear(self, pattern: str) -> Data:
        """Forget results that ``pattern`` fits, a glob of ``<backend>/<name or URI>``."""
        shelf = self._house.current.shelf
        backends = frozenset(self._house.backends)
        cleared = await shelf.clear(backends, pattern) if shelf is not None else 0
        log.info("cache cleared", extra={"pattern": pattern, "cleared": cleared})
        return {"cleared": cleared}

    def end(self, name: str) -> Data | None:
        """End a session by the name that the list gives it; None when there is none."""
        session = next((each for each in self._house.sessions if nickname(each.id) == name), None)
        if session is None:
            return None
        log.info("session ended", extra={"session": name})
        self._house.sessions.end(session)
        return {"ended": name}

    def level(self, wanted: str) -> Data | None:
        """Log at this level from now on, until a reload that changes something; None when it is no level."""
        root = logging.getLogger()
        before = logging.getLevelName(root.level).lower()
        if wanted not in LEVELS:
            return None
        root.setLevel(wanted.upper())
        log.warning("log level changed", extra={"before": before, "now": wanted})
        return {"level": wanted, "before": before}

    async def config(self) -> Data:
        """The configuration that counts, without its secrets, and whether the files say something else by now."""
        running = self._house.config.digest
        on_disk: Loaded | None = None
        try:
            on_disk = await asyncio.to_thread(self._reloads.load)
        except ConfigError as error:
            disk = f"invalid: {len(error.problems)} problems"
        except VmcpError as error:
            disk = f"unreadable: {error}"
        else:
            disk = "same" if on_disk.config.digest == running else "differs"
        for each in (on_disk, self._reloads.applied):
            if each is not None and each.config.digest == running:
                self._known = each
        known = self._known if self._known is not None and self._known.config.digest == running else None
        told: Data = {
            "digest": running[:12],
            "files": _absolute(self._reloads.files),
            "disk": disk,
        }
        if known is not None:
            told |= {"config": shown(known.document), "origins": origins(known.document)}
        return told


def _absolute(paths: Sequence[str]) -> list[str]:
    return [str(Path(path).absolute()) for path in paths]
