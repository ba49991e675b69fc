"""One request of the admin listener, and who answers it: what the JSON routes and the web pages have in common.

The rule: whoever adds a route or a page takes what it says from here, so that the page, the command and the JSON say the same.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vmcp.admin.acts import Acts, Data
from vmcp.admin.confluence import Streams
from vmcp.admin.disk import Disk
from vmcp.admin.logins import Logins
from vmcp.admin.sightings import Sightings
from vmcp.admin.tail import Tail
from vmcp.admin.views import Views
from vmcp.config.administration import Ui
from vmcp.server.mates import Mates
from vmcp.server.runtime import Runtime
from vmcp.state.usage import Usage


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: the name in its path, its query, and its body. ``who`` asks: ``uid:1000``, ``token`` or ``page:<name>``.

    The body of a page's form is a map of strings; a field whose name ends with ``[]`` is a list of them.
    """

    name: str
    query: Mapping[str, str]
    body: Mapping[str, Any]
    now: float
    who: str = ""


class Wrong(Exception):
    """A request that cannot be answered as it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Who answers. ``house`` is for routes and pages that have files of their own; ``mates`` are the other workers, if any."""

    views: Views
    acts: Acts
    tail: Tail
    house: Runtime
    disk: Disk
    logins: Logins | None = None
    usage: Usage | None = None
    sightings: Sightings | None = None
    mates: Mates | None = None
    streams: Streams = field(default_factory=Streams)

    @property
    def may(self) -> Ui:
        """What pages may do, as the configuration says now."""
        return self.house.config.admin.ui


Answer = Callable[[Desk, Asked], Data | Awaitable[Data | None] | None]
"""What is said; None where there is nothing of this name."""


@dataclass(frozen=True, slots=True)
class Way:
    """A method and a path below ``/admin/v1/``, in which ``*`` stands for a name."""

    method: str
    path: str
    answer: Answer
